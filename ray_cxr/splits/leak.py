"""The leak check: is any patient, or any film, in more than one split?

Run when a data set is written and again whenever it is read. It can fail, and then the exit code is 3, unless
`split.allow_leak` lets a given split through; then every report says so in its first line.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from itertools import combinations
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from ray_cxr.errors import RefusedError

SPLITS = ("train", "validation", "test", "unused")
MODELLED = ("train", "validation", "test")


@dataclass(frozen=True)
class LeakCheck:
    """Counts over train, validation and test: patients in several, and pixel-identical films in several."""

    patients: int
    shared_patients: int
    shared_films: int
    pairs: dict[str, int]
    """Shared patients by pair of splits, e.g. {"train-test": 0, …}."""
    allowed: bool = False
    """Whether the settings let shared patients through."""

    @property
    def clean(self) -> bool:
        return self.shared_patients == 0

    def as_dict(self) -> dict[str, object]:
        return asdict(self) | {"clean": self.clean}

    def pairs_text(self) -> str:
        """The pairs of splits that share patients, in words."""
        return ", ".join(f"{n} in {pair.replace('-', ' and ')}" for pair, n in self.pairs.items() if n)

    def sentence(self) -> str:
        films = (
            ""
            if not self.shared_films
            else f"; {self.shared_films} pixel-identical films stand in several splits"
        )
        pairs = "" if self.clean else f" ({self.pairs_text()}; allowed by split.allow_leak)"
        return f"leak check: {self.shared_patients} of {self.patients} patients are in more than one split{pairs}{films}"


def check_leaks(index: pd.DataFrame, allowed: bool = False) -> LeakCheck:
    """Counts shared patients and films of an index (`patient_id`, `split`, `pixel_sha256` where films are known)."""
    patients = _in_sets(index, "patient_id")
    pairs = {
        f"{MODELLED[a]}-{MODELLED[b]}": int((patients[:, a] & patients[:, b]).sum())
        for a, b in combinations(range(len(MODELLED)), 2)
    }
    films = _shared(_in_sets(index, "pixel_sha256")) if "pixel_sha256" in index else 0
    return LeakCheck(int(patients.any(1).sum()), _shared(patients), films, pairs, allowed)


def _in_sets(index: pd.DataFrame, column: str) -> NDArray[np.bool_]:
    """[values of the column, 3] whether train, validation and test have it."""
    value, values = pd.factorize(index[column])
    found = np.zeros((len(values), len(MODELLED)), bool)
    for number, name in enumerate(MODELLED):
        of_set = value[(index["split"] == name).to_numpy()]
        found[of_set[of_set >= 0], number] = True
    return found


def _shared(in_sets: NDArray[np.bool_]) -> int:
    return int((in_sets.sum(1) > 1).sum())


def refuse_leak(check: LeakCheck) -> None:
    """Raises RefusedError (exit 3) where patients are shared and that is not allowed."""
    if not check.clean and not check.allowed:
        raise RefusedError(
            f"patient leak: {check.shared_patients} patients are in more than one split ({check.pairs_text()}); a model "
            "would recognise them in the test; mend the split, or prepare with split.method=sampled "
            "(split.allow_leak=true goes on all the same, and every report then begins with this)."
        )


def leak_warning(leak_check: Mapping[str, Any]) -> str | None:
    """The sentence that stands before all results of a data set with an allowed leak (`leak_check` of its manifest)."""
    if leak_check["clean"]:
        return None
    return (
        f"patient leak, allowed by split.allow_leak: {leak_check['shared_patients']} of {leak_check['patients']} patients "
        "are in more than one split, so results on them say nothing about new patients"
    )
