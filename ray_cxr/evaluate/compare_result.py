"""What a comparison of models gives: figures side by side, differences with their tests, and what differs. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from ray_cxr.evaluate.compare_protocol import Entry
from ray_cxr.evaluate.inputs import Scored
from ray_cxr.evaluate.testable import FEWEST_PATIENTS

TOO_FEW = "too few"
NO_SPREAD = "no spread"


@dataclass(frozen=True)
class Figure:
    """A figure with its 95 % interval; None = not measurable."""

    value: float | None
    interval: tuple[float, float] | None = None

    def as_dict(self) -> dict[str, Any]:
        return {"value": self.value, "interval": list(self.interval) if self.interval else None}


@dataclass(frozen=True)
class Levels:
    """One model's figures by finding. mean_auroc: over the findings with enough patients, None where there is none."""

    auroc: dict[str, Figure]
    average_precision: dict[str, Figure]
    mean_auroc: Figure

    def as_dict(self) -> dict[str, Any]:
        return {
            "mean_auroc": self.mean_auroc.as_dict(),
            "auroc": {f: figure.as_dict() for f, figure in self.auroc.items()},
            "average_precision": {f: figure.as_dict() for f, figure in self.average_precision.items()},
        }


@dataclass(frozen=True)
class Pair:
    """First minus second, on one finding (or the mean over the tested findings, `finding` None)."""

    first: int
    second: int
    finding: str | None
    auroc: Figure
    average_precision: Figure
    p: float | None
    """Two-sided: clustered DeLong for a finding, bootstrap for the mean; None without an interval."""
    p_holm: float | None = None
    untested: str | None = None
    """Why there is no p: TOO_FEW patients, or NO_SPREAD (the difference is the same in every draw)."""

    def as_dict(self, names: Sequence[str]) -> dict[str, Any]:
        return {
            "first": names[self.first], "second": names[self.second], "finding": self.finding,
            "auroc_difference": self.auroc.as_dict(), "average_precision_difference": self.average_precision.as_dict(),
            "p": self.p, "p_holm": self.p_holm, "untested": self.untested,
        }  # fmt: skip


@dataclass(frozen=True)
class Comparison:
    """Models side by side."""

    entries: list[Entry]
    findings: list[str]
    levels: list[Levels]
    """Of each model on the films and labels that all have in common, those of the tests."""
    own: list[Levels] | None
    """Of each model on all its own films, where these or their labels differ: not to be held against each other."""
    pairs: list[Pair]
    common: list[Scored]
    """Each model's films that all have, in one order, with their common labels. Holds ids, which get nowhere."""
    mean_over: list[str]
    """The findings that means are over: with enough patients among the common films, and without those that say "normal"."""
    too_few: dict[str, tuple[int, int]]
    """Finding with fewer → its positive and its negative patients."""
    clustered: bool
    unequal_labels: int
    """Cells of common films whose labels differ between models; they are left out of the tests."""
    differences: dict[str, list[str]]
    """Field of the protocol → each model's value, where they differ."""
    draws: int
    seed: int

    @property
    def names(self) -> list[str]:
        return [e.name for e in self.entries]

    @property
    def common_films(self) -> int:
        return len(self.common[0])

    @property
    def shown_films(self) -> list[Scored]:
        """The films that curves are drawn on: those of all, or each model's own where there are none."""
        return self.common if self.common_films else [e.scored for e in self.entries]

    @property
    def shown_levels(self) -> list[Levels]:
        """The figures on these films."""
        return self.own if self.own is not None and not self.common_films else self.levels

    @property
    def mean_name(self) -> str:
        """The mean, which leaves out findings with too few patients, as a row is called."""
        return f"mean of {len(self.mean_over)} findings" if self.too_few else "mean"

    def as_dict(self) -> dict[str, Any]:
        """For `--json` and `comparison.json`."""
        return {
            "models": [
                {
                    "name": e.name, "films": len(e.scored), "patients": e.scored.patients, "protocol": e.protocol or None,
                    "test_openings": e.openings, "leak": e.leak, **self.levels[n].as_dict(),
                    "on_own_films": self.own[n].as_dict() if self.own else None,
                }
                for n, e in enumerate(self.entries)
            ],
            "findings": self.findings,
            "pairs": [p.as_dict(self.names) for p in self.pairs],
            "common_films": self.common_films,
            "mean_over": self.mean_over,
            "fewest_patients": FEWEST_PATIENTS,
            "too_few": {
                f: {"positive_patients": positive, "negative_patients": negative}
                for f, (positive, negative) in self.too_few.items()
            },
            "intervals": "patients" if self.clustered else "films (image-level)",
            "unequal_labels": self.unequal_labels,
            "protocol_differences": self.differences,
            "draws": self.draws,
            "seed": self.seed,
        }  # fmt: skip
