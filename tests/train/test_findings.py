"""Which findings are trained."""

from typing import Any

import numpy as np
import pandas as pd
import pytest

from ray_cxr.errors import InputError
from ray_cxr.loss.settings import LossSettings
from ray_cxr.shards.dataset import Dataset
from ray_cxr.storage import Folder
from ray_cxr.stream.resample import plan_resampling
from ray_cxr.stream.settings import StreamSettings
from ray_cxr.train.findings import trained_findings, training_loss
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


EIGHT = np.array([[1]] * 2 + [[0]] * 6, np.float32)
PATIENTS = [f"p{n}" for n in range(8)]


def test_imbalance_is_not_corrected_twice_unless_asked_for() -> None:
    balanced = StreamSettings(resampling="balanced", target="Mass")
    plan = plan_resampling(EIGHT, PATIENTS, ["Mass"], balanced, 0, "0" * 64)
    effective = training_loss(Recipe(stream=balanced), EIGHT, ["Mass"], plan)
    assert (effective.weights.positive.item(), effective.weights.negative.item()) == (0.5, 0.5)
    raw = training_loss(Recipe(stream=balanced, loss=LossSettings(prevalence="raw")), EIGHT, ["Mass"], plan)
    assert (raw.weights.positive.item(), raw.weights.negative.item()) == (0.75, 0.25)
    plain = training_loss(Recipe(), EIGHT, ["Mass"], None)
    assert (plain.weights.positive.item(), plain.weights.negative.item()) == (0.75, 0.25)


def test_a_finding_that_resampling_never_shows_is_refused() -> None:
    labels = np.array([[1, 0], [0, 0], [np.nan, 1], [0, 0]], np.float32)
    stream = StreamSettings(resampling="balanced", target="Mass")
    plan = plan_resampling(labels, PATIENTS[:4], ["Mass", "Edema"], stream, 0, "0" * 64)
    with pytest.raises(InputError, match=r"balanced for Mass shows one class only of Edema"):
        training_loss(Recipe(stream=stream), labels, ["Mass", "Edema"], plan)
