"""Trains the folds of a cross-validation one after the other in this process, without Ray. For a debugger, and for tests."""

from __future__ import annotations

import traceback
from collections.abc import Sequence
from functools import partial
from typing import Any

from ray_cxr.crossval.plan import FoldRun, lock_of
from ray_cxr.errors import RayCxrError, reason_of
from ray_cxr.train.fit import Show, fit_here


def run_here(runs: Sequence[FoldRun], show: Show) -> dict[int, RayCxrError]:
    """Trains each to its end; gives why by fold, for those that failed. `show` gets the events of `Worker.report`, with `fold`."""
    failed: dict[int, RayCxrError] = {}
    for run in runs:
        try:
            with lock_of(run.run):
                fit_here(run.recipe, partial(_of_fold, show, run.fold))
        except RayCxrError as error:
            failed[run.fold] = error
        except Exception as error:  # noqa: BLE001  whatever fails, fails this fold and not the others
            traceback.print_exc()
            failed[run.fold] = RayCxrError(f"{type(error).__name__}: {reason_of(error)}")
        show({"kind": "end", "fold": run.fold, "error": str(failed.get(run.fold, ""))})
    return failed


def _of_fold(show: Show, fold: int, event: dict[str, Any]) -> None:
    show(event | {"fold": fold})
