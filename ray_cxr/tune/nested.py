"""A trial with several workers: Ray Train starts them from within the trial's process.

Tune would leave their placement group behind if it ended that process; so the training is asked to end, by a file in its run
directory, and gives back what it has by itself.
"""

from __future__ import annotations

import threading
from collections.abc import Callable

from ray_cxr.storage import Folder
from ray_cxr.train.progress import ProgressFollower, StoppedError, ask_to_stop
from ray_cxr.train.ray_trainer import fit_with_ray
from ray_cxr.train.settings import Recipe
from ray_cxr.tune.trial import Event, Train


def train_with_workers(threads: int) -> Train:
    """Trains with `train.workers` workers of so many threads each."""

    def run(recipe: Recipe, report: Callable[[Event], None], stopping: threading.Event) -> None:
        folder, over = Folder(recipe.out), threading.Event()

        def pass_on_the_wish() -> None:
            while not over.is_set():
                if stopping.wait(0.5):
                    ask_to_stop(folder)
                    return

        with ProgressFollower(folder, report):
            watch = threading.Thread(target=pass_on_the_wish, daemon=True, name="stop-training")
            watch.start()
            try:
                fit_with_ray(recipe, report, threads)
            except StoppedError:
                pass
            finally:
                over.set()
                watch.join()

    return run
