"""Which findings a job trains, as the training films allow. Pure."""

from __future__ import annotations

from ray_cxr.errors import InputError
from ray_cxr.loss.weights import check_learnable, learnable
from ray_cxr.shards.dataset import Dataset, check_findings
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
