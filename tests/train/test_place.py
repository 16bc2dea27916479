"""What a worker notes of where it is, and that it knows its own part of a step from the wait for the others."""

import multiprocessing
import threading
import time
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
from torch import nn
from torch.nn.parallel import DistributedDataParallel

from ray_cxr.train.place import Place


class Clock:
    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


def test_a_place_is_kept_until_another_is_noted() -> None:
    clock = Clock()
    place = Place(clock)
    place.at("films", 2, 7)
    clock.now += 3
    place.at("compute")
    assert (place.here.doing, place.here.epoch, place.here.step, place.here.since) == ("compute", 2, 7, 103.0)
    with place.waiting():
        assert place.here.doing == "others"
    assert place.here.doing == "compute" and place.here.marks == 4


def test_usual_step_is_the_median_of_the_last_and_of_no_gap_between_epochs() -> None:
    clock = Clock()
    place = Place(clock)
    assert place.usual_step_s is None
    for step, seconds in enumerate([1.0, 2.0, 90.0], start=1):
        place.at("films", 1, step)
        clock.now += seconds
    place.at("films", 1, 4)
    assert place.usual_step_s == 2.0
    place.at("validation", 1, 0)
    clock.now += 500
    place.at("films", 2, 1)
    place.at("films", 2, 2)
    assert place.usual_step_s == 1.5  # of 0, 1, 2, 90


class Gpu:
    """An event of a GPU that has come as far, or has not."""

    done = False

    def record(self) -> None:
        pass

    def query(self) -> bool:
        return self.done


def test_a_gpu_that_is_not_done_is_not_waiting() -> None:
    place, event = Place(), Gpu()
    weight = torch.ones(1, requires_grad=True)
    place.watch_gradient_of(weight)
    place._own_part = event  # type: ignore[assignment]
    place.at("compute", 1, 1)
    (weight * 2).sum().backward()  # type: ignore[no-untyped-call]
    assert place.here.doing == "compute"
    event.done = True
    assert place.here.doing == "others"


def test_only_the_parameter_that_was_named_last_is_watched() -> None:
    place, first, second = Place(), torch.ones(1, requires_grad=True), torch.ones(1, requires_grad=True)
    place.watch_gradient_of(first)
    place.watch_gradient_of(second)
    place.at("compute", 1, 1)
    (first * 2).sum().backward()  # type: ignore[no-untyped-call]
    assert place.here.doing == "compute"
    (second * 2).sum().backward()  # type: ignore[no-untyped-call]
    assert place.here.doing == "others"


def _rank(rank: int, meeting: str, seen: Any) -> None:
    """One of two ranks in a step under DDP: the second hangs in its forward pass for three seconds."""
    torch.set_num_threads(1)
    dist.init_process_group("gloo", init_method=f"file://{meeting}", rank=rank, world_size=2)
    model = nn.Sequential(nn.Linear(4, 4), nn.ReLU(), nn.Linear(4, 1))
    place, ddp = Place(), DistributedDataParallel(model)
    place.watch_gradient_of(next(model.parameters()))
    place.at("compute", 1, 1)
    if rank == 1:
        model[1].register_forward_hook(lambda *_: time.sleep(3))
        seen.put((rank, place.here.doing))
        ddp(torch.ones(2, 4)).sum().backward()
    else:
        threading.Timer(1.5, lambda: seen.put((rank, place.here.doing))).start()
        ddp(torch.ones(2, 4)).sum().backward()
    dist.destroy_process_group()


def test_of_two_workers_in_one_step_the_one_that_hangs_computes_and_the_other_waits(tmp_path: Path) -> None:
    context = multiprocessing.get_context("spawn")
    seen = context.Queue()
    ranks = [context.Process(target=_rank, args=(n, f"{tmp_path}/meeting", seen)) for n in (0, 1)]
    for process in ranks:
        process.start()
    found = dict(seen.get(timeout=60) for _ in ranks)
    for process in ranks:
        process.join(timeout=60)
    assert found == {0: "others", 1: "compute"}


def test_a_note_costs_no_more_than_some_microseconds() -> None:
    place = Place()
    started = time.perf_counter()
    for step in range(10_000):
        place.at("films", 1, step)
    assert time.perf_counter() - started < 0.5  # 50 µs each, on the busiest machine
