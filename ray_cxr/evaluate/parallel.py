"""Shares the findings out over the processors of this machine or cluster, as Ray tasks, where the work is worth it."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import ray

from ray_cxr.evaluate.finding import FindingFigures, OneFinding, Shared, finding_figures
from ray_cxr.ray_session import errors_of_tasks, ray_session

WORTH_IT = 2e8
"""Films × draws × findings from which on Ray is started: its start costs about what this many do (docs/decisions.md)."""


def all_findings(
    findings: Sequence[OneFinding], shared: Shared, advance: Callable[[int], None], workers: int | None = None
) -> list[FindingFigures | None]:
    """`finding_figures` of each, in their order. workers: 0 works in this process; None lets the size of the work decide."""
    if workers is None:
        workers = 2 if len(shared.draws) * len(shared.draws.unit_of) * len(findings) >= WORTH_IT else 0
    if not workers:
        figures = []
        for one in findings:
            figures.append(finding_figures(one, shared))
            advance(1)
        return figures
    with ray_session(workers), errors_of_tasks():
        return _as_tasks(findings, shared, advance)


def _as_tasks(
    findings: Sequence[OneFinding], shared: Shared, advance: Callable[[int], None]
) -> list[FindingFigures | None]:
    """A task a finding; the draws lie once in the object store, and all tasks read them there."""
    task = ray.remote(num_cpus=1)(finding_figures)
    common = ray.put(shared)
    waiting = [task.remote(one, common) for one in findings]
    left = list(waiting)
    while left:
        done, left = ray.wait(left)
        advance(len(done))
    figures: list[FindingFigures | None] = ray.get(waiting)
    return figures
