"""What the cluster's Python lacks is told before the job begins."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

from ray_cxr import __version__
from ray_cxr.submit import start
from ray_cxr.submit.pack import pack


def test_what_is_missing_or_too_old_is_named(tmp_path: Path) -> None:
    (tmp_path / "needs.txt").write_text(
        "numpy>=1\nnumpy>=999\nno-such-package<2\nnowhere>=1; python_version < '3'\nopencv-python-headless>=1\n"
    )
    said = start._missing(tmp_path / "needs.txt")
    assert said is not None
    assert "no-such-package<2 (not there)" in said
    assert "numpy>=999 (there: " in said
    assert "nowhere" not in said
    assert "opencv" not in said


def test_nothing_is_missing_here(tmp_path: Path) -> None:
    bundle = pack(tmp_path, "", with_package=False)
    assert start._missing(bundle.work / "needs.txt") is None


@pytest.mark.parametrize(("sent", "said"), [(__version__, None), ("99.0", "cluster has ray_cxr .* sent by 99.0"), (None, None)])  # fmt: skip
def test_another_version_of_the_package_is_told(
    sent: str | None, said: str | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv(start.VERSION, raising=False)
    if sent:
        monkeypatch.setenv(start.VERSION, sent)
    told = start._other_package()
    assert (told is None) if said is None else re.search(said, told or "")


def test_a_python_without_ray_is_told(tmp_path: Path) -> None:
    """Of the machine's `python`, where Ray was started from an environment that is not first on the PATH."""
    bundle = pack(tmp_path, "", with_package=False)
    done = subprocess.run(
        [sys.executable, "-S", "-E", "start.py", "train", "job.yaml"],
        cwd=bundle.work, capture_output=True, text=True, check=False, timeout=60,
    )  # fmt: skip
    assert done.returncode == 2
    assert "which has no Ray" in done.stderr
    assert "Traceback" not in done.stderr


def test_it_runs_a_command(tmp_path: Path) -> None:
    bundle = pack(tmp_path, "train: {epochs: 7}\n", with_package=False)
    done = subprocess.run(
        [sys.executable, "start.py", "config", "show", "job.yaml"],
        cwd=bundle.work, capture_output=True, text=True, check=False, timeout=120,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert "epochs: 7" in done.stdout
