"""The training loop: one, for every number of workers, with its steps in order.

Reads: a prepared data set's training and validation splits; never the test split. Writes: the run directory.
"""

from __future__ import annotations

import time
from contextlib import closing

from ray_cxr.heap import keep_freed_memory
from ray_cxr.train.dry_run import dry_run, tell_plan
from ray_cxr.train.epoch import prepare_epoch, train_epoch
from ray_cxr.train.event_files import reporting_to_tensorboard
from ray_cxr.train.mlflow_run import reporting_to_mlflow
from ray_cxr.train.progress import MovedError, told
from ray_cxr.train.run import write_history
from ray_cxr.train.session import open_session
from ray_cxr.train.settings import Recipe
from ray_cxr.train.validate import validate
from ray_cxr.train.worker import Worker


def train(recipe: Recipe, worker: Worker) -> None:
    """Trains to the last epoch, going on from the newest whole checkpoint in `recipe.out`."""
    if worker.device.type == "cpu":
        keep_freed_memory()
    with (
        reporting_to_tensorboard(recipe, worker) as with_files,
        reporting_to_mlflow(recipe, with_files) as reporting,
        closing(open_session(recipe, reporting)) as s,
    ):
        if s.worker.is_first and s.state.history:
            # A kill between the last checkpoint and its line would leave the file a line short for ever.
            write_history(s.run, s.state.history)
            s.worker.report(
                {"kind": "resumed", "epochs": recipe.train.epochs, "history": told(s.state.history)}
            )
        stopped = s.state.is_stopped(recipe.train.patience)
        first = s.state.epoch + 1
        for epoch in range(first, recipe.train.epochs + 1):
            if stopped:
                text = f"no better epoch in {recipe.train.patience} after epoch {s.state.best_epoch}: training ends"
                s.worker.report({"kind": "note", "text": text})
                break
            prepare_epoch(s, epoch)
            plan = s.train_stream.plan(epoch)
            if epoch == first:
                tell_plan(s, plan)
                dry_run(s, plan)
            try:
                trained = train_epoch(s, plan)
            except MovedError:
                s.save()
                s.saver.wait()
                raise
            line = validate(s, plan, trained)
            if line is not None:
                started = time.perf_counter()
                s.save()
                s.saver.wait()
                line["seconds"]["checkpoint"] = round(time.perf_counter() - started, 3)
                write_history(s.run, s.state.history)
                s.worker.report({"kind": "epoch", "epochs": recipe.train.epochs, **line})
            stopped = s.worker.agree(s.state.is_stopped(recipe.train.patience))
