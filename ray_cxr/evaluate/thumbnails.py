"""Small pictures of test films, for the report of who asks for them: a film shows a patient.

Reads: the test shards. Gives: PNG files, in memory.
"""

from __future__ import annotations

from collections.abc import Sequence

import cv2
import numpy as np

from ray_cxr.axes import Rows
from ray_cxr.films.codec import decode
from ray_cxr.stream.local import local_tables
from ray_cxr.stream.read import in_windows, new_groups
from ray_cxr.stream.stream import Stream

SIDE_PX = 160


def thumbnails(stream: Stream, rows: Rows, films: Sequence[int]) -> dict[int, bytes]:
    """PNG of SIDE_PX for films by their number in `rows` [N], the rows of the index that were scored."""
    if not films:
        return {}
    wanted = np.unique(films)
    by_row = {int(row): position for position, row in enumerate(stream.layout.rows)}
    positions = np.array([by_row[int(row)] for row in rows[wanted]], np.int64)
    reads = new_groups(stream.layout, [positions])
    (table,) = in_windows(
        stream.layout, [positions], local_tables(stream.dataset.folder, stream.layout, reads)
    )
    pictures = {}
    for film, data in zip(wanted.tolist(), table["film"].to_pylist(), strict=True):
        small = cv2.resize(
            decode(data, stream.dataset.codec), (SIDE_PX, SIDE_PX), interpolation=cv2.INTER_AREA
        )
        pictures[film] = cv2.imencode(".png", small)[1].tobytes()
    return pictures
