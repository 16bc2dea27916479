"""Shell scripts and the Dockerfile, held against the linters of their kind, and against what they promise."""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
SCRIPTS = sorted([*(ROOT / "cluster").glob("*.sh"), ROOT / ".ci/run"])


def tool(name: str) -> str:
    """A program of the environment or the machine; skips where there is none (dev dependencies bring both)."""
    beside = Path(sys.executable).parent / name
    found = str(beside) if beside.exists() else shutil.which(name)
    if found is None:
        pytest.skip(f"no {name} here")
    return found


def lint(command: list[str], text: str) -> str:
    return subprocess.run(command, input=text, capture_output=True, text=True, check=False).stdout


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda path: path.name)
def test_shellcheck_has_nothing_to_say(script: Path) -> None:
    assert lint([tool("shellcheck"), "-"], script.read_text()) == ""


def test_shellcheck_would_say_it() -> None:
    assert "SC2086" in lint([tool("shellcheck"), "-"], "#!/bin/sh\nrm $1\n")


def test_hadolint_has_nothing_to_say() -> None:
    dockerfile = (ROOT / "cluster/Dockerfile").read_text()
    assert lint([tool("hadolint"), "-"], dockerfile) == ""
    assert "DL3007" in lint(
        [tool("hadolint"), "-"], dockerfile.replace("python:3.11-slim-bookworm", "python:latest")
    )


def test_scripts_can_be_called() -> None:
    assert all(os.access(script, os.X_OK) for script in SCRIPTS)


def test_the_image_holds_only_what_is_copied_into_it() -> None:
    dockerfile = (ROOT / "cluster/Dockerfile").read_text()
    copied = {
        place.removeprefix("./")
        for line in re.findall(r"^COPY (?!--from)(?:--\S+ )*(.+)$", dockerfile, re.MULTILINE)
        for place in line.split()[:-1]
    }
    assert all((ROOT / place).exists() for place in copied)
    first, *rest = [
        line for line in (ROOT / ".dockerignore").read_text().splitlines() if not line.startswith("#")
    ]
    assert first == "*"
    assert {line.removeprefix("!") for line in rest if line.startswith("!")} == copied


def test_the_image_runs_as_nobody_special() -> None:
    dockerfile = (ROOT / "cluster/Dockerfile").read_text()
    (user,) = re.findall(r"^USER (.+)$", dockerfile, re.MULTILINE)
    assert user == "1000:1000"
    for name in ("raycluster", "rayjob"):
        manifest = (ROOT / f"cluster/kubernetes/{name}.yaml").read_text()
        assert re.findall(r"runAsUser: (\d+)", manifest) == ["1000"]
