"""Sections on single films and groups of patients: subgroups, worst misses."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ray_cxr.report.blocks import Block, Picture, Pictures, Section, Table, Text
from ray_cxr.report.contents import Contents, ShownMiss
from ray_cxr.report.words import interval_text, p_text, score_text

_LEVEL = 0.05
_MOST_LISTED = 12
_KINDS = {
    "missed": ("Positive films that score low", "of the negative films score higher"),
    "false alarm": ("Negative films that score high", "of the positive films score lower"),
}


def subgroups(contents: Contents) -> Section | None:
    """AUROC by sex, age band, view, source and scanner, as far as they are known; None where nothing is."""
    figures = contents.metrics["subgroups"]
    if not figures["groupings"]:
        return None
    smallest = figures["smallest"]
    blocks: list[Block] = [Text(sentence) for sentence in gap_sentences(contents)]
    blocks += [_group_table(contents, name, groups) for name, groups in figures["groupings"].items()]
    blocks.append(
        Text(
            f"AUROC with 95 % intervals ({figures['draws']:,} draws). Marked *: the gap to the other groups stands out (p < {_LEVEL}, "
            "normal test on the bootstrap's spread, adjusted by Holm's method over the findings and groups of the table). "
            f"Marked small: fewer than {smallest} positive or negative patients; no test is made there, nor against others of whom there "
            "are as few. An AUROC without brackets has no interval: too few patients, or the same in every draw. A gap need not be the model's: "
            "groups differ in how ill they are, and in how they are filmed.",
            "muted",
        )
    )
    return Section("subgroups", "Subgroups", blocks)


def gap_sentences(contents: Contents) -> list[str]:
    """The gaps that stand out, largest first, in words."""
    found = []
    for name, groups in contents.metrics["subgroups"]["groupings"].items():
        for group, entry in groups.items():
            for finding, f in entry["findings"].items():
                if f and f["p_holm"] is not None and f["p_holm"] < _LEVEL:
                    found.append(
                        (
                            abs(f["gap"]),
                            f"{finding} in {name} {group} {f['gap']:+.3f} ({p_text(f['p_holm'])})",
                        )
                    )
    if not found:
        return ["No gap between a group and the others stands out after adjusting for the number of tests."]
    found.sort(reverse=True)
    more = f", and {len(found) - _MOST_LISTED} more" if len(found) > _MOST_LISTED else ""
    listed = "; ".join(text for _, text in found[:_MOST_LISTED])
    return [f"Gaps in AUROC that stand out, against all other films of the grouping: {listed}{more}."]


def _group_table(contents: Contents, name: str, groups: Mapping[str, Any]) -> Table:
    columns = [
        f"{group} ({entry['films']:,} films"
        + (f", {entry['patients']:,} patients)" if entry["patients"] else ")")
        for group, entry in groups.items()
    ]
    rows = [
        [finding, *(_group_cell(entry["findings"][finding]) for entry in groups.values())]
        for finding in contents.findings if any(e["findings"][finding] for e in groups.values())
    ]  # fmt: skip
    return Table(f"AUROC by {name}", ["Finding", *columns], rows)


def _group_cell(figures: Mapping[str, Any] | None) -> str:
    if figures is None or figures["auroc"] is None:
        return "not measurable"
    mark = " small" if figures["small"] else ""
    p = figures["p_holm"]
    star = " *" if p is not None and p < _LEVEL else ""
    return interval_text(figures["auroc"], figures["interval"]) + mark + star


def misses(contents: Contents) -> Section | None:
    """The films that the model got most wrong; None where there is none."""
    if not contents.misses:
        return None
    blocks: list[Block] = [
        Text(
            "Look at these films: they show wrong labels, unusual views and what the model has not learned. A film is named by its "
            f"{contents.film_is}."
        )
    ]
    for kind, (heading, behind) in _KINDS.items():
        shown = [m for m in contents.misses if m.miss.kind == kind]
        if shown:
            blocks.append(_miss_table(heading, behind, shown))
            pictures = [_picture(m) for m in shown if m.png is not None]
            if pictures:
                blocks.append(Pictures(heading, pictures))
    return Section("misses", "Worst misses", blocks)


def _miss_table(heading: str, behind: str, shown: list[ShownMiss]) -> Table:
    rows = [
        [m.miss.finding, str(m.number), score_text(m.miss.score), f"{m.miss.behind:.1%}"]
        for m in shown
    ]  # fmt: skip
    return Table(heading, ["Finding", "Film", "Score", f"… {behind}"], rows)


def _picture(shown: ShownMiss) -> Picture:
    assert shown.png is not None
    what = "positive" if shown.miss.kind == "missed" else "negative"
    caption = f"{shown.miss.finding}: {what}, score {score_text(shown.miss.score)}, film {shown.number}"
    return Picture(shown.png, caption, f"Chest film {shown.number}, labelled {what} for {shown.miss.finding}")
