"""Several tests at once (Holm, Scandinavian Journal of Statistics 6, 1979)."""

from __future__ import annotations

from collections.abc import Hashable, Mapping
from typing import TypeVar

Name = TypeVar("Name", bound=Hashable)


def holm(p_values: Mapping[Name, float | None]) -> dict[Name, float | None]:
    """p-values adjusted so that the chance of any false alarm among them stays below the level; None is no test.

    The smallest of k is multiplied by k, the next by k - 1, and so on; none is then smaller than one before it.
    """
    known = sorted((p, number) for number, p in enumerate(p_values.values()) if p is not None)
    adjusted: dict[int, float] = {}
    largest = 0.0
    for position, (p, number) in enumerate(known):
        largest = max(largest, min(1.0, p * (len(known) - position)))
        adjusted[number] = largest
    return {name: adjusted.get(number) for number, name in enumerate(p_values)}
