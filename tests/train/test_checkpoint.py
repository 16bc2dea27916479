"""Checkpoints: going on from one equals never having stopped, and a damaged one is never used."""

import json
import uuid
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from ray_cxr.storage import Folder
from ray_cxr.train.checkpoint import (
    MARKER,
    TrainState,
    load_checkpoint,
    newest_state,
    save_checkpoint,
)

FILES = ["model.safetensors", "optimizer.safetensors", "state.json", MARKER]


@pytest.fixture(params=["local", "memory"])
def folder(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Folder]:
    if request.param == "local":
        yield Folder(tmp_path / "checkpoints")
    else:
        made = Folder(f"memory://{uuid.uuid4()}/checkpoints")
        yield made
        made.remove("")


def _network(seed: int) -> tuple[nn.Module, torch.optim.AdamW]:
    """A network with batch statistics, a frozen layer and two parameter groups, as in training."""
    torch.manual_seed(seed)
    network = nn.Sequential(nn.Linear(6, 8), nn.BatchNorm1d(8), nn.ReLU(), nn.Linear(8, 3))
    network[0].weight.requires_grad_(False)
    named = dict(network.named_parameters())
    plain = [p for n, p in named.items() if n.endswith("bias")]
    decayed = [p for n, p in named.items() if n.endswith("weight") and p.requires_grad]
    groups = [{"params": plain, "weight_decay": 0.0}, {"params": decayed, "weight_decay": 0.05}]
    return network, torch.optim.AdamW(groups, lr=1e-2)


def _train(network: nn.Module, optimizer: torch.optim.Optimizer, first: int, last: int) -> None:
    network.train()
    for step in range(first, last):
        films = torch.randn(5, 6, generator=torch.Generator().manual_seed(step))
        optimizer.zero_grad(set_to_none=True)
        network(films).square().sum().backward()
        optimizer.step()


def _state(step: int) -> TrainState:
    return TrainState(
        fingerprint="f" * 64, findings=["Mass", "Edema"], epoch=step // 4, step=step, plan_hash="p" * 64,
        best_epoch=1, best_auroc=0.1 + 0.2, history=[{"epoch": 1, "auroc": {"Mass": 0.75, "Edema": None}}],
    )  # fmt: skip


def _optimizer_tensors(optimizer: torch.optim.Optimizer) -> dict[tuple[int, str], Tensor]:
    return {(n, k): v for n, s in optimizer.state_dict()["state"].items() for k, v in s.items()}


def _saved(folder: Folder, *steps: int) -> None:
    network, optimizer = _network(0)
    done = 0
    for step in steps:
        _train(network, optimizer, done, step)
        save_checkpoint(folder, network, optimizer, _state(step))
        done = step


def test_going_on_from_a_checkpoint_equals_never_having_stopped(folder: Folder) -> None:
    straight, straight_optimizer = _network(0)
    _train(straight, straight_optimizer, 0, 12)

    _saved(folder, 7)
    resumed, resumed_optimizer = _network(99)
    state, notes = load_checkpoint(folder, resumed, resumed_optimizer)
    assert state is not None and notes == []
    _train(resumed, resumed_optimizer, state.step, 12)

    expected = straight.state_dict()
    for name, tensor in resumed.state_dict().items():
        assert torch.equal(tensor, expected[name]), name
    moments = _optimizer_tensors(straight_optimizer)
    restored = _optimizer_tensors(resumed_optimizer)
    assert restored.keys() == moments.keys()
    for key, tensor in restored.items():
        assert torch.equal(tensor, moments[key]) and tensor.dtype == moments[key].dtype, key


def test_state_comes_back_whole(folder: Folder) -> None:
    _saved(folder, 8)
    network, optimizer = _network(1)
    state, _ = load_checkpoint(folder, network, optimizer)
    assert state == _state(8) == newest_state(folder)


def test_folder_without_checkpoints_gives_none_and_leaves_the_model(folder: Folder) -> None:
    network, optimizer = _network(1)
    before = {n: t.clone() for n, t in network.state_dict().items()}
    assert load_checkpoint(folder, network, optimizer) == (None, [])
    assert newest_state(folder) is None
    assert all(torch.equal(t, before[n]) for n, t in network.state_dict().items())


def test_only_the_newest_two_are_kept(folder: Folder) -> None:
    _saved(folder, 4, 8, 12, 16)
    assert folder.names() == ["step-00000012", "step-00000016"]


def _remove(folder: Folder, name: str) -> None:
    folder.remove(name)


def _truncate(folder: Folder, name: str) -> None:
    data = folder.read_bytes(name)
    folder.write_bytes(name, data[: len(data) // 2])


def _empty(folder: Folder, name: str) -> None:
    folder.write_bytes(name, b"")


def _flip_a_bit(folder: Folder, name: str) -> None:
    data = bytearray(folder.read_bytes(name))
    data[len(data) // 2] ^= 0x04
    folder.write_bytes(name, bytes(data))


@pytest.mark.parametrize("damage", [_remove, _truncate, _empty, _flip_a_bit])
@pytest.mark.parametrize("file", FILES)
def test_damaged_checkpoint_is_passed_over_for_the_one_before(folder: Folder, file: str, damage) -> None:  # type: ignore[no-untyped-def]
    _saved(folder, 4, 8)
    damage(folder / "step-00000008", file)
    network, optimizer = _network(1)
    state, notes = load_checkpoint(folder, network, optimizer)
    assert state is not None and state.step == 4
    assert notes == ["checkpoint step-00000008 is incomplete or damaged and is passed over"]
    assert newest_state(folder) == _state(4)
    trained, _ = _network(0)
    _train(trained, _, 0, 4)
    assert torch.equal(network[3].weight, trained[3].weight)


def test_no_flipped_bit_of_the_marker_is_fatal(tmp_path: Path) -> None:
    folder = Folder(tmp_path)
    _saved(folder, 8)
    marker = tmp_path / "step-00000008" / MARKER
    good = marker.read_bytes()
    for bit in range(8 * len(good)):
        bad = bytearray(good)
        bad[bit // 8] ^= 1 << bit % 8
        marker.write_bytes(bytes(bad))
        assert newest_state(folder) is None, bytes(bad)


@pytest.mark.parametrize(
    "text", ["[]", "null", "7", '{"format": 1}', '{"format": 1, "sha256": {}}', '{"format": 1, "sha256": []}']
)
def test_marker_that_vouches_for_nothing_does_not_count(tmp_path: Path, text: str) -> None:
    folder = Folder(tmp_path)
    _saved(folder, 8)
    folder.write_bytes(f"step-00000008/{MARKER}", text.encode())
    network, optimizer = _network(1)
    state, notes = load_checkpoint(folder, network, optimizer)
    assert state is None and len(notes) == 1


def test_checkpoint_of_another_format_is_passed_over(tmp_path: Path) -> None:
    folder = Folder(tmp_path)
    _saved(folder, 8)
    name = f"step-00000008/{MARKER}"
    folder.write_json(name, folder.read_json(name) | {"format": 999})
    assert newest_state(folder) is None


def test_marker_is_written_last_and_taken_away_first(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = Folder(tmp_path)
    _saved(folder, 8)
    written: list[str] = []
    write = Folder.write_bytes

    def spy(self: Folder, name: str, data: bytes) -> None:
        assert not self.exists(MARKER), "a marker stands beside files that are being written"
        written.append(name)
        write(self, name, data)

    monkeypatch.setattr(Folder, "write_bytes", spy)
    _saved(folder, 8)
    assert sorted(written) == sorted(FILES) and written[-1] == MARKER


def test_new_checkpoint_survives_damaged_ones_of_later_steps(tmp_path: Path) -> None:
    """Both of the newest were damaged, training began anew: what it writes must not be tidied away."""
    folder = Folder(tmp_path)
    _saved(folder, 12, 16)
    for name in folder.names():
        folder.remove(f"{name}/{MARKER}")
    _saved(folder, 4)
    state = newest_state(folder)
    assert state is not None and state.step == 4
    assert folder.names() == ["step-00000004"]


def test_files_hold_no_pickle(tmp_path: Path) -> None:
    folder = Folder(tmp_path)
    _saved(folder, 8)
    here = tmp_path / "step-00000008"
    assert sorted(p.name for p in here.iterdir()) == sorted(FILES)
    for name in ("state.json", MARKER):
        json.loads((here / name).read_bytes())
    for name in ("model.safetensors", "optimizer.safetensors"):
        # The safetensors format: length of the header, eight bytes little-endian, then JSON.
        data = (here / name).read_bytes()
        json.loads(data[8 : 8 + int.from_bytes(data[:8], "little")])
