"""The page of a study: what its sections say. Numbers by hand, on small made-up studies."""

import json
import re
from dataclasses import replace
from typing import Any

import pytest
import yaml

from ray_cxr.report.blocks import Facts, Fold, Plot, Section, Table, Text
from ray_cxr.report.tune import result_sections, search_sections
from ray_cxr.report.tune.effort import effort
from ray_cxr.report.tune.figures import (
    Scale,
    best_quarter,
    curves_figure,
    kept_point,
    parallel_figure,
    pareto_figure,
)
from ray_cxr.report.tune.study import Study, Trial, alternatives, bounds, short_names, value_text
from ray_cxr.report.tune.write import read_study, render_study, write_study_report
from ray_cxr.storage import Folder

from .conftest import MakeStudy


def _trial(number: int, state: Any, curve: list[float], seconds: float = 81.0, **parameters: Any) -> Trial:
    names = {"backbone": "model.backbone", "depth": "model.freeze_depth", "rate": "train.learning_rate"}
    return Trial(
        number=number, state=state, origin="sampler", parameters={names[k]: v for k, v in parameters.items()},
        objectives={"mean_auroc": curve[-1]} if curve and state != "failed" else {}, epochs=len(curve), epochs_planned=9,
        seconds=seconds, train_seconds=seconds, curve=list(enumerate(curve, 1)), run=f"trials/{number:05d}", reason="out of memory" if state == "failed" else "",
    )  # fmt: skip


def _study(*trials: Trial, **changes: Any) -> Study:
    stated = {
        "compared": 4, "select": "best", "draws": 2000, "winner": {"number": 1, "value": 0.74, "interval": [0.69, 0.79]},
        "runner_up": {"number": 0, "value": 0.71, "interval": [0.66, 0.76]}, "difference": {"value": 0.03, "interval": [-0.01, 0.07]},
    }  # fmt: skip
    space = {
        "model.backbone": [{"choices": ["a", "b"]}], "model.freeze_depth": [{"choices": [0, "head"]}],
        "train.learning_rate": [{"low": 1e-4, "high": 1e-2, "log": True}],
    }  # fmt: skip
    study = Study(
        title="runs/search", out="runs/search", trials=trials, summary=stated, space=space, backbone="a", config_yaml="seed: 0\n",
        best_yaml="out: runs/search/final\n",
    )  # fmt: skip
    return replace(study, **changes)


@pytest.fixture
def study() -> Study:
    """Two finished trials, one stopped after 3 of 9 epochs, one after 1, one that failed; 9 epochs take 81 s."""
    return _study(
        _trial(0, "complete", [0.6] * 8 + [0.71], backbone="a", depth=0, rate=0.001),
        _trial(1, "complete", [0.61] * 8 + [0.74], backbone="b", depth="head", rate=0.01),
        _trial(2, "pruned", [0.6, 0.6, 0.8], 27.0, backbone="b", depth=0, rate=0.0001),
        _trial(3, "pruned", [0.5], 9.0, backbone="a", depth="head", rate=0.001),
        _trial(4, "failed", [], 5.0, backbone="a", depth=0, rate=0.001),
    )


def _texts(section: Section) -> str:
    return " ".join(b.text for b in section.blocks if isinstance(b, Text))


def _tables(section: Section) -> dict[str, Table]:
    found = [b for b in section.blocks if isinstance(b, Table)]
    found += [b.table for b in section.blocks if isinstance(b, Plot)]
    return {t.caption: t for t in found}


def test_finished_trials_come_first_and_stopped_ones_by_how_far_they_came(study: Study) -> None:
    assert [t.number for t in study.ranked] == [1, 0, 2, 3, 4], (
        "trial 2 had 0.8 at epoch 3, which is no final score"
    )


def test_leaderboard_says_what_every_trial_was(study: Study) -> None:
    section = result_sections.leaderboard(study)
    board, best = (b for b in section.blocks if isinstance(b, Table))
    assert board.columns == [
        "Trial",
        "Score",
        "Backbone",
        "Freeze depth",
        "Learning rate",
        "State",
        "Epochs",
        "Time",
    ]
    assert board.rows[0] == ["1 ★", "0.740", "b", "head", "0.01", "finished", "9/9", "81 s"]
    assert board.rows[-1] == ["4", "–", "a", "0", "0.001", "failed", "0/9", "5 s"]
    assert best.rows == [["b", "0.740", "1", "2", "1", "1", "0"], ["a", "0.710", "0", "3", "1", "1", "1"]]


def test_a_long_leaderboard_is_folded() -> None:
    trials = [_trial(n, "complete", [0.6 + n / 1000], backbone="a") for n in range(15)]
    section = result_sections.leaderboard(_study(*trials))
    fold = next(b for b in section.blocks if isinstance(b, Fold))
    assert fold.summary == "The other 3 trials"
    assert isinstance(fold.block, Table)
    assert [row[0] for row in fold.block.rows] == ["2", "1 ★", "0"]


def test_a_setting_that_does_not_apply_is_a_dot(study: Study) -> None:
    lone = _trial(5, "complete", [0.5], backbone="a")
    section = result_sections.leaderboard(_study(*study.trials, lone))
    board = next(b for b in section.blocks if isinstance(b, Table))
    assert next(row for row in board.rows if row[0] == "5")[3:5] == ["·", "·"]


def test_effort_is_by_hand(study: Study) -> None:
    """203 s ran. Trial 2 was spared 6 epochs of 9 s, trial 3 eight of 9 s; the failed one saved nothing."""
    spent = effort(study)
    assert (spent.epochs, spent.epochs_full) == (22, 36)
    assert (spent.seconds, spent.seconds_full) == (203.0, 329.0)
    assert spent.share_saved == pytest.approx(126 / 329)
    table = _tables(search_sections.compute(study))["What the trials took"]
    assert [list(row) for row in table.rows] == [
        ["finished", "2", "18", "3 min"], ["stopped", "2", "4", "36 s"], ["failed", "1", "0", "5 s"],
        ["saved by stopping", "2", "14", "2 min"],
    ]  # fmt: skip


def test_summary_names_the_winner_and_that_the_test_stayed_shut(study: Study) -> None:
    section = result_sections.summary(study)
    assert "Trial 1 is chosen of 5: b, validation mean AUROC 0.740 (95 % interval 0.690 to 0.790)." in _texts(
        section
    )
    assert "never opened the test split" in _texts(section)
    facts = next(b for b in section.blocks if isinstance(b, Facts))
    assert dict(facts.facts)["Trials"] == "2 finished, 2 stopped, 1 failed"
    assert dict(facts.facts)["Saved by stopping"] == "2 min (38%)"


def test_the_winners_curse_is_told(study: Study) -> None:
    section = result_sections.certainty(study)
    assert "4 trials were compared" in _texts(section)
    assert "the best of many noisy figures flatters itself" in _texts(section)
    assert "may be chance: its interval holds 0" in _texts(section)
    (table,) = _tables(section).values()
    assert table.rows[2] == ["Difference", "", "+0.030", "−0.010 to +0.070"]


def test_a_difference_whose_interval_leaves_out_0_is_still_doubted(study: Study) -> None:
    stated = {**study.summary, "difference": {"value": 0.03, "interval": [0.01, 0.07]}}
    assert "picked as the best two" in _texts(result_sections.certainty(replace(study, summary=stated)))
    alone = {**study.summary, "runner_up": None, "difference": None}
    assert "Only one trial came to its end" in _texts(
        result_sections.certainty(replace(study, summary=alone))
    )


def test_lower_bound_is_said(study: Study) -> None:
    stated = {**study.summary, "select": "lower_bound"}
    assert "highest lower end" in _texts(result_sections.certainty(replace(study, summary=stated)))


def test_curves_have_a_line_per_backbone_and_the_stops(study: Study) -> None:
    figure = curves_figure(study)
    assert [d["name"] for d in figure["data"]] == ["b", "a", "stopped", "chosen: trial 1"]
    b, a, stops, chosen = figure["data"]
    assert b["x"] == [*range(1, 10), None, 1, 2, 3, None]
    assert a["y"][:9] == [0.6] * 8 + [0.71]
    assert (stops["x"], stops["y"]) == ([3, 1], [0.8, 0.5])
    assert (chosen["x"], chosen["y"]) == ([9], [0.74])
    table = _tables(search_sections.curves(study))["Trials by epoch"]
    assert [list(row) for row in table.rows[:4]] == [
        ["1", "4", "1", "0.610"], ["2", "3", "0", "0.610"], ["3", "3", "1", "0.800"], ["4", "2", "0", "0.610"],
    ]  # fmt: skip


def test_the_ring_is_round_the_epoch_that_was_kept(study: Study) -> None:
    trial = replace(study.trials[1], objectives={"mean_auroc": 0.74}, curve=[(1, 0.6), (2, 0.74), (3, 0.7)])
    assert kept_point(trial) == (2, 0.74)
    assert kept_point(replace(trial, objectives={"worst_average_precision": 0.74})) == (3, 0.7)


def test_a_trial_that_was_cut_counts_with_what_it_took(study: Study) -> None:
    """Its 18 s and two epochs are spent; it would have had them in full training too."""
    cut, new = _trial(5, "waiting", [0.5, 0.6], 18.0, backbone="a"), _trial(6, "waiting", [], 0.0)
    spent = effort(_study(*study.trials, cut, new))
    assert (spent.epochs, spent.epochs_full, spent.seconds) == (24, 38, 221.0)
    table = _tables(search_sections.compute(_study(*study.trials, cut, new)))["What the trials took"]
    assert ["cut", "1", "2", "18 s"] in [list(row) for row in table.rows]


def test_alternatives_share_one_range() -> None:
    space = alternatives(
        {"a": [{"low": 1, "high": 4, "log": True}, {"low": 2, "high": 8, "log": True}], "b": {"choices": [1]}}
    )
    assert bounds(space) == {"a": {"low": 1, "high": 8, "log": True}}


def test_slices_begin_with_freeze_depth_and_count_by_value(study: Study) -> None:
    section = search_sections.slices(study)
    assert [p.heading for p in section.plots] == ["Freeze depth", "Backbone", "Learning rate"]  # type: ignore[union-attr]
    panels = section.blocks[1]
    assert panels.table.rows[:2] == [  # type: ignore[union-attr]
        ["freeze depth", "0", "3", "1", "0.710"], ["freeze depth", "head", "2", "1", "0.740"],
    ]  # fmt: skip


def test_places_of_values() -> None:
    steps = Scale(["head", 4, 0], {})
    assert steps.steps == ["0", "4", "head"]
    assert [steps.share(v) for v in (0, 4, "head")] == [0, 0.5, 1]
    assert abs(steps.at("head", 7) - 2) < 0.2
    log = Scale([0.001], {"low": 1e-4, "high": 1e-2, "log": True})
    assert log.share(0.001) == pytest.approx(0.5)
    assert log.at(0.001, 7) == 0.001
    assert Scale([True, False], {}).steps == ["no", "yes"]


def test_a_thread_passes_over_what_does_not_apply(study: Study) -> None:
    trial = _trial(5, "complete", [0.8], backbone="a")
    figure = parallel_figure(_study(*study.trials, trial))
    best, chosen = (
        next(d for d in figure["data"] if d["name"] == name) for name in ("best quarter", "chosen")
    )
    assert best["y"] == [3, 0, None], "trial 5 has a backbone, no freeze depth, no learning rate, and a score"
    assert best["x"] == [0, 1, None]
    assert chosen["y"] == [3, 2, 1, 0, None]
    assert chosen["x"] == [1, 1, 1, pytest.approx(0.8), None]  # 0.74 between 0.5 and 0.8


def test_the_best_quarter_is_rounded_up(study: Study) -> None:
    assert [t.number for t in best_quarter(study, study.trials)] == [1, 0]


def test_two_goals_are_joined_three_are_not(study: Study) -> None:
    goals = {"mean_auroc": "maximize", "macs": "minimize", "parameters": "minimize"}
    trials = [
        replace(
            t, objectives={**t.objectives, "macs": 10.0**t.number, "parameters": 5.0}, pareto=t.number == 1
        )
        for t in study.trials
    ]
    three = _study(*trials, objectives=goals)
    figure = pareto_figure(three, "macs")
    assert {d["name"]: d["mode"] for d in figure["data"]} == {
        "other trials": "markers",
        "Pareto front": "markers",
    }
    two = _study(*trials, objectives={"mean_auroc": "maximize", "macs": "minimize"})
    assert pareto_figure(two, "macs")["data"][1]["mode"] == "lines+markers"
    section = result_sections.pareto(three)
    assert section is not None
    assert "1 trial on the front" in _texts(section)
    assert result_sections.pareto(study) is None


def test_failures_by_reason(study: Study) -> None:
    (table,) = _tables(search_sections.failures(study)).values()
    assert [list(row) for row in table.rows] == [["out of memory", "1", "4"]]
    assert _texts(search_sections.failures(_study(*study.trials[:4]))) == "No trial failed."


def test_how_to_train_the_winner(study: Study) -> None:
    section = result_sections.train_it(replace(study, out="my runs/search"))
    code = next(b for b in section.blocks if b.kind == "code")
    assert code.text.splitlines() == [  # type: ignore[union-attr]
        "ray-cxr train 'my runs/search/best.yaml'", "ray-cxr evaluate runs/search/final    # opens the test split",
    ]  # fmt: skip


def test_names_and_values() -> None:
    assert short_names(["stream.image_px", "shards.image_px", "loss.kind"]) == {
        "stream.image_px": "stream.image_px", "shards.image_px": "shards.image_px", "loss.kind": "kind",
    }  # fmt: skip
    assert [value_text(v) for v in (None, True, 0.00123456, 3, "head", [1, 2])] == [
        "none",
        "yes",
        "0.00123",
        "3",
        "head",
        "[1, 2]",
    ]


def test_the_space_in_words() -> None:
    space = {
        "low": 0.2,
        "high": 1.0,
        "when": {"stream.resampling": ["oversample", "class_aware"], "loss.kind": "bce"},
    }
    assert search_sections.space_text(space) == (
        "0.2 to 1; where stream.resampling is oversample or class_aware and loss.kind is bce"
    )
    assert (
        search_sections.space_text({"low": 1e-4, "high": 1e-2, "log": True})
        == "0.0001 to 0.01 by the logarithm"
    )
    assert search_sections.space_text({"choices": [0, "head"]}) == "0, head"


def test_a_search_without_a_finished_trial_has_a_page() -> None:
    nobody = {"compared": 0, "winner": None, "runner_up": None, "difference": None}
    html = render_study(_study(_trial(0, "failed", [], 1.0, backbone="a"), summary=nobody, best_yaml=""))
    assert "1 trial, and none came to its end." in html
    assert "There is no winner to train." in html
    waiting = render_study(_study(_trial(0, "waiting", []), summary=nobody, best_yaml=""))
    assert "1 trial are not done yet" not in waiting
    assert "1 trial is not done yet" in waiting


def test_a_study_is_read_from_its_directory(make_study: MakeStudy) -> None:
    folder = make_study(trials=12)
    study = read_study(Folder(str(folder)))
    assert [t.number for t in study.trials] == list(range(12))
    first = study.trials[0]
    history = [json.loads(line) for line in (folder / "trials/00000/history.jsonl").read_text().splitlines()]
    assert first.curve == [(h["epoch"], h["mean_auroc"]) for h in history]
    assert first.parameters["model.backbone"] in study.space["model.backbone"][0]["choices"]
    assert study.bounds["train.learning_rate"] == {"low": 1e-4, "high": 1e-2, "log": True}
    assert ("stream.resampling_strength" in first.parameters) == (
        first.parameters["stream.resampling"] != "none"
    )
    write_study_report(Folder(str(folder)))
    page = (folder / "report/index.html").read_text(encoding="utf-8")
    assert not re.search(r'(src|href)="(?!#|data:)', page.partition("<script")[0])


def test_the_curve_of_a_trial_by_folds_goes_on_from_fold_to_fold(make_study: MakeStudy) -> None:
    folder = make_study(trials=4)
    run = folder / "trials" / "00000"
    (run / "history.jsonl").unlink()
    for fold, scores in enumerate(([0.5, 0.6], [0.4, None, 0.7])):
        lines = [{"epoch": e, "mean_auroc": v} for e, v in enumerate(scores, 1)]
        (run / f"fold-{fold}").mkdir()
        (run / f"fold-{fold}" / "history.jsonl").write_text(
            "".join(json.dumps(line) + "\n" for line in lines)
        )
    config = yaml.safe_load((folder / "config.yaml").read_text())
    config["tune"]["crossval"] = 2
    (folder / "config.yaml").write_text(yaml.safe_dump(config))
    read = read_study(Folder(str(folder)))
    trial = next(t for t in read.trials if t.number == 0)
    assert list(trial.curve) == [(1, 0.5), (2, 0.6), (3, 0.4), (5, 0.7)]
    assert "2 models, one for each fold after the other" in str(search_sections.curves(read).blocks[0])


def test_an_unknown_state_is_an_error(make_study: MakeStudy) -> None:
    import pandas as pd

    folder = make_study(trials=3)
    table = pd.read_parquet(folder / "trials.parquet")
    table.loc[1, "state"] = "gone"
    table.to_parquet(folder / "trials.parquet")
    with pytest.raises(ValueError, match="trial 1 has the state 'gone'"):
        read_study(Folder(str(folder)))
