"""The tables and pictures of `necklace.py`: AUROC on a split's own test and on new patients, and what lies between.

Axes: S seeds, D draws, N films.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from html import escape

import cv2
import numpy as np
import pandas as pd
from numpy.typing import NDArray

from ray_cxr.bootstrap import auroc_draws, draw_patient_weights, interval, mean_of_draws
from ray_cxr.films.phantom import draw_phantom
from ray_cxr.metrics import auroc

DRAWS = 2000
MEAN = "mean"
OWN, NEW = False, True
"""Which films: those of the split's own test, those of new patients."""
Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Result:
    """What one training scored: predictions, with `new` whether of a new patient."""

    split: str
    seed: int
    scored: pd.DataFrame


@dataclass(frozen=True)
class Figure:
    """A figure as the mean over seeds, for each seed [S], and in each draw of patients and seeds [D]."""

    value: float
    seeds: Floats
    draws: Floats

    def __sub__(self, other: Figure) -> Figure:
        return Figure(self.value - other.value, self.seeds - other.seeds, self.draws - other.draws)

    def text(self, *, sign: bool = False) -> str:
        """The figure with its interval, in Markdown."""
        form = "+.3f" if sign else ".3f"
        ends = interval(self.draws)
        if np.isnan(self.value):
            return "not measurable"
        between = f"{ends[0]:{form}} to {ends[1]:{form}}" if ends else "no interval"
        return f"{self.value:{form}} ({between})".replace("-", "−")


@dataclass(frozen=True)
class Measured:
    """aurocs: (split, which films) → finding, or MEAN → figure. films: of the cohort; seeds: how many."""

    findings: list[str]
    aurocs: dict[tuple[str, bool], dict[str, Figure]]
    films: pd.DataFrame
    seeds: int

    @property
    def splits(self) -> list[str]:
        return list(dict.fromkeys(split for split, _ in self.aurocs))

    def flattery(self, split: str, finding: str) -> Figure:
        """What the split's own test says above the films of new patients.

        MEAN is that of the findings' differences: a draw in which the small test cannot measure a finding leaves it out of both.
        """
        if finding == MEAN:
            return _mean([self.flattery(split, one) for one in self.findings])
        return self.aurocs[split, OWN][finding] - self.aurocs[split, NEW][finding]


def measure(films: pd.DataFrame, results: Sequence[Result]) -> Measured:
    """AUROC of every split on its own test and on new patients: means over seeds.

    Draws are of patients, those of the split and the new ones apart, and of seeds; the same for everything that is compared.
    """
    findings = [c.removeprefix("prob_") for c in results[0].scored if str(c).startswith("prob_")]
    seeds = len({r.seed for r in results})
    chosen = np.random.default_rng(2).integers(0, seeds, (DRAWS, seeds))
    aurocs = {}
    for split in dict.fromkeys(r.split for r in results):
        of_split = [r.scored for r in results if r.split == split]
        for new in (OWN, NEW):
            known = films[films["new"] == new]
            draws = draw_patient_weights(known["patient_id"].tolist(), DRAWS, seed=int(new))
            row = pd.Series(np.arange(len(known)), index=known["image_id"])
            figures = {}
            for finding in findings:
                values, drawn = [], []
                for scored in of_split:
                    here = scored[scored["new"] == new]
                    labels = here[f"label_{finding}"].to_numpy(np.float32)
                    scores = here[f"prob_{finding}"].to_numpy(np.float64)
                    values.append(auroc(labels, scores))
                    drawn.append(auroc_draws(labels, scores, draws.of(row[here["image_id"]].to_numpy())))
                figures[finding] = _over_seeds(np.array(values, np.float64), np.array(drawn), chosen)
            aurocs[split, new] = figures | {MEAN: _mean(list(figures.values()))}
    return Measured(findings, aurocs, films, seeds)


def _over_seeds(values: Floats, drawn: Floats, chosen: NDArray[np.int64]) -> Figure:
    """Of values [S] and draws [S, D]: a draw takes as many seeds as there are, with replacement (chosen [D, S])."""
    picked = np.take_along_axis(drawn.T, chosen, axis=1)
    return Figure(_mean_known(values), values, mean_of_draws(list(picked.T)))


def _mean(figures: Sequence[Figure]) -> Figure:
    """Over findings, of those that can be measured."""
    known = [f for f in figures if not np.isnan(f.value)]
    seeds = np.array([_mean_known(column) for column in np.array([f.seeds for f in known]).T])
    return Figure(_mean_known([f.value for f in known]), seeds, mean_of_draws([f.draws for f in known]))


def _mean_known(values: Sequence[float] | Floats) -> float:
    table = np.asarray(values, np.float64)
    known = table[~np.isnan(table)]
    return float(known.mean()) if len(known) else np.nan


def render(measured: Measured) -> str:
    """The Markdown page: a table a split, and what is to be compared between them."""
    films = measured.films
    old, new = films[~films["new"]], films[films["new"]]
    lines = [
        f"{len(old):,} films of {old['patient_id'].nunique():,} patients are split; {len(new):,} films of "
        f"{new['patient_id'].nunique():,} new patients are in no split. AUROC, mean of {measured.seeds} trainings; 95 % intervals "
        f"from {DRAWS:,} draws of patients and of trainings.",
    ]
    for split in measured.splits:
        lines += [
            "",
            f"| split {split} | its own test | new patients | its own test says more by |",
            "|---|---|---|---|",
        ]
        for finding in [*measured.findings, MEAN]:
            own, unseen = (measured.aurocs[split, which][finding] for which in (OWN, NEW))
            cells = [finding, own.text(), unseen.text(), measured.flattery(split, finding).text(sign=True)]
            lines.append("| " + " | ".join(f"**{c}**" if finding == MEAN else c for c in cells) + " |")
    if len(measured.splits) == 2:
        first, second = measured.splits
        flattery = measured.flattery(second, MEAN) - measured.flattery(first, MEAN)
        skill = measured.aurocs[second, NEW][MEAN] - measured.aurocs[first, NEW][MEAN]
        lines += [
            "",
            f"The test of the split {second} flatters by {flattery.text(sign=True)} more than that of the split {first}. On new "
            f"patients the models of the split {second} are better by {skill.text(sign=True)}.",
        ]
    return "\n".join(lines) + "\n"


_STYLE = (
    "text{fill:#1f2328;font-size:13px}.h{font-size:15px;font-weight:600}.s{fill:#57606a;font-size:12px}"
    ".e{text-anchor:end}.m{text-anchor:middle}.b{font-weight:600}.g{stroke:#d0d7de}.own{fill:#c9620a;stroke:#c9620a}"
    ".new{fill:#3478d1;stroke:#3478d1}.i{stroke-width:2}.d{fill-opacity:.35;stroke:none}"
    "@media(prefers-color-scheme:dark){text{fill:#e6edf3}.s{fill:#9aa4af}.g{stroke:#3d444d}}"
)
_LEFT, _TOP, _ROW, _PANEL, _GAP = 122, 92, 36, 360, 34
_LOW, _HIGH = 0.4, 1.0


def figure(measured: Measured) -> str:
    """An SVG: a panel a split, a line a finding, AUROC on its own test and on new patients with intervals and seeds."""
    rows = [*measured.findings, MEAN]
    bottom = _TOP + _ROW * len(rows)
    width, height = _LEFT + len(measured.splits) * (_PANEL + _GAP), bottom + 46
    what = "AUROC of models on the test of their own split and on new patients, for a split by patient and one by film"
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" '
        f'font-family="system-ui,-apple-system,Segoe UI,sans-serif" role="img" aria-label="{what}">',
        f"<style>{_STYLE}</style>",
        f'<circle class="own" cx="{_LEFT + 6}" cy="20" r="5"/><text x="{_LEFT + 18}" y="24">the split\'s own test</text>',
        f'<circle class="new" cx="{_LEFT + 186}" cy="20" r="5"/><text x="{_LEFT + 198}" y="24">films of new patients</text>',
        f'<text class="s" x="{_LEFT + 366}" y="24">line: 95 % interval · pale: single trainings</text>',
    ]  # fmt: skip
    for number, row in enumerate(rows):
        bold = " b" if row == MEAN else ""
        parts.append(
            f'<text class="e{bold}" x="{_LEFT - 14}" y="{_TOP + _ROW * (number + 0.5) + 4}">{escape(row)}</text>'
        )
    for number, split in enumerate(measured.splits):
        parts += _panel(measured, split, _LEFT + number * (_PANEL + _GAP), rows, bottom)
    return "\n".join([*parts, "</svg>"]) + "\n"


def _panel(measured: Measured, split: str, left: float, rows: Sequence[str], bottom: float) -> list[str]:
    gain = measured.flattery(split, MEAN).text(sign=True)
    parts = [
        f'<text class="h" x="{left}" y="56">split {escape(split)}</text>',
        f'<text class="s" x="{left}" y="76">its own test says {gain} more</text>',
    ]
    for tick in np.arange(_LOW, _HIGH + 0.01, 0.1):
        x = _x(tick, left)
        parts.append(f'<line class="g" x1="{x}" y1="{_TOP}" x2="{x}" y2="{bottom}"/>')
        parts.append(f'<text class="s m" x="{x}" y="{bottom + 18}">{tick:.1f}</text>')
    parts.append(f'<text class="s m" x="{left + _PANEL / 2}" y="{bottom + 38}">AUROC</text>')
    for number, row in enumerate(rows):
        middle = _TOP + _ROW * (number + 0.5)
        for which, css, y in ((OWN, "own", middle - 6), (NEW, "new", middle + 6)):
            parts += _dot(measured.aurocs[split, which][row], css, y, left)
    return parts


def _dot(found: Figure, css: str, y: float, left: float) -> list[str]:
    if np.isnan(found.value):
        return []
    known = found.seeds[~np.isnan(found.seeds)]
    parts = [f'<circle class="{css} d" cx="{_x(v, left)}" cy="{y}" r="3"/>' for v in known]
    if ends := interval(found.draws):
        low, high = (_x(e, left) for e in ends)
        parts.append(f'<line class="{css} i" x1="{low}" y1="{y}" x2="{high}" y2="{y}"/>')
    return [*parts, f'<circle class="{css}" cx="{_x(found.value, left)}" cy="{y}" r="5"/>']


def _x(value: float, left: float) -> float:
    """The place of an AUROC; what lies below the axis stands at its end."""
    return round(left + _PANEL * (max(value, _LOW) - _LOW) / (_HIGH - _LOW), 1)


_PAIRS, _PX, _HEAD_PX = 4, 288, 24
_LASTING = ("Nodule", "Mass")


def pairs(films: pd.DataFrame, sets: NDArray[np.object_]) -> bytes:
    """A PNG: films of a few patients in training, and below each another film of the same patient, which is in test.

    Patients with a lesion that stays come first.
    """
    table = films.assign(sets=sets, lasting=films[[f for f in _LASTING if f in films]].sum(axis=1))
    trained, tested = (table[table["sets"] == name] for name in ("train", "test"))
    both = trained.merge(tested, on="patient_id", suffixes=("", "_test"))
    both = both.assign(lasting=both["lasting"] + both["lasting_test"]).sort_values(
        "lasting", ascending=False, kind="stable"
    )
    shown = both.drop_duplicates("patient_id").head(_PAIRS)
    rows = []
    for title, column in (("in training", "locator"), ("the same patient, in the test", "locator_test")):
        tiles = [_titled(draw_phantom(str(locator), _PX), title) for locator in shown[column]]
        rows.append(np.hstack(tiles))
    return bytes(cv2.imencode(".png", np.vstack(rows))[1])


def _titled(film: NDArray[np.uint8], title: str) -> NDArray[np.uint8]:
    head = np.zeros((_HEAD_PX, film.shape[1]), np.uint8)
    cv2.putText(head, title, (4, _HEAD_PX - 8), cv2.FONT_HERSHEY_SIMPLEX, 0.48, 255, 1, cv2.LINE_AA)
    return np.vstack([head, film])
