"""Checkpoints: safetensors + JSON, and a completion marker with hashes, written last.

A checkpoint without its marker, or whose files are not those of the marker, does not count: URLs have no rename,
and a kill can come at any moment. Writes and reads `checkpoints/step-<global step>/`.
"""

from __future__ import annotations

import hashlib
import json
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
FORMAT = 1
KEPT = 2
"""The newest, and one before it should the newest turn out damaged."""


@dataclass
class TrainState:
    """All that resuming needs, beside the tensors of model and optimizer.

    epoch: epochs done. step: optimizer steps done, over all epochs. plan_hash: of the last epoch's plan.
    history: the lines of history.jsonl so far. The random numbers need no state: they are drawn by epoch and row.
    """

    fingerprint: str
    findings: list[str]
    epoch: int = 0
    step: int = 0
    plan_hash: str = ""
    best_epoch: int = 0
    best_auroc: float = -1.0
    history: list[dict[str, Any]] = field(default_factory=list)


def save_checkpoint(
    folder: Folder,
    network: nn.Module,
    optimizer: Optimizer,
    state: TrainState,
    average: nn.Module | None = None,
) -> str:
    """Writes a checkpoint, its marker last, and removes all but the newest KEPT; gives its name.

    average: the network with the running mean of the weights, where one is kept.
    """
    name = f"step-{state.step:08d}"
    target = folder / name
    target.remove(MARKER)
    files = {
        _MODEL: save_tensors(_plain(network.state_dict())),
        _OPTIMIZER: save_tensors(_optimizer_tensors(optimizer)),
        _STATE: json.dumps(asdict(state), allow_nan=False).encode(),
    }
    if average is not None:
        files[_AVERAGE] = save_tensors(_plain(average.state_dict()))
    for file, data in files.items():
        target.write_bytes(file, data)
    target.write_json(MARKER, {"format": FORMAT, "sha256": {f: _sha256(d) for f, d in files.items()}})
    there = [n for n in folder.names() if n.startswith("step-")]
    # Those of later steps were damaged, or training would have gone on from them; counted, they would push this one out.
    later = [n for n in there if n > name]
    for old in later + [n for n in there if n <= name][:-KEPT]:
        folder.remove(old)
    return name


def load_checkpoint(
    folder: Folder, network: nn.Module, optimizer: Optimizer, average: nn.Module | None = None
) -> tuple[TrainState | None, list[str]]:
    """Restores the newest whole checkpoint; gives its state (None: none) and a sentence per damaged one passed over."""
    notes: list[str] = []
    for name in sorted((n for n in folder.names() if n.startswith("step-")), reverse=True):
        files = _read_whole(folder / name)
        if files is None:
            notes.append(f"checkpoint {name} is incomplete or damaged and is passed over")
            continue
        # Restore order: 1. model, 2. average of its weights, 3. optimizer, 4. cursor, best and history.
        network.load_state_dict(load_tensors(files[_MODEL]), strict=True)
        if average is not None:
            average.load_state_dict(load_tensors(files[_AVERAGE]), strict=True)
        _restore_optimizer(optimizer, load_tensors(files[_OPTIMIZER]))
        return TrainState(**json.loads(files[_STATE])), notes
    return None, notes


def newest_state(folder: Folder) -> TrainState | None:
    """The state of the newest whole checkpoint, without its tensors."""
    for name in sorted((n for n in folder.names() if n.startswith("step-")), reverse=True):
        files = _read_whole(folder / name)
        if files is not None:
            return TrainState(**json.loads(files[_STATE]))
    return None


def _read_whole(folder: Folder) -> dict[str, bytes] | None:
    """The files of a checkpoint, or None unless all are there with the hashes of the marker."""
    try:
        marker = folder.read_json(MARKER)
        if marker["format"] != FORMAT:
            return None
        names = {_MODEL, _OPTIMIZER, _STATE} | set(marker["sha256"])
        files = {name: folder.read_bytes(name) for name in names}
        whole = all(_sha256(data) == marker["sha256"][name] for name, data in files.items())
    except (FileNotFoundError, ValueError, KeyError, TypeError):  # a damaged marker may hold anything
        return None
    return files if whole else None


def _sha256(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def _plain(tensors: dict[str, Any]) -> dict[str, Tensor]:
    return {name: t.detach().cpu().contiguous() for name, t in tensors.items()}


def _optimizer_tensors(optimizer: Optimizer) -> dict[str, Tensor]:
    """`<parameter number>.<name>` → tensor, for optimizers whose state is tensors (AdamW)."""
    state = optimizer.state_dict()["state"]
    return _plain(
        {f"{number}.{name}": torch.as_tensor(v) for number, s in state.items() for name, v in s.items()}
    )


def _restore_optimizer(optimizer: Optimizer, tensors: dict[str, Tensor]) -> None:
    state: dict[int, dict[str, Tensor]] = {}
    for key, tensor in tensors.items():
        number, _, name = key.partition(".")
        state.setdefault(int(number), {})[name] = tensor
    optimizer.load_state_dict({"state": state, "param_groups": optimizer.state_dict()["param_groups"]})
