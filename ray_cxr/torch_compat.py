"""Makes torchvision, and so timm, importable beside a CPU build of torch, for which no matching torchvision is published.

Without its compiled operators torchvision raises at import, and so do timm and torchmetrics. Models and
transforms need none of them, so their names are declared here, and only after the plain import has failed.
"""

from __future__ import annotations

import importlib
import sys

import torch

_kept: list[torch.library.Library] = []
"""The declarations live as long as this list: torch drops them with the last reference."""


def ensure_torchvision() -> bool:
    """Imports torchvision; True if its operators had to be declared first."""
    try:
        importlib.import_module("torchvision")
    except RuntimeError as error:
        if "torchvision::nms" not in str(error):
            raise
    else:
        return bool(_kept)
    # A copy: another thread may import meanwhile, as Ray that starts in the background does.
    for name in [m for m in list(sys.modules) if m.split(".")[0] == "torchvision"]:
        del sys.modules[name]
    library = torch.library.Library("torchvision", "DEF")  # type: ignore[no-untyped-call]
    for operator in ("nms", "qnms"):
        library.define(f"{operator}(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")  # type: ignore[no-untyped-call]
    _kept.append(library)
    importlib.import_module("torchvision")
    return True


ensure_torchvision()

import timm  # noqa: E402  needs torchvision; other modules take it from here
import timm.optim  # noqa: E402
import timm.scheduler  # noqa: E402
import torchvision  # noqa: E402

__all__ = ["ensure_torchvision", "timm", "torchvision"]
