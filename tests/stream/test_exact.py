"""The whole promise at once: any labels, resampling, batch, seed and number of workers give the epoch as planned."""

from dataclasses import dataclass

import numpy as np
import pyarrow as pa
from hypothesis import given
from hypothesis import strategies as st

from ray_cxr.axes import Labels
from ray_cxr.stream.layout import Layout
from ray_cxr.stream.plan import EpochPlan, World, canonical_streams, plan_epoch, training_work
from ray_cxr.stream.resample import Counts, plan_resampling
from ray_cxr.stream.settings import StreamSettings

FINGERPRINT = "0123456789abcdef" * 4


@dataclass
class Case:
    """An epoch of a training; `times`: how often each film shall come, from the labels alone."""

    layout: Layout
    labels: Labels
    times: Counts
    plan: EpochPlan
    again: EpochPlan
    workers: int


@st.composite
def cases(draw: st.DrawFn) -> Case:
    group_films = draw(st.lists(st.integers(1, 12), min_size=2, max_size=12))
    films = sum(group_films)
    cells = draw(st.lists(st.sampled_from([0.0, 0.0, 1.0, np.nan]), min_size=2 * films, max_size=2 * films))
    labels = np.array(cells, np.float32).reshape(films, 2)
    labels[0], labels[1] = 1.0, 0.0  # each class is there
    layout = Layout(
        np.arange(films) * 2, pa.array([f"film-{n}" for n in range(films)]),
        np.repeat(np.arange(len(group_films)), group_films), np.concatenate([np.arange(n) for n in group_films]),
        [("shards/train/part-0.parquet", g) for g in range(len(group_films))], np.array(group_films),
    )  # fmt: skip
    batch_size = draw(st.sampled_from([1, 4, 6, 17, 32, 100]))
    settings = StreamSettings(
        batch_size=batch_size,
        resampling=draw(st.sampled_from(["none", "oversample", "undersample", "balanced", "class_aware"])),
        target=draw(st.sampled_from(["Mass", "any"])),
        resampling_strength=draw(st.sampled_from([0.3, 1.0])),
        max_per_patient=draw(st.sampled_from([None, 1, 3])),
    )
    seed, epoch = draw(st.integers(0, 2**32 - 1)), draw(st.integers(1, 500))
    patients = [f"p{n // 2}" for n in range(films)]

    def plan() -> tuple[Counts, EpochPlan]:
        resampling = plan_resampling(labels, patients, ["Mass", "Edema"], settings, seed, FINGERPRINT)
        times = None if resampling is None else resampling.multiplicity(epoch)
        made = plan_epoch(layout, batch_size, seed, epoch, FINGERPRINT, times, window_films=draw(st.just(40)))
        return np.ones(films, np.int64) if times is None else times, made

    times, first = plan()
    workers = draw(st.integers(1, min(canonical_streams(batch_size), 9)))
    return Case(layout, labels, times, first, plan()[1], workers)


@given(cases())
def test_ranks_together_see_each_draw_of_the_epoch_once_in_equally_many_steps(case: Case) -> None:
    works = [training_work(case.plan, World(rank, case.workers)) for rank in range(case.workers)]
    draws = [
        (position, copy)
        for work in works
        for position, copy in zip(work.positions.tolist(), work.copies.tolist(), strict=True)
    ]
    assert sorted(draws) == [(p, c) for p, n in enumerate(case.times.tolist()) for c in range(n)]
    assert {len(work.step_sizes) for work in works} == {case.plan.steps}


@given(cases())
def test_the_same_settings_plan_the_same_epoch(case: Case) -> None:
    assert case.plan.hash == case.again.hash
    assert [s.tolist() for s in case.plan.streams] == [s.tolist() for s in case.again.streams]


@given(cases(), st.data())
def test_any_number_of_workers_has_the_same_draws_in_each_step(case: Case, data: st.DataObject) -> None:
    step = data.draw(st.integers(0, case.plan.steps - 1))
    whole = case.plan.step_positions(step).tolist(), case.plan.step_copies(step).tolist()
    worlds = [World(rank, case.workers) for rank in range(case.workers)]
    assert whole == (
        [p for world in worlds for p in case.plan.step_positions(step, world).tolist()],
        [c for world in worlds for c in case.plan.step_copies(step, world).tolist()],
    )
