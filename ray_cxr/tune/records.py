"""`trials.parquet`: a row a trial, made anew from the study and the run directories whenever something changes."""

from __future__ import annotations

import io
import json
from collections.abc import Collection, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

import pandas as pd
from optuna.trial import FrozenTrial, TrialState

from ray_cxr.storage import Folder
from ray_cxr.tune.objectives import Progress
from ray_cxr.tune.study import DIRECTIONS

TRIALS = "trials.parquet"
_STATES = {
    TrialState.WAITING: "waiting",
    TrialState.COMPLETE: "complete",
    TrialState.PRUNED: "pruned",
    TrialState.FAIL: "failed",
}
_TYPES = {
    "number": "int64",
    "epochs": "int64",
    "epochs_planned": "int64",
    "train_seconds": "float64",
    "seconds": "float64",
    "pareto": "bool",
}


def run_name(number: int) -> str:
    """The directory of a trial's run, below that of the study."""
    return f"trials/{number:05d}"


def run_names(number: int, folds: int | None) -> list[str]:
    """The run directories of a trial: its own, or one below it for each fold."""
    return [run_name(number)] if folds is None else [f"{run_name(number)}/fold-{k}" for k in range(folds)]


def state_of(trial: FrozenTrial, running: Collection[int]) -> str:
    """waiting, running, complete, pruned or failed; one that was begun and has no process waits to be gone on with."""
    if trial.state == TrialState.RUNNING:
        return "running" if trial.number in running else "waiting"
    return _STATES[trial.state]


def trial_table(
    trials: Sequence[FrozenTrial],
    objectives: Sequence[str],
    parameters: Sequence[str],
    running: Collection[int],
    progress: Mapping[int, Progress],
    planned: int,
    runs: int = 1,
) -> pd.DataFrame:
    """A row a trial, by number; every column also where there is none yet.

    planned: epochs of a training that draws none of its own; runs: trainings of a trial.
    """
    front = pareto_front(trials, objectives)
    rows = []
    for trial in trials:
        drawn = trial.user_attrs.get("settings", {})
        done = progress.get(trial.number, Progress("best"))
        values = objective_values(trial, objectives, done)
        rows.append(
            {"number": trial.number, "state": state_of(trial, running), "origin": trial.user_attrs.get("origin", "sampler")}
            | {f"param:{name}": json.dumps(drawn[name]) if name in drawn else None for name in parameters}
            | {f"objective:{name}": values[name] for name in objectives}
            | {"epochs": done.epochs, "epochs_planned": int(drawn.get("train.epochs", planned)) * runs,
               "train_seconds": done.train_seconds, **_times(trial), "reason": trial.user_attrs.get("reason", ""),
               "run": run_name(trial.number), "pareto": trial.number in front}
        )  # fmt: skip
    names = [
        *("number", "state", "origin"),
        *(f"param:{name}" for name in parameters),
        *(f"objective:{name}" for name in objectives),
        *(
            "epochs",
            "epochs_planned",
            "train_seconds",
            "seconds",
            "started",
            "ended",
            "reason",
            "run",
            "pareto",
        ),
    ]
    floats = {f"objective:{name}": "float64" for name in objectives}
    return pd.DataFrame(rows, columns=names).astype(_TYPES | floats)


def objective_values(
    trial: FrozenTrial, objectives: Sequence[str], done: Progress
) -> dict[str, float | None]:
    """Objective → its value, of a trial that has not ended the newest; None where there is none yet."""
    if trial.state == TrialState.COMPLETE:
        return dict(zip(objectives, trial.values, strict=True))
    return {name: {**trial.user_attrs.get("cost", {}), **done.kept}.get(name) for name in objectives}


def pareto_front(trials: Sequence[FrozenTrial], objectives: Sequence[str]) -> set[int]:
    """Numbers of the complete trials that no other one is better than in one objective and as good in the others."""
    signs = [1 if DIRECTIONS[name] == "maximize" else -1 for name in objectives]
    points = {
        t.number: [s * v for s, v in zip(signs, t.values, strict=True)]
        for t in trials
        if t.state == TrialState.COMPLETE
    }

    def dominated(point: list[float]) -> bool:
        return any(
            other != point and all(a >= b for a, b in zip(other, point, strict=True))
            for other in points.values()
        )

    return {number for number, point in points.items() if not dominated(point)}


def write_table(out: Folder, frame: pd.DataFrame) -> None:
    """Writes `trials.parquet`, whole."""
    buffer = io.BytesIO()
    frame.to_parquet(buffer, index=False)
    out.write_bytes(TRIALS, buffer.getvalue())


def read_lines(run: Folder) -> list[dict[str, Any]]:
    """The lines of a run's history.jsonl; none where it has not come so far."""
    try:
        text = run.read_bytes("history.jsonl").decode()
    except FileNotFoundError:
        return []
    return [json.loads(line) for line in text.splitlines()]


def _times(trial: FrozenTrial) -> dict[str, Any]:
    """Seconds that a process was at it, over all attempts; when it began and ended, in UTC."""
    attempts = [
        [datetime.fromisoformat(at) for at in attempt] for attempt in trial.user_attrs.get("attempts", [])
    ]
    ended = trial.datetime_complete
    return {
        "seconds": sum((last - first).total_seconds() for first, last in attempts),
        "started": attempts[0][0].isoformat(timespec="seconds") if attempts else None,
        # Optuna's times are those of the clock on the wall.
        "ended": ended.astimezone(UTC).isoformat(timespec="seconds") if ended else None,
    }
