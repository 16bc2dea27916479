"""All figures of one finding, with their uncertainty: the unit of work that is shared out over processors. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ray_cxr.bootstrap import Draws, Floats, area_draws, auroc_draws, weighted_areas
from ray_cxr.evaluate.bands import Band, curve_bands
from ray_cxr.evaluate.delong import delong
from ray_cxr.evaluate.operating import Point, Rate, rates_at
from ray_cxr.evaluate.reliability import Reliability, reliability
from ray_cxr.evaluate.subgroups import GroupFigures, subgroup_figures


@dataclass(frozen=True)
class Shared:
    """What all findings have in common: the draws of the bootstrap and what the films belong to.

    draws: of patients where they are known, else of films. image_draws: of films, None where `draws` are that already.
    units: [N] patient of each film, None where not known. weights: [N] sampling weights, None where all are the same.
    """

    draws: Draws
    image_draws: Draws | None
    units: NDArray[np.int64] | None
    weights: NDArray[np.float64] | None
    grouped: Mapping[str, NDArray[np.object_]]
    probabilities: bool


@dataclass(frozen=True)
class OneFinding:
    """A finding's labels [N] and scores [N] on the test films, and its thresholds (None without validation films)."""

    labels: NDArray[np.float32]
    scores: NDArray[np.float64]
    points: Mapping[str, Point] | None


@dataclass(frozen=True)
class Weighted:
    """Figures at the natural prevalence: films count by their sampling weights."""

    auroc: float
    average_precision: float
    auroc_draws: Floats
    average_precision_draws: Floats
    rates: dict[str, dict[str, Rate]] | None
    reliability: Reliability | None


@dataclass(frozen=True)
class FindingFigures:
    """What the test films say of one finding that has both classes. Draws are [D], NaN = not measurable in this draw.

    image_draws: AUROC in draws of films, None where patients are not known. delong, delong_clustered: intervals of the AUROC.
    """

    auroc_draws: Floats
    average_precision_draws: Floats
    image_draws: Floats | None
    delong: tuple[float, float] | None
    delong_clustered: tuple[float, float] | None
    rates: dict[str, dict[str, Rate]] | None
    reliability: Reliability | None
    roc_band: Band
    precision_recall_band: Band
    subgroups: dict[str, dict[str, GroupFigures]]
    natural: Weighted | None


def finding_figures(one: OneFinding, shared: Shared) -> FindingFigures | None:
    """Everything that is measured of one finding; None where one class is missing among its labelled films."""
    if not (one.labels == 1).any() or not (one.labels == 0).any():
        return None
    aurocs, precisions = area_draws(one.labels, one.scores, shared.draws)
    image = shared.image_draws
    plain = delong(one.labels, one.scores)
    clustered = None if shared.units is None else delong(one.labels, one.scores, shared.units.tolist())
    bands = curve_bands(one.labels, one.scores, shared.draws)
    return FindingFigures(
        aurocs,
        precisions,
        None if image is None else auroc_draws(one.labels, one.scores, image),
        None if plain is None else plain.interval(),
        None if clustered is None else clustered.interval(),
        _rates(one, shared, None),
        reliability(one.labels, one.scores, shared.draws, None) if shared.probabilities else None,
        *bands,
        subgroup_figures(one.labels, one.scores, shared.draws, shared.grouped),
        None if shared.weights is None else _weighted(one, shared, shared.weights),
    )


def _rates(
    one: OneFinding, shared: Shared, weights: NDArray[np.float64] | None
) -> dict[str, dict[str, Rate]] | None:
    if one.points is None:
        return None
    return {
        name: rates_at(point.threshold, one.labels, one.scores, shared.draws, weights)
        for name, point in one.points.items()
    }


def _weighted(one: OneFinding, shared: Shared, weights: NDArray[np.float64]) -> Weighted:
    auroc, precision = weighted_areas(one.labels, one.scores, weights[None])
    return Weighted(
        float(auroc[0]),
        float(precision[0]),
        *area_draws(one.labels, one.scores, shared.draws, weights),
        _rates(one, shared, weights),
        reliability(one.labels, one.scores, shared.draws, weights) if shared.probabilities else None,
    )
