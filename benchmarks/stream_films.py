"""The films of the stream benchmark: drawn once, as every contender wants to have them."""

from __future__ import annotations

import csv
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

import cv2
import numpy as np

from ray_cxr.films.phantom import draw_phantom
from ray_cxr.job import load_job
from ray_cxr.labels.phantom import phantom_table

PUBLISHED_PX = 1024
PREPARED_PX = 256
_BLUR, _COARSE, _FINE = 1.0, 0.8, 1.0
"""Standard deviations (pixels of 256; gray levels at 256 and at 1024 px) that bring films to the entropy of NIH's: 420 kB
as PNG of 1024 px (16 published ones: 455 kB), 25 kB as HTJ2K of 256 px (100 published ones: 26 kB)."""


def make_films(work: Path, films: int, processes: int) -> None:
    """published/*.png, prepared/*.png, our data set, and the peers' shards; what is there is not made again."""
    marker = work / f"films-{films}"
    if marker.exists():
        return
    for folder in ("published", "prepared"):
        (work / folder).mkdir(parents=True, exist_ok=True)
    locators = phantom_table(films, 0)["locator"].tolist()[:films]
    cv2.setNumThreads(1)
    with ProcessPoolExecutor(processes) as pool:
        sizes = list(pool.map(_draw, range(films), locators, [work] * films, chunksize=32))
    print(f"published films: {np.mean(sizes) / 1000:.0f} kB each")
    with (work / "labels.csv").open("w", newline="") as file:
        rows = csv.writer(file)
        rows.writerow(["image_id", "patient_id", "Mass"])
        rows.writerows([f"{n:06d}.png", f"p{n}", n % 2] for n in range(films))
    _our_dataset(work)
    _webdataset(work)
    _mosaic(work)
    _litdata(work)
    marker.touch()


def published(work: Path) -> list[str]:
    return sorted(str(p) for p in (work / "published").glob("*.png"))


def prepared(work: Path) -> list[str]:
    return sorted(str(p) for p in (work / "prepared").glob("*.png"))


def _draw(number: int, locator: str, work: Path) -> int:
    rng = np.random.default_rng(number)
    # Drawn at 256 px, since a phantom of 1024 px takes a second.
    film = cv2.GaussianBlur(draw_phantom(locator, PREPARED_PX).astype(np.float32), (0, 0), _BLUR)
    film += _COARSE * rng.standard_normal(film.shape, dtype=np.float32)
    film = cv2.resize(film, (PUBLISHED_PX, PUBLISHED_PX), interpolation=cv2.INTER_CUBIC)
    film = np.clip(film + _FINE * rng.standard_normal(film.shape, dtype=np.float32), 0, 255).astype(np.uint8)
    data = cv2.imencode(".png", film)[1].tobytes()
    (work / "published" / f"{number:06d}.png").write_bytes(data)
    small = cv2.resize(film, (PREPARED_PX, PREPARED_PX), interpolation=cv2.INTER_AREA)
    cv2.imwrite(str(work / "prepared" / f"{number:06d}.png"), small)
    return len(data)


def _our_dataset(work: Path) -> None:
    from ray_cxr.cli.work import run_prepare

    run_prepare(
        load_job(
            None,
            [
                "source.kind=csv", f"source.images={work / 'published'}", f"source.labels={work / 'labels.csv'}",
                "source.pseudonymise=false", f"dataset={work / 'dataset'}", f"shards.image_px={PREPARED_PX}",
                "split.test=1", "split.validation=1", "split.folds=null",
            ],
        )
    )  # fmt: skip


def _webdataset(work: Path) -> None:
    import webdataset

    folder = work / "webdataset"
    folder.mkdir(exist_ok=True)
    with webdataset.ShardWriter(str(folder / "films-%05d.tar"), maxcount=500) as writer:
        for number, path in enumerate(prepared(work)):
            writer.write({"__key__": f"{number:06d}", "png": Path(path).read_bytes()})


def _mosaic(work: Path) -> None:
    from streaming import MDSWriter

    with MDSWriter(out=str(work / "mosaic"), columns={"film": "bytes"}, exist_ok=True) as writer:
        for path in prepared(work):
            writer.write({"film": Path(path).read_bytes()})


def _litdata(work: Path) -> None:
    import litdata

    litdata.optimize(
        fn=_bytes_of, inputs=prepared(work), output_dir=str(work / "litdata"),
        chunk_bytes="16MB", num_workers=1, mode="overwrite",
    )  # fmt: skip


def _bytes_of(path: str) -> bytes:
    """Here, since litdata's own processes import it."""
    return Path(path).read_bytes()
