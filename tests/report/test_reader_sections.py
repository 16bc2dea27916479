"""Sections on readers: their sentences and figures; no id of a film, patient or (unless asked) reader."""

import numpy as np
import pytest

from ray_cxr.bootstrap import draw_patient_weights
from ray_cxr.evaluate.consensus import Rule
from ray_cxr.evaluate.readers import Readings
from ray_cxr.evaluate.readers_result import ReaderOptions, ReaderResult, make_consensus, study_readers
from ray_cxr.report.blocks import Plot, Table
from ray_cxr.report.html import render_page
from ray_cxr.report.reader_sections import reader_sections, reference_sentence

HOSTILE = "<script>alert(1)</script>"
FILMS = 200


def _readings(findings: list[str]) -> tuple[Readings, np.ndarray, np.ndarray]:
    """Three readers of 200 films of 100 patients, the truth [N, F], and scores [N, F] of a model."""
    rng = np.random.default_rng(0)
    truth = (rng.random((FILMS, len(findings))) < 0.4).astype(np.float32)
    flip = rng.random((FILMS, 3, len(findings))) < 0.2
    answers = np.where(flip, 1 - truth[:, None], truth[:, None]).astype(np.float32)
    readings = Readings(
        np.array([f"film-{n}" for n in range(FILMS)], object),
        np.array([f"patient-{n // 2}" for n in range(FILMS)], object),
        ["dr-anna", "dr-bert", "dr-cleo"], findings, answers,
        np.full((3, len(findings)), 2), np.full((3, len(findings)), 1),
    )  # fmt: skip
    return readings, truth, truth * 2 + rng.normal(size=truth.shape)


def _result(findings: list[str], *, made_here: bool = False, **options: object) -> ReaderResult:
    readings, truth, scores = _readings(findings)
    chosen = ReaderOptions(**options)  # type: ignore[arg-type]
    labels = make_consensus(readings, chosen).labels if made_here else truth
    assert readings.patient_ids is not None
    draws = draw_patient_weights(readings.patient_ids.tolist(), 100, seed=0)
    return study_readers(readings, findings, labels, scores, chosen, draws, made_here=made_here)


def test_the_page_has_every_section_and_no_id() -> None:
    result = _result([HOSTILE, "Mass"], margin=0.1)
    sections = reader_sections(result)
    assert [s.anchor for s in sections] == ["agreement", "consensus", "readers"]
    plots = [b.identifier for s in sections for b in s.blocks if isinstance(b, Plot)]
    assert plots == ["plot-readers-0", "plot-reader-precision-0", "plot-readers-1", "plot-reader-precision-1"]
    page = render_page("report.html.jinja", "t", sections, None)
    assert HOSTILE not in page
    for name in ("film-1", "patient-1", "dr-anna"):
        assert name not in page
        assert name not in str(result.as_dict())
    assert "Reader 3" in page
    assert "Non-inferior (margin 0.1)" in page


def test_readers_go_by_their_names_if_asked() -> None:
    result = _result(["Mass"], names=True)
    assert "dr-anna" in str(result.as_dict())
    assert "dr-anna" in render_page("report.html.jinja", "t", reader_sections(result), None)


def test_who_made_the_labels_is_said() -> None:
    outside = reference_sentence(_result(["Mass"]))
    assert "taken as independent" in outside
    inside = _result(["Mass"], made_here=True)
    assert "made by Reader 1, Reader 2, Reader 3" in reference_sentence(inside)
    assert all(reader.left_out for reader in inside.studies[0].readers)
    assert inside.differences is None
    named = _result(["Mass"], reference=("dr-bert",))
    assert "made by Reader 2 (named)" in reference_sentence(named)
    assert [r.reader for r in named.studies[0].readers] == [0, 2]


def test_without_a_model_there_is_no_comparison() -> None:
    readings, truth, _ = _readings(["Mass"])
    draws = draw_patient_weights(list(range(FILMS)), 50, seed=0)
    result = study_readers(readings, ["Mass"], truth, None, ReaderOptions(), draws, made_here=False)
    assert [s.anchor for s in reader_sections(result)] == ["agreement", "consensus"]
    counts = result.differences
    assert counts is not None
    assert sum(counts["Mass"].values()) == FILMS


def test_the_tables_show_the_figures_of_the_result() -> None:
    result = _result(["Mass"])
    agreement, consensus, beside = reader_sections(result)
    tables = [b for s in (agreement, consensus, beside) for b in s.blocks if isinstance(b, Table)]
    fleiss = result.agreement["Mass"]["fleiss"]
    assert (
        f"{fleiss['value']:.2f} ({fleiss['interval'][0]:.2f} to {fleiss['interval'][1]:.2f})"
        in tables[0].rows[0]
    )
    assert tables[1].rows == [["Mass", "6", "3", "50%"]]
    study = result.studies[0]
    assert tables[-1].rows[0][1] == f"{study.under_curve} of 3"
    figure = next(b for b in beside.blocks if isinstance(b, Plot)).figure
    point = next(trace for trace in figure["data"] if trace.get("name") == "Reader 1")
    assert point["y"] == [round(study.readers[0].sensitivity.value or 0, 5)]
    assert point["x"] == [round(1 - (study.readers[0].specificity.value or 0), 5)]


@pytest.mark.parametrize("rule", [Rule(), Rule("unanimous", "negative", "positive")])
def test_the_rule_is_stated(rule: Rule) -> None:
    page = render_page("report.html.jinja", "t", reader_sections(_result(["Mass"], rule=rule)), None)
    assert rule.sentence() in page
