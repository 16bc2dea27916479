"""`evaluate --predictions P --labels L`: the test of anybody's predictions, without a run.

Reads: tables of scores, labels and patients. Gives: `FilesEvaluation`; writes `metrics.json`.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import PurePath
from typing import Any

import numpy as np

from ray_cxr.errors import InputError
from ray_cxr.evaluate.figures import Choices, Measured, measure
from ray_cxr.evaluate.files import Called, read_scored, refuse_shared
from ray_cxr.evaluate.inputs import Scored
from ray_cxr.evaluate.misses import Miss, worst_misses
from ray_cxr.evaluate.protocol import files_protocol
from ray_cxr.labels.names import match_findings
from ray_cxr.labels.text_table import listed
from ray_cxr.storage import Folder

NO_VALIDATION = "no --validation-predictions were given, and a threshold chosen on the films that test it would flatter the result"


@dataclass(frozen=True)
class Files:
    """The tables of a test, by path or URL; labels may stand in the predictions, and the rest may be missing."""

    predictions: str
    labels: str | None = None
    patients: str | None = None
    validation_predictions: str | None = None
    validation_labels: str | None = None
    protocol: str | None = None
    """How the test films were chosen, in the user's words; None where they do not say."""
    leave_out_unlabelled: bool = False
    """Whether films that are not in the labels are left out, instead of being an error."""


@dataclass(frozen=True)
class FilesEvaluation:
    """What the test gave. A film is named by its row in the predictions, the first row of data being row 1."""

    metrics: dict[str, Any]
    measured: Measured
    scored: Scored
    misses: list[Miss]
    title: str


def evaluate_files(files: Files, out: Folder, choices: Choices) -> FilesEvaluation:
    """Reads, measures, and writes `metrics.json` into `out`. Raises InputError and RefusedError."""
    check_out(out)
    read = read_scored(
        files.predictions, files.labels, files.patients, leave_out_unlabelled=files.leave_out_unlabelled
    )
    scored = replace(read, protocol=files.protocol)
    measured = measure(scored, _validation(files, scored), choices)
    details = files_protocol(files.protocol, files.labels, len(scored), scored.patients)
    metrics = measured.metrics | {"test_openings": None, "protocol_details": details}
    out.write_json("metrics.json", metrics)
    return FilesEvaluation(metrics, measured, scored, worst_misses(scored), PurePath(files.predictions).name)


def default_out(predictions: str) -> str:
    """A folder beside where the command is called, named after the predictions."""
    return PurePath(predictions).name.split(".")[0] + "-evaluation"


def check_out(out: Folder) -> None:
    """Raises InputError where the figures of an evaluation would stand among, or in place of, something else."""
    if out.names() and not any(map(out.exists, ("metrics.json", "readers.json", "consensus.json"))):
        raise InputError(
            f"--out: {out} holds something that is no evaluation; give a new or empty directory."
        )
    if out.exists("config.yaml") or out.exists("best"):
        raise InputError(f"--out: {out} is a run, whose own figures would be lost; give another directory.")
    out.check_writable()


def _validation(files: Files, test: Scored) -> Scored | str:
    if files.validation_predictions is None:
        if files.validation_labels is not None:
            raise InputError("--validation-labels: there are no --validation-predictions to go with them.")
        return NO_VALIDATION
    called = Called("--validation-predictions", "--validation-labels")
    found = read_scored(
        files.validation_predictions, files.validation_labels, files.patients, called, files.labels
    )
    refuse_shared(test, found)
    names = match_findings(found.findings, test.findings)
    if not names:
        raise InputError(
            f"--validation-predictions: none of its findings ({listed(found.findings)}) is one of --predictions "
            f"({listed(test.findings)}); call them by the same names."
        )
    validation = replace(found, findings=[names.get(f, f) for f in found.findings])
    _refuse_other_scale(test, validation)
    return validation


def _refuse_other_scale(test: Scored, validation: Scored) -> None:
    """Raises InputError where one file holds probabilities and the other does not: a threshold would mean nothing there."""
    shared = [f for f in test.findings if f in validation.findings]
    ranges = []
    for scored in (test, validation):
        values = np.stack([scored.column(f)[1] for f in shared])
        ranges.append((float(values.min()), float(values.max())))
    if len({low >= 0 and high <= 1 for low, high in ranges}) > 1:
        here, there = (f"from {low:.4g} to {high:.4g}" for low, high in ranges)
        raise InputError(
            f"--validation-predictions: its scores reach {there}, those of --predictions {here}, so one of the files holds "
            "probabilities and the other does not (logits?), and no threshold holds for both; give both as the same output of the model."
        )
