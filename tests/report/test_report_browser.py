"""The report in a real browser: every figure is drawn, the console stays empty, hostile names run nothing."""

import json
import re
import shutil
import subprocess
from collections.abc import Callable
from dataclasses import dataclass
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from ray_cxr.bootstrap import draw_patient_weights
from ray_cxr.evaluate.compare import compare
from ray_cxr.evaluate.compare_protocol import Entry
from ray_cxr.evaluate.inputs import Scored
from ray_cxr.evaluate.readers import Readings
from ray_cxr.evaluate.readers_result import ReaderOptions, make_consensus, study_readers
from ray_cxr.report.compare import render_comparison
from ray_cxr.report.contents import Contents, ReportContents
from ray_cxr.report.html import render_page, render_report
from ray_cxr.report.reader_sections import reader_sections

CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
FLAGS = [
    "--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-sync", "--disable-dev-shm-usage",
    "--disable-background-networking", "--disable-component-update", "--enable-logging=stderr",
    "--virtual-time-budget=10000", "--window-size=1200,1600",
]  # fmt: skip
DARK = ("--force-dark-mode", "--blink-settings=preferredColorScheme=0")
RAN = "document.documentElement.dataset.ran = 1"
HOSTILE = [
    f"<script>{RAN}</script>",
    f'<img src=x onerror="{RAN}">',
    f"</script><script>{RAN}</script>",
    f'<a href="javascript:{RAN}">b</a>',
    "%{customdata} &amp; $x$",
]
pytestmark = pytest.mark.skipif(
    CHROMIUM is None, reason="needs the browser chromium (apt-get install chromium)"
)
MakeContents = Callable[..., ReportContents]


@dataclass(frozen=True)
class Opened:
    """A page after its scripts have run."""

    dom: str
    console: list[str]

    def noted(self) -> Any:
        """What `_probe` wrote."""
        found = re.search(r'<html[^>]* data-probe="([^"]*)"', self.dom)
        assert found
        return json.loads(
            found[1].replace("&quot;", '"').replace("&lt;", "<").replace("&gt;", ">").replace("&amp;", "&")
        )


class Drawings(HTMLParser):
    """By plot: the lines drawn, the texts of the legend, the buttons."""

    def __init__(self, dom: str) -> None:
        super().__init__()
        self.lines: dict[str, int] = {}
        self.legend: dict[str, list[str]] = {}
        self.buttons: set[str] = set()
        self._plot = ""
        self._in_legend = False
        self.feed(dom)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        a = {name: value or "" for name, value in attrs}
        classes = a.get("class", "").split()
        if "plot" in classes:
            self._plot = a["id"]
            self.lines[self._plot], self.legend[self._plot] = 0, []
        if tag == "path" and "js-line" in classes and len(a.get("d", "")) > 8:
            self.lines[self._plot] += 1
        if "modebar-btn" in classes:
            self.buttons.add(a["data-title"])
        self._in_legend = tag == "text" and "legendtext" in classes

    def handle_data(self, data: str) -> None:
        if self._in_legend:
            self.legend[self._plot].append(data)
            self._in_legend = False


def _open(html: str, folder: Path, *flags: str) -> Opened:
    page = folder / "index.html"
    page.write_text(html, encoding="utf-8")
    assert CHROMIUM is not None
    command = [CHROMIUM, *FLAGS, f"--user-data-dir={folder / 'profile'}", *flags, "--dump-dom", page.as_uri()]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=True)
    return Opened(done.stdout, [line for line in done.stderr.splitlines() if "CONSOLE" in line])


def _probe(html: str, expression: str) -> str:
    """The page without its policy, noting what a JavaScript expression gives: only escaping protects it now."""
    html, found = re.subn(r'<meta http-equiv="Content-Security-Policy"[^>]*>', "", html)
    assert found == 1
    script = f"document.documentElement.dataset.probe = JSON.stringify({expression})"
    return html.replace("</body>", f"<script>{script}</script></body>")


@pytest.mark.parametrize(
    ("arguments", "lines"),
    [
        (
            {"blank": ("Hernia",)},
            {"plot-roc": 14, "plot-precision-recall": 13, "plot-learning": 4, "plot-learning-findings": 14},
        ),
        (
            {"findings": ["Effusion"], "epochs": 3},
            {"plot-roc": 2, "plot-precision-recall": 1, "plot-learning": 4, "plot-learning-findings": 1},
        ),
        (
            {"findings": ["Mass"], "films": 40, "blank": ("Mass",)},
            {"plot-learning": 4, "plot-learning-findings": 1},
        ),
    ],
)
def test_every_curve_is_drawn_and_the_console_is_empty(
    make_contents: MakeContents, tmp_path: Path, arguments: dict[str, Any], lines: dict[str, int]
) -> None:
    opened = _open(render_report(make_contents(**arguments)), tmp_path)
    assert opened.console == []
    drawings = Drawings(opened.dom)
    # A plot's marker-only trace has no line; the diagonal of the ROC curves has one.
    assert {name: n for name, n in drawings.lines.items() if name.startswith("plot-")} == lines
    small = {name: n for name, n in drawings.lines.items() if not name.startswith("plot-")}
    findings = lines.get("plot-precision-recall", 0)
    assert len(small) == 3 * findings  # ROC, precision-recall, reliability
    assert all(n >= 2 for n in small.values()), (
        small
    )  # the curve, and what guessing or being right would give
    assert drawings.buttons == {"Download plot as a PNG", "Zoom", "Pan", "Reset axes"}


def test_report_without_a_run_is_drawn_and_has_no_sections_of_one(
    make_files_contents: Callable[..., Contents], tmp_path: Path
) -> None:
    html = render_report(make_files_contents(["Mass", "Edema", *HOSTILE]))
    loaded = "performance.getEntriesByType('resource').map(e => e.name)"
    opened = _open(_probe(html, f"{{loaded: {loaded}}}"), tmp_path)
    assert opened.console == []
    assert not re.search(r"<html[^>]* data-ran", opened.dom)
    assert opened.noted()["loaded"] == []
    drawings = Drawings(opened.dom)
    # Scores are no probabilities here: no reliability.
    assert len(drawings.lines) == 2 + 2 * (2 + len(HOSTILE))
    assert all(drawings.lines.values())
    for run_only in ('id="learning"', 'id="exposure"', 'id="splits"', 'id="settings"', 'id="calibration-0"'):
        assert run_only not in opened.dom
    assert 'id="input"' in opened.dom


def test_hostile_names_are_shown_and_run_nothing(make_contents: MakeContents, tmp_path: Path) -> None:
    html = render_report(make_contents([*HOSTILE, "Mass"]))
    hover = (
        "(Plotly.Fx.hover('plot-roc', [0, 1, 2, 3, 4, 5].map(n => ({curveNumber: n, pointNumber: 9}))), 0)"
    )
    seen = "[...document.querySelectorAll('.hovertext .nums')].map(e => e.textContent)"
    loaded = "performance.getEntriesByType('resource').map(e => e.name)"
    opened = _open(_probe(html, f"{{hover: {hover}, seen: {seen}, loaded: {loaded}}}"), tmp_path)
    assert opened.console == []
    assert not re.search(r"<html[^>]* data-ran", opened.dom)
    noted = opened.noted()
    assert noted["loaded"] == []
    shown = noted["seen"]
    assert any(text.startswith("<script>") for text in shown)
    assert any(text.startswith("<img src=x") for text in shown)
    legend = [text.rpartition(" ")[0] for text in Drawings(opened.dom).legend["plot-roc"]]
    assert sorted(legend) == sorted(
        [*(n if len(n) <= 26 else n[:25] + "…" for n in HOSTILE), "Mass", "guessing"]
    )


def test_policy_stops_a_foreign_script(make_contents: MakeContents, tmp_path: Path) -> None:
    html = render_report(make_contents(["Mass"])).replace("</body>", f"<script>{RAN}</script></body>")
    opened = _open(html, tmp_path)
    assert not re.search(r"<html[^>]* data-ran", opened.dom)
    assert any("Content Security Policy" in line for line in opened.console)


def test_figures_follow_the_colour_scheme(make_contents: MakeContents, tmp_path: Path) -> None:
    text = "getComputedStyle(document.querySelector('#plot-roc .xtick text')).fill"
    page = "getComputedStyle(document.body)"
    html = _probe(render_report(make_contents(["Mass"])), f"[{text}, {page}.color, {page}.backgroundColor]")
    light, dark = _open(html, tmp_path).noted(), _open(html, tmp_path, *DARK).noted()
    assert light[0] == light[1]
    assert dark[0] == dark[1]
    assert light[1:] != dark[1:]


def _scored(names: list[str]) -> Scored:
    """Films of 40 patients with labels and scores of findings of such names."""
    rng = np.random.default_rng(0)
    labels = (rng.random((80, len(names))) < 0.5).astype(np.float32)
    scores = labels + rng.normal(size=labels.shape)
    ids, patients = (np.array([f"{n // k}" for n in range(80)], object) for k in (1, 2))
    return Scored(ids, patients, names, labels, scores)


def test_the_page_of_a_comparison(tmp_path: Path) -> None:
    entries = [Entry(name, _scored(HOSTILE[:2]), {}) for name in ("run", HOSTILE[2])]
    html = render_comparison(compare(entries, draws=100))
    opened = _open(html, tmp_path)
    assert opened.console == []
    assert not re.search(r"<html[^>]* data-ran", opened.dom)
    assert Drawings(opened.dom).lines == {"plot-difference-0": 0, "plot-overlay-0": 3, "plot-overlay-1": 3}


def test_readers_beside_the_model(tmp_path: Path) -> None:
    scored = _scored(HOSTILE[:2])
    flips = np.random.default_rng(1).random((80, 3, 2)) < 0.2
    answers = np.where(flips, 1 - scored.labels[:, None], scored.labels[:, None]).astype(np.float32)
    none = np.zeros((3, 2), np.int64)
    readings = Readings(
        scored.image_ids, scored.patient_ids, ["a", "b", HOSTILE[2]], scored.findings, answers, none, none
    )
    draws = draw_patient_weights(scored.units.tolist(), 100, seed=0)
    options = ReaderOptions(names=True)
    made = make_consensus(readings, options).labels
    result = study_readers(readings, scored.findings, made, scored.scores, options, draws, made_here=True)
    opened = _open(render_page("report.html.jinja", "t", reader_sections(result), None), tmp_path)
    assert opened.console == []
    assert not re.search(r"<html[^>]* data-ran", opened.dom)
    drawings = Drawings(opened.dom)
    # Of each finding the model's curve, its three curves against the others' consensus, and the diagonal of the ROC.
    assert drawings.lines == {
        "plot-readers-0": 5, "plot-reader-precision-0": 4, "plot-readers-1": 5, "plot-reader-precision-1": 4,
    }  # fmt: skip
    assert "mean of 3 readers" in drawings.legend["plot-readers-0"]


_TABLES = (
    "[...document.querySelectorAll('.scroll')].map(e => ({name: e.querySelector('caption').textContent, "
    "wide: e.scrollWidth > e.clientWidth + 1, high: e.scrollHeight > e.clientHeight + 1, "
    "stop: e.tabIndex, role: e.getAttribute('role'), label: e.getAttribute('aria-label')}))"
)
_HEADS = "[...document.querySelectorAll('#results thead th')].map(e => [e.textContent, Math.round(e.getBoundingClientRect().right)])"


def test_tables_fit_or_scroll_by_keyboard(make_contents: MakeContents, tmp_path: Path) -> None:
    """On a desk every table is whole but those of many columns; on a telephone the AUROC is still in sight."""
    html = _probe(render_report(make_contents(pictures=True)), f"{{tables: {_TABLES}, heads: {_HEADS}}}")
    desk = _open(html, tmp_path, "--window-size=1280,1600").noted()
    telephone = _open(html, tmp_path, "--window-size=500,1600").noted()
    assert {t["name"] for t in desk["tables"] if t["wide"]} == {
        "AUROC by age band",
        "Validation AUROC by epoch",
        "Positive / negative labels by epoch",
    }
    for tables in (desk["tables"], telephone["tables"]):
        for table in tables:
            scrolls = table["wide"] or table["high"]
            assert (table["stop"] == 0, table["role"]) == (scrolls, "region" if scrolls else None), table
            assert table["label"] == (table["name"] if scrolls else None)
    assert any(t["wide"] for t in telephone["tables"])
    assert dict(telephone["heads"])["AUROC"] <= 400


def test_the_table_of_differences_is_whole(tmp_path: Path) -> None:
    entries = [Entry(name, _scored(["Pleural Thickening", "Mass"]), {}) for name in ("densenet", "resnet")]
    html = _probe(render_comparison(compare(entries, draws=100)), _TABLES)
    tables = _open(html, tmp_path, "--window-size=1280,1600").noted()
    assert "Difference of AUROC: densenet − resnet" in {t["name"] for t in tables}
    assert not [t["name"] for t in tables if t["wide"]]
