"""Small pictures of test films, for the report of who asks for them: a film shows a patient.

Reads: the test shards. Gives: PNG files, in memory.
"""

from __future__ import annotations

from collections.abc import Sequence

import cv2
import numpy as np

from ray_cxr.axes import Rows
from ray_cxr.stream.local import films_at
from ray_cxr.stream.stream import Stream

SIDE_PX = 160


def thumbnails(stream: Stream, rows: Rows, films: Sequence[int]) -> dict[int, bytes]:
    """PNG of SIDE_PX for films by their number in `rows` [N], the rows of the index that were scored."""
    if not films:
        return {}
    wanted = np.unique(films)
    by_row = {int(row): position for position, row in enumerate(stream.layout.rows)}
    positions = np.array([by_row[int(row)] for row in rows[wanted]], np.int64)
    found = films_at(stream.dataset, stream.layout, [positions])
    pictures = {}
    for number, film in zip(wanted.tolist(), found, strict=True):
        small = cv2.resize(film, (SIDE_PX, SIDE_PX), interpolation=cv2.INTER_AREA)
        pictures[number] = cv2.imencode(".png", small)[1].tobytes()
    return pictures
