"""What is sent: a folder with the job file and the script that begins it, and beside it this package.

Of the package only its own kinds of files go, so that films, tokens, `.git` or an environment that somebody put below it stay here.
Nothing else of this machine is looked at. Writes both folders into a directory of the caller's.
"""

from __future__ import annotations

import shutil
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path

import ray_cxr
from ray_cxr.errors import InputError
from ray_cxr.storage import in_bytes

KINDS = (".py", ".jinja", ".css", ".js", ".typed")
"""Suffixes of the package's own files."""
LARGEST_PACKAGE = 16 * 2**20
"""Ten times what the package has; Ray would take some hundred MiB, and keep them in the memory of the head."""
LARGEST_JOB = 2**20
JOB, START, NEEDS = "job.yaml", "start.py", "needs.txt"


@dataclass(frozen=True)
class Bundle:
    """Folders to send: `work` becomes the directory that the job runs in, `package` a module; None: the cluster has it."""

    work: Path
    package: Path | None


def pack(directory: Path, job_yaml: str, *, with_package: bool) -> Bundle:
    """Writes what is sent below an empty directory. Raises InputError where it is larger than can be meant."""
    work = directory / "work"
    work.mkdir()
    if len(job_yaml.encode()) > LARGEST_JOB:
        raise InputError(
            f"the job file has {in_bytes(len(job_yaml.encode()))} with all its settings, but at most {in_bytes(LARGEST_JOB)} are "
            "sent; put long lists into files that the cluster sees."
        )
    (work / JOB).write_text(job_yaml, encoding="utf-8")
    (work / NEEDS).write_text("".join(f"{line}\n" for line in needs()), encoding="utf-8")
    shutil.copy(Path(__file__).with_name(START), work / START)
    if not with_package:
        return Bundle(work, None)
    package = directory / "package" / "ray_cxr"
    source = Path(ray_cxr.__file__).parent
    _refuse_large(source)
    for path in package_files(source):
        target = package / path.relative_to(source)
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(path, target)
    return Bundle(work, package)


def package_files(source: Path) -> list[Path]:
    """The package's own files below its folder; no links, nothing hidden, nothing of another kind."""
    return [
        path
        for path in sorted(source.rglob("*"))
        if path.suffix in KINDS
        and path.is_file()
        and not any(p.is_symlink() or p.name.startswith(".") for p in _from(source, path))
    ]


def needs() -> list[str]:
    """Packages that this one needs, as `torch>=2.11,<2.14`, without its extras; empty where it runs uninstalled."""
    try:
        required = metadata.requires("ray_cxr") or []
    except metadata.PackageNotFoundError:
        return []
    return [line for line in required if "extra ==" not in line]


def _from(source: Path, path: Path) -> list[Path]:
    """The path and the folders above it, up to the source, which does not count."""
    return [path, *(p for p in path.parents if source in p.parents)]


def _refuse_large(source: Path) -> None:
    sizes = {path.relative_to(source): path.stat().st_size for path in package_files(source)}
    total = sum(sizes.values())
    if total > LARGEST_PACKAGE:
        largest = max(sizes, key=lambda path: sizes[path])
        raise InputError(
            f"the package in {source} has {in_bytes(total)}, but at most {in_bytes(LARGEST_PACKAGE)} are sent (largest: {largest}, "
            f"{in_bytes(sizes[largest])}); move what is not part of it elsewhere, or install it on the cluster and use --installed."
        )
