"""Storage that is away for ten seconds while two workers train from it: asked again, counted, and nothing is lost.

An S3 server runs in a process of its own, and what stands before it refuses connections for a while.
"""

import json
import socket
import subprocess
import sys
import threading
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import suppress
from typing import Any

import pytest

from ray_cxr.job import Job
from ray_cxr.shards.prepare import prepare
from ray_cxr.storage import Folder
from tests.conftest import Silent

AWAY_S = 10.0
EPOCHS, STEPS = 25, 18
"""557 training films, 32 a step."""

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]


class Door:
    """Passes connections on to a port, unless it is shut: then they are refused, and those that stand are cut."""

    def __init__(self, to: int) -> None:
        self._to, self._open = to, list[socket.socket]()
        self._listening = self._listen(0)
        self.port = self._listening.getsockname()[1]

    def _listen(self, port: int) -> socket.socket:
        listening = socket.create_server(("127.0.0.1", port), reuse_port=False)
        threading.Thread(target=self._accept, args=(listening,), daemon=True).start()
        return listening

    def _accept(self, listening: socket.socket) -> None:
        while True:
            try:
                here, _ = listening.accept()
            except OSError:
                return
            there = socket.create_connection(("127.0.0.1", self._to))
            self._open += [here, there]
            for one, other in ((here, there), (there, here)):
                threading.Thread(target=_pass_on, args=(one, other), daemon=True).start()

    def shut_for(self, seconds: float) -> None:
        # Wakes the thread that accepts, which would hold the port.
        self._listening.shutdown(socket.SHUT_RDWR)
        self._listening.close()
        for one in self._open:
            with suppress(OSError):
                one.shutdown(socket.SHUT_RDWR)
            one.close()
        self._open.clear()
        time.sleep(seconds)
        self._listening = self._listen(self.port)


def _pass_on(one: socket.socket, other: socket.socket) -> None:
    with suppress(OSError):
        while data := one.recv(2**16):
            other.sendall(data)
        other.shutdown(socket.SHUT_WR)


@pytest.fixture(scope="module")
def door() -> Iterator[Door]:
    """A way to an S3 server, which every process finds by the environment."""
    pytest.importorskip("moto.server", reason="no S3 server: pip install 'moto[s3]' flask flask-cors")
    s3fs = pytest.importorskip("s3fs", reason="no S3 client: pip install s3fs")
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    server = subprocess.Popen(
        [sys.executable, "-m", "moto.server", "-H", "127.0.0.1", "-p", str(port)],
        stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
    )  # fmt: skip
    try:
        while server.poll() is None:
            with suppress(ConnectionRefusedError), socket.create_connection(("127.0.0.1", port)):
                break
            time.sleep(0.1)
        passing = Door(port)
        with pytest.MonkeyPatch.context() as patch:
            patch.setenv("AWS_ENDPOINT_URL", f"http://127.0.0.1:{passing.port}")
            patch.setenv("AWS_ACCESS_KEY_ID", "test")
            patch.setenv("AWS_SECRET_ACCESS_KEY", "test")
            patch.setenv("AWS_DEFAULT_REGION", "us-east-1")
            s3fs.S3FileSystem(use_listings_cache=False).mkdir("radiographs")
            yield passing
            s3fs.S3FileSystem.clear_instance_cache()
    finally:
        server.kill()
        server.wait()


def _history(job: Job) -> tuple[list[dict[str, Any]], int]:
    """Lines without what is measured in time, and how often storage was asked again."""
    lines = [json.loads(line) for line in Folder(job.out).read_bytes("history.jsonl").decode().splitlines()]
    retries = sum(line.pop("storage_retries") for line in lines)
    return [
        {k: v for k, v in line.items() if k not in ("seconds", "images_per_s")} for line in lines
    ], retries


@pytest.mark.parametrize("out", ["here", "there"])
def test_ten_seconds_without_storage(
    door: Door, nih_job: Callable[..., Job], drive: Callable[..., Any], out: str
) -> None:
    """out: the run is on this machine, or there, too, so that progress and checkpoints cannot be written for a while."""
    place = f"s3://radiographs/{uuid.uuid4()}"
    settings = [
        f"dataset={place}/dataset", f"train.epochs={EPOCHS}", "train.workers=2", "train.checkpoint_every_steps=5",
        "stream.shuffle_mib=1",
    ]  # fmt: skip
    job = nih_job(*settings, *([f"out={place}/run"] if out == "there" else []))
    prepare(job, Silent())
    run = drive(job)
    run.until(lambda: run.steps() >= 20)
    door.shut_for(AWAY_S)
    away = time.monotonic()
    before = run.steps()
    run.until(lambda: run.steps() > before)
    print(f"\nstorage away, run {out}: {time.monotonic() - away:.1f} s to the next step after it was back\n")
    run.end()
    undisturbed = nih_job(*settings)
    drive(undisturbed).end()
    (lines, retries), (others, _) = _history(job), _history(undisturbed)
    print(f"asked again {retries} times\n{run.said}")
    assert lines == others
    assert len(run.trained()) == EPOCHS * STEPS
    # What is written fails at the first time: training is started again then.
    assert retries > 0 or out == "there"
