"""The page in a real browser: figures drawn, films shown, hostile names harmless, nothing asked for."""

import json
import re
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from ray_cxr.report.explore.exploration import Exploration
from ray_cxr.report.explore.films import Film
from ray_cxr.report.explore.write import write_exploration
from ray_cxr.storage import Folder

from .conftest import material_of

CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
FLAGS = [
    "--headless", "--no-sandbox", "--disable-gpu", "--no-first-run", "--disable-sync", "--disable-dev-shm-usage",
    "--disable-background-networking", "--disable-component-update", "--enable-logging=stderr",
    "--virtual-time-budget=10000", "--window-size=1200,1600",
]  # fmt: skip
RAN = "document.documentElement.dataset.ran = 1"
HOSTILE = [
    f"<script>{RAN}</script>",
    f'<img src=x onerror="{RAN}">',
    f"</script><script>{RAN}</script>",
    "%{y} &amp; $x$",
]
PROBE = """
document.documentElement.dataset.probe = JSON.stringify({
  loaded: performance.getEntriesByType('resource').map(e => e.name).filter(n => !n.startsWith('data:')),
  drawn: [...document.querySelectorAll('.plot')].map(p => [p.id, p.querySelectorAll('.plot .point, .js-line, .scatterlayer path').length]),
  shown: [...document.querySelectorAll('img')].filter(i => i.naturalWidth > 0).length,
  films: document.querySelectorAll('img').length,
  named: [...document.querySelectorAll('#plot-prevalence .ytick')].map(t => t.textContent),
  wide: document.documentElement.scrollWidth > document.documentElement.clientWidth,
})"""
pytestmark = pytest.mark.skipif(
    CHROMIUM is None, reason="needs the browser chromium (apt-get install chromium)"
)
Explore = Callable[..., Exploration]


def opened(folder: Path, *flags: str) -> tuple[str, list[str]]:
    """The page's elements after its scripts have run, and what the console says."""
    assert CHROMIUM is not None
    command = [CHROMIUM, *FLAGS, f"--user-data-dir={folder / 'profile'}", *flags, "--dump-dom"]
    done = subprocess.run(
        [*command, (folder / "index.html").as_uri()], capture_output=True, text=True, timeout=120, check=True
    )
    return done.stdout, [line for line in done.stderr.splitlines() if "CONSOLE" in line]


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory, explore_quietly: Explore) -> Path:
    """A page with every section, of findings with hostile names."""
    rng = np.random.default_rng(0)
    films = 120
    frame = pd.DataFrame({
        "patient_id": [f"p{i // 2}" for i in range(films)], "split": np.resize(["train"] * 4 + ["validation", "test"], films),
        "view": np.resize(["PA", "AP", "<b>LL</b>"], films), "sex": np.resize(["F", "M"], films), "age": rng.integers(1, 90, films).astype(float),
        **{name: (rng.random(films) < 0.4).astype(np.float32) for name in HOSTILE},
    })  # fmt: skip
    pixels = [Film(i, rng.integers(0, 256, (64, 64), dtype=np.uint8), (64, 64)) for i in range(40)]
    folder = tmp_path_factory.mktemp("page")
    write_exploration(
        Folder(folder),
        "a job",
        explore_quietly(material_of(frame, HOSTILE, pixels), films=20),
        "resnet18",
        None,
    )
    return folder


def test_as_it_is_the_console_stays_empty(page: Path) -> None:
    dom, console = opened(page)
    assert console == []
    assert not re.search(r"<html[^>]* data-ran", dom)
    assert len(re.findall(r'class="plot-container', dom)) == 8


def test_narrow_and_without_its_policy(page: Path, tmp_path: Path) -> None:
    html, found = re.subn(
        r'<meta http-equiv="Content-Security-Policy"[^>]*>', "", (page / "index.html").read_text()
    )
    assert found == 1
    (tmp_path / "index.html").write_text(html.replace("</body>", f"<script>{PROBE}</script></body>"))
    dom, console = opened(tmp_path, "--window-size=600,1600")
    assert console == []
    assert not re.search(r"<html[^>]* data-ran", dom)
    noted = _noted(dom)
    assert noted["loaded"] == []
    assert noted["shown"] == noted["films"] > 20
    assert len(noted["drawn"]) == 8
    assert all(marks > 0 for _, marks in noted["drawn"]), noted["drawn"]
    assert not noted["wide"], "the page is wider than the window"
    assert any(name.startswith("<script>") for name in noted["named"])


def _noted(dom: str) -> Any:
    found = re.search(r'<html[^>]* data-probe="([^"]*)"', dom)
    assert found
    text = found[1]
    for entity, character in (("&quot;", '"'), ("&lt;", "<"), ("&gt;", ">"), ("&amp;", "&")):
        text = text.replace(entity, character)
    return json.loads(text)
