"""What makes the figures of a split unsteady or empty, said when it is made and in every report. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from ray_cxr.splits.leak import MODELLED, LeakCheck, leak_warning

FEW_FILMS = 1000
FEW_TEST_FILMS = 300
"""Of 300 films a finding of 3 % has nine: one more found or missed moves its sensitivity by 11 points."""


def cautions(counts: Mapping[str, Mapping[str, Any]], findings: Sequence[str], leaks: LeakCheck) -> list[str]:
    """Sentences about a split, from its counts per set (`images`, `positives`, `labelled`) and its leak check."""
    said = [sentence] if (sentence := leak_warning(leaks.as_dict())) else []
    if leaks.shared_films:
        said.append(
            f"{leaks.shared_films} pixel-identical films stand in several splits, under different patients or names"
        )
    films = sum(counts[name]["images"] for name in MODELLED)
    if films < FEW_FILMS:
        said.append(
            f"only {films} films in all: with fewer than {FEW_FILMS:,}, results depend much on chance"
        )
    if counts["test"]["images"] < FEW_TEST_FILMS:
        said.append(
            f"only {counts['test']['images']} test films: with fewer than {FEW_TEST_FILMS}, the test cannot tell "
            "good from middling"
        )
    unlearnt = [
        f for f in findings if not 0 < counts["train"]["positives"][f] < counts["train"]["labelled"][f]
    ]
    if unlearnt:
        said.append(f"training films of one class only, so nothing to learn there: {', '.join(unlearnt)}")
    for name in ("validation", "test"):
        without = [f for f in findings if not counts[name]["positives"][f]]
        if without:
            said.append(f"no positive {name} film, so nothing to measure there: {', '.join(without)}")
    return said
