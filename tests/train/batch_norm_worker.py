"""The ranks of `test_batch_norm.py`: a network with every kind of norm, over its films on three gloo ranks.

batch_norm_worker.py FOLDER: for each way to deal the films out, rank 0 writes the outputs of all, the gradients summed over
ranks, and the statistics.
"""

import multiprocessing
import sys
from pathlib import Path

import torch
import torch.distributed as dist
from torch import Tensor, nn

from ray_cxr.torch_compat import timm
from ray_cxr.train.batch_norm import nothing_counted, synchronise

FILMS, RANKS = 11, 3
DEALT = {"even": [4, 4, 3], "one each and the rest": [1, 9, 1], "a rank without films": [6, 0, 5]}


def network() -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Conv2d(3, 8, 3, bias=False), nn.BatchNorm2d(8), nn.ReLU(), nn.Conv2d(8, 6, 3, bias=False),
        timm.layers.BatchNormAct2d(6), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.BatchNorm1d(6), nn.Linear(6, 2),
    )  # fmt: skip


def films(kind: torch.dtype) -> Tensor:
    """[B, 3, 9, 9], with a mean that is large beside the spread."""
    return torch.randn(FILMS, 3, 9, 9, dtype=kind, generator=torch.Generator().manual_seed(1)) + 100


def step(net: nn.Module, mine: Tensor) -> Tensor:
    """Forward and backward of a rank's films, twice; gives the outputs of the second time."""
    for _ in range(2):
        if len(mine):
            outputs = net(mine)
            (outputs - 1).square().sum().backward()
        else:
            with nothing_counted(net):
                outputs = net(torch.zeros(1, *mine.shape[1:], dtype=mine.dtype))
                (outputs.sum() * 0).backward()
            outputs = outputs[:0]
    return outputs.detach()


def dealt_out(
    rank: int, sizes: list[int], kind: torch.dtype, layout: torch.memory_format
) -> dict[str, Tensor]:
    net = network().to(kind).to(memory_format=layout)
    assert synchronise(net, "network") == 3
    mine = films(kind).split(sizes)[rank].contiguous(memory_format=layout)
    outputs: list[Tensor] = [torch.empty(n, 2, dtype=kind) for n in sizes]
    found = step(net, mine)
    for giver, part in enumerate(outputs):
        if giver == rank:
            part.copy_(found)
        dist.broadcast(part, giver)
    kept = {"outputs": torch.cat(outputs)}
    for name, parameter in net.named_parameters():
        assert parameter.grad is not None
        dist.all_reduce(parameter.grad)
        kept[f"gradient of {name}"] = parameter.grad
    for name, buffer in net.named_buffers():
        copies = [torch.empty_like(buffer) for _ in range(RANKS)]
        dist.all_gather(copies, buffer)
        assert all(torch.equal(copy, buffer) for copy in copies), f"{name} differs between ranks"
        kept[name] = buffer
    return kept


def lone_film(rank: int) -> str:
    """What a norm says of one film in all, on every rank."""
    net = nn.BatchNorm1d(4)
    synchronise(net, "network")
    try:
        if rank == 1:
            net(torch.randn(1, 4))
        else:
            with nothing_counted(net):
                net(torch.zeros(1, 4))
    except ValueError as error:
        return str(error)
    return ""


def run_rank(rank: int, folder: Path) -> None:
    torch.set_num_threads(1)
    dist.init_process_group("gloo", init_method=f"file://{folder / 'store'}", rank=rank, world_size=RANKS)
    found = {
        f"{name}, {kind}, {layout}": dealt_out(rank, sizes, kind, layout)
        for name, sizes in DEALT.items()
        for kind, layout in (
            (torch.float64, torch.contiguous_format),
            (torch.float32, torch.channels_last),
        )
    }
    sentences = [""] * RANKS
    dist.all_gather_object(sentences, lone_film(rank))
    if rank == 0:
        torch.save({"found": found, "sentences": sentences}, folder / "out.pt")
    dist.barrier()
    dist.destroy_process_group()


if __name__ == "__main__":
    fork = multiprocessing.get_context("fork")
    ranks = [fork.Process(target=run_rank, args=(rank, Path(sys.argv[1]))) for rank in range(RANKS)]
    for process in ranks:
        process.start()
    for process in ranks:
        process.join()
    sys.exit(max(abs(process.exitcode or 0) for process in ranks))
