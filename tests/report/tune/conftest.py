"""A study as `tune` leaves it, made up: random but plausible scores, no search and no film behind it."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import yaml

MakeStudy = Callable[..., Path]
EPOCHS = 9
SPACE: dict[str, Any] = {
    "model.backbone": {"choices": ["resnet10t", "regnetx_002", "tf_efficientnet_lite0"]},
    "model.freeze_depth": {"choices": [0, 2, 4, "head"]},
    "stream.resampling": {"choices": ["none", "oversample", "class_aware"]},
    "stream.resampling_strength": {
        "low": 0.2, "high": 1.0, "when": {"stream.resampling": ["oversample", "class_aware"]},
    },
    "train.learning_rate": {"low": 1e-4, "high": 1e-2, "log": True},
    "stream.image_px": {"low": 48, "high": 96, "int": True},
}  # fmt: skip
WORTH = {"resnet10t": 0.0, "regnetx_002": 0.02, "tf_efficientnet_lite0": 0.06}


def _parameters(rng: np.random.Generator, backbones: list[str]) -> dict[str, Any]:
    resampling = str(rng.choice(SPACE["stream.resampling"]["choices"]))
    depths = SPACE["model.freeze_depth"]["choices"]
    drawn = {
        "model.backbone": backbones[rng.integers(len(backbones))],
        "model.freeze_depth": depths[rng.integers(len(depths))],
        "stream.resampling": resampling,
        "train.learning_rate": float(10 ** rng.uniform(-4, -2)),
        "stream.image_px": int(rng.integers(48, 97)),
    }
    strength = {} if resampling == "none" else {"stream.resampling_strength": float(rng.uniform(0.2, 1))}
    return drawn | strength


def _curve(rng: np.random.Generator, parameters: dict[str, Any], epochs: int) -> list[float]:
    worth = WORTH.get(parameters["model.backbone"], 0.03) - 0.05 * (
        parameters["model.freeze_depth"] == "head"
    )
    worth -= 0.03 * abs(np.log10(parameters["train.learning_rate"]) + 3)
    rise = 1 - np.exp(-np.arange(1, epochs + 1) / 3)
    return [round(float(v), 4) for v in 0.52 + rise * (0.16 + worth) + rng.normal(0, 0.012, epochs)]


def _trial(
    rng: np.random.Generator, number: int, backbones: list[str], objectives: list[str], failures: list[str]
) -> Any:
    parameters = _parameters(rng, backbones)
    state = str(rng.choice(["complete", "pruned", "failed"], p=[0.35, 0.57, 0.08])) if number else "complete"
    epochs = (
        EPOCHS
        if state == "complete"
        else int(rng.choice([1, 1, 1, 3]))
        if state == "pruned"
        else int(rng.integers(0, 2))
    )
    curve = _curve(rng, parameters, epochs)
    seconds = round(float(epochs * rng.uniform(20, 70) + 4), 1)
    values = {
        "mean_auroc": curve[-1] if curve and state != "failed" else None,
        "macs": float(10 ** rng.uniform(7, 9)),
        "parameters": float(rng.integers(5, 50) * 1e5),
    }
    return {
        "number": number, "state": state, "origin": "recipe:small" if number < 2 else "sampler",
        **{f"param:{name}": json.dumps(parameters[name]) if name in parameters else None for name in SPACE},
        **{f"objective:{name}": values[name] if state != "failed" else None for name in objectives},
        "pareto": False, "epochs": epochs, "epochs_planned": EPOCHS, "train_seconds": 0.9 * seconds, "seconds": seconds,
        "started": "2026-11-25T04:00:00Z", "ended": "2026-11-25T04:05:00Z",
        "reason": failures[number % len(failures)] if state == "failed" else "", "run": f"trials/{number:05d}",
    }, curve  # fmt: skip


def _mark_pareto(rows: list[dict[str, Any]], objectives: list[str]) -> None:
    """The first objective is to be large, the others small."""
    done = [r for r in rows if r["state"] == "complete"]
    for row in done:
        own = [row[f"objective:{o}"] * (-1 if i else 1) for i, o in enumerate(objectives)]
        others = [
            [r[f"objective:{o}"] * (-1 if i else 1) for i, o in enumerate(objectives)]
            for r in done
            if r is not row
        ]
        row["pareto"] = not any(all(b >= a for a, b in zip(own, o, strict=True)) for o in others)


def _stated(row: dict[str, Any] | None) -> dict[str, Any] | None:
    if row is None:
        return None
    value = row["objective:mean_auroc"]
    return {
        "number": row["number"],
        "value": value,
        "interval": [round(value - 0.05, 4), round(value + 0.05, 4)],
    }


@pytest.fixture(scope="session")
def make_study(tmp_path_factory: pytest.TempPathFactory) -> MakeStudy:
    """Writes a study and gives its directory."""

    def make(
        trials: int = 30,
        objectives: tuple[str, ...] = ("mean_auroc",),
        backbones: tuple[str, ...] = tuple(WORTH),
        failures: tuple[str, ...] = ("out of memory at batch 32", "loss is not finite in epoch 1, step 7"),
        seed: int = 1,
    ) -> Path:
        folder = tmp_path_factory.mktemp("made") / "search"
        folder.mkdir()
        rng = np.random.default_rng(seed)
        rows = []
        for number in range(trials):
            row, curve = _trial(rng, number, list(backbones), list(objectives), list(failures))
            run = folder / row["run"]
            run.mkdir(parents=True)
            lines = [
                json.dumps({"epoch": e, "mean_auroc": v, "seconds": {"train": 20.0}})
                for e, v in enumerate(curve, 1)
            ]
            (run / "history.jsonl").write_text("".join(line + "\n" for line in lines), encoding="utf-8")
            rows.append(row)
        _mark_pareto(rows, list(objectives))
        pd.DataFrame(rows).to_parquet(folder / "trials.parquet", index=False)
        done = sorted((r for r in rows if r["state"] == "complete"), key=lambda r: -r["objective:mean_auroc"])
        best, second = [*done, None, None][:2]
        summary = {
            "compared": sum(r["state"] != "failed" for r in rows), "select": "best", "draws": 2000,
            "objectives": {o: "minimize" if i else "maximize" for i, o in enumerate(objectives)},
            "winner": _stated(best), "runner_up": _stated(second),
            "difference": None if best is None or second is None else {
                "value": round(best["objective:mean_auroc"] - second["objective:mean_auroc"], 4), "interval": [-0.021, 0.034],
            },
        }  # fmt: skip
        (folder / "summary.json").write_text(json.dumps(summary), encoding="utf-8")
        job = {
            "out": "runs/search",
            "model": {"backbone": "resnet10t"},
            "tune": {"trials": trials, "space": {**SPACE, "model.backbone": {"choices": list(backbones)}}},
        }
        (folder / "config.yaml").write_text(yaml.safe_dump(job, sort_keys=False), encoding="utf-8")
        (folder / "best.yaml").write_text(
            "out: runs/search-best\nmodel:\n  backbone: tf_efficientnet_lite0\n", encoding="utf-8"
        )
        return folder

    return make
