"""Which findings are trained."""

from typing import Any

import numpy as np
import pandas as pd
import pytest

from ray_cxr.errors import InputError
from ray_cxr.shards.dataset import Dataset
from ray_cxr.storage import Folder
from ray_cxr.train.findings import trained_findings
from ray_cxr.train.settings import Recipe


def _dataset(**columns: list[float]) -> Dataset:
    index = pd.DataFrame({"split": ["train"] * 3 + ["validation"], **columns})
    return Dataset(Folder("memory://none"), {"findings": list(columns)}, index)


def _recipe(**loss: Any) -> Recipe:
    return Recipe(loss=loss)  # type: ignore[arg-type]


BOTH, NONE, ALL = [0, 1, np.nan, 0], [0, 0, np.nan, 1], [1, 1, 1, 0]


def test_all_findings_with_both_classes_are_trained() -> None:
    assert trained_findings(_dataset(Mass=BOTH, Edema=BOTH), _recipe()) == (["Mass", "Edema"], "")


def test_finding_with_one_class_is_refused_or_dropped_as_asked() -> None:
    dataset = _dataset(Hernia=NONE, Mass=BOTH, Edema=ALL)
    with pytest.raises(
        InputError, match=r"Hernia \(0 positives, 2 negatives\), Edema \(3 positives, 0 neg.*\[Mass\]"
    ):
        trained_findings(dataset, _recipe())
    kept, note = trained_findings(dataset, _recipe(drop_unlearnable=True))
    assert kept == ["Mass"]
    assert note == "loss.drop_unlearnable: Hernia, Edema left out; the training films hold one class only"


def test_nothing_left_is_refused() -> None:
    with pytest.raises(InputError, match="no finding with both"):
        trained_findings(_dataset(Hernia=NONE), _recipe(drop_unlearnable=True))
