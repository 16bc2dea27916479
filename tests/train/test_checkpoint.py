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
    EpochSoFar,
    TrainState,
    foreign_formats,
    load_checkpoint,
    newest_state,
    take_snapshot,
    write_snapshot,
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


def _within(step: int) -> TrainState:
    """One step into the epoch after."""
    state = _state(step)
    state.so_far = EpochSoFar(1, 0, 0.1 + 0.2, 1.5, 0.25)
    return state


def _optimizer_tensors(optimizer: torch.optim.Optimizer) -> dict[tuple[int, str], Tensor]:
    return {(n, k): v for n, s in optimizer.state_dict()["state"].items() for k, v in s.items()}


def _saved(folder: Folder, *steps: int, within: tuple[int, ...] = ()) -> None:
    """Checkpoints after these steps; those of `within` lie inside an epoch, the others at the end of one."""
    network, optimizer = _network(0)
    done = 0
    for step in steps:
        _train(network, optimizer, done, step)
        state = _within(step) if step in within else _state(step)
        write_snapshot(folder, take_snapshot(network, optimizer, state))
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


def test_two_of_each_kind_are_kept_and_the_newest_of_any_kind_is_used(folder: Folder) -> None:
    _saved(folder, 3, 4, 6, 7, 8, 9, within=(3, 6, 7, 9))
    assert sorted(folder.names()) == [
        "step-00000004", "step-00000007-within", "step-00000008", "step-00000009-within",
    ]  # fmt: skip
    network, optimizer = _network(1)
    for expected in (_within(9), _state(8), _within(7), _state(4)):
        state, _ = load_checkpoint(folder, network, optimizer)
        assert state == expected == newest_state(folder)
        name = f"step-{expected.step:08d}{'-within' if expected.so_far.steps else ''}"
        folder.remove(f"{name}/{MARKER}")
    assert newest_state(folder) is None


def test_end_of_an_epoch_is_newer_than_its_last_step(folder: Folder) -> None:
    _saved(folder, 8, within=(8,))
    _saved(folder, 8)
    assert newest_state(folder) == _state(8)
    assert len(folder.names()) == 2
    assert (_within(8).plan_epoch, _state(8).plan_epoch, TrainState("", []).plan_epoch) == (3, 2, 0)


def test_a_snapshot_is_of_its_moment(folder: Folder) -> None:
    """Training goes on while it is written."""
    network, optimizer = _network(0)
    _train(network, optimizer, 0, 7)
    state = _within(7)
    snapshot = take_snapshot(network, optimizer, state, average=network)
    _train(network, optimizer, 7, 12)
    state.step, state.so_far.steps = 12, 6
    write_snapshot(folder, snapshot)

    expected, expected_optimizer = _network(0)
    _train(expected, expected_optimizer, 0, 7)
    resumed, resumed_optimizer = _network(9)
    average, _ = _network(10)
    assert load_checkpoint(folder, resumed, resumed_optimizer, average) == (_within(7), [])
    for name, tensor in expected.state_dict().items():
        assert torch.equal(resumed.state_dict()[name], tensor), name
        assert torch.equal(average.state_dict()[name], tensor), name
    moments = _optimizer_tensors(expected_optimizer)
    assert all(torch.equal(v, moments[k]) for k, v in _optimizer_tensors(resumed_optimizer).items())


def test_optimizer_state_goes_by_name_whatever_the_order_of_parameters(folder: Folder) -> None:
    _saved(folder, 8)
    expected, expected_optimizer = _network(0)
    _train(expected, expected_optimizer, 0, 8)
    network, _ = _network(1)
    trained = [p for p in network.parameters() if p.requires_grad]
    optimizer = torch.optim.AdamW(trained[::-1], lr=1e-2)
    load_checkpoint(folder, network, optimizer)
    for (name, ours), theirs in zip(network.named_parameters(), expected.parameters(), strict=True):
        if ours.requires_grad:
            assert torch.equal(
                optimizer.state[ours]["exp_avg"], expected_optimizer.state[theirs]["exp_avg"]
            ), name


@pytest.mark.parametrize("last", [nn.Linear(8, 4), nn.Sequential(nn.Linear(8, 3))])
def test_checkpoint_of_another_model_is_passed_over_for_the_one_before(
    tmp_path: Path, last: nn.Module
) -> None:
    """Other shapes, and other names."""
    folder = Folder(tmp_path)
    _saved(folder, 4)
    other, _ = _network(0)
    other[3] = last
    write_snapshot(folder, take_snapshot(other, torch.optim.AdamW(other.parameters()), _state(8)))
    network, optimizer = _network(1)
    state, notes = load_checkpoint(folder, network, optimizer)
    assert state == _state(4)
    assert notes == ["checkpoint step-00000008 is of another model and is passed over"]


def test_checkpoint_without_the_average_that_is_asked_for_is_passed_over(tmp_path: Path) -> None:
    folder = Folder(tmp_path)
    _saved(folder, 4)
    network, optimizer = _network(1)
    state, notes = load_checkpoint(folder, network, optimizer, average=_network(2)[0])
    assert state is None and len(notes) == 1


def test_moments_come_back_in_the_memory_format_of_their_parameter(tmp_path: Path) -> None:
    folder = Folder(tmp_path)
    network = nn.Conv2d(3, 4, 3).to(memory_format=torch.channels_last)
    optimizer = torch.optim.AdamW(network.parameters())
    network(torch.ones(1, 3, 5, 5)).sum().backward()
    optimizer.step()
    moments = optimizer.state[network.weight]["exp_avg"].clone()
    write_snapshot(folder, take_snapshot(network, optimizer, _state(1)))
    load_checkpoint(folder, network, optimizer)
    restored = optimizer.state[network.weight]["exp_avg"]
    assert torch.equal(restored, moments) and restored.stride() == network.weight.stride()
    assert network.weight.is_contiguous(memory_format=torch.channels_last)


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
    "text",
    [
        "[]",
        "null",
        "7",
        '{"format": 2}',
        '{"format": 2, "sha256": {}}',
        '{"format": 2, "sha256": []}',
        '{"format": true}',
    ],
)
def test_marker_that_vouches_for_nothing_does_not_count(tmp_path: Path, text: str) -> None:
    folder = Folder(tmp_path)
    _saved(folder, 8)
    folder.write_bytes(f"step-00000008/{MARKER}", text.encode())
    network, optimizer = _network(1)
    state, notes = load_checkpoint(folder, network, optimizer)
    assert state is None and len(notes) == 1


@pytest.mark.parametrize("number", [1, 999])
def test_checkpoint_of_another_format_is_passed_over_by_its_own_sentence(tmp_path: Path, number: int) -> None:
    folder = Folder(tmp_path)
    _saved(folder, 4, 8)
    assert foreign_formats(folder) == []
    name = f"step-00000008/{MARKER}"
    folder.write_json(name, folder.read_json(name) | {"format": number})
    network, optimizer = _network(1)
    state, notes = load_checkpoint(folder, network, optimizer)
    assert state == _state(4) == newest_state(folder)
    assert notes == [
        f"checkpoint step-00000008 is of another version of ray_cxr (format {number}, this one reads 2) and is passed over"
    ]
    assert foreign_formats(folder) == [number]


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
