"""Films read in this process, without Ray, one read ahead: for `train.workers=0`, and for whoever looks at some films."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

import numpy as np
import pyarrow as pa

from ray_cxr.axes import Pixels, Rows
from ray_cxr.shards.dataset import Dataset
from ray_cxr.storage import Folder
from ray_cxr.stream.ahead import ahead
from ray_cxr.stream.decode import FilmDecoder
from ray_cxr.stream.layout import Layout
from ray_cxr.stream.plan import RankWork
from ray_cxr.stream.read import Read, ReadHealth, new_groups, read_films, read_of, step_films


def local_tables(
    dataset: Folder, epochs: Iterable[Sequence[Read]], film_bytes: float = 0
) -> Iterator[pa.Table]:
    """A table per read of one epoch after another, in order."""
    return ahead(lambda: (read_films(dataset, read) for reads in epochs for read in reads), ready=1)


def films_at(dataset: Dataset, layout: Layout, windows: Sequence[Rows]) -> Iterator[Pixels]:
    """The films [H, W] uint8 at these positions of a layout; the encoded films of two windows are in memory at a time."""
    sizes = [len(w) for w in windows]
    work = RankWork(list(windows), np.zeros(sum(sizes), np.int64), sizes, 0)
    decoder = FilmDecoder.of(dataset, layout)
    reads = [read_of(layout, g) for g in new_groups(layout, windows) if len(g)]
    tables = local_tables(dataset.folder, [reads])
    for window, encoded in zip(windows, step_films(layout, [work], tables, ReadHealth()), strict=True):
        for position, data in zip(window.tolist(), encoded, strict=True):
            yield decoder(position, data)
