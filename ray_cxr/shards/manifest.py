"""What a data set says of itself: fingerprints, counts per split, pixel statistics. Pure."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc

from ray_cxr.shards.texts import as_arrow, content
from ray_cxr.splits.leak import MODELLED, SPLITS
from ray_cxr.splits.settings import SplitSettings


def films_fingerprint(index: pd.DataFrame, image_px: int) -> str:
    """sha256 of the pixels: which films, at which size, decoded to what."""
    rows = sorted(zip(index["image_id"], index["pixel_sha256"], strict=True))
    return _digest([f"image_px={image_px}"], (f"{i}\t{h}" for i, h in rows))


def fingerprint(index: pd.DataFrame, findings: list[str], films: str) -> str:
    """sha256 of films, labels, patients and split: what results rest on."""
    labels = _joined([_whole_numbers(index[f]) for f in findings], ",")
    texts = [as_arrow(index[column], pa.large_string()) for column in ("image_id", "patient_id", "split")]
    return _digest_sorted([films, *findings], _joined([*texts, labels], "\t"))


def fold_fingerprint(view: pd.DataFrame, dataset: str, fold: int) -> str:
    """sha256 of a data set as a fold of it sees it; dataset: the fingerprint of the whole."""
    rows = _joined([as_arrow(view[column], pa.large_string()) for column in ("image_id", "split")], "\t")
    return _digest_sorted([dataset, f"fold={fold}"], rows)


def manifest_hash(manifest: dict[str, Any]) -> str:
    """sha256 of a manifest without its own hash: whoever edits one by hand is noticed."""
    text = json.dumps({k: v for k, v in manifest.items() if k != "manifest_sha256"}, sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()


def split_counts(index: pd.DataFrame, findings: list[str]) -> dict[str, dict[str, Any]]:
    """images, patients, and per finding positives and labelled films, of each split."""
    counts = {}
    for name in SPLITS:
        films = index[index["split"] == name]
        labels = films[findings]
        counts[name] = {
            "images": len(films),
            "patients": int(films["patient_id"].nunique()),
            "positives": {f: int((labels[f] == 1).sum()) for f in findings},
            "labelled": {f: int(labels[f].notna().sum()) for f in findings},
        }
    return counts


def protocol_details(index: pd.DataFrame, findings: list[str], settings: SplitSettings) -> dict[str, Any]:
    """What a result's protocol must tell beside its name: sizes, the floor asked for, the share of positives reached.

    target_share: of the films of each split, and of all films in use ("all"), those positive for the target. folds:
    their number, null without.
    """
    any_finding = settings.target not in findings
    positive = (index[findings] == 1).any(axis=1) if any_finding else index[settings.target] == 1
    used = index["split"].isin(MODELLED)
    masks = {name: index["split"] == name for name in MODELLED} | {"all": used}
    return {
        "method": settings.method,
        "films": {name: int(mask.sum()) for name, mask in masks.items()},
        "target": "any" if any_finding else settings.target,
        "target_share": {
            name: float(positive[mask].mean()) if mask.any() else None for name, mask in masks.items()
        },
        "minority_floor": settings.minority_floor,
        "min_positives": settings.min_positives,
        "weighted": settings.weighted,
        "folds": settings.folds,
    }


def pixel_statistics(facts: pd.DataFrame, image_px: int) -> dict[str, float]:
    """Mean and standard deviation (0..1) of the pixels of these films."""
    pixels = len(facts) * image_px**2
    mean = facts["pixel_sum"].sum() / pixels
    variance = max(facts["pixel_square_sum"].sum() / pixels - mean**2, 0.0)
    return {"mean": float(mean / 255), "std": float(np.sqrt(variance) / 255)}


def sha256(data: bytes) -> str:
    """Hex digest, by which a file that was edited by hand is noticed."""
    return hashlib.sha256(data).hexdigest()


def _digest(head: Iterable[str], rows: Iterable[str]) -> str:
    digest = hashlib.sha256()
    for line in (*head, *rows):
        digest.update(line.encode() + b"\n")
    return digest.hexdigest()


def _digest_sorted(head: Iterable[str], rows: pa.Array) -> str:
    """sha256 of the lines of `head`, and of these rows as sorted lines; by Arrow, since every worker of a training does it."""
    in_order = rows.take(pc.sort_indices(rows))
    lines = _joined([in_order, pa.scalar("", pa.large_string())], "\n")
    digest = hashlib.sha256("".join(f"{line}\n" for line in head).encode())
    digest.update(content(lines))
    return digest.hexdigest()


def _joined(texts: Sequence[pa.Array | pa.Scalar], between: str) -> pa.Array:
    return pc.binary_join_element_wise(*texts, pa.scalar(between, pa.large_string()))


def _whole_numbers(cells: pd.Series[float]) -> pa.Array:
    """Labels as texts: "1", "0", and "" where there is none."""
    numbers = pa.array(cells.to_numpy(np.float32), from_pandas=True)
    return pc.fill_null(numbers.cast(pa.int64(), safe=False).cast(pa.large_string()), "")
