"""Tables of encoded films without Ray: read in this process, one window ahead. For `train.workers=0`."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import pyarrow as pa

from ray_cxr.axes import Rows
from ray_cxr.storage import Folder
from ray_cxr.stream.collate import ahead
from ray_cxr.stream.layout import Layout
from ray_cxr.stream.read import read_window


def local_tables(dataset: Folder, layout: Layout, windows: Sequence[Rows]) -> Iterator[pa.Table]:
    """A table per window, in order."""
    return ahead(lambda: (read_window(dataset, layout, w) for w in windows), ready=1)
