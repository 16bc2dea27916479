"""Readers' tables beside a test: the films that both have, the labels that readers make, and what is written of them.

Reads: reader tables, a label table. Writes: `consensus.csv`, which serves as `--labels`, and `consensus.json`, its rule.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from ray_cxr.axes import Labels
from ray_cxr.bootstrap import draw_patient_weights
from ray_cxr.errors import InputError
from ray_cxr.evaluate import columns as named
from ray_cxr.evaluate.figures import Choices
from ray_cxr.evaluate.inputs import Scored
from ray_cxr.evaluate.joining import overlap
from ray_cxr.evaluate.label_columns import labelled_findings, labels_of
from ray_cxr.evaluate.protocol import RULE_FILE
from ray_cxr.evaluate.readers import Readings, read_readings
from ray_cxr.evaluate.readers_reference import biased
from ray_cxr.evaluate.readers_result import (
    ReaderOptions,
    ReaderResult,
    make_consensus,
    makers_shown,
    study_readers,
)
from ray_cxr.labels.names import match_findings
from ray_cxr.labels.text_table import listed, read_text_table
from ray_cxr.storage import Folder

CONSENSUS = RULE_FILE.replace(".json", ".csv")


@dataclass(frozen=True)
class ReaderFiles:
    """The reader tables of a test, by path or URL, and what a person decides about them."""

    tables: tuple[str, ...]
    options: ReaderOptions

    def read(self, *, make_labels: bool) -> Readings:
        """The answers in the tables. make_labels: whether these readers make the labels of a model's test.

        Raises RefusedError, before anything is opened or written, where they would be measured against labels of their own.
        """
        if (make_labels or self.options.reference) and not self.options.leave_one_out:
            raise biased("these readers")
        return read_readings(self.tables, definitive=self.options.rule.definitive)


def write_consensus(out: Folder, readings: Readings, options: ReaderOptions) -> str:
    """Writes the readers' labels as a table and its rule beside it; gives the path of the table.

    The table: `image_id`, `patient_id` where the readers' tables have it, a column per finding with 1, 0 or blank.
    """
    made = make_consensus(readings, options)
    frame = pd.DataFrame({"image_id": readings.image_ids})
    if readings.patient_ids is not None:
        frame["patient_id"] = readings.patient_ids
    for number, finding in enumerate(readings.findings):
        frame[finding] = pd.array(made.labels[:, number]).astype("Int8")
    out.write_bytes(CONSENSUS, frame.to_csv(index=False).encode())
    rule = options.rule.as_dict() | {"sentence": options.rule.sentence()}
    out.write_json(
        RULE_FILE, {"rule": rule, "readers": makers_shown(readings, options), "films": made.counts}
    )
    return f"{out.url}/{CONSENSUS}"


def study_scored(
    scored: Scored, readings: Readings, options: ReaderOptions, choices: Choices, *, made_here: bool
) -> ReaderResult:
    """The readers beside a model, on the films that both have. InputError where there is no such film or finding."""
    films, read = overlap(pd.Series(scored.image_ids), pd.Series(readings.image_ids))
    if not len(films):
        raise InputError(
            f"--readers: none of the {len(readings.image_ids)} films that were read is among the {len(scored)} films of the "
            "test; give the readers of these films."
        )
    common, answers = scored.only(films), _named_as(readings.only(read), scored.findings)
    draws = draw_patient_weights(common.units.tolist(), choices.draws, choices.seed)
    found = study_readers(
        answers, common.findings, common.labels, common.scores, options, draws, made_here=made_here
    )
    return replace(
        found,
        films_unread=len(scored) - len(films),
        films_without_test=len(readings.image_ids) - len(read),
        clustered=common.clustered,
    )


def study_alone(
    readings: Readings, labels: str | None, options: ReaderOptions, choices: Choices
) -> ReaderResult:
    """The readers without a model; where there is a label table, on the films that it labels, with the differences."""
    kept, findings, truth, patients = readings, readings.findings, None, readings.patient_ids
    if labels is not None:
        rows, findings, truth, from_labels = _labels_of(readings, labels)
        kept = readings.only(rows)
        patients = from_labels if kept.patient_ids is None else kept.patient_ids
    units = kept.image_ids if patients is None else patients
    draws = draw_patient_weights(units.tolist(), choices.draws, choices.seed)
    found = study_readers(kept, findings, truth, None, options, draws, made_here=False)
    return replace(
        found,
        films_without_test=len(readings.image_ids) - len(kept.image_ids),
        clustered=patients is not None,
    )


def _labels_of(
    readings: Readings, path: str
) -> tuple[NDArray[np.int64], list[str], Labels, NDArray[np.object_] | None]:
    """Rows of the readings that a label table has, the findings of both, their labels [N, F], and the table's patients [N]."""
    frame = read_text_table(path, "--labels")
    ids = named.id_column(list(frame.columns))
    if ids is None:
        raise InputError(
            f"--labels: no column names the films (it has {listed(list(frame.columns))}); call one image_id."
        )
    rows, at = overlap(pd.Series(readings.image_ids), frame[ids].str.strip())
    if not len(rows):
        raise InputError(
            f"--labels: none of the {len(readings.image_ids)} films that were read is in {path!r}; give the table of these films."
        )
    known = labelled_findings(frame, own_columns=True)
    matched = match_findings(readings.findings, known.findings)
    if not matched:
        raise InputError(
            f"--labels: none of the readers' findings ({listed(readings.findings)}) is labelled in {path!r} ({listed(known.findings)}); "
            "call them by the same names."
        )
    table = np.stack([labels_of(frame, known, label, at, "--labels") for label in matched.values()], axis=1)
    column = named.patient_column(list(frame.columns))
    patients = None if column is None else frame[column].iloc[at].str.strip().to_numpy(object)
    return rows, list(matched), table, patients


def _named_as(readings: Readings, findings: Sequence[str]) -> Readings:
    """The readings with the test's names of the findings that both have."""
    matched = match_findings(readings.findings, findings)
    if not matched:
        raise InputError(
            f"--readers: none of the readers' findings ({listed(readings.findings)}) is one of the test ({listed(list(findings))}); "
            "call them by the same names."
        )
    return replace(readings, findings=[matched.get(f, f) for f in readings.findings])
