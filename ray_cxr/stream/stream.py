"""One worker's stream of batches over a split: plan, reader and collate put together.

Reads: a data set's index and the shards of one split. Gives: `Batch`es, a step at a time.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import pyarrow as pa

from ray_cxr.axes import Rows
from ray_cxr.shards.dataset import Dataset
from ray_cxr.storage import Folder
from ray_cxr.stream.collate import Batch, Collate
from ray_cxr.stream.layout import Layout, split_layout
from ray_cxr.stream.local import local_tables
from ray_cxr.stream.plan import ALONE, EpochPlan, World, plan_epoch, scoring_work, training_work
from ray_cxr.stream.resample import Resampling, plan_resampling
from ray_cxr.stream.settings import StreamSettings

TableReader = Callable[[Folder, Layout, Sequence[Rows]], Iterator[pa.Table]]
"""`local_tables`, or `ray_loader.ray_tables`: encoded films of windows of positions, in order."""


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
    reader: TableReader
    resampling: Resampling | None = None

    @classmethod
    def open(
        cls, dataset: Dataset, split: str, settings: StreamSettings, *, seed: int,
        findings: Sequence[str] | None = None,
        world: World = ALONE, threads: int = 1, reader: TableReader = local_tables,
    ) -> Stream:  # fmt: skip
        """A stream with the settings of a job. findings: those of the model, which resampling looks at."""
        layout = split_layout(dataset.index, split)
        names = dataset.findings if findings is None else list(findings)
        return cls(
            dataset, split, settings.image_px, settings.batch_size, settings.augmentation, seed, world, threads,
            layout, reader,
            _resampling(dataset, layout, settings, names, seed) if split == "train" else None,
        )  # fmt: skip

    def plan(self, epoch: int) -> EpochPlan:
        """The order of an epoch (from 1): the same on every worker."""
        times = None if self.resampling is None else self.resampling.multiplicity(epoch)
        return plan_epoch(self.layout, self.batch_size, self.seed, epoch, self.dataset.fingerprint, times)

    def train(self, plan: EpochPlan) -> Iterator[Batch]:
        """This worker's augmented batches of an epoch, one per step; a batch may be empty in the last step."""
        work = training_work(plan, self.world)
        tables = self.reader(self.dataset.folder, self.layout, [w for w in work.windows if len(w)])
        seed = self.seed if self.augmentation == "chest-xray" else None
        return self._collate(seed).batches(tables, work)

    def score(self) -> Iterator[Batch]:
        """This worker's stretch of the split, not augmented: over all workers every film exactly once."""
        work = scoring_work(self.layout, self.batch_size, self.world)
        return self._collate(None).batches(self.reader(self.dataset.folder, self.layout, work.windows), work)

    def _collate(self, seed: int | None) -> Collate:
        return Collate(self.layout.rows, self.dataset.codec, self.image_px, seed, self.threads)


def _resampling(
    dataset: Dataset, layout: Layout, settings: StreamSettings, findings: Sequence[str], seed: int
) -> Resampling | None:
    labels = dataset.labels(findings)[layout.rows]
    patients = dataset.index["patient_id"].iloc[layout.rows].tolist()
    return plan_resampling(labels, patients, findings, settings, seed, dataset.fingerprint)
