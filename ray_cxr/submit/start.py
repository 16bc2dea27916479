"""Begins a job on the cluster: says in a sentence what the cluster's Python lacks, then runs the command line.

Sent as a file of its own, and run there by `python start.py COMMAND job.yaml`, before anything else can be imported.
"""

from __future__ import annotations

import importlib.util
import os
import runpy
import signal
import sys
from importlib import metadata
from pathlib import Path

VERSION = "RAY_CXR_VERSION"
"""Variable with the version that the job was sent by."""
_MODULES = {
    "opencv-python-headless": "cv2",
    "pillow": "PIL",
    "pyyaml": "yaml",
    "scikit-learn": "sklearn",
}


def main() -> None:
    """Ends with exit code 2 where the job cannot begin here."""
    problem = _other_python() or _missing(Path(__file__).with_name("needs.txt")) or _other_package()
    if problem:
        print(f"ray-cxr: {problem}", file=sys.stderr, flush=True)
        raise SystemExit(2)
    # `stop` sends SIGINT, which a process that was begun in the background by a shell would not hear.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    runpy.run_module("ray_cxr", run_name="__main__", alter_sys=True)


def _other_python() -> str | None:
    if importlib.util.find_spec("ray") is None:
        return (
            f"on the cluster `python` is {sys.executable}, which has no Ray; start Ray there with its own Python first on the PATH "
            "(activate its environment before `ray start`)."
        )
    return None


def _missing(needs: Path) -> str | None:
    from packaging.requirements import Requirement  # Ray needs it itself

    wrong = []
    for line in needs.read_text(encoding="utf-8").splitlines():
        wanted = Requirement(line)
        if wanted.marker is not None and not wanted.marker.evaluate():
            continue
        try:
            there = metadata.version(wanted.name)
        except metadata.PackageNotFoundError:
            name = _MODULES.get(wanted.name.lower(), wanted.name.replace("-", "_"))
            if importlib.util.find_spec(name) is None:
                wrong.append(f"{wanted.name}{wanted.specifier} (not there)")
            continue
        if not wanted.specifier.contains(there, prereleases=True):
            wrong.append(f"{wanted.name}{wanted.specifier} (there: {there})")
    if not wrong:
        return None
    return f"the cluster's Python lacks {', '.join(wrong)}; install them on every node, or use an image that has them (cluster/Dockerfile)."


def _other_package() -> str | None:
    sent = os.environ.get(VERSION)
    if importlib.util.find_spec("ray_cxr") is None:
        return "the cluster has no ray_cxr installed; leave --installed out, and the job brings it along."
    from ray_cxr import __version__

    if sent and sent != __version__:
        return f"the cluster has ray_cxr {__version__}, the job was sent by {sent}; leave --installed out, or install that version there."
    return None


if __name__ == "__main__":
    main()
