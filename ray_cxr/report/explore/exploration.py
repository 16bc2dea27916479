"""Everything that the page and explore.json say, in one object.

Reads: `Material` and, if wanted, a sample of its films. Gives: `Exploration`; no patient and no file is named in it.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import pandas as pd

from ray_cxr.loss.settings import LossSettings
from ray_cxr.report.explore.counts import (
    CoOccurrence,
    GroupCount,
    co_occurrence,
    count_by,
    count_group,
    findings_per_film,
)
from ray_cxr.report.explore.material import Material
from ray_cxr.report.explore.overlap import Overlap, overlap
from ray_cxr.report.explore.people import (
    NOT_GIVEN,
    Giveaway,
    PatientCount,
    age_bands,
    age_histogram,
    count_patients,
    giveaways,
    given,
)
from ray_cxr.report.explore.pixels import PixelFacts, look_at_films, pixel_summary
from ray_cxr.stream.settings import StreamSettings

SPLITS = ("train", "validation", "test", "unused")


@dataclass(frozen=True)
class People:
    """Age, sex and view of the films. by: "view", "sex", "age" → value → counts per finding."""

    age_known: int
    age_quartiles: tuple[float, float, float] | None
    age_histogram: dict[str, dict[str, int]]
    sexes: dict[str, int]
    views: dict[str, int]
    by: dict[str, dict[str, GroupCount]]
    giveaways: dict[str, dict[str, Giveaway]]


@dataclass(frozen=True)
class Exploration:
    """here: counts of the films that were found, where some were not. trained: what the loss weights come from."""

    material: Material
    overall: GroupCount
    here: GroupCount | None
    splits: dict[str, GroupCount]
    folds: dict[str, GroupCount]
    sources: dict[str, GroupCount]
    patients: PatientCount
    together: CoOccurrence
    per_film: dict[int, int]
    people: People
    leaks: dict[str, Overlap]
    duplicates: int | None
    """Films whose pixels are those of an earlier film; None = not known before `prepare`."""
    pixels: PixelFacts | None
    stream: StreamSettings
    loss: LossSettings

    @property
    def findings(self) -> list[str]:
        return self.material.findings

    @property
    def films_here(self) -> int:
        return self.overall.films if self.here is None else self.here.films

    @property
    def trained(self) -> GroupCount:
        """The training split, or everything where there is none."""
        return self.splits.get("train", self.overall)

    @property
    def sizes(self) -> dict[tuple[int, int], int]:
        """(width, height) of the files → films, most frequent first: of all films, or of the sample."""
        if self.material.sizes is not None:
            known = list(zip(self.material.sizes["width"], self.material.sizes["height"], strict=True))
        else:
            films = self.pixels.films if self.pixels is not None else []
            known = [(f.original[1], f.original[0]) for f in films if f.original is not None]
        return {(int(w), int(h)): n for (w, h), n in Counter(known).most_common()}


def explore(
    material: Material, stream: StreamSettings, loss: LossSettings, films: int, start: Callable[[str, int], None],
    advance: Callable[[int], None],
) -> Exploration:  # fmt: skip
    """Counts everything; `films` of them are looked at (0: none)."""
    frame, findings = material.frame, material.findings
    labels = frame[findings].to_numpy(np.float32)
    dealt = frame.assign(split=pd.Categorical(frame["split"].replace("", np.nan), SPLITS))
    pixels = None
    if films and frame["here"].any():
        pixels = look_at_films(material.films, frame, findings, films, material.seed, start, advance)
    return Exploration(
        material=material,
        overall=count_group(frame, findings),
        here=None if frame["here"].all() else count_group(frame[frame["here"]], findings),
        splits={n: c for n, c in count_by(dealt, findings, "split").items() if c.films},
        folds=count_by(frame, findings, "fold") if "fold" in frame else {},
        sources=count_by(frame, findings, "source"),
        patients=count_patients(frame["patient_id"]),
        together=co_occurrence(labels),
        per_film=findings_per_film(labels),
        people=_people(frame, findings),
        leaks=_leaks(frame),
        duplicates=int(frame["pixel_sha256"].duplicated().sum()) if "pixel_sha256" in frame else None,
        pixels=pixels,
        stream=stream,
        loss=loss,
    )


def _people(frame: pd.DataFrame, findings: list[str]) -> People:
    ages = frame["age"].astype(np.float64) if "age" in frame else pd.Series(np.nan, index=frame.index)
    views, sexes = given(frame, "view"), given(frame, "sex")
    groups = frame.assign(view=views, sex=sexes, age=age_bands(ages))
    known = ages.dropna()
    return People(
        age_known=len(known),
        age_quartiles=tuple(np.quantile(known, (0.25, 0.5, 0.75)).tolist()) if len(known) else None,
        age_histogram=age_histogram(ages, sexes),
        sexes={str(k): int(n) for k, n in sexes.value_counts().items()},
        views={str(k): int(n) for k, n in views.value_counts().items()},
        by={
            column: counted
            for column in ("view", "sex", "age")
            if set(counted := count_by(groups, findings, column)) - {NOT_GIVEN}
        },
        giveaways=giveaways(frame, findings),
    )


def _leaks(frame: pd.DataFrame) -> dict[str, Overlap]:
    found = {
        "splits": overlap(frame, "split"),
        "given": overlap(frame, "given_split"),
        "folds": overlap(frame, "fold"),
    }
    return {name: held for name, held in found.items() if held is not None}


def exploration_json(found: Exploration) -> dict[str, Any]:
    """explore.json: every figure of the page. null = nothing to count."""
    material, people = found.material, found.people
    return {
        "format": 1,
        "prepared": material.prepared,
        "rows": found.overall.films,
        "films": found.films_here,
        "findings": found.findings,
        "overall": found.overall.as_dict(),
        "films_found": None if found.here is None else found.here.as_dict(),
        "splits": {n: c.as_dict() for n, c in found.splits.items()},
        "folds": {n: c.as_dict() for n, c in found.folds.items()},
        "by_source": {n: c.as_dict() for n, c in found.sources.items()},
        "films_per_patient": asdict(found.patients),
        "findings_per_film": {str(k): n for k, n in found.per_film.items()},
        "co_occurrence": {
            "together": found.together.together.tolist(),
            "share_of_column_with_row": _null_for_nan(found.together.share),
        },
        "age": {"known": people.age_known, "quartiles": people.age_quartiles, "by_sex": people.age_histogram},
        "sex": people.sexes,
        "view": people.views,
        "by": {c: {v: n.as_dict() for v, n in counted.items()} for c, counted in people.by.items()},
        "auroc_without_pixels": {
            f: {c: g.auroc for c, g in g_.items()} for f, g_ in people.giveaways.items()
        },
        "leak_checks": {name: held.as_dict() for name, held in found.leaks.items()},
        "duplicate_films": found.duplicates,
        "original_sizes": [{"width": w, "height": h, "images": n} for (w, h), n in found.sizes.items()],
        "pixels": None if found.pixels is None else pixel_summary(found.pixels),
        "sources": material.sources,
        "refused": material.refused,
        "dataset": material.dataset,
        "notes": list(material.notes),
    }


def _null_for_nan(values: np.ndarray[Any, Any]) -> list[list[float | None]]:
    return [[None if np.isnan(v) else float(v) for v in row] for row in values]
