"""The page of a search in a real browser: figures drawn, hostile names harmless, nothing asked for, narrow enough."""

import json
import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest

from ray_cxr.report.tune.write import write_study_report
from ray_cxr.storage import Folder

from .conftest import MakeStudy

CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
FLAGS = [
    "--headless", "--no-sandbox", "--disable-gpu", "--no-first-run", "--disable-sync", "--disable-dev-shm-usage",
    "--disable-background-networking", "--disable-component-update", "--enable-logging=stderr",
    "--virtual-time-budget=10000", "--window-size=1280,1600",
]  # fmt: skip
DARK = ("--force-dark-mode", "--blink-settings=preferredColorScheme=0")
RAN = "document.documentElement.dataset.ran = 1"
HOSTILE = (f"<script>{RAN}</script>", f'<img src=x onerror="{RAN}">', "%{y} &amp; $x$")
PROBE = """
document.documentElement.dataset.probe = JSON.stringify({
  loaded: performance.getEntriesByType('resource').map(e => e.name).filter(n => !n.startsWith('data:')),
  drawn: [...document.querySelectorAll('.plot')].map(p => [p.id, p.querySelectorAll('.scatterlayer path, .point path').length]),
  legend: [...document.querySelectorAll('#plot-curves .legendtext')].map(t => t.textContent),
  wide: document.documentElement.scrollWidth > document.documentElement.clientWidth,
  note: [...document.querySelectorAll('#plot-parallel .annotation .bg')].map(r => getComputedStyle(r).fill)[0],
  page: getComputedStyle(document.body).backgroundColor,
})"""
FIGURES = [
    "plot-curves", "plot-importance", "slice-0", "slice-1", "slice-2", "slice-3", "slice-4", "slice-5", "plot-parallel",
    "plot-pareto-0", "plot-effort",
]  # fmt: skip
pytestmark = pytest.mark.skipif(
    CHROMIUM is None, reason="needs the browser chromium (apt-get install chromium)"
)


def _opened(folder: Path, *flags: str) -> tuple[str, list[str]]:
    """The page's elements after its scripts have run, and what the console says."""
    assert CHROMIUM is not None
    command = [CHROMIUM, *FLAGS, f"--user-data-dir={folder / 'profile'}", *flags, "--dump-dom"]
    done = subprocess.run(
        [*command, (folder / "index.html").as_uri()], capture_output=True, text=True, timeout=120, check=True
    )
    return done.stdout, [line for line in done.stderr.splitlines() if "CONSOLE" in line]


def _noted(dom: str) -> Any:
    found = re.search(r'<html[^>]* data-probe="([^"]*)"', dom)
    assert found
    text = found[1]
    for entity, character in (("&quot;", '"'), ("&lt;", "<"), ("&gt;", ">"), ("&amp;", "&")):
        text = text.replace(entity, character)
    return json.loads(text)


@pytest.fixture(scope="module")
def page(make_study: MakeStudy) -> Path:
    """A page with every section, whose backbones and reasons of failure have hostile names."""
    study = make_study(objectives=("mean_auroc", "macs"), backbones=HOSTILE, failures=HOSTILE)
    write_study_report(Folder(str(study)))
    return study / "report"


@pytest.fixture(scope="module")
def open_page(page: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The page without its policy, with a probe: only escaping protects it now."""
    html, found = re.subn(
        r'<meta http-equiv="Content-Security-Policy"[^>]*>', "", (page / "index.html").read_text("utf-8")
    )
    assert found == 1
    folder = tmp_path_factory.mktemp("open")
    (folder / "index.html").write_text(html.replace("</body>", f"<script>{PROBE}</script></body>"), "utf-8")
    return folder


def test_as_it_is_the_console_stays_empty_and_every_figure_is_drawn(page: Path) -> None:
    dom, console = _opened(page)
    assert console == []
    assert not re.search(r"<html[^>]* data-ran", dom)
    assert len(re.findall(r'class="plot-container', dom)) == len(FIGURES)


def test_narrow_and_without_its_policy(open_page: Path) -> None:
    dom, console = _opened(open_page, "--window-size=500,1600")
    assert console == []
    assert not re.search(r"<html[^>]* data-ran", dom)
    noted = _noted(dom)
    assert noted["loaded"] == []
    assert [name for name, _ in noted["drawn"]] == FIGURES
    assert all(marks > 0 for _, marks in noted["drawn"]), noted["drawn"]
    assert not noted["wide"], "the page is wider than the window"
    assert any(name.startswith("<script>") for name in noted["legend"])


def test_notes_in_figures_stand_on_the_pages_ground(open_page: Path) -> None:
    light, dark = (_noted(_opened(open_page, *flags)[0]) for flags in ((), DARK))
    assert light["note"] == light["page"] != dark["page"] == dark["note"]
