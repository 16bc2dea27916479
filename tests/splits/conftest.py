"""Made-up label tables: patients with one to nine films, findings that come together and again in one patient."""

from collections.abc import Callable

import numpy as np
import pandas as pd
import pytest

FINDINGS = ["Effusion", "Mass", "Hernia"]

MakeFilms = Callable[..., pd.DataFrame]


def films_of(
    patients: int, seed: int = 0, prevalence: tuple[float, ...] = (0.3, 0.12, 0.05), unlabelled: float = 0.0
) -> pd.DataFrame:
    """A label table as `deal` reads it: some patients are ill, and then most of their films are positive."""
    rng = np.random.default_rng(seed)
    count = np.minimum(rng.geometric(0.4, patients), 9)
    patient = np.repeat(np.arange(patients), count)
    ill = rng.random((patients, len(prevalence))) < prevalence
    labels = (ill[patient] & (rng.random((len(patient), len(prevalence))) < 0.7)).astype(np.float32)
    labels[rng.random(labels.shape) < unlabelled] = np.nan
    frame = pd.DataFrame(labels, columns=FINDINGS[: len(prevalence)])
    frame["patient_id"] = [f"p{n:05d}" for n in patient]
    frame["image_id"] = frame["film_name"] = [f"f{n:06d}.png" for n in rng.permutation(len(patient))]
    return frame


@pytest.fixture
def make_films() -> MakeFilms:
    return films_of
