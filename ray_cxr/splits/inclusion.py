"""With which probability each film is drawn, so that a set has the size and the positives that were asked for.

The chances nearest to equal ones (least relative entropy) under which the expected counts are met: raking (Deming &
Stephan 1940, Ann. Math. Stat. 11:427) with an upper limit, solved by Newton's method on its dual. Pure.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import linprog

from ray_cxr.errors import InputError

AT_MOST = 0.5
"""A set may need at most half of the positives that are there, so that training keeps some of each finding."""
ROOM = 1.2
"""A single film's chance may exceed AT_MOST by this factor, or the last feasible wishes would need endless rounds."""
_ROUNDS = 100
_HALVINGS = 30
_LONGEST_STEP = 3.0
_CLOSE = 1e-7


@dataclass(frozen=True)
class Need:
    """At least `count` films of `films` ([N] bool). name: of the finding; setting: what asks for it.

    finding: the finding's column in the labels; None where it is about several.
    """

    name: str
    films: NDArray[np.bool_]
    count: int
    setting: str
    finding: int | None = None


def film_chances(
    base: NDArray[np.float64], needs: Sequence[Need], size: float, at_most: float
) -> NDArray[np.float64] | None:
    """[N] probabilities in (0, at_most] of sum `size`, in which each need has its count, nearest to `base` [N].

    None where that cannot be reached.
    """
    first, kind, count = _kinds(base, [n.films for n in needs])
    columns = np.column_stack([np.ones(len(first)), *(n.films[first] for n in needs)])
    dual = _Dual(
        base[first], count, columns, np.array([size, *(n.count for n in needs)], np.float64), at_most
    )
    powers = np.zeros(columns.shape[1])
    for _ in range(_ROUNDS):
        chance = dual.chances(powers)
        missing = dual.wanted - columns.T @ (count * chance)
        works = (missing > 0) | (powers > 0)  # a need that is met without help has no power
        works[0] = True
        if np.abs(missing[works]).max() < _CLOSE:
            return np.asarray(np.round(chance, 12)[kind], np.float64)
        powers = dual.uphill(powers, chance, missing, works)
    return None


@dataclass(frozen=True)
class _Dual:
    """The concave function of the powers whose maximum has the chances min(base · exp(columns @ powers), at_most).

    base, count [K]: of each kind of films; columns [K, 1 + R]: 1, and membership in each need; wanted [1 + R].
    """

    base: NDArray[np.float64]
    count: NDArray[np.int64]
    columns: NDArray[np.float64]
    wanted: NDArray[np.float64]
    at_most: float

    def chances(self, powers: NDArray[np.float64]) -> NDArray[np.float64]:
        return np.asarray(
            np.minimum(self.base * np.exp(np.clip(self.columns @ powers, -60, 60)), self.at_most)
        )

    def value(self, powers: NDArray[np.float64]) -> float:
        chance = self.chances(powers)
        above = self.at_most * (1 + self.columns @ powers - np.log(self.at_most / self.base))
        return float(self.wanted @ powers - self.count @ np.where(chance < self.at_most, chance, above))

    def uphill(
        self, powers: NDArray[np.float64], chance: NDArray[np.float64], missing: NDArray[np.float64],
        works: NDArray[np.bool_],
    ) -> NDArray[np.float64]:  # fmt: skip
        """Newton's step for the powers that work, halved until it leads up; no power of a need is negative."""
        movable = self.columns[:, works] * (self.count * chance * (chance < self.at_most))[:, None]
        slope = movable.T @ self.columns[:, works] + np.eye(works.sum()) * 1e-9
        step = np.zeros(len(powers))
        step[works] = np.linalg.solve(slope, missing[works])
        step /= max(1.0, float(np.abs(step).max()) / _LONGEST_STEP)
        before, moved = self.value(powers), powers
        for halving in range(_HALVINGS):
            moved = np.asarray(powers + step / 2**halving, np.float64)
            moved[1:] = np.maximum(moved[1:], 0)
            if self.value(moved) >= before:
                break
        return moved


def _kinds(
    base: NDArray[np.float64], marks: Sequence[NDArray[np.bool_]]
) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.int64]]:
    """Films that are alike in base and marks: the first film of each kind [K], each film's kind [N], counts [K]."""
    first, kind, count = np.unique(base, return_index=True, return_inverse=True, return_counts=True)[1:]
    for mark in marks:
        first, kind, count = np.unique(
            2 * kind + mark, return_index=True, return_inverse=True, return_counts=True
        )[1:]
    return first, kind, count


def refuse_infeasible(
    name: str, size: int, needs: Sequence[Need], patient: NDArray[np.int64], at_most: float
) -> None:
    """Raises InputError with the table of what is possible where `size` films cannot meet all needs.

    name: of the set ("test"). patient [N]: of each film that may still be drawn.
    """
    for need in needs:
        most = min(int(at_most * need.films.sum() + _CLOSE), size)
        if need.count > most:
            raise InputError(
                f"{need.setting}: {name} would need {need.count} films with {need.name} among {size}, but can have "
                f"{most} at most (half of what is left for it, so that training keeps some); ask for less.\n"
                + possible(name, size, needs, patient, at_most)
            )
    least = _least_size(needs, at_most) if needs else 0.0
    if least > size + _CLOSE:
        raise InputError(
            f"split.{name}: all positives asked for need {int(np.ceil(least - _CLOSE))} films together, but {name} has "
            f"{size}; ask for more films or fewer positives.\n"
            + possible(name, size, needs, patient, at_most)
        )


def possible(name: str, size: int, needs: Sequence[Need], patient: NDArray[np.int64], at_most: float) -> str:
    """The table of what is possible, as lines: per finding its positives, patients with it, asked for, the most."""
    head = ("finding", "positives", "patients", "asked for", f"most in {name}")
    rows = [
        (
            n.name, str(int(n.films.sum())), str(len(np.unique(patient[n.films]))), str(n.count),
            str(min(int(at_most * n.films.sum() + _CLOSE), size)),
        )
        for n in needs
    ]  # fmt: skip
    widths = [max(len(row[i]) for row in (head, *rows)) for i in range(len(head))]
    return "\n".join(
        "  ".join(
            cell.ljust(w) if i == 0 else cell.rjust(w)
            for i, (cell, w) in enumerate(zip(row, widths, strict=True))
        )
        for row in (head, *rows)
    )


def _least_size(needs: Sequence[Need], at_most: float) -> float:
    """The least expected number of films that meets all needs together (a linear programme over kinds of films)."""
    first, _, count = _kinds(np.ones(len(needs[0].films)), [n.films for n in needs])
    member = np.column_stack([n.films[first] for n in needs])
    answer = linprog(
        np.ones(len(count)),
        A_ub=-member.T.astype(float),
        b_ub=[-float(n.count) for n in needs],
        bounds=[(0, at_most * c) for c in count],
    )
    return float(answer.fun) if answer.success else float("inf")
