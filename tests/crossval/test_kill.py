"""SIGKILL of a cross-validation and of a fold's process: real processes, real kills; it ends as an undisturbed one."""

import json
import os
import subprocess
import sys
import time
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest

from ray_cxr.config import to_yaml
from ray_cxr.job import Job

MARK = "RAY_CXR_TEST"
FOLDS, EPOCHS = 5, 3

pytestmark = [pytest.mark.slow, pytest.mark.timeout(1800)]


class Command:
    """`ray-cxr crossval` in a session of its own. What it starts inherits its mark, whoever the parent is."""

    def __init__(self, job: Job, folder: Path) -> None:
        self.out, self._errors = Path(job.out), folder / f"stderr-{uuid.uuid4().hex}"
        path = folder / "job.yaml"
        path.write_text(to_yaml(job))
        self._mark = uuid.uuid4().hex
        environment = {k: v for k, v in os.environ.items() if k != "RAY_ADDRESS"} | {MARK: self._mark}
        with self._errors.open("wb") as errors:
            self.process = subprocess.Popen(
                [sys.executable, "-c", "from ray_cxr.cli.main import main; main()", "crossval", str(path), "--json"],
                env=environment, stderr=errors, stdout=subprocess.PIPE, text=True, start_new_session=True,
            )  # fmt: skip

    @property
    def said(self) -> str:
        return self._errors.read_text()

    def until(self, ready: Callable[[], Any]) -> None:
        """Returns once something is so; fails where the command ends before."""
        while not ready():
            assert self.process.poll() is None, f"it ended before:\n{self.said}"
            time.sleep(0.02)

    def processes(self) -> list[psutil.Process]:
        found = []
        for process in psutil.process_iter():
            try:
                if process.environ().get(MARK) == self._mark and process.status() != psutil.STATUS_ZOMBIE:
                    found.append(process)
            except (psutil.NoSuchProcess, psutil.AccessDenied):
                pass
        return found

    def folds_at_work(self) -> list[psutil.Process]:
        """The processes that train a fold."""
        found = []
        for process in self.processes():
            try:
                if "_train_as_one" in " ".join(process.cmdline()):
                    found.append(process)
            except psutil.NoSuchProcess:
                pass
        return found

    def result(self) -> dict[str, Any]:
        out, _ = self.process.communicate(timeout=900)
        assert self.process.returncode == 0, self.said
        assert "Traceback" not in self.said
        found: dict[str, Any] = json.loads(out)
        return found

    def clear(self) -> None:
        for process in self.processes():
            process.kill()
        assert self.process.stdout is not None
        self.process.stdout.close()
        self.process.wait(timeout=20)


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Callable[[Job], Command]]:
    begun: list[Command] = []

    def one(job: Job) -> Command:
        begun.append(Command(job, tmp_path))
        return begun[-1]

    yield one
    for command in begun:
        command.clear()


def _trained_s(out: Path, fold: int) -> list[float]:
    """Seconds that each epoch of a fold was trained, which no second training of it would repeat."""
    path = out / f"fold-{fold}/history.jsonl"
    lines = path.read_text().splitlines() if path.exists() else []
    return [json.loads(line)["seconds"]["train"] for line in lines]


def _done(out: Path) -> dict[str, int]:
    """When each file of a fold that has been trained to its end was written; its settings are by every start."""
    return {
        str(path): path.stat().st_mtime_ns
        for k in range(FOLDS) if len(_trained_s(out, k)) == EPOCHS
        for path in (out / f"fold-{k}").rglob("*") if path.is_file() and path.name != "config.yaml"
    }  # fmt: skip


def test_killed_it_goes_on_and_ends_as_undisturbed(
    nih_job: Callable[..., Job], nih_dataset: str, start: Callable[[Job], Command]
) -> None:
    """The driver is killed while one fold is done and another is half-done, and then, in the next start, a fold's process."""
    settings = ("loss.drop_unlearnable=true", f"train.epochs={EPOCHS}", "train.workers=1")
    job = nih_job(f"dataset={nih_dataset}", *settings)
    out = Path(job.out)
    first = start(job)
    first.until(
        lambda: (
            any(len(_trained_s(out, k)) == EPOCHS for k in range(FOLDS))
            and any(0 < len(_trained_s(out, k)) < EPOCHS for k in range(FOLDS))
        )
    )
    first.process.kill()
    first.process.wait()

    second = start(job)
    # The fold that the dead driver has left at work ends by itself; only then is it clear what was kept.
    second.until(lambda: " to train, " in second.said)
    kept, half = _done(out), {k: _trained_s(out, k) for k in range(FOLDS)}
    assert kept
    second.until(lambda: len(_done(out)) > len(kept) and second.folds_at_work())
    victim = second.folds_at_work()[0]
    victim.kill()
    result = second.result()
    assert "its process died; it goes on from its last checkpoint (1 of 2)" in second.said

    assert _done(out) | kept == _done(out), "a fold that was done has been touched"
    for fold, lines in half.items():
        assert _trained_s(out, fold)[: len(lines)] == lines, f"fold {fold} was trained again from its start"
    undisturbed = nih_job(f"dataset={nih_dataset}", *settings)
    assert start(undisturbed).result()["mean_auroc"] == result["mean_auroc"]
    for name in ("predictions-out-of-fold.parquet", "metrics.json"):
        assert (out / name).read_bytes() == (Path(undisturbed.out) / name).read_bytes(), name
    deadline = time.monotonic() + 150
    while second.processes() and time.monotonic() < deadline:
        time.sleep(0.2)
    assert second.processes() == []
