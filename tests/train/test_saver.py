"""Checkpoints are written beside the training."""

import threading
from pathlib import Path

import pytest
import torch
from torch import nn

from ray_cxr.errors import InputError
from ray_cxr.storage import Folder
from ray_cxr.train import saver as module
from ray_cxr.train.checkpoint import EpochSoFar, Snapshot, TrainState, newest_state, take_snapshot
from ray_cxr.train.saver import Saver


def _snapshot(step: int) -> Snapshot:
    network = nn.Linear(2, 1)
    state = TrainState("f" * 64, ["Mass"], step=step, so_far=EpochSoFar(step))
    return take_snapshot(network, torch.optim.AdamW(network.parameters()), state)


def test_training_does_not_wait_for_the_disk_but_for_the_checkpoint_before(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    free, write, order = threading.Event(), module.write_snapshot, []

    def slow(folder: Folder, snapshot: Snapshot) -> None:
        assert free.wait(20)
        write(folder, snapshot)
        order.append(snapshot.name)

    monkeypatch.setattr(module, "write_snapshot", slow)
    saver = Saver(Folder(tmp_path))
    saver.save(lambda: _snapshot(1))
    assert order == [], "it came back before anything was written"
    free.set()

    def second() -> Snapshot:
        order.append("taken")
        return _snapshot(2)

    saver.save(second)
    saver.wait()
    assert order == ["step-00000001-within", "taken", "step-00000002-within"]
    saver.close()


def test_closing_lets_what_is_being_written_become_whole(tmp_path: Path) -> None:
    saver = Saver(Folder(tmp_path))
    saver.save(lambda: _snapshot(3))
    saver.close()
    state = newest_state(Folder(tmp_path))
    assert state is not None and state.step == 3


def test_closing_does_not_wait_for_ever(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    free = threading.Event()
    monkeypatch.setattr(module, "PATIENCE_S", 0.05)
    monkeypatch.setattr(module, "write_snapshot", lambda folder, snapshot: free.wait(20))
    saver = Saver(Folder(tmp_path))
    saver.save(lambda: _snapshot(3))
    saver.close()
    assert not free.is_set(), "it came back only once all was written"
    free.set()


def test_a_full_disk_is_told_at_the_next_call_and_the_last_good_one_stays(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    saver = Saver(Folder(tmp_path))
    saver.save(lambda: _snapshot(1))
    saver.wait()

    def full(target: str, data: bytes) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr("ray_cxr.storage._write_local", full)
        saver.save(lambda: _snapshot(2))
        with pytest.raises(
            InputError, match=r"model\.safetensors cannot be written \(No space left on device"
        ):
            saver.wait()
    saver.wait()
    saver.close()
    state = newest_state(Folder(tmp_path))
    assert state is not None and state.step == 1
