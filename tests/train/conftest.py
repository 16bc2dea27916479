"""`ray-cxr train` in processes of its own, to be killed and interrupted."""

import json
import os
import signal
import subprocess
import sys
import time
import uuid
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import psutil
import pytest

from ray_cxr.config import to_yaml
from ray_cxr.job import Job

DRIVER = Path(__file__).parent / "driver.py"
MARK = "RAY_CXR_TEST"
Place = tuple[int, int]
"""Epoch and step."""


class Drive:
    """A training that runs in a session of its own, as one that a shell has started. See driver.py."""

    def __init__(
        self, job: Job, folder: Path, moment: str, seconds: float, before: Sequence[str] = ()
    ) -> None:
        self.job, self.log = job, folder / "log"
        self._errors = folder / "stderr"
        path = folder / "job.yaml"
        path.write_text(to_yaml(job))
        # What Ray starts inherits the mark, whoever its parent is.
        self._mark = uuid.uuid4().hex
        environment = {k: v for k, v in os.environ.items() if k != "RAY_ADDRESS"} | {MARK: self._mark}
        with self._errors.open("wb") as errors:
            self.process = subprocess.Popen(
                [*before, sys.executable, str(DRIVER), str(path), str(self.log), moment, str(seconds)],
                env=environment, stderr=errors, stdout=subprocess.DEVNULL, start_new_session=True,
            )  # fmt: skip

    @property
    def said(self) -> str:
        """All of stderr so far."""
        return self._errors.read_text()

    @property
    def driver(self) -> psutil.Process:
        return psutil.Process(self.process.pid)

    def until(self, ready: Callable[[], Any]) -> None:
        """Returns once something is so; fails where the training ends before."""
        while not ready():
            assert self.process.poll() is None, f"it ended before:\n{self.said}"
            time.sleep(0.01)

    def wait(self, seconds: float) -> None:
        """Fails where the training ends before."""
        end = time.monotonic() + seconds
        self.until(lambda: time.monotonic() > end)

    def until_at(self, moment: str) -> None:
        self.until(Path(f"{self.log}-at-{moment}").exists)

    def until_it_said(self, text: str) -> None:
        self.until(lambda: text in self.said)

    def interrupt(self) -> float:
        """Ctrl-C, which a terminal sends to all in the foreground; gives the seconds until it had ended."""
        started = time.monotonic()
        os.killpg(self.process.pid, signal.SIGINT)
        self.process.wait(timeout=60)
        return time.monotonic() - started

    def kill(self, processes: list[psutil.Process]) -> None:
        """SIGKILL, and waits until they are gone."""
        for process in processes:
            process.kill()
        psutil.wait_procs(processes, timeout=20)

    def end(self) -> None:
        """Waits for its good end."""
        assert self.process.wait(timeout=600) == 0, self.said
        assert "Traceback" not in self.said

    def processes(self) -> list[psutil.Process]:
        """All that it has started and that still runs, itself among them."""
        found = []
        for process in psutil.process_iter():
            try:
                mine = process.environ().get(MARK) == self._mark
                if mine and process.status() != psutil.STATUS_ZOMBIE:
                    found.append(process)
            except (psutil.NoSuchProcess, psutil.AccessDenied):
                pass
        return found

    def workers(self) -> list[psutil.Process]:
        """Ray's training workers."""
        found = []
        for process in self.processes():
            try:
                if "RayTrainWorker" in " ".join(process.cmdline()):
                    found.append(process)
            except psutil.NoSuchProcess:
                pass
        return found

    def left_after(self, seconds: float, *, but: str = "") -> list[str]:
        """Names of its processes that are still there then, but those that hold a word."""
        end = time.monotonic() + seconds
        while True:
            names = [_name(p) for p in self.processes()]
            names = [n for n in names if n and not (but and but in n.lower())]
            if not names or time.monotonic() > end:
                return names
            time.sleep(0.2)

    def steps(self) -> int:
        """Steps that rank 0 has done, those twice that were done again after a worker's death."""
        log = Path(f"{self.log}-0")
        return log.read_text().count("\n") if log.exists() else 0

    def trained(self) -> dict[Place, list[int]]:
        """Index rows by epoch and step, over all ranks; a rank's line that a kill cut off does not count."""
        found: dict[Place, list[int]] = {}
        for path in sorted(self.log.parent.glob(f"{self.log.name}-[0-9]*")):
            for line in path.read_text().splitlines(keepends=True):
                if line.endswith("\n"):
                    number, step, rows = json.loads(line)
                    found.setdefault((number, step), []).extend(rows)
        return {place: sorted(rows) for place, rows in found.items()}

    def clear(self) -> None:
        self.kill(self.processes())
        self.process.wait(timeout=20)


def _name(process: psutil.Process) -> str:
    try:
        return " ".join(process.cmdline())[:120]
    except psutil.NoSuchProcess:
        return ""


def _drives(folders: pytest.TempPathFactory) -> Iterator[Callable[..., Drive]]:
    begun: list[Drive] = []

    def start(job: Job, moment: str = "", seconds: float = 60, before: Sequence[str] = ()) -> Drive:
        begun.append(Drive(job, folders.mktemp("drive"), moment, seconds, before))
        return begun[-1]

    yield start
    for one in begun:
        one.clear()


@pytest.fixture
def drive(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[..., Drive]]:
    """Starts a training: `drive(job, moment, seconds)`, by way of a command `before` it, if any; at the end of the test none of its processes is left."""
    yield from _drives(tmp_path_factory)


@pytest.fixture(scope="module")
def module_drive(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[..., Drive]]:
    """The same for fixtures of a module."""
    yield from _drives(tmp_path_factory)


def history(job: Job) -> list[dict[str, Any]]:
    """Without what is measured in time."""
    lines = [json.loads(line) for line in (Path(job.out) / "history.jsonl").read_text().splitlines()]
    return [{k: v for k, v in line.items() if k not in ("seconds", "images_per_s")} for line in lines]


ARTIFACTS = ("best/model.safetensors", "best/model.json", "predictions-validation.parquet", "metrics.json")


def _assert_same_run(job: Job, other: Job) -> None:
    assert history(job) == history(other)
    for name in ARTIFACTS:
        assert (Path(job.out) / name).read_bytes() == (Path(other.out) / name).read_bytes(), name


@pytest.fixture(scope="session")
def assert_same_run() -> Callable[[Job, Job], None]:
    """Holds two runs against each other: history, and model, predictions and figures to the byte."""
    return _assert_same_run
