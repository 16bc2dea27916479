"""`ray-cxr train` in a process of its own, which tells where it is: for tests that kill or interrupt it.

driver.py JOB LOG [MOMENT SECONDS]: in this process or with Ray workers, as the job says. Each rank writes a line of epoch, step and
index rows to `LOG-<rank>` after a step, and rank 0 makes the file `LOG-at-<moment>` when it comes to one: `step` (the first),
`validation`, `checkpoint` (half of one is written). At MOMENT it waits there for a signal, so many SECONDS at most. At the moment
`films` it is rank 1 that gets no films for so long, in the middle of the last epoch.
"""

import json
import signal
import sys
import time
from pathlib import Path

JOB, LOG, MOMENT, SECONDS = [*sys.argv[1:], "", "0"][:4]


def record() -> None:
    """From now on this process tells. Imports wait, since Ray takes the function itself to its workers."""
    from ray_cxr.storage import Folder
    from ray_cxr.stream.stream import Stream
    from ray_cxr.train import epoch, validate

    def at(moment: str) -> None:
        here = Path(f"{LOG}-at-{moment}")
        first = not here.exists()
        here.touch()
        end = time.monotonic() + float(SECONDS)
        while moment == MOMENT and first and time.monotonic() < end:
            time.sleep(0.05)

    train_step, score_split, write_bytes = epoch.train_step, validate.score_split, Folder.write_bytes

    def told_step(s, plan, step, batch):  # type: ignore[no-untyped-def]
        if s.worker.is_first:
            at("step")
        loss = train_step(s, plan, step, batch)
        if plan.epoch == s.recipe.train.epochs:
            time.sleep(0.2)  # so that a kill which comes late, on a busy machine, still finds it
        with open(f"{LOG}-{s.worker.world.rank}", "a") as file:
            file.write(json.dumps([plan.epoch, step, batch.rows.tolist()]) + "\n")
        return loss

    def told_scoring(model, stream, worker, advance):  # type: ignore[no-untyped-def]
        if worker.is_first:
            at("validation")
        return score_split(model, stream, worker, advance)

    def told_writing(folder, name, data, **how):  # type: ignore[no-untyped-def]
        if name == "optimizer.safetensors":
            at("checkpoint")
        write_bytes(folder, name, data, **how)

    train = Stream.train

    def told_films(stream, plan, *rest):  # type: ignore[no-untyped-def]
        for step, batch in enumerate(train(stream, plan, *rest)):
            if (stream.world.rank, plan.epoch, step) == (1, rest[-1], plan.steps // 2):
                at("films")
            yield batch

    if MOMENT == "films":
        Stream.train = told_films  # type: ignore[method-assign]
    epoch.train_step, validate.score_split, Folder.write_bytes = told_step, told_scoring, told_writing  # type: ignore[assignment,method-assign]


def worker_main(config):  # type: ignore[no-untyped-def]
    from ray_cxr.train import ray_trainer

    record()
    ray_trainer._worker_main(config)


if __name__ == "__main__":
    # What is started in the background of a shell without job control ignores Ctrl-C, and so would all that it starts.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    from ray_cxr.cli.main import main
    from ray_cxr.config import read_settings
    from ray_cxr.job import Job
    from ray_cxr.train import ray_trainer

    if read_settings(Job, JOB).train.workers:
        ray_trainer._worker_main = worker_main
    else:
        record()
    sys.argv = ["ray-cxr", "train", JOB]
    main()
