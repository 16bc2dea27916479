"""Comparison of models: paired tests, and what may not be compared."""

from typing import Any

import numpy as np
import pytest

from ray_cxr.errors import InputError, RefusedError
from ray_cxr.evaluate.compare import compare
from ray_cxr.evaluate.compare_protocol import Entry, protocol_differences, refuse_across
from ray_cxr.evaluate.compare_result import NO_SPREAD, TOO_FEW
from ray_cxr.evaluate.delong import delong_difference
from ray_cxr.evaluate.holm import holm
from ray_cxr.evaluate.inputs import Scored
from ray_cxr.metrics import auroc

FINDINGS = ["Mass", "Effusion"]


def _entry(
    name: str, signal: float, *, films: int = 240, seed: int = 0, protocol: dict[str, Any] | None = None
) -> Entry:
    """A model whose scores carry so much signal; all models of one seed share films, patients and labels."""
    rng = np.random.default_rng(seed)
    labels = (rng.random((films, 2)) < 0.3).astype(np.float32)
    noise = np.random.default_rng(int(signal * 1000)).normal(size=labels.shape)
    ids = np.array([f"{n:05d}.png" for n in range(films)], object)
    patients = np.array([str(n // 2) for n in range(films)], object)
    return Entry(name, Scored(ids, patients, FINDINGS, labels, signal * labels + noise), protocol or {})


def _with(entry: Entry, **changes: Any) -> Entry:
    scored = entry.scored
    fields = {
        name: getattr(scored, name) for name in ("image_ids", "patient_ids", "findings", "labels", "scores")
    }
    return Entry(entry.name, Scored(**{**fields, **changes}), entry.protocol)


def test_a_better_model_is_found_and_the_figures_are_those_of_the_parts() -> None:
    good, poor = _entry("good", 3.0), _entry("poor", 0.5)
    found = compare([good, poor], draws=200)
    assert [(p.finding, p.first, p.second) for p in found.pairs] == [
        ("Mass", 0, 1),
        ("Effusion", 0, 1),
        (None, 0, 1),
    ]
    for number, finding in enumerate(FINDINGS):
        truth, score = good.scored.column(finding)
        expected = delong_difference(truth, score, poor.scored.column(finding)[1], good.scored.units.tolist())
        assert expected is not None
        pair = found.pairs[number]
        assert pair.auroc.value == pytest.approx(expected.difference)
        assert pair.p == expected.p
        assert found.levels[0].auroc[finding].value == auroc(truth, score)
        assert pair.auroc.interval is not None
        assert 0 < pair.auroc.interval[0] < expected.difference < pair.auroc.interval[1]
    assert [p.p_holm for p in found.pairs[:2]] == list(
        holm({n: p.p for n, p in enumerate(found.pairs[:2])}).values()
    )
    mean = found.pairs[2]
    assert mean.auroc.value == pytest.approx(
        found.levels[0].mean_auroc.value - found.levels[1].mean_auroc.value
    )  # type: ignore[operator]
    assert mean.p is not None
    assert mean.p < 0.05


def test_no_finding_is_compared_but_in_no_mean() -> None:
    entries = [
        _with(_entry("a", 3.0), findings=["Mass", "No Finding"]),
        _with(_entry("b", 0.5), findings=["Mass", "No Finding"]),
    ]
    found = compare(entries, draws=100)
    assert [p.finding for p in found.pairs] == ["Mass", "No Finding", None]
    assert found.pairs[2].auroc == found.pairs[0].auroc
    assert found.levels[0].mean_auroc == found.levels[0].auroc["Mass"]


def test_the_order_of_films_and_findings_does_not_matter() -> None:
    one, other = _entry("a", 2.0), _entry("b", 1.0)
    shuffled = np.random.default_rng(1).permutation(240)
    turned = _with(
        other, image_ids=other.scored.image_ids[shuffled], patient_ids=other.scored.patient_ids[shuffled],  # type: ignore[index]
        findings=FINDINGS[::-1], labels=other.scored.labels[shuffled][:, ::-1],
        scores=other.scored.scores[shuffled][:, ::-1],
    )  # fmt: skip
    assert protocol_differences([one, turned]) == {}
    straight, mixed = compare([one, other], draws=100), compare([one, turned], draws=100)
    assert [p.auroc for p in straight.pairs] == [p.auroc for p in mixed.pairs]


def test_three_models_make_three_pairs_adjusted_together() -> None:
    found = compare([_entry("a", 2.0), _entry("b", 1.5), _entry("c", 1.0)], draws=100)
    of_findings = [p for p in found.pairs if p.finding]
    assert len(of_findings) == 6
    assert [p.p_holm for p in of_findings] == list(holm({n: p.p for n, p in enumerate(of_findings)}).values())
    assert sum(p.finding is None for p in found.pairs) == 3


def test_results_of_one_protocol_are_not_refused() -> None:
    stated = {"protocol": "official", "fingerprint": "f" * 64}
    refuse_across([_entry("a", 2.0, protocol=stated), _entry("b", 1.0, protocol=stated)])
    # Nobody stated how the second came about, but films and labels are the same.
    refuse_across([_entry("a", 2.0, protocol=stated), _entry("b", 1.0)])


def test_what_a_file_of_predictions_cannot_state_is_not_listed_field_by_field() -> None:
    """A run states ten fields and a file none: the films, and that the file's protocol is not stated, are what there is to say."""
    stated = {"split": "test", "protocol": "sampled", "fingerprint": "5a" * 32, "consensus_rule": None}
    found = protocol_differences([_entry("run", 2.0, protocol=stated), _entry("file", 1.0, films=200)])
    assert list(found) == ["films", "protocol"]
    assert found["protocol"] == ["sampled", "not stated"]


def test_a_refusal_has_a_line_for_each_field_and_short_fingerprints() -> None:
    one = {"protocol": "sampled", "fingerprint": "5a" * 32, "label_source": None, "consensus_rule": None}
    other = {"protocol": "official", "fingerprint": "b7" * 32, "label_source": "nih"}
    with pytest.raises(RefusedError) as refused:
        refuse_across([_entry("a", 2.0, protocol=one), _entry("b", 1.0, protocol=other)])
    assert refused.value.message.splitlines()[1:] == [
        "  protocol: sampled / official", "  fingerprint: 5a5a5a5a5a5a / b7b7b7b7b7b7", "  label_source: not stated / nih",
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"protocol": {"protocol": "sampled", "fingerprint": "f"}}, "protocol: official / sampled"),
        ({"protocol": {"protocol": "official", "fingerprint": "e"}}, "fingerprint: f / e"),
        (
            {"protocol": {"protocol": "official", "fingerprint": "f", "split.test": 0.2}},
            "split.test: not stated / 0.2",
        ),
        ({"films": 200}, "films: 240"),
        ({"seed": 1}, "labels: "),
    ],
)
def test_what_differs_is_named(change: dict[str, Any], said: str) -> None:
    stated = {"protocol": "official", "fingerprint": "f"}
    pair = [_entry("a", 2.0, protocol=stated), _entry("b", 1.0, **{"protocol": stated, **change})]
    with pytest.raises(RefusedError, match=said) as refused:
        refuse_across(pair)
    assert "--across-protocols" in str(refused.value)


def test_across_protocols_only_common_films_are_tested() -> None:
    one, other = _entry("a", 2.0), _entry("b", 1.0)
    some = np.arange(60, 240)
    fewer = Entry("b", other.scored.only(some), {})
    found = compare([one, fewer], draws=100)
    assert found.common_films == 180
    assert list(found.differences) == ["films"]
    expected = compare([Entry("a", one.scored.only(some), {}), fewer], draws=100)
    assert found.pairs[0].auroc == expected.pairs[0].auroc
    assert found.levels == expected.levels  # the figures beside a difference are of the films that it is of
    assert found.own is not None
    assert found.own[0].auroc["Mass"].value == auroc(*one.scored.column("Mass"))
    assert expected.own is None
    strange = _with(other, image_ids=np.array([f"x{n}" for n in range(240)], object))
    nothing = compare([one, strange], draws=100)
    assert nothing.common_films == 0
    assert nothing.pairs == []
    assert nothing.own is not None
    assert nothing.shown_levels[1].auroc["Mass"].value == auroc(*other.scored.column("Mass"))


def test_labels_that_differ_are_left_out_and_counted() -> None:
    one, other = _entry("a", 2.0), _entry("b", 1.0)
    labels = other.scored.labels.copy()
    labels[:7, 0] = 1 - labels[:7, 0]
    found = compare([one, _with(other, labels=labels)], draws=100)
    assert found.unequal_labels == 7
    kept = one.scored.labels.copy()
    kept[:7, 0] = np.nan
    expected = delong_difference(
        kept[:, 0], one.scored.scores[:, 0], other.scored.scores[:, 0], one.scored.units.tolist()
    )
    assert expected is not None
    assert found.pairs[0].auroc.value == pytest.approx(expected.difference)


def test_models_without_a_common_finding_are_a_mistake() -> None:
    with pytest.raises(InputError, match="no finding in common"):
        compare([_entry("a", 2.0), _with(_entry("b", 1.0), findings=["Hernia", "Edema"])])


def test_a_model_beside_itself_does_not_differ() -> None:
    found = compare([_entry("a", 2.0), _entry("b", 2.0)], draws=100)
    assert [p.auroc.value for p in found.pairs] == [0, 0, 0]
    assert [(p.p, p.auroc.interval, p.untested) for p in found.pairs] == [(None, None, NO_SPREAD)] * 3
    answer = found.as_dict()
    assert answer["models"][0]["name"] == "a"
    assert "00000.png" not in str(answer)


def _rare(entry: Entry, patients: int, *, positive: bool = True) -> Entry:
    """Of "Mass", only so many patients have a positive (or a negative) film: both films of the first ones."""
    labels = entry.scored.labels.copy()
    labels[:, 0] = 0 if positive else 1
    labels[: 2 * patients, 0] = 1 if positive else 0
    return _with(entry, labels=labels)


@pytest.mark.parametrize("positive", [True, False])
@pytest.mark.parametrize(("patients", "tested"), [(2, False), (4, False), (9, False), (10, True)])
def test_too_few_patients_are_not_tested(patients: int, tested: bool, positive: bool) -> None:
    """Ten positive and ten negative patients make a test; of fewer there is a difference, and neither interval nor p."""
    pair = [
        _rare(_entry(name, signal), patients, positive=positive) for name, signal in (("a", 3.0), ("b", 0.5))
    ]
    found = compare(pair, draws=200)
    mass, effusion, mean = found.pairs
    areas = [auroc(*e.scored.column("Mass")) for e in pair]
    assert mass.auroc.value == pytest.approx(areas[0] - areas[1])  # type: ignore[operator]
    assert (mass.p is not None, mass.auroc.interval is not None, mass.p_holm is not None) == (tested,) * 3
    assert mass.untested == (None if tested else TOO_FEW)
    assert found.mean_over == (["Mass", "Effusion"] if tested else ["Effusion"])
    assert found.too_few.get("Mass") == (
        None if tested else (patients, 120 - patients) if positive else (120 - patients, patients)
    )
    if not tested:
        # Left out of the adjustment and of the mean: with one finding left, all three are that finding's.
        assert effusion.p_holm == effusion.p
        assert mean.auroc == effusion.auroc
        assert found.levels[0].mean_auroc == found.levels[0].auroc["Effusion"]


def test_where_no_finding_has_enough_patients_there_is_no_mean() -> None:
    few = [Entry(e.name, e.scored.only(np.arange(16)), {}) for e in (_entry("a", 3.0), _entry("b", 0.5))]
    found = compare(few, draws=100)
    assert found.mean_over == []
    assert [p.finding for p in found.pairs] == [
        f for f in FINDINGS if found.levels[0].auroc[f].value is not None
    ]
    assert all(p.p is None and p.auroc.interval is None for p in found.pairs)
    assert found.levels[0].mean_auroc.value is None


def test_a_constant_score_against_another() -> None:
    """Its AUROC is 0.5 without an interval; the difference varies with the other model, and is tested."""
    one, other = _entry("a", 3.0), _entry("b", 0.5)
    flat = _with(other, scores=np.full_like(other.scored.scores, 0.2))
    found = compare([one, flat], draws=200)
    assert found.levels[1].auroc["Mass"].value == 0.5
    assert found.levels[1].auroc["Mass"].interval is None
    assert found.pairs[0].p is not None
    assert found.pairs[0].p < 0.001
    both = compare([flat, _with(one, scores=np.zeros_like(one.scored.scores))], draws=100)
    assert [p.untested for p in both.pairs] == [NO_SPREAD] * 3
