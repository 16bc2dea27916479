"""The training loop: one, for every number of workers, with its steps in order.

Reads: a prepared data set's training and validation splits; never the test split. Writes: the run directory.
"""

from __future__ import annotations

import time

import torch

from ray_cxr.train.checkpoint import save_checkpoint
from ray_cxr.train.epoch import freeze_for, train_epoch
from ray_cxr.train.run import write_history
from ray_cxr.train.session import open_session
from ray_cxr.train.settings import Recipe
from ray_cxr.train.validate import validate
from ray_cxr.train.worker import Worker


def train(recipe: Recipe, worker: Worker) -> None:
    """Trains to the last epoch, going on from the newest whole checkpoint in `recipe.out`."""
    s = open_session(recipe, worker)
    if worker.is_first and s.state.history:
        # A kill between the last checkpoint and its line would leave the file a line short for ever.
        write_history(s.run, s.state.history)
    for epoch in range(s.state.epoch + 1, recipe.train.epochs + 1):
        torch.manual_seed(hash((recipe.seed, epoch, worker.world.rank)) % 2**63)
        freeze_for(s, epoch)
        plan = s.train_stream.plan(epoch)
        train_loss = train_epoch(s, plan)
        line = validate(s, plan, train_loss)
        if line is not None:
            started = time.perf_counter()
            averaged = None if s.average is None else s.judged.network
            save_checkpoint(s.run / "checkpoints", s.model.network, s.optimizer, s.state, averaged)
            line["seconds"]["checkpoint"] = round(time.perf_counter() - started, 3)
            write_history(s.run, s.state.history)
            worker.report({"kind": "epoch", "epochs": recipe.train.epochs, **line})
        worker.barrier()
    s.train_stream.close()
    s.validation_stream.close()
