"""Who made the reference labels: a reader who did agrees with himself, and must not be measured against them. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import combinations

import numpy as np
from numpy.typing import NDArray

from ray_cxr.axes import Labels
from ray_cxr.errors import RefusedError
from ray_cxr.evaluate.consensus import Answers, Rule, consensus

_MOST_SEARCHED = 8
"""Readers of whom all subsets are tried (255); of more, all together and each alone."""
_FEWEST_POSITIVES = 5
"""A finding with fewer positives is matched too easily by chance."""
_NEARLY_ALL = 0.99
"""Two readers who decide only where they agree are right so often that they would fit labels that others made."""


def readers_behind(
    labels: Labels, answers: Answers, findings: Sequence[str], rule: Rule, definitive: Labels | None = None
) -> list[int]:
    """The readers whose consensus the labels [N, F] are, by number; empty where no subset of readers fits.

    A subset fits a finding where its consensus decides nearly every labelled film and equals the label wherever both are
    there; it must fit at least half of the findings with enough positives. Of several that fit, the one that decides most
    cells, then the smallest.
    """
    best: tuple[int, int, list[int]] | None = None
    for subset in _subsets(answers.shape[1]):
        found = consensus(answers[:, subset], findings, rule, definitive).labels
        decided = _cells_of_a_fit(labels, found)
        if decided and (best is None or (decided, -len(subset)) > best[:2]):
            best = (decided, -len(subset), subset)
    return best[2] if best else []


def _subsets(readers: int) -> list[list[int]]:
    if readers > _MOST_SEARCHED:
        return [list(range(readers)), *([r] for r in range(readers))]
    return [list(s) for size in range(1, readers + 1) for s in combinations(range(readers), size)]


def _cells_of_a_fit(labels: Labels, found: Labels) -> int:
    """How many cells a consensus decides where it fits the labels, else 0."""
    both = ~np.isnan(labels) & ~np.isnan(found)
    enough = (labels == 1).sum(axis=0) >= _FEWEST_POSITIVES
    decides = both.sum(axis=0) >= _NEARLY_ALL * (~np.isnan(labels)).sum(axis=0)
    equal = decides & ((labels == found) | ~both).all(axis=0)
    return int(both.sum()) if enough.any() and 2 * (equal & enough).sum() >= enough.sum() else 0


def references(
    labels: Labels,
    answers: Answers,
    findings: Sequence[str],
    rule: Rule,
    makers: Sequence[int],
    *,
    leave_one_out: bool,
    definitive: Labels | None = None,
) -> list[Labels | None]:
    """The labels [N, F] that each reader is measured against: the consensus of the other makers for one who made the
    labels, else the labels; None for the only maker.

    Raises RefusedError where a maker would be measured against labels of his own.
    """
    if makers and not leave_one_out:
        raise biased(f"{len(makers)} of the {answers.shape[1]} readers")
    out: list[Labels | None] = []
    for reader in range(answers.shape[1]):
        others = [m for m in makers if m != reader]
        if reader not in makers:
            out.append(labels)
        else:
            out.append(consensus(answers[:, others], findings, rule, definitive).labels if others else None)
    return out


def biased(who: str) -> RefusedError:
    """The refusal to measure readers against labels of their own."""
    return RefusedError(
        f"{who} made the reference labels, so measuring them against these is biased in their favour; drop --no-leave-one-out "
        "(each is then held against the others' consensus)."
    )


def left_out(makers: Sequence[int], readers: int) -> NDArray[np.bool_]:
    """[R] whether a reader is measured by leaving him out of the reference."""
    return np.isin(np.arange(readers), list(makers))
