"""`tune`: checks a job and its space, runs the search, says which trial is best.

Reads: a prepared data set's training and validation splits, never the test split. Writes: `config.yaml`, the study, a run
directory for each trial, `trials.parquet`, `summary.json`, `best.yaml`.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import psutil
import yaml
from optuna.trial import TrialState

from ray_cxr.config import dotted, overlaid
from ray_cxr.errors import InputError, RayCxrError, RefusedError, count_text
from ray_cxr.shards.dataset import Dataset, open_dataset
from ray_cxr.shards.lock import Work, locked
from ray_cxr.storage import Folder
from ray_cxr.train.findings import trained_findings
from ray_cxr.train.fit import with_absolute_paths
from ray_cxr.train.settings import Recipe
from ray_cxr.tune.check import Checker
from ray_cxr.tune.recipes import default_space, known_recipes
from ray_cxr.tune.records import TRIALS
from ray_cxr.tune.refuse import refuse_names, refuse_values, without_misfits
from ray_cxr.tune.search import Search, Show
from ray_cxr.tune.select import summarise
from ray_cxr.tune.settings import SearchRecipe
from ray_cxr.tune.space import Drawn, Space, build_space, enumerate_space
from ray_cxr.tune.study import JOURNAL, Study, contains

_LOCK = "search.lock"
_SEARCH = Work("search", "out", "is being searched in")
_MAY_DIFFER = {
    "out", "dataset", "stream.cache", "train.workers", "train.gpu", "train.max_failures", "train.wait_s",
    "train.grow_after_s",
    "train.checkpoint_every_steps", "tune.trials", "tune.concurrency", "tune.cpus_per_trial", "tune.gpus_per_trial",
    "tune.share_films", "tune.max_failed", "tune.keep_checkpoints", "tune.select",
    "tune.final",
}  # fmt: skip
"""Settings that a search may go on with others of."""
_GRID_MOST = 100_000
_SHARED_PART = 0.25


class FailedSearchError(RayCxrError):
    """Too many trials have failed, or all; what the search has found so far lies in its directory."""


def search(job: SearchRecipe, config_yaml: str, show: Show) -> dict[str, Any]:
    """Runs, or goes on with, the search of `job.out`; gives what `summary.json` holds. `show` gets the events of `Search`.

    config_yaml: the whole job, of which `best.yaml` is made. Raises InputError, RefusedError; FailedSearchError.
    """
    out = Folder(job.out)
    dataset = _open(job)
    if dataset.leak_warning:
        show({"kind": "note", "text": f"warning: {dataset.leak_warning}"})
    job, checker = _with_space(with_absolute_paths(job), dataset, show)
    config = {**yaml.safe_load(config_yaml), **job.model_dump(mode="json")}
    space, points = plan_space(job, checker)
    with locked(out, _LOCK, lambda text: show({"kind": "note", "text": text}), work=_SEARCH):
        _claim(out, config)
        running = _opened(job, dataset, checker, space, points, show)
        if not running.done:
            from ray_cxr.tune.ray_search import run_on_ray

            run_on_ray(running, show)
        return _conclude(running, config)


def open_search(job: SearchRecipe, show: Show) -> Search:
    """The search of a job, as the study in `job.out` has it, for whoever runs its trials otherwise than under Ray."""
    dataset = _open(job)
    job, checker = _with_space(with_absolute_paths(job), dataset, show)
    return _opened(job, dataset, checker, *plan_space(job, checker), show)


def _open(job: SearchRecipe) -> Dataset:
    """The data set of a search. Raises InputError where it lacks the folds that are asked for."""
    dataset, folds = open_dataset(job.dataset, ("train", "validation"), job.fold), job.tune.crossval
    if folds is not None and job.fold is not None:
        raise InputError(
            f"tune.crossval: got {folds}, and fold={job.fold}; with tune.crossval every fold is validated on in turn, so leave "
            "fold out."
        )
    if folds is not None and dataset.folds < folds:
        raise InputError(
            f"tune.crossval: got {folds}, but the data set was prepared with {dataset.folds or 'no'} folds; use fewer, or prepare it "
            f"again with split.folds={folds} (no film is decoded anew)."
        )
    learned = [trained_findings(dataset.with_fold(k), job)[0] for k in range(folds or 0)]
    everywhere = [f for f in learned[0] if all(f in of_fold for of_fold in learned)] if learned else []
    if any(of_fold != everywhere for of_fold in learned):
        raise InputError(
            "findings: some have one class only among the films that a fold is trained on, so the folds' scores would be means over "
            f"different findings; give findings=[{', '.join(everywhere)}], or prepare with fewer split.folds."
        )
    return dataset


def _opened(
    job: SearchRecipe, dataset: Dataset, checker: Checker, space: Space, points: Sequence[tuple[str, Drawn]],
    show: Show,
) -> Search:  # fmt: skip
    out = Folder(job.out)
    study = Study(out, job.tune, job.seed)
    study.claim(dataset.fingerprint)
    trained = sum(trial.state in (TrialState.COMPLETE, TrialState.PRUNED) for trial in study.trials)
    if trained and not out.exists("trials"):
        raise RefusedError(
            f"out: the study in tune.storage has {count_text(trained, 'trained trial')}, whose runs are not in {out}; give the out that "
            "they are in, or another tune.storage."
        )
    return Search(job, out, space, checker, study, show, points, _share_films(job, dataset))


def _with_space(job: SearchRecipe, dataset: Dataset, show: Show) -> tuple[SearchRecipe, Checker]:
    """The job, with what can be run of the shipped space where it names none. Raises InputError where it cannot be run itself."""
    folds = job.tune.crossval
    checker = Checker(
        _recipe_of(job), [dataset] if folds is None else [dataset.with_fold(k) for k in range(folds)]
    )
    if job.tune.space:
        return job, checker
    problem = checker.problem({})
    if problem is not None:
        raise InputError(problem)
    base = dotted(_recipe_of(job))
    space, left_out = without_misfits(default_space(base), base, checker.problem, job.seed)
    for sentence in left_out:
        show({"kind": "note", "text": f"left out of the shipped space: {sentence}"})
    return job.model_copy(update={"tune": job.tune.model_copy(update={"space": space})}), checker


def plan_space(job: SearchRecipe, checker: Checker) -> tuple[Space, list[tuple[str, Drawn]]]:
    """The space, checked, and the trials that come first: origin and settings. Raises InputError."""
    refuse_names(job.tune.space)
    base = dotted(_recipe_of(job))
    space = build_space(job.tune.space, base)
    refuse_values(space, checker.problem, job.seed)
    if job.tune.sampler == "grid":
        points = []
        for drawn in enumerate_space(space, checker.problem):
            points.append(("grid", drawn))
            if len(points) > _GRID_MOST:
                raise InputError(
                    f"tune.space: a grid of more than {_GRID_MOST:,} trials; use tpe, or fewer choices."
                )
        return space, points
    return space, first_points(space, checker) if job.tune.recipes else []


def first_points(space: Space, checker: Checker) -> list[tuple[str, Drawn]]:
    """The job's own settings and the known recipes, as far as they lie in the space, each once."""
    points: list[tuple[str, Drawn]] = []
    own = {name: space.base[name] for name in space.parameters if name in space.base}
    for name, recipe in {"job": own, **known_recipes()}.items():
        drawn = _point_in(space, checker, recipe, own)
        if drawn is not None and drawn not in [p for _, p in points]:
            points.append((f"recipe:{name}", drawn))
    return points


def _point_in(space: Space, checker: Checker, recipe: Drawn, own: Drawn) -> Drawn | None:
    """A recipe's settings in the space, with the job's own where it has none; None where it lies outside."""
    if any(
        recipe[name] != space.base.get(name)
        for name in ("model.backbone", "model.weights")
        if name in recipe and name not in space.parameters
    ):
        return None
    wanted: Drawn = {**own, **recipe}
    drawn: Drawn = {}
    for name in space.parameters:
        options = space.options(name, drawn, checker.problem)
        if options is None:
            continue
        if wanted.get(name) is None or not contains(options, wanted[name]):
            return None
        drawn[name] = wanted[name]
    return drawn if checker.problem(drawn) is None else None


def _recipe_of(job: SearchRecipe) -> dict[str, Any]:
    return job.model_dump(mode="json", include=set(Recipe.model_fields))


def _claim(out: Folder, config: dict[str, Any]) -> None:
    """Writes `config.yaml`, or checks that this job is the one whose trials are there. Raises InputError, RefusedError."""
    there = set(out.names()) - {"config.yaml", _LOCK}
    if there and not there & {TRIALS, JOURNAL}:
        raise InputError(
            f"out: {out} holds something that is no search of ray-cxr; give a new or empty directory."
        )
    if TRIALS in there:
        if not out.exists("config.yaml"):
            raise RefusedError(
                f"out: {out} holds a search without its config.yaml, so it cannot be known of which job; bring the file back, or give "
                "another out."
            )
        stored = yaml.safe_load(out.read_bytes("config.yaml"))
        before, now = (
            dotted({n: v for n, v in c.items() if n in SearchRecipe.model_fields}) for c in (stored, config)
        )
        names = [n for n in now | before if n not in _MAY_DIFFER and before.get(n) != now.get(n)]
        if names:
            differences = "; ".join(f"{n} was {before.get(n)!r}, now {now.get(n)!r}" for n in names)
            raise RefusedError(
                f"out: {out} holds a search of another job ({differences}); give another out, or the settings that it was started "
                "with."
            )
    out.write_bytes("config.yaml", yaml.safe_dump(config, sort_keys=False, allow_unicode=True).encode())


def _share_films(job: SearchRecipe, dataset: Dataset) -> bool:
    """Whether trials keep decoded films in the node's memory."""
    if job.tune.share_films != "auto":
        return job.tune.share_films
    splits = dataset.manifest["splits"]
    films = splits["train"]["images"] + splits["validation"]["images"]
    films *= job.tune.crossval or 1  # each fold has its films in an order of its own
    return bool(films * dataset.image_px**2 <= _SHARED_PART * psutil.virtual_memory().available)


def _conclude(running: Search, config: dict[str, Any]) -> dict[str, Any]:
    """`summary.json` and `best.yaml`. Raises FailedSearchError with the reasons where too many trials have failed, or all."""
    summary = summarise(running)
    running.out.write_json("summary.json", summary)
    if summary["winner"] is not None:
        number = summary["winner"]["number"]
        drawn = dict(running.study.trial(number).user_attrs["settings"])
        kept = {name: value for name, value in config.items() if name != "tune"}
        # A search that goes on may find another winner, whose run is another.
        best = overlaid(kept, drawn | {"out": (running.out / f"final-{number:05d}").url})
        running.out.write_bytes(
            "best.yaml", yaml.safe_dump(best, sort_keys=False, allow_unicode=True).encode()
        )
    if running.aborted or summary["winner"] is None:
        raise FailedSearchError(_failed(running))
    return summary


def _failed(running: Search) -> str:
    reasons = "\n".join(f"  {count} × {reason}" for reason, count in running.failures.most_common())
    failed = count_text(running.failures.total(), "trial")
    if running.aborted:
        return (
            f"{failed} failed, so the search stops (tune.max_failed={running.job.tune.max_failed}):\n{reasons}\nmend the cause or the "
            "space; the same command with a larger tune.max_failed goes on."
        )
    return f"no trial came to its end ({failed} failed), so there is no best one:\n{reasons}"
