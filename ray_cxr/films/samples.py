"""A few phantom films as PNG files, and a contact sheet, for people to look at and for `predict` to score."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import cv2
import numpy as np

from ray_cxr.films.phantom import draw_phantom
from ray_cxr.labels.phantom import FINDINGS, phantom_table
from ray_cxr.labels.settings import PhantomSource, Source

SAMPLE_PX = 256
_COLUMNS = 4
_PATIENTS_LOOKED_AT = 400


def write_samples(sources: Sequence[Source], folder: Path) -> None:
    """One film per finding and one without any, of the first phantom source; nothing where there is none."""
    source = next((s for s in sources if isinstance(s, PhantomSource)), None)
    if source is None:
        return
    table = phantom_table(min(source.patients, _PATIENTS_LOOKED_AT), source.drawing_seed)
    labels = table[list(FINDINGS)].to_numpy()
    chosen = {"normal": labels.sum(1) == 0}
    chosen |= {f: (labels[:, i] == 1) & (labels.sum(1) == 1) for i, f in enumerate(FINDINGS)}
    folder.mkdir(parents=True, exist_ok=True)
    tiles = []
    for name, rows in chosen.items():
        found = np.flatnonzero(rows)
        if not len(found):
            continue
        film = draw_phantom(str(table["locator"].iloc[found[0]]), SAMPLE_PX)
        cv2.imwrite(str(folder / f"{name.lower()}.png"), film)
        tile = film.copy()
        cv2.putText(tile, name, (6, SAMPLE_PX - 8), cv2.FONT_HERSHEY_SIMPLEX, 0.5, 255, 1, cv2.LINE_AA)
        tiles.append(tile)
    tiles += [np.zeros_like(tiles[0])] * (-len(tiles) % _COLUMNS)
    rows_of_tiles = [np.hstack(tiles[i : i + _COLUMNS]) for i in range(0, len(tiles), _COLUMNS)]
    sheet = folder.parent / "contact-sheet.png"
    cv2.imwrite(str(sheet), np.vstack(rows_of_tiles))
