"""Items made ahead: in order, no more than may wait, ended with whoever takes them; epochs that go on into the next."""

import threading
import time
from collections.abc import Iterator
from typing import Any

import pytest

from ray_cxr.errors import InputError, RayCxrError
from ray_cxr.stream.ahead import Epochs, ahead


def test_what_is_made_ahead_comes_in_order_and_ends() -> None:
    assert list(ahead(lambda: iter(range(100)), 3)) == list(range(100))
    assert list(ahead(lambda: iter([]), 3)) == []


def test_error_is_raised_where_the_items_are_used_and_after_those_before_it() -> None:
    def fails() -> Iterator[int]:
        yield 1
        raise InputError("shard 3 is damaged")

    items = ahead(fails, 3)
    assert next(items) == 1
    with pytest.raises(InputError, match="shard 3 is damaged"):
        next(items)


def test_no_more_is_made_than_may_wait() -> None:
    made: list[int] = []

    def make() -> Iterator[int]:
        for n in range(1000):
            made.append(n)
            yield n

    items = ahead(make, 2)
    assert next(items) == 0
    time.sleep(0.1)
    assert len(made) == 3  # one taken, two that wait
    items.close()  # type: ignore[attr-defined]


def threads() -> list[Any]:
    return [t for t in threading.enumerate() if t.name == "stream"]


def test_thread_ends_when_its_items_are_wanted_no_more() -> None:
    before = len(threads())
    items = ahead(lambda: iter(range(1000)), 2)
    next(items)
    assert len(threads()) == before + 1
    items.close()  # type: ignore[attr-defined]
    assert len(threads()) == before


def test_items_that_do_not_come_are_not_waited_for_for_ever() -> None:
    go_on = threading.Event()

    def slow() -> Iterator[int]:
        yield 1
        go_on.wait(10)
        yield 2

    items = ahead(slow, 3, patience_s=0.05)
    assert next(items) == 1
    threading.Timer(0.5, go_on.set).start()
    with pytest.raises(TimeoutError):
        next(items)


EPOCHS = [(2, 1), (2, 2), (3, 0), (3, 1), (3, 2), (4, 0), (4, 1), (4, 2)]
"""Epoch and step of each batch of a training that goes on from step 1 of epoch 2, with three steps an epoch."""


def test_epochs_follow_one_another_from_one_iterator() -> None:
    before = len(threads())
    epochs = Epochs(ahead(lambda: iter(EPOCHS), 2), epoch=2, step=1, last=4)
    assert epochs.wait_for(2, 1) and not epochs.wait_for(2, 0)
    taken = list(epochs.rest_of_epoch(3))
    assert epochs.wait_for(3, 0)
    # The trainer takes as many batches as an epoch has steps, and does not ask for one more.
    third = epochs.rest_of_epoch(3)
    assert not epochs.wait_for(3, 0), "somebody takes them"
    taken += [next(third), next(third), next(third)]
    assert epochs.wait_for(4, 0)
    assert len(threads()) == before + 1
    assert taken + list(epochs.rest_of_epoch(3)) == EPOCHS
    assert len(threads()) == before, "nothing is made after the last epoch"


def test_an_epoch_left_before_its_end_ends_what_is_made_ahead() -> None:
    before = len(threads())
    epochs = Epochs(ahead(lambda: iter(EPOCHS), 2), epoch=2, step=1, last=4)
    taken = epochs.rest_of_epoch(3)
    assert next(taken) == (2, 1)
    taken.close()  # type: ignore[attr-defined]
    assert not epochs.wait_for(2, 2)
    assert len(threads()) == before


def test_more_batches_than_the_epochs_have_steps_are_an_error() -> None:
    epochs = Epochs(ahead(lambda: iter(EPOCHS), 2), epoch=2, step=1, last=3)
    list(epochs.rest_of_epoch(3))
    with pytest.raises(RayCxrError, match="more batches"):
        list(epochs.rest_of_epoch(3))
