"""The page of a comparison."""

import re
from dataclasses import replace
from typing import Any

import numpy as np

from ray_cxr.evaluate.compare import compare
from ray_cxr.evaluate.compare_protocol import Entry
from ray_cxr.evaluate.compare_result import Comparison
from ray_cxr.evaluate.inputs import Scored
from ray_cxr.report.compare import few_sentences, render_comparison, summary_sentences
from ray_cxr.report.compare_figures import forest_figure, overlay_figure

HOSTILE = "<script>alert(1)</script>"


def compared(signals: dict[str, float], films: int = 240, **fields: Any) -> Comparison:
    """Models of such signals on the same films, two of each patient, with two findings."""
    labels = (np.random.default_rng(0).random((240, 2)) < 0.3).astype(np.float32)
    entries = []
    for name, signal in signals.items():
        noise = np.random.default_rng(int(signal * 100)).normal(size=labels.shape)
        ids = np.array([f"film-{n}" for n in range(240)], object)
        patients = np.array([f"patient-{n // 2}" for n in range(240)], object)
        scored = Scored(ids, patients, [HOSTILE, "Mass"], labels, signal * labels + noise)
        entries.append(Entry(name, scored.only(np.arange(films)), fields.get(name, {}), 1))
    return compare(entries, draws=100)


def test_the_page_names_models_and_no_films() -> None:
    page = render_comparison(compared({"run-a": 3.0, "run-b<b>": 0.5}))
    assert HOSTILE not in page
    assert "run-b<b>" not in page
    assert "film-" not in page
    assert "patient-" not in page
    for plot in ("plot-difference-0", "plot-overlay-0", "plot-overlay-1"):
        assert f'id="{plot}"' in page


def test_the_answer_in_words() -> None:
    sure = summary_sentences(compared({"good": 3.0, "poor": 0.5}))
    assert sure[0].startswith("good has the higher mean AUROC than poor, by 0.")
    turned = summary_sentences(compared({"poor": 0.5, "good": 3.0}))
    assert turned[0].startswith("good has the higher mean AUROC than poor, by 0.")
    unsure = summary_sentences(compared({"a": 1.0, "b": 1.01}))
    assert "are not shown to differ" in unsure[0]


def test_across_protocols_the_page_warns() -> None:
    page = render_comparison(
        compared({"a": 2.0, "b": 1.0}, a={"protocol": "official"}, b={"protocol": "sampled"})
    )
    assert "Compared across protocols, as asked: a difference may come from the test" in page
    cells = re.findall(
        r"<t[hd][^>]*>([^<]*)</t[hd]>",
        page.partition("Where the protocols differ")[2].partition("</table>")[0],
    )
    assert cells == ["Field", "a", "b", "protocol", "official", "sampled"]


def test_findings_with_few_patients_are_named_and_not_tested() -> None:
    page = render_comparison(compared({"a": 3.0, "b": 0.5}, films=30))
    assert "Too few positive or negative patients for a test (under 10): " in page
    assert re.search(r"Mass \(\d positive\)", page)
    assert "not tested: too few" in page
    full = compared({"a": 3.0, "b": 0.5})
    assert few_sentences(full) == []
    assert full.mean_name == "mean"


def test_other_films_are_said_to_be_others() -> None:
    both = compared({"a": 2.0, "b": 1.0})
    one, other = both.entries
    some = np.arange(240) >= 60
    page = render_comparison(compare([one, replace(other, scored=other.scored.only(some))], draws=100))
    for said in (
        "AUROC on the 180 films of all",
        "AUROC of each on all its own films",
        "not to be held against each other",
    ):
        assert said in page
    assert "of each on all its own films" not in render_comparison(both)
    strange = replace(other, scored=replace(other.scored, image_ids=other.scored.image_ids + "x"))
    apart = compare([one, strange], draws=100)
    assert summary_sentences(apart) == ["The models have no film in common, so nothing can be tested."]
    assert "AUROC of each on all its own films" in render_comparison(apart)


def test_a_leak_is_the_first_line() -> None:
    comparison = compared({"a": 2.0, "b": 1.0})
    pairs = {"train-validation": 0, "train-test": 8, "validation-test": 0}
    leak = {
        "patients": 264,
        "shared_patients": 8,
        "shared_films": 0,
        "clean": False,
        "allowed": True,
        "pairs": pairs,
    }
    leaking = replace(comparison, entries=[comparison.entries[0], replace(comparison.entries[1], leak=leak)])
    first = render_comparison(leaking).partition("<body>")[2].strip().splitlines()[0]
    assert first.startswith(
        '<p class="banner" role="alert">b: Patient leak, allowed by split.allow_leak: 8 of 264'
    )
    assert 'role="alert"' not in render_comparison(comparison)


def test_figures() -> None:
    comparison = compared({"a": 3.0, "b": 0.5, "c": 0.1})
    overlay = overlay_figure(comparison, "Mass")
    assert [t["name"].split()[0] for t in overlay["data"]] == ["a", "b", "c", "guessing"]
    pairs = [p for p in comparison.pairs if (p.first, p.second) == (0, 1)]
    forest = forest_figure(pairs, comparison.mean_name)
    shown = {y: x for trace in forest["data"] for x, y in zip(trace["x"], trace["y"], strict=True)}
    assert [shown[n] for n in range(3)] == [round(p.auroc.value or 0, 5) for p in pairs]
    assert forest["layout"]["yaxis"]["ticktext"][2] == "mean"
