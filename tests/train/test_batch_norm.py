"""BatchNorm over all workers: it is the plain one over all their films. Real gloo processes; trained so: test_exact.py."""

import copy
import importlib.util
import subprocess
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from ray_cxr.errors import InputError
from ray_cxr.train.batch_norm import SyncedNorm, each_alone, synchronise

WORKER = Path(__file__).parent / "batch_norm_worker.py"


def _load_worker() -> ModuleType:
    spec = importlib.util.spec_from_file_location("batch_norm_worker", WORKER)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


worker = _load_worker()


@pytest.fixture(scope="module")
def ranks(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    folder = tmp_path_factory.mktemp("ranks")
    done = subprocess.run(
        [sys.executable, str(WORKER), str(folder)], capture_output=True, timeout=120, check=False
    )
    assert done.returncode == 0, done.stderr.decode()
    kept: dict[str, Any] = torch.load(folder / "out.pt", weights_only=True)
    return kept


def _plain(kind: torch.dtype) -> dict[str, Tensor]:
    """All films in one process, by torch's own norms."""
    net = worker.network().to(kind)
    outputs = worker.step(net, worker.films(kind))
    gradients = {f"gradient of {n}": p.grad for n, p in net.named_parameters()}
    return {"outputs": outputs, **gradients, **dict(net.named_buffers())}


@pytest.mark.parametrize("dealt", list(worker.DEALT))
@pytest.mark.parametrize(
    ("kind", "layout", "tolerance"),
    [(torch.float64, torch.contiguous_format, 1e-9), (torch.float32, torch.channels_last, 1e-2)],
)
def test_however_films_are_dealt_out_it_is_the_plain_norm_of_them_all(
    ranks: dict[str, Any], dealt: str, kind: torch.dtype, layout: torch.memory_format, tolerance: float
) -> None:
    """Outputs, gradients and running statistics, to a part of the largest figure of each.

    The norm behind it takes back what the second norm's weight does, so that of its gradient float32 keeps few digits.
    """
    found, expected = ranks["found"][f"{dealt}, {kind}, {layout}"], _plain(kind)
    assert found.keys() == expected.keys()
    for name, theirs in expected.items():
        assert found[name].dtype == theirs.dtype
        scale = float(theirs.double().abs().max())
        assert float((found[name] - theirs).double().abs().max()) <= tolerance * scale, name
    assert int(found["1.num_batches_tracked"]) == 2


def test_one_film_in_all_is_refused_by_every_rank(ranks: dict[str, Any]) -> None:
    assert ranks["sentences"] == ["Expected more than 1 value per channel when training"] * 3


def test_names_and_parameters_stay_and_copies_are_their_own() -> None:
    net = worker.network()
    before, parameters = list(net.state_dict()), list(net.parameters())
    synchronise(net, "network")
    assert list(net.state_dict()) == before
    assert all(a is b for a, b in zip(net.parameters(), parameters, strict=True))
    twin = copy.deepcopy(net)
    assert isinstance(twin[1], SyncedNorm) and twin[1].weight is not net[1].weight
    worker.network().load_state_dict(net.state_dict(), strict=True)


def test_in_evaluation_and_alone_it_is_the_plain_norm_and_waits_for_nobody() -> None:
    """There is no process group here: a wait would be an error."""
    net, plain = worker.network(), worker.network()
    synchronise(net, "network")
    films = worker.films(torch.float32)
    with each_alone(net):
        assert torch.equal(net(films), plain(films))
    assert torch.equal(net.eval()(films), plain.eval()(films))
    with pytest.raises(ValueError, match="process group"):
        net.train()(films)


@pytest.mark.parametrize(
    "norm",
    [nn.InstanceNorm2d(4, affine=True), nn.BatchNorm2d(4, affine=False), nn.BatchNorm2d(4, momentum=None)],
)
def test_norms_that_it_does_not_know_are_refused(norm: nn.Module) -> None:
    with pytest.raises(InputError, match=r"train\.sync_batchnorm: some_net has norms of the kind .*Norm2d"):
        synchronise(nn.Sequential(norm), "some_net")
