"""The report's figures for machines: one JSON object with the curves, and flat tables. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from ray_cxr.evaluate.bands import GRID, Band
from ray_cxr.report.contents import Contents
from ray_cxr.report.figures import Curve, curve_trace, precision_recall_curves, roc_curves

_POINTS = 1000


def figures_data(contents: Contents) -> dict[str, Any]:
    """`metrics.json` with the curves (at most _POINTS points each) and bands that the report draws; null = not measurable."""
    roc = roc_curves(contents.findings, contents.labels, contents.scores, contents.measured("auroc"))
    precision = contents.measured("average_precision")
    return {
        "metrics": contents.metrics,
        "roc": {c.finding: _curve(c, contents.bands, 0, "false_positive_rate", "sensitivity") for c in roc},
        "precision_recall": {
            c.finding: _curve(c, contents.bands, 1, "recall", "precision")
            for c in precision_recall_curves(contents.findings, contents.labels, contents.scores, precision)
        },
    }


def _curve(
    curve: Curve, bands: Mapping[str, tuple[Band, Band]], which: int, x: str, y: str
) -> dict[str, Any]:
    drawn = curve_trace(curve, "linear", "", _POINTS)
    data: dict[str, Any] = {x: drawn["x"], y: drawn["y"]}
    if curve.finding in bands:
        band = bands[curve.finding][which]
        data["band"] = {x: GRID.tolist(), "low": _numbers(band.low), "high": _numbers(band.high)}
    return data


def _numbers(values: NDArray[np.float64]) -> list[float | None]:
    return [None if np.isnan(v) else round(float(v), 6) for v in values]


def tables(metrics: Mapping[str, Any]) -> dict[str, pd.DataFrame]:
    """Name → table: findings, and as far as they were measured operating-points, reliability and subgroups."""
    found = {
        "findings": _findings(metrics),
        "operating-points": _operating_points(metrics),
        "reliability": _reliability(metrics),
        "subgroups": _subgroups(metrics),
    }
    return {name: pd.DataFrame(rows) for name, rows in found.items() if rows}


def _ends(name: str, ends: Any) -> dict[str, Any]:
    low, high = ends or (None, None)
    return {f"{name}_low": low, f"{name}_high": high}


def _findings(metrics: Mapping[str, Any]) -> list[dict[str, Any]]:
    intervals, calibration = metrics["intervals"], metrics["calibration"]["findings"] or {}
    rows = []
    for finding in metrics["auroc"]:
        row = {"finding": finding} | {k: metrics[k][finding] for k in ("positives", "labelled", "auroc")}
        row |= _ends("auroc", intervals["auroc"][finding]) | {
            "average_precision": metrics["average_precision"][finding]
        }
        row |= _ends("average_precision", intervals["average_precision"][finding])
        row |= _ends("auroc_delong", intervals["delong"][finding])
        if intervals["clustered"]:
            row |= _ends("auroc_delong_clustered", intervals["delong_clustered"][finding])
            row |= _ends("auroc_image_level", intervals["image_level"]["auroc"][finding])
        known = calibration.get(finding) or {}
        row |= {"brier": known.get("brier")} | _ends("brier", known.get("brier_interval"))
        row |= {k: known.get(k) for k in ("ece", "ece_equal_count")}
        rows.append(row)
    return rows


def _operating_points(metrics: Mapping[str, Any]) -> list[dict[str, Any]]:
    rows = []
    for finding, points in (metrics["operating_points"]["findings"] or {}).items():
        for name, point in (points or {}).items():
            row = {"finding": finding, "point": name}
            for key, value in point.items():
                row |= (
                    {key: value["value"], **_ends(key, value["interval"])}
                    if isinstance(value, dict)
                    else {key: value}
                )
            rows.append(row)
    return rows


def _reliability(metrics: Mapping[str, Any]) -> list[dict[str, Any]]:
    return [
        {"finding": finding, "bin": number, "films": b["films"], "mean_score": b["mean_score"], "positive_share": b["positive_share"]}
        | _ends("positive_share", b["interval"])
        for finding, found in (metrics["calibration"]["findings"] or {}).items() if found
        for number, b in enumerate(found["curve"], 1)
    ]  # fmt: skip


def _subgroups(metrics: Mapping[str, Any]) -> list[dict[str, Any]]:
    rows = []
    for grouping, groups in metrics["subgroups"]["groupings"].items():
        for group, entry in groups.items():
            for finding, figures in entry["findings"].items():
                if figures is None:
                    continue
                row = {"grouping": grouping, "group": group, "finding": finding}
                row |= {k: figures[k] for k in ("films", "positives", "small", "auroc")}
                row |= (
                    _ends("auroc", figures["interval"])
                    | {"gap": figures["gap"]}
                    | _ends("gap", figures["gap_interval"])
                )
                rows.append(row | {"p": figures["p"], "p_holm": figures["p_holm"]})
    return rows
