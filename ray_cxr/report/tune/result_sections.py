"""Sections on what came out: the answer, the leaderboard, how sure it is, several goals, how to train the winner."""

from __future__ import annotations

import shlex
from collections.abc import Mapping, Sequence
from typing import Any

import yaml

from ray_cxr.report.blocks import Block, Code, Facts, Fold, Plot, Section, Table, Text
from ray_cxr.report.tune.effort import effort
from ray_cxr.report.tune.figures import objective_title, objective_words, pareto_figure
from ray_cxr.report.tune.study import BACKBONE, Study, Trial, short_names, value_text
from ray_cxr.report.words import count_text, duration_text

SHOWN = 12
"""Rows of the leaderboard that are open at once."""
STATE_WORDS = {
    "complete": "finished", "pruned": "stopped", "failed": "failed", "running": "running", "waiting": "waiting",
}  # fmt: skip


def summary(study: Study) -> Section:
    """The answer, what it rests on, and what was spent."""
    winner, spent = study.winner, effort(study)
    blocks: list[Block] = [Text(_lead(study), "lead")]
    if winner is None:
        blocks.append(Text("No trial came to its end, so there is nothing to choose from.", "warning"))
    if study.of_state("running", "waiting"):
        left = len(study.of_state("running", "waiting"))
        not_done = f"{count_text(left, 'trial')} {'is' if left == 1 else 'are'} not done yet"
        blocks.append(Text(f"The search is not at its end: {not_done}.", "warning"))
    blocks.append(Text("Chosen by validation films alone: the search never opened the test split.", "good"))
    facts = [
        ("Trials", states_text(study)),
        ("Compared", f"{compared(study)} of {len(study.trials)}"),
        ("Epochs trained", f"{spent.epochs:,} of {spent.epochs_full:,}"),
        ("Time of all trials", duration_text(spent.seconds)),
        ("Saved by stopping", f"{duration_text(spent.seconds_saved)} ({spent.share_saved:.0%})"),
    ]
    return Section("summary", "Summary", [*blocks, Facts(facts)])


def _lead(study: Study) -> str:
    winner = study.winner
    if winner is None:
        return f"{count_text(len(study.trials), 'trial')}, and none came to its end."
    value = score_with_interval(study.summary["winner"])
    chosen = f"Trial {winner.number} is chosen of {len(study.trials)}: {study.backbone_of(winner)}, "
    return f"{chosen}{objective_words(study.first)} {value}."


def states_text(study: Study) -> str:
    """How many trials finished, were stopped, failed."""
    counts = [(words, len(study.of_state(state))) for state, words in STATE_WORDS.items()]  # type: ignore[arg-type]
    return ", ".join(f"{n} {words}" for words, n in counts if n)


def compared(study: Study) -> int:
    """Trials that the winner was chosen from, in whatever way: all whose score was looked at."""
    return int(study.summary.get("compared", sum(t.value(study.first) is not None for t in study.trials)))


def score_with_interval(stated: Mapping[str, Any]) -> str:
    """0.812 (95 % interval 0.790 to 0.833), the figure alone where it has no interval."""
    ends = stated.get("interval")
    return f"{stated['value']:.3f}" + (f" (95 % interval {ends[0]:.3f} to {ends[1]:.3f})" if ends else "")


def leaderboard(study: Study) -> Section:
    """All trials, best first, and the best of each backbone."""
    settings = [s for s in study.settings if s != BACKBONE]
    names = short_names(settings)
    columns = [
        "Trial",
        "Score",
        "Backbone",
        *(names[s].capitalize() for s in settings),
        "State",
        "Epochs",
        "Time",
    ]
    rows = [_row(study, t, settings) for t in study.ranked]
    caption = f"Trials by {objective_words(study.first)}: finished ones first, then stopped ones by how far they came"
    blocks: list[Block] = [Table(f"{caption}", columns, rows[:SHOWN])]
    if len(rows) > SHOWN:
        blocks.append(
            Fold(f"The other {len(rows) - SHOWN} trials", Table("Further trials", columns, rows[SHOWN:]))
        )
    blocks.append(
        Text(
            "A stopped trial's score is the one at which it was stopped, after fewer epochs: it is no measure of what it would have reached.",
            "muted",
        )
    )
    by_backbone = Table(
        "The best of each backbone",
        ["Backbone", "Best score", "Trial", "Tried", "Finished", "Stopped", "Failed"],
        backbone_rows(study),
    )
    return Section("leaderboard", "Leaderboard", [*blocks, by_backbone])


def _row(study: Study, trial: Trial, settings: Sequence[str]) -> list[str]:
    value = trial.value(study.first)
    mark = " ★" if trial is study.winner else ""
    return [
        f"{trial.number}{mark}", "–" if value is None else f"{value:.3f}", study.backbone_of(trial),
        *(value_text(trial.parameters[s]) if s in trial.parameters else "·" for s in settings),
        STATE_WORDS[trial.state], f"{trial.epochs}/{trial.epochs_planned}", duration_text(trial.seconds),
    ]  # fmt: skip


def backbone_rows(study: Study) -> list[list[str]]:
    """A row per backbone, the best first: its best finished trial, and how many were tried, finished, stopped, failed."""
    rows = []
    began = [t for t in study.ranked if t.began]
    for name in dict.fromkeys(map(study.backbone_of, began)):
        own = [t for t in began if study.backbone_of(t) == name]
        finished = [t for t in own if t.state == "complete"]
        best = finished[0] if finished else None
        value = None if best is None else best.value(study.first)
        counts = [sum(t.state == state for t in own) for state in ("complete", "pruned", "failed")]
        shown = "none finished" if value is None or best is None else f"{value:.3f}"
        rows.append(
            [name, shown, "–" if best is None else str(best.number), str(len(own)), *map(str, counts)]
        )
    return rows


def certainty(study: Study) -> Section:
    """The winner's curse, in plain words, with the intervals."""
    chosen, second = study.summary.get("winner"), study.summary.get("runner_up")
    blocks: list[Block] = []
    if chosen is not None:
        blocks.append(
            Text(
                f"{compared(study)} trials were compared on the same validation films, and the best of many noisy figures flatters "
                "itself: part of its lead is luck, which it will not have on other films. Expect less of it in the test than stands here."
            )
        )
        rows = [["Chosen", *_stated(chosen)]]
        if second is not None:
            rows.append(["Runner-up", *_stated(second)])
        difference = study.summary.get("difference")
        if difference is not None:
            rows.append(["Difference", "", *_signed(difference)])
        draws = study.summary.get("draws")
        how = f" ({draws:,} draws of patients)" if draws else ""
        blocks.append(
            Table(
                f"Scores on the validation films with 95 % intervals{how}",
                ["", "Trial", "Score", "Interval"],
                rows,
            )
        )
        blocks.append(Text(_verdict(study), "lesson"))
        blocks.append(Text(f"Rule of choice: {select_words(study)}", "muted"))
    else:
        blocks.append(Text("No trial was chosen."))
    return Section("certainty", "How sure is the choice?", blocks)


def _stated(stated: Mapping[str, Any]) -> list[str]:
    ends = stated.get("interval")
    return [
        str(stated["number"]),
        f"{stated['value']:.3f}",
        f"{ends[0]:.3f} to {ends[1]:.3f}" if ends else "–",
    ]


def _signed(stated: Mapping[str, Any]) -> list[str]:
    ends = stated.get("interval")
    spread = f"{ends[0]:+.3f} to {ends[1]:+.3f}" if ends else "–"
    return [text.replace("-", "−") for text in (f"{stated['value']:+.3f}", spread)]


def _verdict(study: Study) -> str:
    difference = study.summary.get("difference")
    ends = None if difference is None else difference.get("interval")
    if difference is None:
        return "Only one trial came to its end, so there is no runner-up to hold it against."
    if ends is None or ends[0] <= 0 <= ends[1]:
        return (
            "The difference to the runner-up may be chance: its interval holds 0. Take the cheaper or the simpler of the two with a clear "
            "conscience, and do not report the difference as a finding."
        )
    return (
        "The interval of the difference to the runner-up does not hold 0. It does not know, though, that the pair was picked as the best "
        "two of all trials, so it is too narrow: only the test, opened once, can tell."
    )


def select_words(study: Study) -> str:
    """`tune.select` as a sentence."""
    if study.summary.get("select") == "lower_bound":
        return "the finished trial with the highest lower end of its interval (tune.select: lower_bound)."
    return "the finished trial with the best score (tune.select: best)."


def pareto(study: Study) -> Section | None:
    """Where there are several goals: what can be had of one for what of the other."""
    others = list(study.objectives)[1:]
    if not others:
        return None
    front = [t for t in study.of_state("complete") if t.pareto]
    columns = ["Trial", "Backbone", *(objective_title(o) for o in study.objectives)]
    table = Table(
        "The Pareto front",
        columns,
        [
            [str(t.number), study.backbone_of(t), *(_number(t.value(o)) for o in study.objectives)]
            for t in front
        ],
    )
    blocks: list[Block] = [
        Text(
            f"{count_text(len(front), 'trial')} on the front: no other finished trial is better in one goal without being worse in another. "
            f"Trials were stopped by the first goal alone, {objective_words(study.first)}."
        )
    ]
    for number, other in enumerate(others):
        label = f"{objective_title(study.first)} over {objective_words(other)} of finished trials. The table lists the front."
        plot = Plot(f"plot-pareto-{number}", pareto_figure(study, other), label, table, wide_table=True)
        blocks += (
            [plot]
            if number == 0
            else [
                Plot(plot.identifier, plot.figure, label, _same_front(front, study, other), wide_table=True)
            ]
        )
    return Section("pareto", "Several goals", blocks)


def _same_front(front: Sequence[Trial], study: Study, other: str) -> Table:
    rows = [[str(t.number), _number(t.value(other))] for t in front]
    return Table(f"{objective_title(other)} on the front", ["Trial", objective_title(other)], rows)


def _number(value: float | None) -> str:
    if value is None:
        return "–"
    return f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.3f}"


def train_it(study: Study) -> Section:
    """The commands that train the winner and test it."""
    winner = study.winner
    if winner is None:
        return Section("train", "Train the winner", [Text("There is no winner to train.")])
    best = shlex.quote(f"{study.out.rstrip('/')}/best.yaml")
    run = shlex.quote(str(yaml.safe_load(study.best_yaml)["out"]))
    changed = [(name, value_text(value)) for name, value in winner.parameters.items()]
    blocks: list[Block] = [
        Text(
            "best.yaml is a whole job file that trains as it is. The run that it makes may then be tested, once:"
        ),
        Code(f"ray-cxr train {best}\nray-cxr evaluate {run}    # opens the test split"),
        Facts(changed, monospace=True),
    ]
    if winner.run:
        blocks.append(
            Text(f"The trial's own run, with its weights, is {winner.run} in the study's directory.")
        )
    return Section("train", "Train the winner", [*blocks, Fold("best.yaml", Code(study.best_yaml))])
