"""One at a time: the lock of a disk, and the marker of an object store, taken over when its owner is silent or dead."""

import json
import os
import subprocess
import sys
import time
import uuid
from collections.abc import Iterator
from dataclasses import asdict, replace
from pathlib import Path

import pytest

from ray_cxr.errors import InputError, RefusedError
from ray_cxr.shards import lock
from ray_cxr.shards.lock import Owner, locked
from ray_cxr.storage import Folder
from tests.conftest import Silent

NAME = "preparing.json"


@pytest.fixture
def memory() -> Iterator[Folder]:
    folder = Folder(f"memory://{uuid.uuid4()}")
    yield folder
    folder.remove("")


def _dead_owner() -> Owner:
    with subprocess.Popen([sys.executable, "-c", ""]) as process:
        pass
    return replace(Owner(), process=process.pid, process_began=0.0)


def _mark(folder: Folder, owner: Owner, silent_s: float) -> None:
    folder.write_json(NAME, {"format": 1, "owner": asdict(owner), "beat": time.time() - silent_s})


@pytest.mark.parametrize("place", ["local", "memory"])
def test_lock_is_removed_at_the_end_and_stays_without_owner_after_an_error(
    place: str, tmp_path: Path, memory: Folder, silent: Silent
) -> None:
    folder = Folder(tmp_path) if place == "local" else memory
    with locked(folder, NAME, silent.say):
        assert folder.read_json(NAME)["owner"]["process"] == os.getpid()
    assert not folder.exists(NAME)
    with pytest.raises(ZeroDivisionError), locked(folder, NAME, silent.say):
        raise ZeroDivisionError
    assert folder.exists(NAME)
    with locked(folder, NAME, silent.say), pytest.raises(RefusedError), locked(folder, NAME, silent.say):
        pass
    assert not folder.exists(NAME)


@pytest.mark.parametrize("place", ["local", "memory"])
def test_a_refusal_leaves_no_owner(place: str, tmp_path: Path, memory: Folder, silent: Silent) -> None:
    folder = Folder(tmp_path) if place == "local" else memory
    for stays in (True, False):
        with pytest.raises(InputError), locked(folder, NAME, silent.say, lambda stays=stays: stays):
            raise InputError("no")
        assert folder.exists(NAME) == stays
    assert not silent.lines, "the second did not go on from an interrupted one"


def test_local_lock_of_a_killed_process_is_free(tmp_path: Path, silent: Silent) -> None:
    code = f"""if True:
        import os, signal
        from ray_cxr.shards.lock import locked
        from ray_cxr.storage import Folder
        with locked(Folder({str(tmp_path)!r}), {NAME!r}, print):
            os.kill(os.getpid(), signal.SIGKILL)
    """
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == -9
    assert (tmp_path / NAME).exists()
    with locked(Folder(tmp_path), NAME, silent.say) as held:
        held.check()
    (line,) = silent.lines
    assert line.startswith("going on from a preparation that did not end (process ")


def test_living_owner_elsewhere_is_left_alone_while_it_is_heard_of(memory: Folder, silent: Silent) -> None:
    other = replace(Owner(), host="elsewhere", machine="x", token="theirs")
    _mark(memory, other, silent_s=lock.STALE_S - 20)
    with (
        pytest.raises(RefusedError, match="by process .* on elsewhere, since .*; wait for its end"),
        locked(memory, NAME, silent.say),
    ):
        pass
    _mark(memory, other, silent_s=lock.STALE_S + 20)
    with locked(memory, NAME, silent.say):
        assert memory.read_json(NAME)["owner"]["token"] != "theirs"
    assert any(
        "taking over from a preparation that has not been heard of for 140 s" in x for x in silent.lines
    )


def test_dead_owner_on_this_machine_is_taken_over_at_once(memory: Folder, silent: Silent) -> None:
    _mark(memory, _dead_owner(), silent_s=1)
    with locked(memory, NAME, silent.say) as held:
        held.check()
    assert len(silent.lines) == 1


def test_marker_is_renewed_and_its_loss_is_noticed(
    memory: Folder, silent: Silent, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(lock, "BEAT_S", 0.02)
    other = replace(Owner(), host="elsewhere", token="theirs")

    def until(happened: object) -> None:
        for _ in range(250):
            if happened():  # type: ignore[operator]
                return
            time.sleep(0.02)
        pytest.fail("it did not happen")

    with locked(memory, NAME, silent.say) as held:
        first = memory.read_json(NAME)["beat"]
        until(lambda: memory.read_json(NAME)["beat"] > first)
        held.check()
        _mark(memory, other, silent_s=0)

        def lost() -> bool:
            try:
                held.check()
            except RefusedError as error:
                return "another preparation has taken this one's place" in error.message
            return False

        until(lost)
    assert json.loads(memory.read_bytes(NAME))["owner"]["token"] == "theirs", "the other's marker stays"


def test_of_two_that_begin_at_once_the_later_writer_wins(
    memory: Folder, silent: Silent, monkeypatch: pytest.MonkeyPatch
) -> None:
    other = replace(Owner(), host="elsewhere", token="theirs")
    monkeypatch.setattr(lock.time, "sleep", lambda _: _mark(memory, other, silent_s=0))
    with pytest.raises(RefusedError, match="on elsewhere"), locked(memory, NAME, silent.say):
        pass
    assert memory.read_json(NAME)["owner"]["token"] == "theirs"


def test_disk_without_locks_gets_a_marker(
    tmp_path: Path, silent: Silent, monkeypatch: pytest.MonkeyPatch
) -> None:
    def unsupported(*_: object) -> None:
        raise OSError(95, "Operation not supported")

    monkeypatch.setattr(lock.fcntl, "flock", unsupported)
    monkeypatch.setattr(lock, "_SETTLE_S", 0.01)
    with locked(Folder(tmp_path), NAME, silent.say):
        assert "beat" in json.loads((tmp_path / NAME).read_text())
        with pytest.raises(RefusedError), locked(Folder(tmp_path), NAME, silent.say):
            pass
    assert not (tmp_path / NAME).exists()


def test_place_that_cannot_be_written_is_told(tmp_path: Path, silent: Silent) -> None:
    (tmp_path / "file").write_text("")
    with (
        pytest.raises(InputError, match=r"cannot be written \(.*/file is a file\)"),
        locked(Folder(tmp_path / "file/x"), NAME, silent.say),
    ):
        pass
