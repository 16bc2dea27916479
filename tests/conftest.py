"""What tests of several stages share."""

import os
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from hypothesis import settings

from ray_cxr.job import Job, load_job

settings.register_profile("ray_cxr", deadline=None, derandomize=True, database=None, max_examples=60)
settings.load_profile("ray_cxr")

# Threads of torch that wait for one another shall not spin: where other processes want the cores too, spinning made a
# training step of two threads cost 12 times its work. Read when torch is imported, and by processes that tests start.
os.environ.setdefault("OMP_WAIT_POLICY", "passive")
# Ray reads these once in a process, so they must stand before the first test that starts it.
os.environ["RAY_AUTH_MODE"] = "disabled"
os.environ["RAY_TRAIN_HEALTH_CHECK_INTERVAL_S"] = "0.1"

ROOT = Path(__file__).resolve().parent.parent


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """The folder of real films and label tables; a test that needs it is skipped where it is absent."""
    folder = ROOT / os.environ.get("RAY_CXR_SHARED_DATA", "../shared/data")
    if not folder.is_dir():
        pytest.skip(f"no real films: {folder} is no folder; RAY_CXR_SHARED_DATA names another place")
    return folder


@pytest.fixture(scope="session")
def ray_cluster() -> Iterator[None]:
    """One small Ray for all tests that need it, ended with them."""
    from ray_cxr.ray_session import start_ray, stop_ray

    start_ray(cpus=4, store_bytes=200 * 2**20)
    yield
    stop_ray()


class Silent:
    """Progress for tests: kept, not shown."""

    def __init__(self) -> None:
        self.lines: list[str] = []
        self.done = 0

    def start(self, what: str, total: int) -> None:
        self.done = 0

    def advance(self, count: int) -> None:
        self.done += count

    def say(self, line: str) -> None:
        self.lines.append(line)


@pytest.fixture
def silent() -> Silent:
    return Silent()


@pytest.fixture(scope="session")
def nih_job(shared_data: Path, tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Job]:
    """A job over the real films, small and quick; a data set and run directory of its own for each call."""

    def make(*overrides: str) -> Job:
        folder = tmp_path_factory.mktemp("nih")
        return load_job(
            None,
            [
                "source.kind=nih",
                f"source.images={shared_data / 'nih/images'}",
                f"source.labels={shared_data / 'nih/Data_Entry_2017_v2020.csv.gz'}",
                f"dataset={folder / 'dataset'}",
                f"out={folder / 'run'}",
                "shards.image_px=72",
                "shards.rows_per_group=16",
                "stream.image_px=64",
                "model.backbone=test_convnext",
                "train.epochs=2",
                "train.workers=0",
                *overrides,
            ],
        )

    return make


@pytest.fixture(scope="session")
def nih_dataset(nih_job: Callable[..., Job]) -> str:
    """The real films, prepared once; tests that change it work on a copy."""
    from ray_cxr.shards.prepare import prepare

    job = nih_job()
    prepare(job, Silent())
    return job.dataset
