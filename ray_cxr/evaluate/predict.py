"""`predict RUN FILMS --out P`: scores films that were never in a data set.

Reads: PNG and JPEG files, and `best/`. Writes: a Parquet or CSV table, a row per film.
"""

from __future__ import annotations

import io
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import torch

from ray_cxr.axes import Pixels
from ray_cxr.cores import usable_cores
from ray_cxr.errors import InputError
from ray_cxr.films.read import SUFFIXES, FilmRefused, read_file, read_film, resize_square
from ray_cxr.model.build import ChestModel
from ray_cxr.model.calibration import probabilities
from ray_cxr.model.saved import ModelCard, load_model
from ray_cxr.storage import Folder
from ray_cxr.stream.augment import shrink

_BATCH = 64


def predict(
    run: Folder,
    films: Sequence[str],
    out: str,
    start: Callable[[str, int], None],
    advance: Callable[[int], None],
    *,
    raw: bool = False,
) -> pd.DataFrame:
    """Scores the films and writes the table: `image_id`, `prob_<finding>` …, `refused` (reason, or empty).

    raw: the sigmoid of the logits as they are, without the model's calibration.
    A film that cannot be used has no probabilities and a reason. InputError if none can be used.
    """
    target = Path(out)
    if target.suffix not in (".csv", ".parquet"):
        raise InputError(f"--out: got {out!r}, but the name must end in .csv or .parquet.")
    folder = Folder(target.absolute().parent)
    folder.check_writable()
    if target.is_dir():
        raise InputError(f"--out: {out!r} is a directory; give the name of a table.")
    found = list_films(films)
    model, card = load_model(run / "best")
    if raw:
        card = replace(card, calibration=None)
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    start("films", len(found))
    table = _score(model.to(device), card, found, device, advance)
    if (table["refused"] != "").all():
        reasons = "; ".join(sorted(table["refused"].unique()))
        raise InputError(f"FILMS: none of the {len(found)} films can be used ({reasons}).")
    folder.write_bytes(target.name, _table_bytes(table, target.suffix))
    return table


def list_films(places: Sequence[str]) -> list[tuple[str, Path]]:
    """(image id, path) of the films: files as given, folders searched for PNG and JPEG. InputError if there are none.

    The image id is the path below the folder given, or the file's name. A file that is given twice, as by its name and
    by its folder, comes once.
    """
    found: list[tuple[str, Path]] = []
    for place in places:
        path = Path(place)
        if path.is_file():
            found.append((path.name, path))
        elif path.is_dir():
            files = sorted(p for p in path.rglob("*") if p.suffix.lower() in SUFFIXES and p.is_file())
            found += [(p.relative_to(path).as_posix(), p) for p in files]
        else:
            raise InputError(f"FILMS: {place!r} is neither a file nor a folder.")
    if not found:
        raise InputError(f"FILMS: no {', '.join(SUFFIXES)} file in {', '.join(map(repr, places))}.")
    found = list({path.resolve(): (i, path) for i, path in reversed(found)}.values())[::-1]
    ids = [i for i, _ in found]
    if len(set(ids)) < len(ids):
        found = [(str(p), p) for _, p in found]
    return found


def _score(
    model: ChestModel, card: ModelCard, films: list[tuple[str, Path]], device: torch.device,
    advance: Callable[[int], None],
) -> pd.DataFrame:  # fmt: skip
    scores = np.full((len(films), len(card.findings)), np.nan)
    reasons = [""] * len(films)
    with ThreadPoolExecutor(usable_cores()) as pool, torch.inference_mode():
        for first in range(0, len(films), _BATCH):
            chunk = films[first : first + _BATCH]
            loaded = list(pool.map(lambda film: _load(film[1], card), chunk))
            used = [first + i for i, film in enumerate(loaded) if not isinstance(film, str)]
            for i, film in enumerate(loaded):
                reasons[first + i] = film if isinstance(film, str) else ""
            pixels = [film for film in loaded if not isinstance(film, str)]
            if pixels:
                logits = model(torch.from_numpy(np.stack(pixels)).to(device)).float().cpu().numpy()
                scores[used] = probabilities(logits, card.calibration, card.findings)
            advance(len(chunk))
    table = pd.DataFrame({"image_id": [i for i, _ in films]})
    table[[f"prob_{f}" for f in card.findings]] = scores
    return table.assign(refused=reasons)


def _load(path: Path, card: ModelCard) -> Pixels | str:
    """The film as in training, stored size first, or the reason why not."""
    try:
        film = read_film(read_file(str(path)))
    except FilmRefused as reason:
        return str(reason)
    return shrink(resize_square(film, card.stored_px), card.image_px)


def _table_bytes(table: pd.DataFrame, suffix: str) -> bytes:
    if suffix == ".csv":
        return table.to_csv(index=False).encode()
    buffer = io.BytesIO()
    table.to_parquet(buffer, index=False)
    return buffer.getvalue()
