"""A preparation that is killed, or whose disk is full, goes on: real processes, real kills, a real small disk."""

import json
import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psutil
import pyarrow.parquet as pq
import pytest

from ray_cxr.errors import InputError, RefusedError
from ray_cxr.job import Job, load_job
from ray_cxr.shards.dataset import open_dataset
from ray_cxr.shards.prepare import prepare
from tests.conftest import Silent

COMMAND = [sys.executable, "-c", "from ray_cxr.cli.main import main; main()", "prepare"]
ENVIRONMENT = {k: v for k, v in os.environ.items() if k != "RAY_ADDRESS"} | {"RAY_AUTH_MODE": "disabled"}
SETTINGS = ["source.kind=phantom", "source.patients=110", "shards.image_px=64", "shards.shard_mib=0.05"]


def job(dataset: Path, *overrides: str) -> Job:
    return load_job(None, [*SETTINGS, f"dataset={dataset}", *overrides])


@pytest.fixture(scope="module")
def job_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("job") / "job.yaml"
    path.write_text("{}")
    return path


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """The manifest of a preparation that nobody killed."""
    return prepare(job(tmp_path_factory.mktemp("undisturbed")), Silent())


class Victim:
    """A preparation in a process of its own."""

    def __init__(self, job_file: Path, dataset: Path, *overrides: str) -> None:
        self.dataset = dataset
        command = [*COMMAND, str(job_file), *SETTINGS, f"dataset={dataset}", *overrides, "--json"]
        self.process = subprocess.Popen(
            command, env=ENVIRONMENT, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL
        )
        self._below: list[psutil.Process] = []

    def files(self, folder: str) -> int:
        return len(list(self.dataset.glob(f"{folder}/part-*.parquet")))

    def wait_for(self, happened: Callable[[], bool]) -> None:
        while self.process.poll() is None and not happened():
            time.sleep(0.002)

    def kill(self) -> bool:
        """SIGKILL; whether it was still at work."""
        if self.process.poll() is None:
            self._below = psutil.Process(self.process.pid).children(recursive=True)
        self.process.send_signal(signal.SIGKILL)
        assert self.process.stdout is not None
        self.process.stdout.close()
        return self.process.wait() == -signal.SIGKILL

    def clear_up(self) -> None:
        """Ends what Ray left behind: for more than a minute its agents look for the store that died with the driver."""
        for process in self._below:
            if process.is_running():
                process.kill()

    def result(self) -> dict[str, Any]:
        out, _ = self.process.communicate()
        assert self.process.returncode == 0, out
        answer: dict[str, Any] = json.loads(out)
        return answer


def is_whole_or_none(dataset: Path) -> bool:
    """What a reader sees: a data set with every film in its place, or none; never half of one."""
    try:
        opened = open_dataset(str(dataset), ("train", "validation", "test"))
    except InputError:
        return False
    for path, films in opened.index.groupby("shard"):
        read = pq.read_table(dataset / str(path), page_checksum_verification=True)
        assert read["image_id"].to_pylist() == films["image_id"].tolist()
    return True


def stored_films(dataset: Path) -> int:
    return sum(pq.read_metadata(p).num_rows for p in dataset.glob("films/part-*.parquet"))


def test_killed_among_films_and_among_shards_it_goes_on(
    job_file: Path, undisturbed: dict[str, Any], tmp_path: Path
) -> None:
    dataset = tmp_path / "dataset"
    films = undisturbed["films"]["decoded"]
    first = Victim(job_file, dataset)
    first.wait_for(lambda: first.files("films") > 0)
    with pytest.raises(RefusedError, match=rf"is being prepared by process {first.process.pid} on"):
        prepare(job(dataset), Silent())
    assert first.kill() and not is_whole_or_none(dataset)
    kept = stored_films(dataset)
    assert 0 < kept < films

    second = Victim(job_file, dataset)
    second.wait_for(lambda: second.files("shards/*") > 0)
    assert second.kill() and not is_whole_or_none(dataset)
    assert second.files("films") == 4 and second.files("shards/*") >= 1

    (dataset / "films/.writing-orphan").write_bytes(b"half")
    progress = Silent()
    made = prepare(job(dataset), progress)
    assert made["films"] == {"decoded": 0, "kept": films}
    assert made["shards"]["kept"] >= 1
    assert made["fingerprint"] == undisturbed["fingerprint"]
    assert is_whole_or_none(dataset)
    assert any(
        f"did not end (process {second.process.pid} on" in line and "going on" in line
        for line in progress.lines
    )
    assert not [p for p in dataset.rglob("*") if p.name.startswith((".writing-", "preparing"))]


def test_a_data_set_stays_whole_while_another_takes_its_place(
    job_file: Path, undisturbed: dict[str, Any], tmp_path: Path
) -> None:
    dataset = tmp_path / "dataset"
    prepare(job(dataset), Silent())
    victim = Victim(job_file, dataset, "shards.image_px=80")
    victim.wait_for(lambda: victim.files("films") > 4)
    assert victim.kill() and is_whole_or_none(dataset)
    made = prepare(job(dataset), Silent())
    assert made["fingerprint"] == undisturbed["fingerprint"]
    assert (made["films"]["decoded"], made["shards"]["written"]) == (0, 0)
    assert victim.files("films") == 4, "parts of the other size are gone"


@pytest.mark.slow
@pytest.mark.timeout(900)
@pytest.mark.parametrize(("engine", "kills"), [("threads", 12), ("ray", 6)])
def test_killed_at_random_moments_it_ends_as_undisturbed(
    engine: str, kills: int, job_file: Path, undisturbed: dict[str, Any], tmp_path: Path
) -> None:
    """Each kill falls anywhere from the start of the process to its end, and the next start goes on at once."""
    moments = random.Random(4)
    begun = time.monotonic()
    Victim(job_file, tmp_path / "timed", f"shards.engine={engine}").result()
    lasts_s = time.monotonic() - begun
    dataset, victims, done = tmp_path / "dataset", [], 0
    for seed in range(kills):
        # Every other one has another split, so that shards are at stake each time.
        victim = Victim(job_file, dataset, f"shards.engine={engine}", f"seed={seed % 2}")
        victims.append(victim)
        end = time.monotonic() + moments.uniform(0.1, 1.0) * lasts_s
        victim.wait_for(lambda: time.monotonic() > end)  # noqa: B023
        victim.kill()
        is_whole_or_none(dataset)
        assert stored_films(dataset) >= done, "a part was lost"
        done = stored_films(dataset)
    last = Victim(job_file, dataset, f"shards.engine={engine}").result()
    for victim in victims:
        victim.clear_up()
    assert last["fingerprint"] == undisturbed["fingerprint"]
    assert last["films"] == {
        "decoded": undisturbed["films"]["decoded"] - done,
        "kept": done,
    }
    assert is_whole_or_none(dataset)


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Callable[[str], Path]]:
    """A disk of its own, of the size asked for; asked again, it is made larger."""
    place = tmp_path / "disk"
    place.mkdir()

    def disk(size: str) -> Path:
        options = f"remount,size={size}" if os.path.ismount(place) else f"size={size}"
        command = ["mount", "-t", "tmpfs", "-o", options, "tmpfs", str(place)]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        if done.returncode:
            pytest.skip(f"no small disk can be mounted here: {done.stderr.strip()}")
        return place

    yield disk
    if os.path.ismount(place):
        subprocess.run(["umount", str(place)], check=True)


@pytest.mark.parametrize("engine", ["threads", pytest.param("ray", marks=pytest.mark.slow)])
def test_full_disk_is_told_and_the_same_command_goes_on(
    engine: str,
    small_disk: Callable[[str], Path],
    undisturbed: dict[str, Any],
    request: pytest.FixtureRequest,
) -> None:
    if engine == "ray":
        request.getfixturevalue("ray_cluster")
    dataset = small_disk("400k") / "dataset"
    with pytest.raises(
        InputError,
        match=r"dataset: .* needs about .* MiB and has .* KiB free; make room, .*check_space=false",
    ):
        prepare(job(dataset), Silent())
    assert not list(dataset.rglob("*.parquet")), "nothing was decoded"
    settings = ["shards.check_space=false", f"shards.engine={engine}"]
    for size, full in (("400k", "films/part-"), ("800k", "shards/")):
        small_disk(size)
        with pytest.raises(
            InputError,
            match=rf"{full}.* cannot be written \(No space left on device: .* needed, .* free\); make room",
        ):
            prepare(job(dataset, *settings), Silent())
        assert not is_whole_or_none(dataset)
    small_disk("20m")
    made = prepare(job(dataset, *settings), Silent())
    assert made["fingerprint"] == undisturbed["fingerprint"]
    assert made["films"]["decoded"] == 0
    assert is_whole_or_none(dataset)
