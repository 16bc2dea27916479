"""A batch of noise before the films: it finds what would fail later, and changes nothing."""

import re
import weakref
from collections.abc import Callable
from contextlib import closing
from functools import partial
from typing import Any

import pytest
import torch

from ray_cxr.config import to_yaml
from ray_cxr.errors import InputError
from ray_cxr.job import Job
from ray_cxr.model.freeze import train_mode
from ray_cxr.stream.local import local_tables
from ray_cxr.stream.plan import World
from ray_cxr.train import dry_run as module
from ray_cxr.train.dry_run import dry_run, tell_plan
from ray_cxr.train.epoch import prepare_epoch
from ray_cxr.train.fit import fit
from ray_cxr.train.session import open_session
from ray_cxr.train.worker import Worker


def _tried(job: Job) -> tuple[list[str], bool]:
    """Its notes, and whether all weights and batch statistics are as before."""
    events: list[dict[str, Any]] = []
    session = open_session(job, Worker(report=events.append))
    prepare_epoch(session, 1)
    before = {n: t.clone() for n, t in session.model.state_dict().items()}
    dry_run(session, session.train_stream.plan(1))
    session.close()
    same = all(torch.equal(t, before[n]) for n, t in session.model.state_dict().items())
    assert all(p.grad is None for p in session.model.parameters()) and not session.optimizer.state
    return [e["text"] for e in events], same


def test_it_tells_speed_time_and_memory_and_changes_nothing(
    nih_job: Callable[..., Job], nih_dataset: str
) -> None:
    job = nih_job(f"dataset={nih_dataset}", "model.backbone=test_resnet", "train.accumulate=3")
    notes, same = _tried(job)
    assert same
    (note,) = notes
    assert re.fullmatch(
        r"dry run of 11 films a worker: \d+ films/s and [\d.]+ [MG]iB of memory; at that speed .+ an epoch, .+ in all, "
        r"without validation",
        note,
    )  # fmt: skip


@pytest.fixture
def room(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """A memory that holds so many films, or all where it is empty."""
    most: list[int] = []
    whole = module.forward

    def forward(s: Any, model: Any, pixels: torch.Tensor) -> torch.Tensor:
        if most and len(pixels) > most[0]:
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB")
        return whole(s, model, pixels)

    monkeypatch.setattr(module, "forward", forward)
    return most


@pytest.mark.parametrize(
    ("films", "sentence"),
    [
        (11, "does not fit into memory; use train.accumulate=4 (micro-batches of 8, the same gradient)."),
        (0, "does not fit into memory, nor does any smaller one; use a smaller stream.image_px"),
    ],
)
def test_too_little_memory_is_found_before_a_film_is_read(
    nih_job: Callable[..., Job], nih_dataset: str, room: list[int], monkeypatch: pytest.MonkeyPatch,
    films: int, sentence: str,
) -> None:  # fmt: skip
    room.append(films)
    monkeypatch.setattr("ray_cxr.stream.stream.Stream.train", lambda *rest: pytest.fail("films were read"))
    job = nih_job(f"dataset={nih_dataset}", "stream.batch_size=32")
    with pytest.raises(InputError, match=re.escape(sentence)) as caught:
        fit(job, to_yaml(job), lambda event: None)
    assert caught.value.message.startswith("stream.batch_size: a micro-batch of ")


def test_one_film_for_batch_norm_at_the_end_of_an_epoch_is_found_at_its_beginning(
    nih_job: Callable[..., Job], nih_dataset: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where the last step of an epoch is one film."""
    job = nih_job(f"dataset={nih_dataset}", "model.backbone=resnet18", "stream.image_px=32")
    films = len(open_session(job, Worker()).train_stream.layout.rows)
    batch = next(b for b in range(2, films) if films % b == 1 and b <= 16)
    monkeypatch.setattr("ray_cxr.stream.stream.Stream.train", lambda *rest: pytest.fail("films were read"))
    job = nih_job(
        f"dataset={nih_dataset}",
        "model.backbone=resnet18",
        "stream.image_px=32",
        f"stream.batch_size={batch}",
    )
    with pytest.raises(InputError, match=f"stream.batch_size: a step of {batch} films leaves one film"):
        fit(job, to_yaml(job), lambda event: None)


@pytest.mark.parametrize("films", [0, 11])
def test_what_onednn_says_is_memory_only_where_fewer_films_go_through(
    nih_job: Callable[..., Job], nih_dataset: str, monkeypatch: pytest.MonkeyPatch, films: int
) -> None:
    whole = module.forward

    def forward(s: Any, model: Any, pixels: torch.Tensor) -> torch.Tensor:
        if len(pixels) > films:
            raise RuntimeError("could not create a primitive")
        return whole(s, model, pixels)

    monkeypatch.setattr(module, "forward", forward)
    job = nih_job(f"dataset={nih_dataset}", "stream.batch_size=32")
    expected = (InputError, "use train.accumulate=4 ") if films else (RuntimeError, "could not create a")
    with pytest.raises(expected[0], match=expected[1]):
        fit(job, to_yaml(job), lambda event: None)


def test_what_did_not_fit_takes_no_room_from_what_is_tried_next(
    nih_job: Callable[..., Job], nih_dataset: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The traceback of an error keeps what its frames hold, here as in torch all activations of the pass."""
    whole, tried = module.forward, list[weakref.ref[torch.Tensor]]()

    def forward(s: Any, model: Any, pixels: torch.Tensor) -> torch.Tensor:
        assert [ref() for ref in tried] == [None] * len(tried)
        activations = whole(s, model, pixels)
        tried.append(weakref.ref(activations))
        if len(pixels) > 4:
            raise RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried to allocate 2 bytes")
        return activations

    monkeypatch.setattr(module, "forward", forward)
    job = nih_job(f"dataset={nih_dataset}", "stream.batch_size=32")
    with pytest.raises(
        InputError, match=r"use train\.accumulate=8 \(micro-batches of 4, the same gradient\)"
    ):
        fit(job, to_yaml(job), lambda event: None)
    assert len(tried) == 4


@pytest.mark.parametrize(
    ("backbone", "size", "settings", "plan", "warned"),
    [
        ("test_convnext", 1, (), "this process with 2 threads; 32 films a step, 18 steps an epoch, 2 epochs to train", False),
        ("test_resnet", 3, ("train.workers=[1, 3]",), "3 workers with 2 threads each, 0.5 CPUs kept for reading films; 12 films a step a worker, ", True),
        ("test_resnet", 3, ("train.workers=3",), "3 workers with 2 threads each, ", False),
        ("test_convnext", 3, ("train.workers=auto", "train.epochs=1"), "3 workers with 2 threads each, ", False),
    ],
)  # fmt: skip
def test_the_plan_is_told(
    nih_job: Callable[..., Job], nih_dataset: str, backbone: str, size: int, settings: tuple[str, ...], plan: str, *, warned: bool
) -> None:  # fmt: skip
    job = nih_job(f"dataset={nih_dataset}", f"model.backbone={backbone}", *settings)
    events: list[dict[str, Any]] = []
    reader = local_tables if size == 1 else partial(local_tables)
    with closing(
        open_session(job, Worker(World(0, size), threads=2, reader=reader, report=events.append))
    ) as session:
        train_mode(session.model)
        tell_plan(session, session.train_stream.plan(1))
    first, *others = [e["text"] for e in events]
    assert first.startswith(f"plan: {plan}")
    assert first.endswith("1 epoch to train" if "train.epochs=1" in settings else "2 epochs to train")
    assert [note.startswith("BatchNorm sees its own worker's films") for note in others] == [True] * warned
