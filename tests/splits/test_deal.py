"""Whatever the method and the settings: patients apart, sizes, weights and folds as promised."""

from typing import Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ray_cxr.errors import InputError
from ray_cxr.splits.deal import Dealt, deal
from ray_cxr.splits.lists import Lists
from ray_cxr.splits.settings import SplitSettings
from tests.splits.conftest import FINDINGS, films_of

MODELLED = ("train", "validation", "test")


def _deal(films: pd.DataFrame, seed: int = 0, lists: Lists | None = None, **wishes: Any) -> Dealt:
    return deal(films, FINDINGS, SplitSettings(**wishes), seed, lists or {})


def _patients(films: pd.DataFrame, mask: np.ndarray) -> set[str]:
    return set(films.loc[mask, "patient_id"])


def _check(films: pd.DataFrame, dealt: Dealt, folds: int | None) -> None:
    """What holds for every split that was drawn here."""
    assert set(dealt.split) >= set(MODELLED)
    sets = {name: _patients(films, dealt.split == name) for name in MODELLED}
    assert sum(map(len, sets.values())) == len(set.union(*sets.values()))
    # A left-over film belongs to a patient who was drawn: nobody who trains is left over.
    assert not _patients(films, dealt.split == "unused") & sets["train"]
    used = dealt.split != "unused"
    assert (dealt.weight[used] >= 1).all() and np.isnan(dealt.weight[~used]).all()
    inside = np.isin(dealt.split, ("train", "validation"))
    assert (dealt.fold[~inside] == -1).all()
    if folds is None:
        assert (dealt.fold == -1).all()
    else:
        assert set(dealt.fold[inside]) == set(range(folds))
        members = [_patients(films, dealt.fold == k) for k in range(folds)]
        assert sum(map(len, members)) == len(set.union(*members)) == len(_patients(films, inside))


@settings(max_examples=20)
@given(
    patients=st.integers(30, 120), table=st.integers(0, 10**6), seed=st.integers(0, 2**32 - 1),
    test=st.floats(0.05, 0.4), validation=st.floats(0.05, 0.4), unlabelled=st.sampled_from([0.0, 0.2]),
    folds=st.sampled_from([None, 2, 5]),
)  # fmt: skip
def test_plain_sampling(
    patients: int, table: int, seed: int, test: float, validation: float, unlabelled: float, folds: int | None
) -> None:
    films = films_of(patients, table, unlabelled=unlabelled)
    wishes = {"test": test, "validation": validation, "folds": folds}
    dealt = _deal(films, seed, **wishes)
    _check(films, dealt, folds)
    assert (dealt.weight == 1).all()
    assert "unused" not in dealt.split
    most = films["patient_id"].value_counts().max()
    for name, size in (("test", test), ("validation", validation)):
        assert abs((dealt.split == name).sum() - size * len(films)) <= most
    again = _deal(films.sample(frac=1, random_state=1), seed, **wishes)
    assert (again.split == dealt.split[films.sample(frac=1, random_state=1).index]).all()
    assert (again.fold == dealt.fold[films.sample(frac=1, random_state=1).index]).all()


@settings(max_examples=20)
@given(
    patients=st.integers(80, 200), table=st.integers(0, 10**6), seed=st.integers(0, 2**32 - 1),
    test=st.integers(10, 40), validation=st.integers(10, 30), floor=st.sampled_from([None, 0.3, 0.5]),
    target=st.sampled_from(["any", *FINDINGS]), least=st.sampled_from([None, 2, 4]),
)  # fmt: skip
def test_sampling_with_a_floor(
    patients: int, table: int, seed: int, test: int, validation: int, floor: float | None, target: str,
    least: int | None,
) -> None:  # fmt: skip
    films = films_of(patients, table)
    wishes = {
        "test": test, "validation": validation, "minority_floor": floor, "target": target, "min_positives": least,
        "folds": 3,
    }  # fmt: skip
    refusal = ""
    try:
        dealt = _deal(films, seed, **wishes)
    except InputError as error:
        refusal = str(error)
    if refusal:  # too few positives are there, and then the table says what is possible
        assert floor or least
        assert "most in" in refusal and "patients" in refusal
        return
    _check(films, dealt, 3)
    positive = films[FINDINGS].to_numpy() == 1
    for name, size in (("test", test), ("validation", validation)):
        drawn = dealt.split == name
        if floor or least:
            assert drawn.sum() == size
        aimed = positive.any(1) if target == "any" else positive[:, FINDINGS.index(target)]
        assert not floor or aimed[drawn].sum() >= floor * size
        assert not least or positive[drawn].sum(0).min() >= least
    order = films.sample(frac=1, random_state=1)
    again = _deal(order, seed, **wishes)
    assert (again.split == dealt.split[order.index]).all()
    assert np.array_equal(again.weight, dealt.weight[order.index], equal_nan=True)


def test_another_seed_draws_others() -> None:
    films = films_of(200)
    for wishes in ({}, {"minority_floor": 0.5, "test": 60, "validation": 30}):
        first, other = _deal(films, 1, **wishes), _deal(films, 2, **wishes)
        assert (first.split != other.split).any()
        assert (first.fold != other.fold).any()


def test_the_test_set_depends_on_no_other_set() -> None:
    films = films_of(300)
    few = _deal(films, test=60, validation=20, folds=None, minority_floor=0.4)
    many = _deal(films, test=60, validation=50, folds=5, minority_floor=0.4)
    assert ((few.split == "test") == (many.split == "test")).all()


def test_left_over_films_are_those_of_patients_drawn_for_their_positives() -> None:
    """A floor takes ill patients more often than others; their films without the finding are left over."""
    films = films_of(400)
    dealt = _deal(films, minority_floor=0.6, target="Mass", test=60, validation=30)
    left = dealt.split == "unused"
    assert left.any()
    assert films.loc[left, "Mass"].mean() < 0.3
    assert films.loc[dealt.split == "test", "Mass"].mean() >= 0.6
    assert not _patients(films, left) & _patients(films, dealt.split == "train")


def test_infeasible_wishes_are_refused_with_what_is_possible() -> None:
    # 40 patients with two films each; one film of each of 6 patients has a mass, and all of 10 patients an effusion.
    films = pd.DataFrame({"patient_id": np.repeat([f"p{n:02d}" for n in range(40)], 2)})
    films["image_id"] = [f"f{n:02d}" for n in range(80)]
    films["Effusion"] = np.where(np.arange(80) < 20, 1.0, 0.0).astype(np.float32)
    films["Mass"] = np.where(
        (np.arange(80) >= 40) & (np.arange(80) < 52) & (np.arange(80) % 2 == 0), 1.0, 0.0
    )
    wishes = SplitSettings(test=20, validation=10, minority_floor=0.5, target="Mass")
    with pytest.raises(
        InputError,
        match=r"split.minority_floor: test would need 10 films with Mass among 20, but can have 3 at most",
    ) as refusal:
        deal(films, ["Effusion", "Mass"], wishes, 0, {})
    lines = str(refusal.value).splitlines()
    assert lines[1].split() == ["finding", "positives", "patients", "asked", "for", "most", "in", "test"]
    assert lines[2].split() == ["Mass", "6", "6", "10", "3"]
    wishes = SplitSettings(test=20, validation=10, min_positives=4)
    with pytest.raises(InputError, match="split.min_positives: test would need 4 films with Mass") as refusal:
        deal(films, ["Effusion", "Mass"], wishes, 0, {})
    assert [line.split() for line in str(refusal.value).splitlines()[2:]] == [
        ["Mass", "6", "6", "4", "3"], ["Effusion", "20", "10", "4", "10"],
    ]  # fmt: skip
    # Each alone would do, but no film has both: 3 + 3 of 5 films.
    wishes = SplitSettings(test=5, validation=5, min_positives=3)
    with pytest.raises(
        InputError, match="split.test: all positives asked for need 6 films together, but test has 5"
    ):
        deal(films, ["Effusion", "Mass"], wishes, 0, {})


def test_an_unknown_target_is_told() -> None:
    with pytest.raises(
        InputError, match="split.target: got 'Edema', but allowed are any, Effusion, Mass, Hernia"
    ):
        _deal(films_of(50), target="Edema")


def test_patients_who_share_a_film_are_kept_together() -> None:
    """Films of p0 and p1 are the same pixels, and so are films of p1 and p2: one of them has two names, or more."""
    films = pd.DataFrame({"patient_id": [f"p{n}" for n in (0, 0, 1, 1, 2, *range(3, 30))]})
    films["image_id"] = [f"f{n:02d}" for n in range(len(films))]
    films["pixel_sha256"] = [f"h{n}" for n in (0, 1, 1, 2, 2, *range(3, 30))]
    films["Mass"] = 0.0
    for seed in range(20):
        dealt = deal(films, ["Mass"], SplitSettings(test=0.3, validation=0.3, folds=4), seed, {})
        assert len(set(dealt.split[:5])) == 1
        assert len(set(dealt.fold[:5])) == 1
        assert any("3 patients share pixel-identical films" in note for note in dealt.notes)


def test_official_lists_stay_and_validation_is_drawn_from_the_first() -> None:
    films = films_of(100)
    names = films.groupby("patient_id")["film_name"].apply(list)
    lists: Lists = {
        "train_validation": {n for p in names[:70] for n in p}, "test": {n for p in names[70:90] for n in p},
    }  # fmt: skip
    dealt = _deal(films, lists=lists, method="official", validation=0.1, folds=5)
    for name in ("train", "validation"):
        assert set(films.loc[dealt.split == name, "film_name"]) <= lists["train_validation"]
    assert set(films.loc[dealt.split == "test", "film_name"]) == lists["test"]
    left = dealt.split == "unused"
    assert set(films.loc[left, "patient_id"]) == set(names.index[90:])
    assert dealt.notes == [f"{left.sum()} of {len(films)} films are in no set of the given split: unused"]
    assert abs((dealt.split == "validation").sum() - 0.1 * (~left).sum()) <= 9
    assert not _patients(films, dealt.split == "validation") & _patients(films, dealt.split == "train")
    assert set(dealt.fold[np.isin(dealt.split, ("train", "validation"))]) == set(range(5))
    assert (dealt.weight[~left] == 1).all()
    # The same with a floor: the test set stays as it is given, validation is drawn.
    floored = _deal(films, lists=lists, method="official", validation=20, minority_floor=0.6, folds=None)
    assert ((floored.split == "test") == (dealt.split == "test")).all()
    assert (floored.split == "validation").sum() == 20
    assert (films.loc[floored.split == "validation", FINDINGS].max(axis=1) == 1).sum() >= 12


def test_lists_with_all_three_sets_are_taken_as_they_are() -> None:
    films = films_of(60)
    sets = np.resize(["train", "validation", "test"], len(films)).astype(
        object
    )  # patients are shared: see the leak check
    lists: Lists = {
        name: set(films.loc[sets == name, "film_name"]) for name in ("train", "validation", "test")
    }  # type: ignore[misc]
    wishes = SplitSettings.model_validate(
        {"method": "lists", "lists": {"train": "a", "test": "b"}, "folds": None}
    )
    dealt = deal(films, FINDINGS, wishes, 0, lists)
    assert (dealt.split == sets).all()


def test_a_column_may_name_all_sets_or_leave_validation_to_be_drawn() -> None:
    films = films_of(60)
    patient = films["patient_id"].str[1:].astype(int)
    films["given_split"] = np.select([patient < 10, patient < 20], ["TEST", "dev"], "Training ")
    dealt = _deal(films, method="column")
    assert (dealt.split == np.select([patient < 10, patient < 20], ["test", "validation"], "train")).all()
    films["given_split"] = np.where(patient < 10, "holdout", "train")
    drawn = _deal(films, method="column", words={"Holdout": "test"}, validation=0.2)
    assert ((drawn.split == "test") == (patient < 10)).all()
    assert abs((drawn.split == "validation").sum() - 0.2 * len(films)) <= 9


def test_fewer_patients_than_folds_are_refused() -> None:
    films = pd.DataFrame(
        {"patient_id": list("abcdefgh"), "image_id": list("ABCDEFGH"), "Mass": np.float32(0)}
    )
    wishes = {"test": 2, "validation": 2}
    with pytest.raises(
        InputError, match="split.folds: got 7, but there are only 6 patients outside the test set"
    ):
        deal(films, ["Mass"], SplitSettings(folds=7, **wishes), 0, {})
    assert sorted(deal(films, ["Mass"], SplitSettings(folds=6, **wishes), 0, {}).fold) == [
        -1,
        -1,
        0,
        1,
        2,
        3,
        4,
        5,
    ]
    assert (deal(films, ["Mass"], SplitSettings(folds=None, **wishes), 0, {}).fold == -1).all()
