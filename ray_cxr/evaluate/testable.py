"""Whether there is enough for a test: one rule for comparisons, subgroups and readers. Pure."""

from __future__ import annotations

from typing import Any

import pandas as pd
from numpy.typing import NDArray

from ray_cxr.axes import Labels

FEWEST_PATIENTS = 10
"""Positive, and negative, patients (films, where patients are not known) below which no test is made: the normal tail of
DeLong's method and the percentiles of a bootstrap both lean on many patients, and with three they say anything."""

ROUNDING = 1e-9
"""A standard error of an AUROC up to here is the rounding of one that is 0, which tests nothing: its p would be 0."""


def class_patients(labels: Labels, units: NDArray[Any]) -> tuple[int, int]:
    """How many patients have a positive film, and how many a negative one: thirty films of one patient are one patient.

    labels: [N] 0, 1, NaN = left out. units: [N], the patient of each film, or the film where patients are not known.
    """
    owners = pd.factorize(units)[0]
    return len(pd.unique(owners[labels == 1])), len(pd.unique(owners[labels == 0]))


def too_few(labels: Labels, units: NDArray[Any]) -> bool:
    """Whether one class has fewer than FEWEST_PATIENTS patients; arguments as `class_patients`."""
    return min(class_patients(labels, units)) < FEWEST_PATIENTS
