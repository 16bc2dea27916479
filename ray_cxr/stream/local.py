"""Tables of encoded films without Ray: read in this process, one read ahead. For `train.workers=0`."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import pyarrow as pa

from ray_cxr.axes import Rows
from ray_cxr.storage import Folder
from ray_cxr.stream.collate import ahead
from ray_cxr.stream.layout import Layout
from ray_cxr.stream.read import read_groups


def local_tables(dataset: Folder, layout: Layout, reads: Sequence[Rows]) -> Iterator[pa.Table]:
    """A table per set of row groups, in order."""
    return ahead(lambda: (read_groups(dataset, layout, groups) for groups in reads), ready=1)
