"""The leak check: is any patient, or any film, in more than one split?

Run when a data set is written and again whenever it is read. It can fail, and then the exit code is 3.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass

import pandas as pd

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

    @property
    def clean(self) -> bool:
        return self.shared_patients == 0

    def as_dict(self) -> dict[str, object]:
        return asdict(self) | {"clean": self.clean}

    def sentence(self) -> str:
        films = (
            ""
            if not self.shared_films
            else f"; {self.shared_films} pixel-identical films stand in several splits"
        )
        return f"leak check: {self.shared_patients} of {self.patients} patients are in more than one split{films}"


def check_leaks(index: pd.DataFrame) -> LeakCheck:
    """Counts shared patients and films of an index (`patient_id`, `split`, `pixel_sha256`)."""
    used = index[index["split"].isin(MODELLED)]
    sets = {name: set(used.loc[used["split"] == name, "patient_id"]) for name in MODELLED}
    pairs = {
        f"{a}-{b}": len(sets[a] & sets[b]) for i, a in enumerate(MODELLED) for b in MODELLED[i + 1 :]
    }  # fmt: skip
    splits_per_patient = used.groupby("patient_id")["split"].nunique()
    splits_per_film = used.groupby("pixel_sha256")["split"].nunique()
    return LeakCheck(
        len(splits_per_patient), int((splits_per_patient > 1).sum()), int((splits_per_film > 1).sum()), pairs
    )


def refuse_leak(check: LeakCheck) -> None:
    """Raises RefusedError (exit 3) where patients are shared."""
    if not check.clean:
        where = ", ".join(f"{n} in {pair.replace('-', ' and ')}" for pair, n in check.pairs.items() if n)
        raise RefusedError(
            f"patient leak: {check.shared_patients} patients are in more than one split ({where}); "
            "a model would recognise them in the test; prepare the data set again."
        )
