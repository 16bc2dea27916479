"""One label out of several readers' answers, by a rule that is stated. Pure.

Axes: N films, R readers, F findings. Answers are float32: 1 = present, 0 = absent, 0.5 = uncertain, NaN = not
answered. Labels are float32: 1, 0, NaN = excluded.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, TypeAlias

import numpy as np
from numpy.typing import NDArray

from ray_cxr.axes import Labels

Answers: TypeAlias = NDArray[np.float32]
"""[N, R, F] float32: 1, 0, 0.5 = uncertain, NaN = not answered."""
Choice: TypeAlias = Literal["positive", "negative", "exclude"]

UNCERTAIN = 0.5
_VALUE: Mapping[str, float] = {"positive": 1.0, "negative": 0.0, "exclude": np.nan}
_TIE: Mapping[str, str] = {
    "positive": "is positive",
    "negative": "is negative",
    "exclude": "leaves the film out",
}
_METHOD: Mapping[str, tuple[str, str]] = {
    "majority": ("majority of the readers", "no majority"),
    "unanimous": ("all readers must agree", "any disagreement"),
}
_VOTE: Mapping[str, str] = {
    "positive": "counts as a yes",
    "negative": "counts as a no",
    "exclude": "is no vote",
}


@dataclass(frozen=True)
class Rule:
    """How answers become a label. `unanimous`: all votes must agree, and where they do not, the film is a tie."""

    method: Literal["majority", "unanimous"] = "majority"
    ties: Choice = "exclude"
    uncertain: Choice = "exclude"
    definitive: Mapping[str, str] = field(default_factory=dict)
    """Finding → column of a test that overrides the readers (CT, biopsy) on the films that have it."""
    remainder: tuple[str, str] | None = None
    """(`Other`, `Abnormal`): the first is present, too, where the second is and no other finding is."""

    def sentence(self) -> str:
        """The rule, as a report states it."""
        votes, apart = _METHOD[self.method]
        parts = [f"{votes}; {apart} {_TIE[self.ties]}; an uncertain answer {_VOTE[self.uncertain]}"]
        if self.definitive:
            tests = ", ".join(f"{column} for {finding}" for finding, column in self.definitive.items())
            parts.append(f"a definitive test overrides the readers where there is one ({tests})")
        if self.remainder:
            rest, cause = self.remainder
            parts.append(f"{rest} is present, too, where {cause} is and no other finding")
        return "; ".join(parts)

    def as_dict(self) -> dict[str, Any]:
        """For a protocol."""
        return {
            "consensus": self.method, "ties": self.ties, "uncertain": self.uncertain,
            "definitive": dict(self.definitive), "remainder": "=".join(self.remainder) if self.remainder else None,
        }  # fmt: skip


@dataclass(frozen=True)
class Consensus:
    """Labels [N, F], and per finding on how many films they rest on what."""

    labels: Labels
    counts: dict[str, dict[str, int]]
    """Finding → `unanimous`, `split` (a majority, not all), `tie`, `single` (one vote), `uncertain` (uncertain answers
    only), `unread`, `definitive`; they add up to N."""


def votes_of(answers: Answers, uncertain: Choice) -> Answers:
    """The answers with 0.5 replaced by the rule for uncertain answers: 1, 0 or NaN. Any shape."""
    return np.where(answers == UNCERTAIN, np.float32(_VALUE[uncertain]), answers)


def consensus(
    answers: Answers, findings: Sequence[str], rule: Rule, definitive: Labels | None = None
) -> Consensus:
    """Labels from the answers [N, R, F] by the rule; `definitive` [N, F] (NaN = no test) overrides them."""
    votes = votes_of(answers, rule.uncertain)
    cast = (~np.isnan(votes)).sum(axis=1)
    yes = np.nansum(votes, axis=1)
    doubled = 2 * yes
    decided = (yes == cast) | (yes == 0) if rule.method == "unanimous" else doubled != cast
    labels = np.where(decided, (doubled > cast).astype(np.float32), np.float32(_VALUE[rule.ties]))
    labels[cast == 0] = np.nan
    unread = np.isnan(answers).all(axis=1)
    basis = {
        "unanimous": (cast > 1) & ((yes == cast) | (yes == 0)),
        "split": (cast > 1) & decided & (yes != cast) & (yes != 0),
        "tie": (cast > 1) & ~decided,
        "single": cast == 1,
        "uncertain": (cast == 0) & ~unread,
        "unread": unread,
        "definitive": np.zeros_like(unread),
    }
    if definitive is not None:
        tested = ~np.isnan(definitive)
        labels = np.where(tested, definitive, labels)
        basis = {name: films & ~tested for name, films in basis.items()} | {"definitive": tested}
    if rule.remainder:
        _add_remainder(labels, findings, *rule.remainder)
    counts = {
        f: {name: int(films[:, i].sum()) for name, films in basis.items()} for i, f in enumerate(findings)
    }
    return Consensus(labels.astype(np.float32), counts)


def _add_remainder(labels: Labels, findings: Sequence[str], rest: str, cause: str) -> None:
    others = [i for i, f in enumerate(findings) if f not in (rest, cause)]
    unexplained = (labels[:, findings.index(cause)] == 1) & ~(labels[:, others] == 1).any(axis=1)
    labels[unexplained, findings.index(rest)] = 1


def differences(ours: Labels, theirs: Labels, findings: Sequence[str]) -> dict[str, dict[str, int]]:
    """Where two sets of labels [N, F] of the same films differ, per finding and in both directions.

    Counts: `both_positive`, `both_negative`, `only_ours` (1 against 0), `only_theirs` (0 against 1), `undecided_positive`
    and `undecided_negative` (ours NaN, theirs 1 or 0), `unlabelled` (theirs NaN); they add up to N.
    """
    table = {
        "both_positive": (ours == 1) & (theirs == 1),
        "both_negative": (ours == 0) & (theirs == 0),
        "only_ours": (ours == 1) & (theirs == 0),
        "only_theirs": (ours == 0) & (theirs == 1),
        "undecided_positive": np.isnan(ours) & (theirs == 1),
        "undecided_negative": np.isnan(ours) & (theirs == 0),
        "unlabelled": np.isnan(theirs),
    }
    return {
        f: {name: int(films[:, i].sum()) for name, films in table.items()} for i, f in enumerate(findings)
    }
