"""What the documents say is held against what is there."""

import importlib.util
import re
import shlex
from pathlib import Path
from typing import Any

import pytest

from ray_cxr.cli.main import run
from ray_cxr.job import load_job

ROOT = Path(__file__).resolve().parents[1]
DOCUMENTS = [
    "README.md",
    "CONTRIBUTING.md",
    "cluster/README.md",
    *[f"docs/{p.name}" for p in (ROOT / "docs").glob("*.md")],
]


def _module(name: str) -> Any:
    spec = importlib.util.spec_from_file_location(f"{name}_page", ROOT / f"docs/{name}.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_the_page_of_settings_is_that_of_the_settings() -> None:
    assert (ROOT / "docs/settings.md").read_text() == _module("settings").render(), "make docs"


def test_the_page_of_backbones_is_that_of_the_backbones() -> None:
    """Two of them, and all jobs; `make docs` writes the page, which builds every backbone."""
    page = _module("backbones")
    text = (ROOT / "docs/backbones.md").read_text()
    assert text.startswith(page.HEAD)
    jobs = page.jobs()
    assert all(f"[{job}](../jobs/{job}.yaml) | `{name}` |" in text for job, name in jobs.items())
    for job in ("nih-efficientnet-lite0", "nih-vit-tiny"):
        told = page.describe(jobs[job])
        assert page.row(job, told) in text, "make docs"
        assert page.stages_row(told) in text, "make docs"


@pytest.mark.parametrize("name", DOCUMENTS)
def test_links_lead_somewhere(name: str) -> None:
    document = ROOT / name
    for target in re.findall(r"\]\(([^)#]+)", document.read_text()):
        if not target.startswith("http"):
            assert (document.parent / target).exists(), f"{name} links to {target}"


def test_every_command_of_the_readme_exists(capfd: pytest.CaptureFixture[str]) -> None:
    commands = set(re.findall(r"`ray-cxr ([a-z]+)", (ROOT / "README.md").read_text()))
    assert {"demo", "prepare", "train", "evaluate", "predict", "config", "doctor"} <= commands
    for command in commands:
        assert run([command, "--help"]) == 0
        assert "Usage" in capfd.readouterr().out


def test_the_makefile_has_the_words_of_the_documents() -> None:
    targets = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    for name in DOCUMENTS:
        for word in re.findall(r"(?:`|    )make ([a-z-]+)", (ROOT / name).read_text()):
            assert word in targets, f"{name} says make {word}"


def lines_to_type(name: str) -> list[list[str]]:
    """The words of every line that a page tells to type, also at a prompt; lines that go on are joined."""
    text = (ROOT / name).read_text().replace("\\\n", " ")
    return [
        shlex.split(line, comments=True)
        for line in re.findall(r"^(?:    (?=\w)|\$ )(.+)$", text, re.MULTILINE)
    ]


@pytest.mark.parametrize("name", ["docs/laptop.md", "docs/slurm-and-vms.md", "docs/kubernetes.md"])
def test_the_ways_in_name_jobs_settings_and_files_that_exist(name: str) -> None:
    jobs = 0
    for words in lines_to_type(name):
        for word in words:
            if re.match(r"(cluster|jobs)/[\w*]", word):
                assert list(ROOT.glob(word)), f"{name}: {word}"
        at = next((i for i, word in enumerate(words) if word.startswith("jobs/")), None)
        if at is not None:
            assert words[at - 1] in ("prepare", "train")
            load_job(str(ROOT / words[at]), [w for w in words[at + 1 :] if re.match(r"[\w.]+=", w)])
            jobs += 1
    assert jobs >= 2
