"""Made-up contents of a report: plausible figures of a chest X-ray classifier, no real films."""

from collections.abc import Callable
from copy import deepcopy
from dataclasses import replace
from functools import cache
from typing import Any

import cv2
import numpy as np
import pandas as pd
import pytest

from ray_cxr.evaluate.figures import Choices, Measured, measure
from ray_cxr.evaluate.inputs import Scored
from ray_cxr.evaluate.misses import worst_misses
from ray_cxr.report.contents import Contents, ReportContents, ShownMiss

FOURTEEN = [
    "Atelectasis", "Cardiomegaly", "Effusion", "Infiltration", "Mass", "Nodule", "Pneumonia",
    "Pneumothorax", "Consolidation", "Edema", "Emphysema", "Fibrosis", "Pleural_Thickening", "Hernia",
]  # fmt: skip
PREVALENCES = [0.10, 0.025, 0.12, 0.18, 0.05, 0.056, 0.013, 0.047, 0.042, 0.02, 0.022, 0.015, 0.03, 0.004]
ONCE_CLEAN: dict[str, Any] = {
    "patients": 2300, "shared_patients": 0, "shared_films": 0, "clean": True, "allowed": False,
    "pairs": {"train-validation": 0, "train-test": 0, "validation-test": 0},
}  # fmt: skip

MakeContents = Callable[..., ReportContents]


def scored_of(
    findings: list[str], films: int, *, patients: int = 340, blank: tuple[str, ...] = (), seed: int = 7
) -> Scored:
    """Films with plausible scores; patients differ in how their films score. The findings in `blank` have no positive film."""
    rng = np.random.default_rng(seed)
    prevalence = np.resize(PREVALENCES, len(findings))
    labels = (rng.random((films, len(findings))) < prevalence).astype(np.float32)
    labels[:, [findings.index(f) for f in blank]] = 0
    labels[rng.random(labels.shape) < 0.05] = np.nan
    shift = np.resize(np.linspace(0.5, 1.9, 14), len(findings))
    patient = np.concatenate(
        [np.arange(min(patients, films)), rng.integers(0, patients, max(0, films - patients))]
    )
    logits = (
        rng.normal(size=labels.shape) + np.nan_to_num(labels) * shift + np.log(prevalence / (1 - prevalence))
    )
    logits += rng.normal(0, 0.5, (patients, 1))[patient]
    groups = pd.DataFrame(
        {
            "sex": rng.choice(["F", "M", None], films, p=[0.45, 0.5, 0.05]),
            "age": rng.integers(1, 95, films).astype(np.float32),
            "view": rng.choice(["PA", "AP"], films, p=[0.8, 0.2]),
        }
    )
    return Scored(
        np.array([f"film-{seed}-{n}" for n in range(films)], object), np.array([f"patient-{seed}-{n}" for n in patient], object),
        findings, labels, 1 / (1 + np.exp(-logits)), groups=groups, protocol="sampled",
    )  # fmt: skip


def contents_of(
    findings: list[str] = FOURTEEN,
    *,
    films: int = 1120,
    epochs: int = 8,
    openings: int = 1,
    blank: tuple[str, ...] = (),
    leak_check: dict[str, Any] = ONCE_CLEAN,
    pictures: bool = False,
) -> ReportContents:
    """Contents of a report on a run with `films` test films."""
    scored, measured = _measured(tuple(findings), films, blank)
    figures = deepcopy(measured.metrics)
    metrics = figures | {"fingerprint": "5a" * 32, "epoch": min(6, epochs), "test_openings": openings}
    png = cv2.imencode(".png", np.full((8, 8), 90, np.uint8))[1].tobytes() if pictures else None
    return ReportContents(
        title="nih-resnet34",
        metrics=metrics,
        findings=findings,
        labels=scored.labels,
        scores=scored.scores,
        bands={f: (g.roc_band, g.precision_recall_band) for f, g in measured.by_finding.items() if g},
        misses=[ShownMiss(m, 5000 + m.film, png) for m in worst_misses(scored)],
        film_is="row in index.parquet of the data set, from 0",
        history=[_epoch(number, findings) for number in range(1, epochs + 1)],
        manifest=_manifest(findings, films, figures, leak_check),
        model={
            "format": 1, "backbone": "resnet34", "findings": findings, "image_px": 224, "stored_px": 256,
            "normalisation": {"kind": "dataset", "mean": [0.5059], "std": [0.2517]}, "fingerprint": "5a" * 32,
            "protocol": "sampled", "epoch": min(6, epochs), "mean_auroc": 0.7312, "weights_sha256": "c3" * 32,
        },
        config_yaml="seed: 1\ntrain:\n  epochs: 8\n  learning_rate: 0.0003\nstream:\n  image_px: 224\n",
        environment={
            "ray_cxr": "0.1.0", "python": "3.11.7", "packages": {"torch": "2.12.0", "ray": "2.60.0"},
            "platform": "Linux-6.1-x86_64", "cpus": 8, "device": "cpu", "workers": 2, "threads_per_worker": 4,
        },
    )  # fmt: skip


@cache
def _measured(findings: tuple[str, ...], films: int, blank: tuple[str, ...]) -> tuple[Scored, Measured]:
    scored = scored_of(list(findings), films, patients=min(340, films), blank=blank)
    validation = scored_of(list(findings), max(films, 800), seed=8)
    return scored, measure(scored, validation, Choices(draws=100), workers=0)


def files_contents_of(findings: list[str] = FOURTEEN, *, films: int = 400) -> Contents:
    """Contents of a report on predictions that come without a run, patients and probabilities."""
    scored = scored_of(findings, films)
    origin = {
        "matched": {f: {"score": f"prob_{f}", "label": f"Finding Labels: {f}"} for f in findings},
        "scored_without_labels": ["Fracture"], "labelled_without_scores": [], "unused_numeric_columns": ["fold"],
        "cautions": ["the scores are 0 and 1 only: Hernia"],
        "joined_by": "ids as they stand", "rows_of_the_label_table": 112120, "films_without_labels": 0, "patients_from": "nothing: intervals are image-level",
    }  # fmt: skip
    alone = replace(scored, patient_ids=None, scores=scored.scores * 3 - 1, protocol=None, origin=origin)
    measured = measure(alone, "no --validation-predictions were given", Choices(draws=100), workers=0)
    return Contents(
        title="preds.csv", metrics=measured.metrics | {"test_openings": None}, findings=findings,
        labels=alone.labels, scores=alone.scores,
        bands={f: (g.roc_band, g.precision_recall_band) for f, g in measured.by_finding.items() if g},
        misses=[ShownMiss(m, m.film + 1) for m in worst_misses(alone)], film_is="row in the table of predictions",
        environment={"ray_cxr": "0.1.0", "python": "3.11.7"},
    )  # fmt: skip


def _epoch(number: int, findings: list[str]) -> dict[str, Any]:
    progress = 1 - np.exp(-number / 2.5)
    overfit = max(0, number - 6)
    mean_auroc = 0.52 + 0.23 * progress - 0.012 * overfit
    return {
        "epoch": number, "step": 250 * number, "films": 8000, "train_loss": 0.71 - 0.45 * progress,
        "validation_loss": 0.72 - 0.40 * progress + 0.02 * overfit, "mean_auroc": mean_auroc,
        "auroc": dict.fromkeys(findings, mean_auroc), "best": number <= 6, "learning_rate": 0.0003,
        "exposure": {
            f: {"positives": 1500 + 10 * i + number, "negatives": 6000, "films": 300 + i, "patients": 200 + i}
            for i, f in enumerate(findings)
        },
        "images_per_s": 210.0,
        "seconds": {"train": 38.1, "data_wait": 1.7, "validate": 4.0, "checkpoint": 0.6},
    }  # fmt: skip


def _manifest(
    findings: list[str], films: int, figures: dict[str, Any], leak_check: dict[str, Any]
) -> dict[str, Any]:
    def split(images: int, patients: int) -> dict[str, Any]:
        share = images / films
        return {
            "images": images,
            "patients": patients,
            "positives": {f: int(figures["positives"][f] * share) for f in findings},
            "labelled": {f: int(figures["labelled"][f] * share) for f in findings},
        }

    return {
        "splits": {
            "train": split(8000, 1700), "validation": split(800, 260), "test": split(films, 340),
            "unused": split(0, 0),
        },
        "leak_check": leak_check,
        "warnings": [],
        "refused": {"count": 3, "reasons": {"not an image": 2, "one gray value only": 1}},
        "protocol": "sampled", "films_fingerprint": "b7" * 32, "fingerprint": "5a" * 32,
        "image_px": 256, "codec": "jpegxl",
        "sources": [{"source": "nih", "rows": 112120, "films": 9923, "without_file": 102197, "other_views": 0}],
    }  # fmt: skip


@pytest.fixture
def make_contents() -> MakeContents:
    """`contents_of`, for tests that need more than one report."""
    return contents_of


@pytest.fixture
def make_files_contents() -> Callable[..., Contents]:
    """`files_contents_of`, for tests of reports without a run."""
    return files_contents_of
