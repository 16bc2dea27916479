"""A small data set of drawn films, explored before and after it is prepared."""

from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from ray_cxr.axes import Rows
from ray_cxr.job import Job, load_job
from ray_cxr.loss.settings import LossSettings
from ray_cxr.report.explore.exploration import Exploration, explore
from ray_cxr.report.explore.films import Film
from ray_cxr.report.explore.material import Material
from ray_cxr.shards.prepare import prepare
from ray_cxr.stream.settings import StreamSettings

MakeJob = Callable[..., Job]
Explore = Callable[..., Exploration]


class NoProgress:
    """Nothing is shown."""

    def start(self, what: str, total: int) -> None: ...
    def advance(self, count: int) -> None: ...
    def say(self, line: str) -> None: ...


def small_job(folder: Path, *overrides: str) -> Job:
    """Some 170 drawn films at 64 px."""
    return load_job(
        None,
        [
            "source={kind: phantom, patients: 80}", f"dataset={folder / 'dataset'}", f"out={folder / 'run'}", "shards.image_px=64",
            "shards.rows_per_group=8", "stream.image_px=64", "shards.engine=threads", *overrides,
        ],
    )  # fmt: skip


@pytest.fixture(scope="session")
def drawn_job(tmp_path_factory: pytest.TempPathFactory) -> Job:
    """A job whose data set is prepared."""
    job = small_job(tmp_path_factory.mktemp("drawn"))
    prepare(job, NoProgress())
    return job


@pytest.fixture(scope="session")
def explore_quietly() -> Explore:
    """`explore` with default settings of stream and loss."""

    def run(material: Material, films: int = 0, **stream: object) -> Exploration:
        settings = StreamSettings.model_validate({"image_px": 64, **stream})
        return explore(
            material, settings, LossSettings(), films, lambda what, total: None, lambda count: None
        )

    return run


class GivenFilms:
    """Films that a test has made, in the order given."""

    def __init__(self, films: list[Film]) -> None:
        self._films = {f.row: f for f in films}

    def order(self, seed: int) -> Rows:
        return np.array(list(self._films), np.int64)

    def read(self, rows: Rows) -> Iterator[Film]:
        return (self._films[r] for r in rows.tolist())


def material_of(
    frame: pd.DataFrame, findings: list[str], films: list[Film] | None = None, **more: object
) -> Material:
    """Material of a frame as a test has it; what it leaves out is as before `prepare`, with every film here."""
    full = frame.assign(**{
        c: v for c, v in {"source": "csv", "split": "", "here": True}.items() if c not in frame
    })  # fmt: skip
    values: dict[str, object] = {
        "prepared": False, "sources": [{"source": "csv", "rows": len(frame), "films": len(frame)}],
        "films": GivenFilms(films or []), "films_from": "", "image_px": 64, "seed": 0,
    }  # fmt: skip
    return Material(frame=full, findings=findings, **(values | more))
