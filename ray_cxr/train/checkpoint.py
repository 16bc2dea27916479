"""Checkpoints: safetensors + JSON, and a completion marker with hashes, written last.

A checkpoint without its marker, or whose files are not those of the marker, does not count: URLs have no rename,
and a kill can come at any moment. Writes and reads `checkpoints/step-<global step>/` at the end of an epoch and
`checkpoints/step-<global step>-within/` inside one.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

import torch
from safetensors.torch import load as load_tensors
from safetensors.torch import save as save_tensors
from torch import Tensor, nn
from torch.optim import Optimizer

from ray_cxr.storage import Folder

MARKER = "complete.json"
_MODEL, _OPTIMIZER, _STATE = "model.safetensors", "optimizer.safetensors", "state.json"
_AVERAGE = "average.safetensors"
_WITHIN = "-within"
FORMAT = 2
KEPT = 2
"""The newest, and one before it should the newest turn out damaged: as many of ends of epochs, and of steps inside one."""


@dataclass
class EpochSoFar:
    """The part of an epoch that is done: its steps, how many of them were skipped, the sum of the others' losses, seconds.

    train_s: in all; wait_s: of them, waiting for films.
    """

    steps: int = 0
    skipped: int = 0
    loss_sum: float = 0.0
    train_s: float = 0.0
    wait_s: float = 0.0

    def add(self, loss: float | None) -> None:
        """A step with its loss; None: it was skipped."""
        self.steps += 1
        self.skipped += loss is None
        self.loss_sum += loss or 0.0

    @property
    def mean_loss(self) -> float:
        """Of the steps that were not skipped."""
        return self.loss_sum / max(self.steps - self.skipped, 1)


@dataclass
class TrainState:
    """All that resuming needs, beside the tensors of model and optimizer.

    epoch: epochs done. step: optimizer steps done, over all epochs. plan_hash: of the plan that the last step is of.
    so_far: of the epoch after `epoch`, where it has begun. scaler: that of the loss for fp16. skipped: steps, over all epochs. history: the lines of history.jsonl so far. The random numbers
    need no state: those of augmentation are drawn by epoch and row, those of the model by epoch and step.
    """

    fingerprint: str
    findings: list[str]
    epoch: int = 0
    step: int = 0
    plan_hash: str = ""
    so_far: EpochSoFar = field(default_factory=EpochSoFar)
    scaler: dict[str, Any] = field(default_factory=dict)
    skipped: int = 0
    best_epoch: int = 0
    best_auroc: float = -1.0
    history: list[dict[str, Any]] = field(default_factory=list)

    @property
    def plan_epoch(self) -> int:
        """The epoch that the last step is of; 0 before the first."""
        return self.epoch + (self.so_far.steps > 0)

    def is_stopped(self, patience: int | None) -> bool:
        """Whether that many epochs have not bettered the best."""
        return patience is not None and self.epoch - self.best_epoch >= patience

    @classmethod
    def from_json(cls, text: bytes) -> TrainState:
        raw = json.loads(text)
        return cls(**raw | {"so_far": EpochSoFar(**raw["so_far"])})


@dataclass(frozen=True)
class Snapshot:
    """A checkpoint in memory, copied at one moment: training may go on while it is written."""

    name: str
    tensors: Mapping[str, dict[str, Tensor]]
    state: bytes


def take_snapshot(
    network: nn.Module, optimizer: Optimizer, state: TrainState, average: nn.Module | None = None
) -> Snapshot:
    """Copies what a checkpoint holds. average: the network with the running mean of the weights, where one is kept."""
    tensors = {
        _MODEL: _copied(network.state_dict()),
        _OPTIMIZER: _copied(_optimizer_tensors(network, optimizer)),
    }
    if average is not None:
        tensors[_AVERAGE] = _copied(average.state_dict())
    name = f"step-{state.step:08d}{_WITHIN if state.so_far.steps else ''}"
    return Snapshot(name, tensors, json.dumps(asdict(state), allow_nan=False).encode())


def write_snapshot(folder: Folder, snapshot: Snapshot) -> None:
    """Writes a checkpoint, its marker last, and removes all but the newest KEPT of its kind."""
    target = folder / snapshot.name
    target.remove(MARKER)
    hashes = {}
    for file, data in _files(snapshot):
        hashes[file] = _sha256(data)
        target.write_bytes(file, data)
    target.write_json(MARKER, {"format": FORMAT, "sha256": hashes})
    # Those of later steps were damaged, or training would have gone on from them; counted, they would push this one out.
    names = _names(folder)
    here = names.index(snapshot.name) + 1
    same_kind = [n for n in names[:here] if n.endswith(_WITHIN) == snapshot.name.endswith(_WITHIN)]
    for name in names[here:] + same_kind[:-KEPT]:
        folder.remove(name)


def load_checkpoint(
    folder: Folder, network: nn.Module, optimizer: Optimizer, average: nn.Module | None = None
) -> tuple[TrainState | None, list[str]]:
    """Restores the newest whole checkpoint of this model; gives its state (None: none).

    And a sentence for each that is passed over.
    """
    notes: list[str] = []
    for name in reversed(_names(folder)):
        try:
            files = _read_whole(folder / name)
        except _UnusableError as error:
            notes.append(f"checkpoint {name} is {error} and is passed over")
            continue
        tensors = {file: load_tensors(data) for file, data in files.items() if file != _STATE}
        if not _fits(tensors, network, optimizer, average):
            notes.append(f"checkpoint {name} is of another model and is passed over")
            continue
        # Restore order: 1. model, 2. average of its weights, 3. optimizer, 4. cursor, best and history.
        network.load_state_dict(tensors[_MODEL], strict=True)
        if average is not None:
            average.load_state_dict(tensors[_AVERAGE], strict=True)
        _restore_optimizer(network, optimizer, tensors[_OPTIMIZER])
        return TrainState.from_json(files[_STATE]), notes
    return None, notes


def newest_state(folder: Folder) -> TrainState | None:
    """The state of the newest whole checkpoint, without its tensors."""
    for name in reversed(_names(folder)):
        try:
            return TrainState.from_json(_read_whole(folder / name)[_STATE])
        except _UnusableError:
            continue
    return None


def foreign_formats(folder: Folder) -> list[int]:
    """Formats of checkpoints that other versions of ray_cxr have finished, ascending: whoever begins anew would remove them."""
    found = {_marked_format(folder / name) for name in _names(folder)}
    return sorted(number for number in found if number not in (None, FORMAT))


def _names(folder: Folder) -> list[str]:
    """Of checkpoints, whole or not, ascending by step; of one step, that inside the epoch comes before that of its end."""
    found = [n for n in folder.names() if n.startswith("step-")]
    return sorted(found, key=lambda name: (name.removesuffix(_WITHIN), not name.endswith(_WITHIN)))


def _files(snapshot: Snapshot) -> Iterator[tuple[str, bytes]]:
    """Name and content, made one at a time to spare memory."""
    for file, tensors in snapshot.tensors.items():
        yield file, save_tensors(tensors)
    yield _STATE, snapshot.state


class _UnusableError(Exception):
    """What a checkpoint is that cannot be used, in words that follow "is"."""


def _marked_format(folder: Folder) -> int | None:
    """The format that the marker of a checkpoint states; None where there is no such marker."""
    try:
        number = folder.read_json(MARKER)["format"]
    except (FileNotFoundError, ValueError, KeyError, TypeError):  # a damaged marker may hold anything
        return None
    return number if type(number) is int else None


def _read_whole(folder: Folder) -> dict[str, bytes]:
    """The files of a checkpoint. Raises _UnusableError unless all are there with the hashes of the marker."""
    number = _marked_format(folder)
    if number not in (None, FORMAT):
        raise _UnusableError(f"of another version of ray_cxr (format {number}, this one reads {FORMAT})")
    try:
        hashes = folder.read_json(MARKER)["sha256"]
        names = {_MODEL, _OPTIMIZER, _STATE} | set(hashes)
        files = {name: folder.read_bytes(name) for name in names}
        whole = number == FORMAT and all(_sha256(data) == hashes[name] for name, data in files.items())
    except (FileNotFoundError, ValueError, KeyError, TypeError):
        whole = False
    if not whole:
        raise _UnusableError("incomplete or damaged")
    return files


def _fits(
    tensors: dict[str, dict[str, Tensor]], network: nn.Module, optimizer: Optimizer, average: nn.Module | None
) -> bool:
    """Whether names and shapes are those of this model and of what its optimizer trains."""
    own = {name: t.shape for name, t in network.state_dict().items()}
    models = [tensors[_MODEL], *([tensors.get(_AVERAGE, {})] if average is not None else [])]
    trained = set(_names_of_parameters(network, optimizer).values())
    return all({name: t.shape for name, t in model.items()} == own for model in models) and all(
        key.partition(".")[2] in trained for key in tensors[_OPTIMIZER]
    )


def _sha256(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def _copied(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    return {
        name: t.detach().to("cpu", memory_format=torch.contiguous_format, copy=True)
        for name, t in tensors.items()
    }


def _names_of_parameters(network: nn.Module, optimizer: Optimizer) -> dict[int, str]:
    """Number of a parameter in the optimizer → its name in the network.

    Checkpoints go by name: a number would mean another parameter as soon as the groups are made in another way.
    """
    names = {id(p): name for name, p in network.named_parameters()}
    parameters = [p for group in optimizer.param_groups for p in group["params"]]
    return {number: names[id(p)] for number, p in enumerate(parameters)}


def _optimizer_tensors(network: nn.Module, optimizer: Optimizer) -> dict[str, Tensor]:
    """`<what>.<parameter>` → tensor, for optimizers whose state is tensors (AdamW)."""
    names = _names_of_parameters(network, optimizer)
    state = optimizer.state_dict()["state"]
    return {f"{what}.{names[n]}": torch.as_tensor(v) for n, s in state.items() for what, v in s.items()}


def _restore_optimizer(network: nn.Module, optimizer: Optimizer, tensors: dict[str, Tensor]) -> None:
    numbers = {name: number for number, name in _names_of_parameters(network, optimizer).items()}
    parameters = dict(network.named_parameters())
    state: dict[int, dict[str, Tensor]] = {}
    for key, tensor in tensors.items():
        what, _, name = key.partition(".")
        # Moments lie in memory as their parameter does, or each step would walk through them the slow way.
        alike = tensor.ndim and tensor.shape == parameters[name].shape
        moment = torch.empty_like(parameters[name]).copy_(tensor) if alike else tensor
        state.setdefault(numbers[name], {})[what] = moment
    optimizer.load_state_dict({"state": state, "param_groups": optimizer.state_dict()["param_groups"]})
