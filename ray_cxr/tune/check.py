"""Whether a job can run with a trial's settings, found out in seconds and without training.

Reads: the data set's index and manifest. Builds each backbone once for each image size.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from ray_cxr.config import overlaid, validated
from ray_cxr.errors import InputError
from ray_cxr.model.build import build_model, resolve_normalisation
from ray_cxr.model.freeze import depth_error, stage_titles
from ray_cxr.model.weights import load_weights
from ray_cxr.shards.dataset import Dataset
from ray_cxr.train.findings import trained_findings
from ray_cxr.train.fit import check_films
from ray_cxr.train.settings import Recipe
from ray_cxr.tune.space import Drawn

_OF_STREAM = ("resampling", "target", "resampling_strength", "max_per_patient", "batch_size")


@dataclass
class Checker:
    """Checks settings on top of a job, each part of them once."""

    base: Mapping[str, Any]
    """The job's recipe as nested settings."""
    datasets: Sequence[Dataset]
    """What its trainings see: the data set, or each fold of it."""
    _known: dict[str, str | None] = field(default_factory=dict)
    _titles: dict[str, list[str]] = field(default_factory=dict)

    def recipe(self, drawn: Drawn) -> Recipe:
        """The recipe with a trial's settings in place of the job's. Raises InputError."""
        return validated(Recipe, overlaid(self.base, drawn))

    def problem(self, drawn: Drawn) -> str | None:
        """Why no training can run with these settings, or None."""
        try:
            recipe = self.recipe(drawn)
        except InputError as error:
            return error.message
        return self._films_problem(recipe) or self._model_problem(recipe)

    def _films_problem(self, recipe: Recipe) -> str | None:
        stream = recipe.stream.model_dump(include=set(_OF_STREAM))
        settings = [
            stream,
            recipe.seed,
            recipe.findings,
            recipe.loss.model_dump(),
            recipe.train.workers_of_each,
        ]

        def check() -> None:
            for dataset in self.datasets:
                check_films(recipe, dataset)

        return self._once(["films", settings], check)

    def _model_problem(self, recipe: Recipe) -> str | None:
        backbone, px = recipe.model.backbone, recipe.stream.image_px

        def build() -> None:
            findings, _ = trained_findings(self.datasets[0], recipe)
            model = build_model(backbone, len(findings), px, resolve_normalisation("none", backbone, {}))
            self._titles[backbone] = stage_titles(model.network)
            load_weights(model, recipe.model.weights, backbone, findings)

        problem = self._once(["model", backbone, px, recipe.model.weights, recipe.findings], build)
        if problem is not None:
            return problem
        depths = {"model.freeze_depth": recipe.model.freeze_depth} | {
            f"model.unfreeze.{epoch}": depth for epoch, depth in recipe.model.unfreeze.items()
        }
        for setting, depth in depths.items():
            error = depth_error(depth, self._titles[backbone], backbone)
            if error is not None:
                return f"{setting}: {error}"
        return None

    def _once(self, what: list[Any], check: Callable[[], None]) -> str | None:
        key = json.dumps(what)
        if key not in self._known:
            try:
                check()
                self._known[key] = None
            except InputError as error:
                self._known[key] = error.message
        return self._known[key]
