"""The benchmark of the necklace: how films are dealt out, and its figures on made-up scores."""

import sys
import xml.etree.ElementTree as ET
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import numpy as np
import pandas as pd
import pytest

BENCHMARKS = Path(__file__).parents[2] / "benchmarks"


@pytest.fixture(scope="module")
def modules() -> Iterator[tuple[ModuleType, ModuleType]]:
    """necklace and necklace_figures, which lie beside each other and in no package."""
    sys.path.insert(0, str(BENCHMARKS))
    import necklace
    import necklace_figures

    yield necklace, necklace_figures
    sys.path.remove(str(BENCHMARKS))


def _films() -> pd.DataFrame:
    """96 patients of 4 films, the last 48 of them new; every second patient has a mass, which stays."""
    patient = np.repeat(np.arange(96), 4)
    return pd.DataFrame(
        {
            "image_id": [f"{i:03d}" for i in range(384)],
            "patient_id": patient.astype(str),
            "Mass": (patient % 2).astype(np.float32),
            "new": patient >= 48,
        }
    )


def test_a_split_by_film_tears_patients_and_one_by_patient_does_not(
    modules: tuple[ModuleType, ModuleType],
) -> None:
    films = _films()
    for split, torn in (("by patient", False), ("by film", True)):
        sets = modules[0].deal(films, split, 3)
        assert (sets[films["new"]] == "unused").all()
        counts = pd.Series(sets).value_counts()
        assert [counts["test"], counts["validation"]] == pytest.approx([58, 19], abs=4), (
            "30 % and 10 % of 192"
        )
        places = films.assign(sets=sets).groupby("patient_id")["sets"].nunique()
        assert (places.max() > 1) == torn
        assert np.array_equal(sets, modules[0].deal(films, split, 3))
        assert not np.array_equal(sets, modules[0].deal(films, split, 4))


def _scored(films: pd.DataFrame, own: list[float], new: list[float]) -> pd.DataFrame:
    """Of all films; the scores are those of patients 0 to 3, which the following patients repeat."""
    patient = films["patient_id"].astype(int).to_numpy()
    scores = np.where(films["new"], np.array(new)[patient % 4], np.array(own)[patient % 4])
    return films[["image_id", "new"]].assign(label_Mass=films["Mass"], prob_Mass=scores)


def test_flattery_is_the_own_test_less_the_new_patients(modules: tuple[ModuleType, ModuleType]) -> None:
    """Patients 1 and 3 are ill, so the pairs are 1 and 0, 1 and 2, 3 and 0, 3 and 2, a quarter each.

    By patient: right are 1, a half (a tie), 1 and 0 of the own test, 1, 0, 1 and 1 of the new. By film: all four of the own
    test of seed 0 and three of seed 1, and one of the new.
    """
    figures, films = modules[1], _films()
    by_patient = _scored(films, [0.2, 0.8, 0.8, 0.5], [0.2, 0.5, 0.6, 0.8])
    by_film = [
        _scored(films, own, [0.2, 0.8, 0.9, 0.1]) for own in ([0.2, 0.8, 0.2, 0.8], [0.2, 0.8, 0.6, 0.5])
    ]
    results = [figures.Result("by patient", seed, by_patient) for seed in (0, 1)]
    results += [figures.Result("by film", seed, by_film[seed]) for seed in (0, 1)]
    measured = figures.measure(films, results)
    found = {key: figure["Mass"].value for key, figure in measured.aurocs.items()}
    own, new = figures.OWN, figures.NEW
    assert found == pytest.approx(
        {
            ("by patient", own): 0.625,
            ("by patient", new): 0.75,
            ("by film", own): 0.875,
            ("by film", new): 0.25,
        }
    )
    assert measured.aurocs["by film", own]["Mass"].seeds == pytest.approx([1.0, 0.75])
    flattery = {split: measured.flattery(split, figures.MEAN) for split in measured.splits}
    assert [f.value for f in flattery.values()] == pytest.approx([-0.125, 0.625])
    assert (flattery["by film"] - flattery["by patient"]).value == pytest.approx(0.75)
    low, high = figures.interval(flattery["by film"].draws)
    assert 0.2 < low < 0.5 and 0.75 < high < 1, "seeds alone give 0.5 to 0.75, patients more"

    page, drawing = figures.render(measured), ET.fromstring(figures.figure(measured))
    assert "| Mass | 0.875 (" in page and "flatters by +0.750 (+" in page
    assert "192 films of 48 patients are split; 192 films of 48 new patients" in page
    dots = drawing.findall("{http://www.w3.org/2000/svg}circle")
    assert len(dots) == 2 + 2 * 2 * 2 * (1 + 2), (
        "legend; split, films, finding or mean: the mean and two seeds"
    )


def test_models_that_score_alike_differ_by_nothing_in_every_draw(
    modules: tuple[ModuleType, ModuleType],
) -> None:
    """Both splits are measured in the same draws of patients and seeds."""
    films, rng = _films(), np.random.default_rng(0)
    scored = [_scored(films, list(rng.random(4)), list(rng.random(4))) for _ in range(3)]
    results = [
        modules[1].Result(split, seed, scored[seed])
        for split in ("by patient", "by film")
        for seed in range(3)
    ]
    measured = modules[1].measure(films, results)
    first, second = (measured.flattery(split, "Mass").draws for split in measured.splits)
    assert np.std(first) > 0.01
    assert np.array_equal(first, second)
