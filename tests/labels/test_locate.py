"""Names of a table, and the films that they mean."""

from pathlib import Path

import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ray_cxr.labels.locate import is_film, list_films, match_films


def _match(names: list[str], films: list[str]) -> tuple[list[str | None], int]:
    matched = match_films(pd.Series(names, dtype=str), films)
    return [None if pd.isna(path) else path for path in matched.locators], matched.ambiguous


@pytest.mark.parametrize(
    "name", ["a.png", "./a.png", "images/a.png", "x\\a.png", "a", "deep/er/a", "a.dcm", "a.PNG"]
)
def test_a_film_is_found_by_name_or_path_with_or_without_suffix(name: str) -> None:
    assert _match([name, "b.png"], ["/data/images/a.png"]) == (["/data/images/a.png", None], 0)


@pytest.mark.parametrize(
    "name",
    ["../secret.png", "/etc/secret.png", "..\\secret.png", "images/../../secret", "file:///etc/secret.png"],
)
def test_a_name_never_means_a_film_outside_the_folders(name: str, tmp_path: Path) -> None:
    """Only what was found below them is compared with names."""
    (tmp_path / "images").mkdir()
    for place in ("images/a.png", "secret.png"):
        (tmp_path / place).touch()
    films = list_films([str(tmp_path / "images")])
    assert films == [str(tmp_path / "images/a.png")]
    assert _match([name], films) == ([None], 0)


def test_dots_of_an_id_are_no_suffix() -> None:
    films = ["/f/1.2.840.1.png", "/f/1.2.840.2.png"]
    assert _match(["1.2.840.2", "1.2.840.1", "1.2.840"], films) == ([films[1], films[0], None], 0)


CHEXPERT = [f"CheXpert/train/patient0000{p}/study{s}/view1_frontal.jpg" for p in (1, 2, 3) for s in (1, 2)]


@pytest.mark.parametrize(
    "root", ["/data/CheXpert/", "/data/chex-small/", "/CheXpert/", "/data/deep/CheXpert/"]
)
def test_paths_are_aligned_whatever_folder_was_given(root: str) -> None:
    films = [root + name.partition("/")[2] for name in CHEXPERT]
    assert _match(CHEXPERT, films) == (films, 0)
    assert _match([name.partition("/")[2] for name in CHEXPERT], films) == (films, 0)


def test_a_missing_film_is_never_replaced_by_a_namesake() -> None:
    # Only one film of patient 3 was downloaded; `study1/view1_frontal.jpg` fits it, and so do two other patients' rows.
    film = "/d/train/patient00003/study1/view1_frontal.jpg"
    assert _match(CHEXPERT, [film]) == ([None] * 4 + [film, None], 0)


def test_names_that_fit_several_films_are_counted() -> None:
    films = ["/a/one/x.png", "/a/two/x.png", "/a/one/y.png"]
    assert _match(["x.png", "y.png"], films) == ([None, "/a/one/y.png"], 1)
    assert _match(["x.png"], films[:2]) == ([None], 1)
    assert _match(["one/x.png", "two/x.png"], films) == (films[:2], 0)


@given(
    st.lists(
        st.tuples(st.sampled_from("abc"), st.sampled_from("xyz"), st.integers(0, 20)), unique=True, min_size=1
    )
)
def test_every_film_is_found_under_its_own_path(parts: list[tuple[str, str, int]]) -> None:
    names = [f"{a}/{b}/{n}.png" for a, b, n in parts]
    films = [f"/root/{name}" for name in reversed(names)]
    assert _match(names, films) == ([f"/root/{name}" for name in names], 0)


def test_shadows_that_macos_leaves_are_no_films() -> None:
    assert is_film("a.PNG") and is_film("a.jpeg")
    assert not is_film("._a.png") and not is_film("a.txt")
