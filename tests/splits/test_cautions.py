"""What is said about small and leaking splits."""

import pandas as pd

from ray_cxr.splits.cautions import cautions
from ray_cxr.splits.leak import check_leaks


def _counts(train: int, validation: int, test: int) -> dict[str, dict[str, object]]:
    films = {"train": train, "validation": validation, "test": test, "unused": 5000}
    return {
        name: {"images": n, "positives": {"Mass": n // 10, "Edema": 0}, "labelled": {"Mass": n, "Edema": n}}
        for name, n in films.items()
    }


def _leaks(*films: tuple[str, str, str], allowed: bool = False) -> object:
    return check_leaks(pd.DataFrame(films, columns=["patient_id", "split", "pixel_sha256"]), allowed)


def test_a_large_clean_split_needs_no_caution() -> None:
    assert cautions(_counts(700, 100, 300), ["Mass"], _leaks(("a", "train", "1"), ("b", "test", "2"))) == []  # type: ignore[arg-type]


def test_each_weakness_has_its_sentence() -> None:
    leaks = _leaks(("a", "train", "1"), ("a", "test", "1"), allowed=True)
    said = cautions(_counts(600, 100, 299), ["Mass", "Edema"], leaks)  # type: ignore[arg-type]
    assert [sentence.split(":")[0] for sentence in said] == [
        "patient leak, allowed by split.allow_leak",
        "1 pixel-identical films stand in several splits, under different patients or names",
        "only 999 films in all",
        "only 299 test films",
        "training films of one class only, so nothing to learn there",
        "no positive validation film, so nothing to measure there",
        "no positive test film, so nothing to measure there",
    ]
    assert said[0].startswith(
        "patient leak, allowed by split.allow_leak: 1 of 1 patients are in more than one split"
    )
    assert said[-1].endswith("Edema")
