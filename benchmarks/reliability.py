"""Whether probabilities mean something: Brier score and calibration error before and after calibration, and the curves.

    ray-cxr demo
    python benchmarks/reliability.py demo/run --figure docs/reliability.png

Reads the test predictions of an evaluated run and the calibration of its model. The same logits are read three ways: as
they are, with the loss's shift taken back, and as `predict` gives them (shift and Platt scaling). Prints a table; the
figure needs the browser chromium.
"""

from __future__ import annotations

import argparse
import io
import shutil
import subprocess
import tempfile
from pathlib import Path

import numpy as np
import pandas as pd
import plotly.graph_objects as go
from numpy.typing import NDArray
from plotly.subplots import make_subplots
from scipy.special import expit, logit
from sklearn.metrics import brier_score_loss

from ray_cxr.axes import Labels, Scores
from ray_cxr.storage import Folder

BINS = 10
WAYS = {"as the network gives it": "#b5651d", "shift taken back": "#4477aa", "shift and Platt": "#228833"}


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("run")
    parser.add_argument("--figure", type=Path, help="PNG to write")
    given = parser.parse_args()
    findings, labels, ways = three_ways(Folder(given.run))
    print(table(findings, labels, ways))
    if given.figure:
        picture(findings, labels, ways, given.figure)


def three_ways(run: Folder) -> tuple[list[str], Labels, dict[str, Scores]]:
    """Findings, labels [N, F] of the test films, and their probabilities [N, F] by way."""
    metrics, card = run.read_json("metrics.json"), run.read_json("best/model.json")
    if metrics["split"] != "test" or metrics["probabilities"] != "calibrated":
        raise SystemExit("run `ray-cxr evaluate` (without --raw) on this run first")
    findings, fits = card["findings"], card["calibration"]["findings"]
    predictions = pd.read_parquet(io.BytesIO(run.read_bytes("predictions-test.parquet")))
    calibrated = predictions[[f"prob_{f}" for f in findings]].to_numpy()
    slope, intercept, shift = (
        np.array([fits[f][k] for f in findings]) for k in ("slope", "intercept", "shift")
    )
    shifted = (logit(calibrated) - intercept) / slope
    scores = (expit(shifted + shift), expit(shifted), calibrated)
    labels = predictions[[f"label_{f}" for f in findings]].to_numpy(np.float32)
    return findings, labels, dict(zip(WAYS, scores, strict=True))


def curve(labels: NDArray[np.float32], scores: NDArray[np.float64]) -> NDArray[np.float64]:
    """[bins, 3]: mean probability, share of positives, films, in bins of equally many films."""
    order = np.argsort(scores, kind="stable")
    parts = [part for part in np.array_split(order, BINS) if len(part)]
    return np.array([[scores[p].mean(), labels[p].mean(), len(p)] for p in parts])


def calibration_error(labels: NDArray[np.float32], scores: NDArray[np.float64]) -> float:
    """Expected calibration error: mean distance of the bins' two figures, by films (Naeini et al., AAAI 2015)."""
    bins = curve(labels, scores)
    return float(np.average(np.abs(bins[:, 0] - bins[:, 1]), weights=bins[:, 2]))


def table(findings: list[str], labels: Labels, ways: dict[str, Scores]) -> str:
    """Brier score and ECE by finding and way, and their means."""
    rows, figures = [], []
    for i, finding in enumerate(findings):
        known = ~np.isnan(labels[:, i])
        y = labels[known, i]
        pairs = [(brier_score_loss(y, s[known, i]), calibration_error(y, s[known, i])) for s in ways.values()]
        figures.append(pairs)
        rows.append(_row(f"{finding} ({int(y.sum())} of {len(y)})", np.array(pairs)))
    head = ["| finding (positive films) | " + " | ".join(ways) + " |", "|---" * (1 + len(ways)) + "|"]
    return "\n".join([*head, *rows, _row("mean", np.mean(figures, axis=0))])


def _row(title: str, pairs: NDArray[np.float64]) -> str:
    return f"| {title} | " + " | ".join(f"{brier:.3f} / {error:.3f}" for brier, error in pairs) + " |"


def picture(findings: list[str], labels: Labels, ways: dict[str, Scores], png: Path) -> None:
    """A panel a finding: share of positive films against the probability given, a line a way."""
    columns = 4
    lines = -(-len(findings) // columns)
    figure = make_subplots(
        lines, columns, subplot_titles=findings, horizontal_spacing=0.05, vertical_spacing=0.13
    )
    for i in range(len(findings)):
        place = {"row": i // columns + 1, "col": i % columns + 1}
        known = ~np.isnan(labels[:, i])
        figure.add_scatter(
            x=[0, 1], y=[0, 1], mode="lines", line={"color": "#bbb", "width": 1}, showlegend=False, **place
        )
        for (way, scores), colour in zip(ways.items(), WAYS.values(), strict=True):
            bins = curve(labels[known, i], scores[known, i])
            figure.add_scatter(
                x=bins[:, 0], y=bins[:, 1], mode="lines+markers", name=way, legendgroup=way, showlegend=i == 0,
                line={"color": colour, "width": 2}, marker={"size": 6}, **place,
            )  # fmt: skip
    figure.update_xaxes(range=[-0.03, 1.03], tickvals=[0, 0.5, 1])
    figure.update_yaxes(range=[-0.03, 1.03], tickvals=[0, 0.5, 1])
    figure.update_layout(
        template="simple_white", width=1200, height=320 * lines, margin={"l": 60, "r": 20, "t": 70, "b": 55},
        legend={"orientation": "h", "x": 0, "y": 1.14}, font={"size": 14},
    )  # fmt: skip
    figure.add_annotation(
        text="probability given", x=0.5, y=-0.1, xref="paper", yref="paper", showarrow=False
    )
    figure.add_annotation(
        text="share of films with the finding",
        x=-0.05,
        y=0.5,
        xref="paper",
        yref="paper",
        textangle=-90,
        showarrow=False,
    )
    _screenshot(figure, png)


def _screenshot(figure: go.Figure, png: Path) -> None:
    browser = shutil.which("chromium") or shutil.which("google-chrome")
    if browser is None:
        raise SystemExit("--figure needs the browser chromium (apt-get install chromium)")
    with tempfile.TemporaryDirectory() as folder:
        page = Path(folder) / "figure.html"
        html = figure.to_html(include_plotlyjs=True, config={"staticPlot": True})
        page.write_text(html.replace("<body>", '<body style="margin:0">'), encoding="utf-8")
        size = f"--window-size={figure.layout.width},{figure.layout.height}"
        flags = [
            "--headless",
            "--no-sandbox",
            "--disable-gpu",
            "--hide-scrollbars",
            "--virtual-time-budget=5000",
            size,
        ]
        subprocess.run(
            [browser, *flags, f"--user-data-dir={folder}/profile", f"--screenshot={png.resolve()}", page.as_uri()],
            check=True, capture_output=True, timeout=120,
        )  # fmt: skip


if __name__ == "__main__":
    main()
