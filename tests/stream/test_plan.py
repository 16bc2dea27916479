"""The epoch plan, for any number of films, row groups, batch and workers."""

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ray_cxr.errors import InputError
from ray_cxr.stream.layout import Layout
from ray_cxr.stream.plan import (
    EpochPlan,
    World,
    canonical_streams,
    check_world_size,
    plan_epoch,
    rank_streams,
    scoring_work,
    training_work,
)
from ray_cxr.stream.read import new_groups

FINGERPRINT = "0123456789abcdef" * 4
OTHER_FINGERPRINT = "fedcba9876543210" * 4

BATCHES = st.one_of(st.integers(1, 64), st.sampled_from([96, 100, 130, 256, 1024, 1536]))
GROUPS = st.lists(st.integers(1, 70), min_size=1, max_size=24)
SEEDS = st.integers(0, 2**32 - 1)


def _layout(group_films: list[int]) -> Layout:
    """Row groups of these sizes, eight to a shard."""
    films = sum(group_films)
    return Layout(
        rows=np.arange(films) * 3 + 1,
        image_ids=pa.array([f"film-{n}" for n in range(films)]),
        group=np.repeat(np.arange(len(group_films)), group_films),
        row_in_group=np.concatenate([np.arange(n) for n in group_films]),
        groups=[(f"shards/train/part-{g // 8:05d}.parquet", g % 8) for g in range(len(group_films))],
        group_films=np.array(group_films),
    )


def _plan(group_films: list[int], batch_size: int, seed: int = 3, epoch: int = 1) -> EpochPlan:
    return plan_epoch(_layout(group_films), batch_size, seed, epoch, FINGERPRINT)


@st.composite
def plans_and_worlds(draw: st.DrawFn) -> tuple[EpochPlan, int]:
    batch_size = draw(BATCHES)
    workers = draw(st.integers(1, min(canonical_streams(batch_size), 24)))
    return _plan(draw(GROUPS), batch_size, draw(SEEDS), draw(st.integers(1, 1000))), workers


@pytest.mark.parametrize(
    ("batch_size", "streams"),
    [(1, 1), (7, 7), (17, 1), (32, 16), (100, 10), (128, 16), (130, 13), (256, 32), (1024, 128)],
)
def test_number_of_streams_is_the_largest_allowed_divisor_of_the_batch(batch_size: int, streams: int) -> None:
    assert canonical_streams(batch_size) == streams


@given(GROUPS, BATCHES, SEEDS, st.integers(1, 1000))
def test_epoch_holds_every_film_exactly_once(
    groups: list[int], batch_size: int, seed: int, epoch: int
) -> None:
    plan = _plan(groups, batch_size, seed, epoch)
    assert plan.films == sum(groups)
    assert np.array_equal(np.sort(np.concatenate(plan.streams)), np.arange(sum(groups)))
    steps = [plan.step_positions(g) for g in range(plan.steps)]
    assert np.array_equal(np.sort(np.concatenate(steps)), np.arange(sum(groups)))
    assert all(not plan.step_copies(g).any() for g in range(plan.steps))


def test_order_is_that_of_the_versions_before() -> None:
    """A checkpoint holds the hash of its plan, and is refused with another one."""
    plan = _plan([32] * 20 + [7], 24, seed=5, epoch=3)
    assert plan.hash == "77ebf41de66856e9a3c5c63a7e8432240e9dd4612a4c67110da2bc7d1061ee56"


@given(GROUPS, BATCHES, SEEDS, st.lists(st.integers(0, 5), min_size=1, max_size=30))
def test_a_film_comes_as_often_as_its_multiplicity_says_each_time_as_another_copy(
    groups: list[int], batch_size: int, seed: int, cycle: list[int]
) -> None:
    times = np.resize(np.array(cycle), sum(groups))
    if not times.any():
        times[0] = 1
    plan = plan_epoch(_layout(groups), batch_size, seed, 1, FINGERPRINT, times)
    seen = np.concatenate([plan.step_positions(g) for g in range(plan.steps)])
    copies = np.concatenate([plan.step_copies(g) for g in range(plan.steps)])
    assert np.array_equal(np.bincount(seen, minlength=len(times)), times)
    wanted = [(film, copy) for film, n in enumerate(times) for copy in range(n)]
    assert sorted(zip(seen.tolist(), copies.tolist(), strict=True)) == wanted
    for world in (2, 3):
        if world <= canonical_streams(batch_size):
            works = [training_work(plan, World(rank, world)) for rank in range(world)]
            assert len({len(w.step_sizes) for w in works}) == 1
            assert sorted(np.concatenate([w.positions for w in works])) == sorted(seen)


@given(GROUPS, BATCHES)
def test_only_the_end_of_an_epoch_has_steps_that_are_not_full(groups: list[int], batch_size: int) -> None:
    plan = _plan(groups, batch_size)
    sizes = [len(plan.step_positions(g)) for g in range(plan.steps)]
    assert 0 < sizes[-1] <= batch_size
    # Streams differ by a film at most, so a stream may lack one film of the last step but one.
    assert all(size == batch_size for size in sizes[:-2])
    assert plan.steps in {-(-sum(groups) // batch_size), -(-sum(groups) // batch_size) + 1}


@given(plans_and_worlds())
def test_ranks_are_disjoint_and_together_the_step(plan_and_world: tuple[EpochPlan, int]) -> None:
    plan, workers = plan_and_world
    for step in range(plan.steps):
        parts = [plan.step_positions(step, World(r, workers)) for r in range(workers)]
        # In the order of the streams too: a step is the same list of films for every number of workers.
        assert np.array_equal(np.concatenate(parts), plan.step_positions(step))


@given(plans_and_worlds())
def test_every_rank_has_the_same_steps_and_reads_what_was_planned(
    plan_and_world: tuple[EpochPlan, int],
) -> None:
    plan, workers = plan_and_world
    for rank in range(workers):
        world = World(rank, workers)
        work = training_work(plan, world)
        assert len(work.step_sizes) == plan.steps
        assert work.epoch == plan.epoch
        planned = np.concatenate([plan.step_positions(g, world) for g in range(plan.steps)])
        assert np.array_equal(work.positions, planned)
        assert sum(work.step_sizes) == len(planned) == len(work.copies)
        # A window is a whole number of steps, or a batch could not be made from one read.
        ends = set(np.cumsum(work.step_sizes).tolist())
        assert set(np.cumsum([len(w) for w in work.windows]).tolist()) <= ends


@given(plans_and_worlds(), st.integers(1, 9))
def test_micro_batches_hold_the_same_films_for_every_world_and_are_dealt_out_evenly(
    plan_and_world: tuple[EpochPlan, int], parts: int
) -> None:
    plan, workers = plan_and_world
    for step in (0, plan.steps - 1):
        whole = plan.step_positions(step)
        alone = [whole[part] for part in plan.micro_batches(step, World(0, 1), parts)]
        assert len(alone) == min(parts, len(whole)) and all(len(part) for part in alone)
        assert np.array_equal(np.sort(np.concatenate(alone)), np.sort(whole))
        together: list[list[int]] = [[] for _ in alone]
        for rank in range(workers):
            mine = plan.step_positions(step, World(rank, workers))
            pieces = plan.micro_batches(step, World(rank, workers), parts)
            sizes = [len(piece) for piece in pieces]
            assert sum(sizes) == len(mine) and max(sizes) - min(sizes) <= 1
            for films, piece in zip(together, pieces, strict=True):
                films.extend(mine[piece].tolist())
        assert together == [part.tolist() for part in alone]


@given(plans_and_worlds())
def test_shares_of_ranks_differ_by_at_most_one_streams_part(plan_and_world: tuple[EpochPlan, int]) -> None:
    plan, workers = plan_and_world
    for step in range(plan.steps):
        shares = [len(plan.step_positions(step, World(r, workers))) for r in range(workers)]
        full = sum(shares) == plan.batch_size
        # A step that is not full cannot be dealt out exactly: a film more.
        assert max(shares) - min(shares) <= plan.per_stream + (0 if full else 1), (step, shares)


@given(st.integers(1, 200), st.data())
def test_streams_are_dealt_out_whole_in_stretches_and_evenly(streams: int, data: st.DataObject) -> None:
    workers = data.draw(st.integers(1, streams))
    served = [rank_streams(streams, World(r, workers)) for r in range(workers)]
    assert [k for part in served for k in part] == list(range(streams))
    assert {len(part) for part in served} <= {streams // workers, -(-streams // workers)}


@given(GROUPS, BATCHES, SEEDS)
def test_plan_is_deterministic(groups: list[int], batch_size: int, seed: int) -> None:
    first, second = _plan(groups, batch_size, seed, 2), _plan(groups, batch_size, seed, 2)
    assert first.hash == second.hash
    for one, other in zip(first.streams, second.streams, strict=True):
        assert np.array_equal(one, other)


@pytest.mark.parametrize(
    "other",
    [
        plan_epoch(_layout([32] * 8), 32, 3, 2, FINGERPRINT),
        plan_epoch(_layout([32] * 8), 32, 4, 1, FINGERPRINT),
        plan_epoch(_layout([32] * 8), 32, 3, 1, OTHER_FINGERPRINT),
    ],
    ids=["epoch", "seed", "fingerprint"],
)
def test_another_epoch_seed_or_data_set_has_another_order(other: EpochPlan) -> None:
    plan = plan_epoch(_layout([32] * 8), 32, 3, 1, FINGERPRINT)
    assert plan.hash != other.hash
    here, there = np.concatenate(plan.streams), np.concatenate(other.streams)
    assert np.mean(here == there) < 0.1


def test_hash_tells_plans_of_another_batch_apart() -> None:
    # With one row group and one stream both orders draw the same permutation.
    assert _plan([5], 17).hash != _plan([5], 19).hash


def test_row_groups_come_in_another_order_each_epoch_and_films_in_another_order_within() -> None:
    layout = _layout([32] * 128)
    first, second = (plan_epoch(layout, 32, 3, epoch, FINGERPRINT).streams[0] for epoch in (1, 2))
    # A stream holds 8 of the 128 groups: were they not drawn anew, both epochs would have the same.
    assert len(set(layout.group[first]) & set(layout.group[second])) <= 4
    assert np.mean(np.abs(np.diff(first)) == 1) < 0.1


def test_windows_begin_small_and_grow_to_what_memory_allows() -> None:
    plan = plan_epoch(_layout([32] * 64), 32, 0, 1, FINGERPRINT, window_films=512)
    assert plan.window_ends == [1, 3, 7, 15, 31, 47, 63, 64]
    windows = training_work(plan, World()).windows
    assert max(map(len, windows)) == 512
    assert sum(map(len, windows)) == 2048
    twice = plan_epoch(_layout([32] * 64), 32, 0, 1, FINGERPRINT, np.full(2048, 2), window_films=512)
    assert max(map(len, training_work(twice, World()).windows)) == 1024


@given(GROUPS, BATCHES, SEEDS, st.integers(1, 300), st.integers(1, 3))
def test_a_rank_reads_each_row_group_once(
    groups: list[int], batch_size: int, seed: int, window_films: int, workers: int
) -> None:
    layout = _layout(groups)
    plan = plan_epoch(layout, batch_size, seed, 1, FINGERPRINT, window_films=window_films)
    workers = min(workers, canonical_streams(batch_size))
    reads = [
        np.concatenate(
            new_groups(layout, [w for w in training_work(plan, World(r, workers)).windows if len(w)])
        )
        for r in range(workers)
        if len(training_work(plan, World(r, workers)).positions)
    ]
    for of_rank in reads:
        assert len(of_rank) == len(set(of_rank))
    assert set(np.concatenate(reads)) == set(range(len(groups)))
    # Ranks share a row group only where the stretch of one ends and that of the next begins.
    assert sum(map(len, reads)) <= len(groups) + workers - 1


@given(GROUPS, BATCHES, st.integers(1, 12))
def test_scoring_covers_every_film_once(groups: list[int], batch_size: int, workers: int) -> None:
    layout = _layout(groups)
    works = [scoring_work(layout, batch_size, World(r, workers)) for r in range(workers)]
    assert np.array_equal(np.concatenate([w.positions for w in works]), np.arange(layout.films))
    for work in works:
        assert sum(work.step_sizes) == len(work.positions) == len(work.copies)
        assert all(0 < size <= batch_size for size in work.step_sizes)
        ends = set(np.cumsum(work.step_sizes).tolist())
        assert set(np.cumsum([len(w) for w in work.windows]).tolist()) <= ends


def test_more_workers_than_streams_are_refused_with_the_largest_number() -> None:
    check_world_size(0, 32)
    check_world_size(16, 32)
    with pytest.raises(InputError, match=r"got 17, .*32 films is made of 16 streams.*at most 16 workers"):
        check_world_size(17, 32)


@given(GROUPS, st.integers(1, 16), SEEDS)
def test_films_of_a_step_do_not_depend_on_the_number_of_workers(
    groups: list[int], workers: int, seed: int
) -> None:
    plan = _plan(groups, 48, seed)
    alone = training_work(plan, World())
    ranks = [training_work(plan, World(r, workers)) for r in range(workers)]
    ends = [np.cumsum([0, *w.step_sizes]) for w in [alone, *ranks]]
    for step in range(plan.steps):
        films, *parts = (
            w.positions[e[step] : e[step + 1]] for w, e in zip([alone, *ranks], ends, strict=True)
        )
        assert sorted(films.tolist()) == sorted(np.concatenate(parts).tolist())


@given(plans_and_worlds(), st.data())
def test_steps_up_to_a_resume_and_those_after_it_are_the_plan_with_any_workers(
    plan_and_world: tuple[EpochPlan, int], data: st.DataObject
) -> None:
    """Trained by some workers up to a step, and by as many or others from it on: no film lost, none twice."""
    plan, before = plan_and_world
    after = data.draw(st.integers(1, min(len(plan.streams), 24)))
    first = data.draw(st.integers(0, plan.steps - 1))
    trained = {step: [] for step in range(plan.steps)}
    for workers, start, end in ((before, 0, first), (after, first, plan.steps)):
        for rank in range(workers):
            work = training_work(plan, World(rank, workers), start)
            assert len(work.step_sizes) == plan.steps - start, "equal steps on every rank"
            assert sum(work.step_sizes) == len(work.positions) == len(work.copies)
            draws = list(zip(work.positions.tolist(), work.copies.tolist(), strict=True))
            for step, size in enumerate(work.step_sizes[: end - start], start):
                trained[step] += draws[:size]
                draws = draws[size:]
    for step, draws in trained.items():
        planned = zip(plan.step_positions(step).tolist(), plan.step_copies(step).tolist(), strict=True)
        assert sorted(draws) == sorted(planned)
