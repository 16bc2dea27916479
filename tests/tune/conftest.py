"""A search without training: made-up histories in place of it."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import pytest

from ray_cxr.job import Job, load_job
from ray_cxr.shards.dataset import Dataset, open_dataset
from ray_cxr.shards.prepare import prepare
from ray_cxr.storage import Folder
from ray_cxr.train.run import write_history
from ray_cxr.tune.records import read_lines
from ray_cxr.tune.search import Plan, Search
from ray_cxr.tune.tune import open_search
from tests.conftest import Silent

SMALL = (
    "source.kind=phantom",
    "source.patients=60",
    "split.validation=0.3",
    "split.test=0.2",
    "shards.image_px=32",
    "stream.image_px=32",
    "stream.normalisation=dataset",
    "stream.batch_size=16",
    "model.backbone=test_convnext",
    "train.workers=0",
    "train.epochs=3",
)


@pytest.fixture(scope="session")
def drawn_dataset(tmp_path_factory: pytest.TempPathFactory) -> str:
    """Drawn films, prepared once."""
    job = load_job(None, [*SMALL, f"dataset={tmp_path_factory.mktemp('tune') / 'dataset'}"])
    prepare(job, Silent())
    return job.dataset


@pytest.fixture(scope="session")
def opened(drawn_dataset: str) -> Dataset:
    return open_dataset(drawn_dataset, ("train", "validation"))


@pytest.fixture
def tune_job(drawn_dataset: str, tmp_path: Path) -> Callable[..., Job]:
    """A job that searches over the drawn films, in a directory of its own."""

    def make(*overrides: str, space: dict[str, Any] | None = None) -> Job:
        settings = [*SMALL, f"dataset={drawn_dataset}", f"out={tmp_path / 'study'}", "tune.recipes=false"]
        return load_job(None, [*settings, f"tune.space={space or {}}", *overrides])

    return make


def line(epoch: int, value: float | None, *, best: bool = True) -> dict[str, Any]:
    """What the search reads of a line of history.jsonl."""
    return {
        "epoch": epoch,
        "mean_auroc": value,
        "average_precision": {"Mass": value, "Edema": 0.9},
        "best": best,
        "seconds": {"train": 2.0, "validate": 1.0},
    }


Score = Callable[[Plan, int], float | None]


@dataclass
class Player:
    """Runs the trials of a search one after another. score: of a plan after an epoch; what it raises is the trial's failure."""

    job: Job
    score: Score
    events: list[dict[str, Any]] = field(default_factory=list)
    played: list[Plan] = field(default_factory=list)

    def open(self) -> Search:
        return open_search(self.job, self.events.append)

    def play(self, search: Search | None = None, trials: int | None = None) -> Search:
        """To the end of the search, or of so many trials."""
        search = search or self.open()
        while (trials is None or len(self.played) < trials) and (plan := search.next()) is not None:
            self.played.append(plan)
            self.end(search, plan)
        return search

    def end(self, search: Search, plan: Plan) -> None:
        for _ in self.epochs(search, plan):
            pass

    def epochs(self, search: Search, plan: Plan) -> Iterator[int]:
        """One epoch after another, until the trial ends. As a trial's process does, goes on with what lies there."""
        for number, recipe in enumerate(plan.runs):
            run = Folder(recipe.out)
            lines = read_lines(run)
            for known in lines:
                search.report(plan.number, known, number)
            for epoch in range(len(lines) + 1, recipe.train.epochs + 1):
                try:
                    value = self.score(replace(plan, recipe=recipe), epoch)
                except RuntimeError as error:
                    search.fail(plan.number, str(error))
                    return
                best = value is not None and all(value > (earlier["mean_auroc"] or 0) for earlier in lines)
                lines.append(line(epoch, value, best=best))
                write_history(run, lines)
                if search.report(plan.number, lines[-1], number):
                    search.prune(plan.number)
                    return
                yield epoch
        search.end(plan.number)


@pytest.fixture
def player(tune_job: Callable[..., Job]) -> Callable[..., Player]:
    def make(score: Score, *overrides: str, space: dict[str, Any]) -> Player:
        return Player(tune_job(*overrides, space=space), score)

    return make
