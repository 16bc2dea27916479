"""Which findings a job trains, as the training films allow. Pure."""

from __future__ import annotations

from collections.abc import Sequence

from ray_cxr.axes import Labels
from ray_cxr.errors import InputError
from ray_cxr.loss.multitask import MultitaskLoss, build_loss
from ray_cxr.loss.weights import check_learnable, count_classes, learnable
from ray_cxr.shards.dataset import Dataset, check_findings
from ray_cxr.stream.resample import Resampling
from ray_cxr.train.settings import Recipe


def trained_findings(dataset: Dataset, recipe: Recipe) -> tuple[list[str], str]:
    """The findings of the model's outputs, and a sentence on those that were dropped (empty: none).

    Raises InputError for an unknown finding, and for one with a single class among the training films, unless
    `loss.drop_unlearnable` leaves it out.
    """
    wanted = check_findings(dataset, recipe.findings)
    labels = dataset.labels(wanted)[dataset.rows("train")]
    if not recipe.loss.drop_unlearnable:
        check_learnable(labels, wanted)
        return wanted, ""
    kept = learnable(labels, wanted)
    if not kept:
        raise InputError(
            "findings: the training films hold no finding with both positives and negatives, so there is nothing to "
            "learn; prepare the data set with more films."
        )
    dropped = [f for f in wanted if f not in kept]
    return kept, (
        f"loss.drop_unlearnable: {', '.join(dropped)} left out; the training films hold one class only"
        if dropped
        else ""
    )


def check_judgeable(labels: Labels, fold: int | None = None) -> None:
    """Raises InputError unless the validation films' labels [N, F] hold both classes of some finding."""
    if any({0.0, 1.0} <= set(column.tolist()) for column in labels.T):
        return
    setting, films, remedy = "split.validation", "validation films", "a larger validation split"
    if fold is not None:
        setting, films, remedy = "fold", f"films of fold {fold}", "fewer split.folds"
    raise InputError(
        f"{setting}: no finding has both positives and negatives among the {films}, so no epoch could be called the "
        f"best; prepare the data set with {remedy}."
    )


def training_loss(
    recipe: Recipe, labels: Labels, findings: Sequence[str], resampling: Resampling | None
) -> MultitaskLoss:
    """The loss for the training labels [N, F] in the order of the stream's layout, as resampling shows them.

    Raises InputError where the films that an epoch shows hold one class only of a finding.
    """
    if resampling is None:
        return build_loss(recipe.loss, labels, findings)
    shown = resampling.expected()
    positives, negatives = count_classes(labels, shown)
    lacking = [f for f, p, n in zip(findings, positives, negatives, strict=True) if not (p > 0 and n > 0)]
    if lacking:
        raise InputError(
            f"stream.resampling: {recipe.stream.resampling} for {recipe.stream.target} shows one class only of "
            f"{', '.join(lacking)}; use another resampling or target, or leave these findings out."
        )
    return build_loss(recipe.loss, labels, findings, shown if recipe.loss.prevalence == "effective" else None)
