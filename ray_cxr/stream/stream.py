"""One worker's stream of batches over a split: plan, reader and collate put together.

Reads: a data set's index and the shards of one split. Gives: `Batch`es, a step at a time.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import lru_cache

import pyarrow as pa

from ray_cxr.axes import Labels
from ray_cxr.shards.dataset import Dataset
from ray_cxr.storage import Folder
from ray_cxr.stream.ahead import Epochs
from ray_cxr.stream.cache import NodeCache, open_cache
from ray_cxr.stream.collate import Batch, Collate
from ray_cxr.stream.decode import FilmDecoder
from ray_cxr.stream.layout import Layout, split_layout
from ray_cxr.stream.local import local_tables
from ray_cxr.stream.plan import (
    ALONE,
    WINDOW_FILMS,
    EpochPlan,
    RankWork,
    World,
    plan_epoch,
    scoring_work,
    training_work,
)
from ray_cxr.stream.read import Read, ReadHealth, new_groups, read_of, step_films
from ray_cxr.stream.resample import Resampling, plan_resampling
from ray_cxr.stream.settings import StreamSettings

TableReader = Callable[[Folder, Iterable[Sequence[Read]], float], Iterator[pa.Table]]
"""`local_tables`, or `ray_loader.ray_tables`: encoded films of the reads of one epoch after another, in order; from the mean size of a
film in bytes."""

_PLANS_KEPT = 2


@dataclass(frozen=True)
class Stream:
    """Batches of one split for one worker."""

    dataset: Dataset
    split: str
    image_px: int
    batch_size: int
    augmentation: str
    seed: int
    world: World
    threads: int
    layout: Layout
    decoder: FilmDecoder
    reader: TableReader
    resampling: Resampling | None = None
    cache: NodeCache | None = None
    augment_on_device: bool = False
    window_films: int = WINDOW_FILMS
    augmentation_strength: float = 1.0
    health: ReadHealth = field(default_factory=ReadHealth)
    running: list[Epochs[Batch]] = field(default_factory=list)
    """The training batches that were last begun, if any."""
    planned: dict[int, EpochPlan] = field(default_factory=dict, init=False)
    """The plans that were last made: who reads ahead makes that of the next epoch, which takes seconds for millions of films."""

    @classmethod
    def open(
        cls, dataset: Dataset, split: str, settings: StreamSettings, *, seed: int,
        findings: Sequence[str] | None = None,
        world: World = ALONE, threads: int = 1, reader: TableReader = local_tables, gpu: bool = False,
    ) -> Stream:  # fmt: skip
        """A stream with the settings of a job.

        findings: those of the model, which resampling looks at. gpu: the model's device is one, and may augment.
        """
        on_device = settings.augment_on == "device" or (settings.augment_on == "auto" and gpu)
        layout = split_layout(dataset.index, split)
        names = dataset.findings if findings is None else list(findings)
        return cls(
            dataset, split, settings.image_px, settings.batch_size, settings.augmentation, seed, world, threads,
            layout, FilmDecoder.of(dataset, layout), reader,
            _resampling(dataset, layout, settings, names, seed) if split == "train" else None,
            open_cache(dataset, split, layout, threads) if settings.cache == "node" else None,
            on_device,
            max(1, int(settings.shuffle_mib * 2**20 / dataset.manifest["film_bytes_mean"])),
            settings.augmentation_strength,
        )  # fmt: skip

    def plan(self, epoch: int) -> EpochPlan:
        """The order of an epoch (from 1): the same on every worker."""
        plan = self.planned.get(epoch)
        if plan is None:
            times = None if self.resampling is None else self.resampling.multiplicity(epoch)
            plan = plan_epoch(
                self.layout,
                self.batch_size,
                self.seed,
                epoch,
                self.dataset.fingerprint,
                times,
                self.window_films,
            )
            self.planned[epoch] = plan
            for other in sorted(list(self.planned))[:-_PLANS_KEPT]:  # noqa: C414  another thread may add one meanwhile
                self.planned.pop(other, None)
        return plan

    def train(self, plan: EpochPlan, first_step: int = 0, last_epoch: int | None = None) -> Iterator[Batch]:
        """This worker's augmented batches of an epoch, one per step; a batch may be empty in the last step.

        first_step: steps before it were trained already; their films are not decoded, nor read unless later ones are beside them.
        last_epoch: films of the epochs up to it are read and decoded ahead, as at any time in an epoch, while the model is still at
        work on this one or is validated; None: of this epoch only. Whoever stops earlier closes the stream.
        """
        epochs = self.running.pop() if self.running else None
        # What was begun ahead is of the plans that this stream makes; whoever trains on another one gets that.
        if epochs and not (
            epochs.wait_for(plan.epoch, first_step) and self.plan(plan.epoch).hash == plan.hash
        ):
            epochs.close()
            epochs = None
        if epochs is None:
            last = plan.epoch if last_epoch is None else last_epoch
            epochs = Epochs(self._training(plan, first_step, last), plan.epoch, first_step, last)
        self.running.append(epochs)
        return epochs.rest_of_epoch(plan.steps)

    def score(self) -> Iterator[Batch]:
        """This worker's stretch of the split, not augmented: over all workers every film exactly once."""
        work = scoring_work(self.layout, self.batch_size, self.world)
        return self._batches(None, lambda epoch: work, range(1))

    def close(self) -> None:
        """Ends what is made ahead, and gives back what is shared with others on this node."""
        while self.running:
            self.running.pop().close()
        if self.cache is not None:
            self.cache.close()

    def _training(self, plan: EpochPlan, first_step: int, last_epoch: int) -> Iterator[Batch]:
        """The batches of the plan from a step on, and of the epochs after it."""

        # Asked for by the thread that reads and by the one that decodes.
        @lru_cache(maxsize=2)
        def work_of(epoch: int) -> RankWork:
            if epoch == plan.epoch:
                return training_work(plan, self.world, first_step)
            return training_work(self.plan(epoch), self.world)

        seed = self.seed if self.augmentation == "chest-xray" else None
        return self._batches(seed, work_of, range(plan.epoch, last_epoch + 1))

    def _batches(
        self, augmentation_seed: int | None, work_of: Callable[[int], RankWork], epochs: range
    ) -> Iterator[Batch]:
        collate = Collate(
            self.decoder,
            self.image_px,
            augmentation_seed,
            self.threads,
            augment_here=not self.augment_on_device,
            augmentation_strength=self.augmentation_strength,
        )
        if self.cache is not None:
            return collate.cached_batches(self.cache.films, map(work_of, epochs))
        reads = (self._reads(work_of(epoch)) for epoch in epochs)
        tables = self.reader(self.dataset.folder, reads, self.dataset.manifest["film_bytes_mean"])
        steps = step_films(self.layout, map(work_of, epochs), tables, self.health)
        return collate.batches(steps, map(work_of, epochs))

    def _reads(self, work: RankWork) -> list[Read]:
        return [read_of(self.layout, g) for g in new_groups(self.layout, work.windows) if len(g)]


def _resampling(
    dataset: Dataset, layout: Layout, settings: StreamSettings, findings: Sequence[str], seed: int
) -> Resampling | None:
    labels = dataset.labels(findings)[layout.rows]
    patients = dataset.index["patient_id"].iloc[layout.rows]
    return plan_resampling(labels, patients, findings, settings, seed, dataset.fingerprint)


def training_films(
    dataset: Dataset, findings: Sequence[str], settings: StreamSettings, seed: int
) -> tuple[Labels, Resampling | None]:
    """Labels [N, F] of the training films in the order of their layout, and how they are resampled.

    Raises InputError where they cannot be resampled as asked.
    """
    layout = split_layout(dataset.index, "train")
    return dataset.labels(findings)[layout.rows], _resampling(dataset, layout, settings, findings, seed)
