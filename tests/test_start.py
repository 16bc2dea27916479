"""Ctrl-C before the libraries are there."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest

_CUT_AT_IMPORT = """
import os, signal, sys
class Cut:
    def find_spec(self, name, path=None, target=None):
        if name == "ray_cxr.cli.main":
            os.kill(os.getpid(), signal.SIGINT)
sys.meta_path.insert(0, Cut())
from ray_cxr.__main__ import main
main()
"""


@pytest.mark.parametrize("extra", [[], ["--json"]], ids=["words", "json"])
def test_ctrl_c_while_importing_is_one_sentence(extra: list[str]) -> None:
    done = subprocess.run(
        [sys.executable, "-c", _CUT_AT_IMPORT, "--version", *extra],
        capture_output=True, text=True, check=False, timeout=60,
    )  # fmt: skip
    assert done.returncode == 1
    assert done.stderr == "ray-cxr: interrupted before anything was begun\n"
    assert (json.loads(done.stdout)["exit_code"] == 1) if extra else done.stdout == ""


def test_the_console_script_runs_a_command() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "ray_cxr", "--version", "--json"], capture_output=True, text=True, check=False
    )
    assert (done.returncode, list(json.loads(done.stdout))) == (0, ["version"])
