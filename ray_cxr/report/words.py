"""Figures in words, the same way everywhere in the report. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from ray_cxr.errors import count_text as count_text  # noqa: PLC0414  other modules of the report take it from here
from ray_cxr.report.contents import is_known

NOT_MEASURABLE = "not measurable"


def area_text(value: float | None) -> str:
    """An AUROC or average precision, 0..1; null and NaN are not measurable."""
    return f"{value:.3f}" if value is not None and is_known(value) else NOT_MEASURABLE


def interval_text(value: float | None, ends: Sequence[float] | None) -> str:
    """An area, or any figure, with its interval: 0.812 (0.790–0.833); the figure alone where it has none."""
    if ends is None:
        return area_text(value)
    return f"{area_text(value)} ({ends[0]:.3f}–{ends[1]:.3f})"


def share_text(value: float | None, ends: Sequence[float] | None = None) -> str:
    """A share of films in percent with its interval: 81.2% (79.0–83.3); a dash where there is none."""
    if value is None or not is_known(value):
        return "–"
    return f"{value:.1%}" if ends is None else f"{value:.1%} ({100 * ends[0]:.1f}–{100 * ends[1]:.1f})"


def score_text(value: float) -> str:
    """A score or threshold: four digits that matter."""
    return f"{value:.4g}"


def loss_text(value: float | None) -> str:
    """A loss; a dash where there is none."""
    return f"{value:.4f}" if value is not None and is_known(value) else "–"


def p_text(p: float) -> str:
    """A p-value in a sentence: p 0.012, p < 0.001."""
    return "p < 0.001" if p < 0.001 else f"p {p:.3f}"


def duration_text(seconds: float) -> str:
    """Seconds, minutes or hours, whichever reads best."""
    if seconds < 90:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"


def list_text(value: Any) -> str:
    """A setting as a person writes it: lists without brackets, short floats."""
    if isinstance(value, list | tuple):
        return ", ".join(list_text(v) for v in value)
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def flat_facts(values: Mapping[str, Any], prefix: str = "") -> list[tuple[str, str]]:
    """Names and values of nested settings, with dotted names."""
    facts: list[tuple[str, str]] = []
    for name, value in values.items():
        if isinstance(value, Mapping):
            facts += flat_facts(value, f"{prefix}{name}.")
        else:
            facts.append((prefix + str(name), list_text(value)))
    return facts
