"""The phantom cohort: reproducible, extensible, believable in its numbers, its labels borne out."""

import numpy as np
import pandas as pd
import pytest

from ray_cxr.labels.phantom import FINDINGS, MAX_FILMS, describe, parse_locator, phantom_table
from ray_cxr.labels.phantom_anatomy import LEFT, RIGHT, Anatomy, Lesion

SEED = 5


@pytest.fixture(scope="module")
def table() -> pd.DataFrame:
    return phantom_table(2000, SEED)


def test_table_has_the_agreed_columns(table: pd.DataFrame) -> None:
    assert list(table.columns) == ["image_id", "patient_id", "locator", "view", "age", "sex", *FINDINGS]
    assert all(table[finding].dtype == np.float32 for finding in FINDINGS)
    assert set(np.unique(table[list(FINDINGS)])) == {0.0, 1.0}
    assert set(table["view"]) == {"PA", "AP"}
    assert set(table["sex"]) == {"F", "M"}
    assert table["age"].between(18, 105).all()
    assert table["image_id"].is_unique
    first = table.iloc[0]
    assert first["image_id"] == "phantom-000000-000"
    assert first["locator"] == f"phantom:{SEED}/0/0"


def test_rows_come_by_patient_then_film(table: pd.DataFrame) -> None:
    keys = [parse_locator(locator)[1:] for locator in table["locator"]]
    assert keys == sorted(keys)
    assert table["patient_id"].nunique() == 2000


def test_same_seed_same_table_and_other_seed_other_table() -> None:
    pd.testing.assert_frame_equal(phantom_table(40, SEED), phantom_table(40, SEED))
    assert not phantom_table(40, SEED)["age"].equals(phantom_table(40, SEED + 1)["age"])


def test_a_patients_rows_do_not_depend_on_how_many_are_asked_for(table: pd.DataFrame) -> None:
    few = phantom_table(17, SEED)
    pd.testing.assert_frame_equal(few, table.iloc[: len(few)])


def test_patients_of_few_films_are_passed_over(table: pd.DataFrame) -> None:
    """Who is left keeps his number and all his films; too many films to ask for are refused."""
    films = table.groupby("patient_id")["image_id"].transform("size")
    expected = table[films >= 4].reset_index(drop=True)
    found = phantom_table(expected["patient_id"].nunique(), SEED, min_films=4)
    pd.testing.assert_frame_equal(found, expected)
    with pytest.raises(ValueError, match=f"min_films={MAX_FILMS + 1}"):
        phantom_table(1, SEED, min_films=MAX_FILMS + 1)


def test_no_patients_is_an_empty_table_and_fewer_an_error() -> None:
    assert phantom_table(0, SEED).empty
    assert list(phantom_table(0, SEED).columns) == list(phantom_table(1, SEED).columns)
    with pytest.raises(ValueError, match="patients=-1"):
        phantom_table(-1, SEED)


@pytest.mark.parametrize("finding", FINDINGS)
def test_findings_are_rare_but_present(table: pd.DataFrame, finding: str) -> None:
    assert 0.01 <= table[finding].mean() <= 0.15


def test_most_films_show_nothing(table: pd.DataFrame) -> None:
    assert 0.6 <= (table[list(FINDINGS)].sum(axis=1) == 0).mean() <= 0.8


def test_patients_have_one_to_six_films_and_the_sick_have_more(table: pd.DataFrame) -> None:
    films = table.groupby("patient_id").size()
    assert films.min() == 1
    assert films.max() == MAX_FILMS == 6
    assert 1.9 <= films.mean() <= 2.5
    # Cardiomegaly is lifelong, so more films give it no more chances: what is left is frailty.
    sick = table.groupby("patient_id")["Cardiomegaly"].first() == 1
    assert films[sick].mean() > films[~sick].mean() + 0.2


def test_lifelong_findings_stay(table: pd.DataFrame) -> None:
    by_patient = table.groupby("patient_id")
    assert (by_patient["Cardiomegaly"].nunique() == 1).all()
    assert (by_patient["Mass"].diff().dropna() >= 0).all()
    assert (by_patient["Nodule"].diff().dropna() >= 0).all()
    assert (by_patient["Effusion"].diff().dropna() < 0).any()


def test_findings_keep_company(table: pd.DataFrame) -> None:
    def edema_rate(condition: "pd.Series[bool]") -> float:
        return float(table.loc[condition, "Edema"].mean())

    assert edema_rate(table["Cardiomegaly"] == 1) > 2 * edema_rate(table["Cardiomegaly"] == 0)
    assert edema_rate(table["Effusion"] == 1) > 2 * edema_rate(table["Effusion"] == 0)
    assert (table.loc[table["Edema"] == 1, "view"] == "AP").mean() > (table["view"] == "AP").mean() + 0.1


def test_description_bears_out_the_labels(table: pd.DataFrame) -> None:
    for row in table.iloc[:400].to_dict("records"):
        patient, film = describe(row["locator"])
        assert (film.image_id, patient.patient_id) == (row["image_id"], row["patient_id"])
        assert (film.technique.view, film.age, patient.sex) == (row["view"], row["age"], row["sex"])
        low, high = (0.54, 0.65) if row["Cardiomegaly"] else (0.40, 0.48)
        assert low <= patient.anatomy.cardiothoracic_ratio <= high
        shown = {
            "Effusion": film.effusions,
            "Mass": film.masses,
            "Nodule": film.nodules,
            "Pneumothorax": film.pneumothorax,
            "Edema": film.edema,
            "Consolidation": film.consolidations,
        }
        assert {name: bool(what) for name, what in shown.items()} == {name: row[name] == 1 for name in shown}
        assert all(3.0 < lesion.diameter_cm <= 7.0 for lesion in film.masses)
        assert all(0.8 <= lesion.diameter_cm <= 3.0 for lesion in film.nodules)


def test_lesions_fit_into_a_lung(table: pd.DataFrame) -> None:
    with_lesion = table[(table["Mass"] == 1) | (table["Nodule"] == 1)]
    for locator in with_lesion["locator"].iloc[:150]:
        patient, film = describe(locator)
        for lesion in (*film.masses, *film.nodules):
            assert _free_room_cm(patient.anatomy, lesion) > 0


def _free_room_cm(anatomy: Anatomy, lesion: Lesion) -> float:
    """The least distance from the lesion's rim to chest wall, heart or dome; negative = it sticks out."""
    angles = np.linspace(0, 2 * np.pi, 60)
    side = LEFT if lesion.x_cm > 0 else RIGHT
    x = abs(lesion.x_cm) + lesion.diameter_cm / 2 * np.cos(angles)
    y = lesion.y_cm + lesion.diameter_cm / 2 * np.sin(angles)
    border = anatomy.mediastinum_border(side)
    heart = np.interp(y, border[:, 1], np.abs(border[:, 0]))
    return float(
        min((anatomy.lateral_cm(y) - x).min(), (x - heart).min(), (anatomy.dome_y_cm(side) - y).min())
    )


def test_body_and_lesions_are_the_patients_and_the_pose_is_the_films(table: pd.DataFrame) -> None:
    films_of = table[table["Mass"] == 1].groupby("patient_id")["locator"].apply(list)
    several = next(locators for locators in films_of if len(locators) >= 3)
    (first, film_a), (second, film_b) = describe(several[0]), describe(several[1])
    assert first == second
    assert film_a.masses == film_b.masses
    assert film_a.technique != film_b.technique


@pytest.mark.parametrize(
    "locator",
    [
        "",
        "phantom",
        "phantom:1/2",
        "phantom:1/2/3/4",
        "phantom:-1/2/0",
        "phantom:1/2/x",
        "file:1/2/0",
        " phantom:1/2/0",
    ],
)
def test_malformed_locator_is_refused(locator: str) -> None:
    with pytest.raises(ValueError, match="phantom:<seed>/<patient>/<film>"):
        describe(locator)


def test_film_that_the_patient_does_not_have_is_refused() -> None:
    films = (phantom_table(1, SEED)["patient_id"] == "phantom-000000").sum()
    describe(f"phantom:{SEED}/0/{films - 1}")
    with pytest.raises(ValueError, match=f"films 0 to {films - 1}"):
        describe(f"phantom:{SEED}/0/{films}")
