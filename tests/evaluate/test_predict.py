"""Which films `predict` scores."""

from pathlib import Path

from ray_cxr.evaluate.predict import list_films


def test_each_file_comes_once_however_often_it_is_given(tmp_path: Path) -> None:
    for name in ("a/1.png", "a/2.png", "b/1.png", "a/notes.txt"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()
    a, b = str(tmp_path / "a"), str(tmp_path / "b")
    assert list_films([f"{a}/2.png", a, f"{a}/../a/1.png"]) == [
        ("2.png", tmp_path / "a/2.png"),
        ("1.png", tmp_path / "a/1.png"),
    ]
    assert [i for i, _ in list_films([a, b])] == [f"{a}/1.png", f"{a}/2.png", f"{b}/1.png"], (
        "of two files of one name the whole path tells which is which"
    )
