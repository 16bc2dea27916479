import json
import shutil
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import pandas as pd
import pyarrow.parquet as pq
import pytest

from ray_cxr.errors import InputError, RefusedError
from ray_cxr.films.codec import decode
from ray_cxr.films.read import read_film, resize_square
from ray_cxr.job import Job, load_job
from ray_cxr.shards.dataset import open_dataset
from ray_cxr.shards.manifest import manifest_hash, sha256
from ray_cxr.shards.prepare import prepare
from tests.conftest import Silent


@pytest.fixture
def copy(nih_dataset: str, tmp_path: Path) -> Path:
    return Path(shutil.copytree(nih_dataset, tmp_path / "dataset"))


def test_real_films_are_all_there_and_split_by_patient(nih_dataset: str) -> None:
    dataset = open_dataset(nih_dataset, ("train", "validation", "test"))
    index = dataset.index
    assert len(index) == 796
    assert index["patient_id"].nunique() == 622
    assert index.groupby("patient_id")["split"].nunique().max() == 1
    assert dataset.manifest["sources"][0]["rows"] == 112_120
    assert dataset.manifest["sources"][0]["without_file"] == 112_120 - 796
    counts = dataset.manifest["splits"]
    assert {s: counts[s]["images"] for s in counts} == {
        **index["split"].value_counts().to_dict(),
        "unused": 0,
    }
    assert abs(counts["test"]["images"] - 0.2 * 796) <= 5
    assert counts["train"]["positives"]["Hernia"] + counts["test"]["positives"]["Hernia"] < 7


def test_every_shard_row_holds_the_film_that_the_index_says(nih_dataset: str, shared_data: Path) -> None:
    dataset = open_dataset(nih_dataset, ("train",))
    for number in range(0, 796, 97):
        row = dataset.index.iloc[number]
        shard = pq.ParquetFile(Path(nih_dataset) / row["shard"])
        group = shard.read_row_group(row["row_group"])
        assert group["image_id"][int(row["row"])].as_py() == row["image_id"]
        film = decode(group["film"][int(row["row"])].as_py(), dataset.codec)
        source = (shared_data / "nih/images" / row["image_id"]).read_bytes()
        assert np.array_equal(film, resize_square(read_film(source), 72))


def test_ray_and_threads_write_the_same_bytes(
    nih_job: Callable[..., Job], nih_dataset: str, ray_cluster: None
) -> None:
    job = nih_job("shards.engine=ray")
    prepare(job, Silent())

    def written(dataset: str) -> dict[str, bytes]:
        place = Path(dataset)
        return {str(p.relative_to(place)): p.read_bytes() for p in place.rglob("part-*.parquet")}

    assert written(job.dataset) == written(nih_dataset)
    assert len(written(nih_dataset)) == 16 + 3


def test_nothing_to_do_does_nothing(nih_job: Callable[..., Job], copy: Path) -> None:
    first = nih_job(f"dataset={copy}")
    prepare(first, Silent())
    before = {p: p.stat().st_mtime_ns for p in copy.rglob("*") if p.name != "refused.parquet"}
    manifest = prepare(first, Silent())
    assert (manifest["films"], manifest["shards"]) == (
        {"decoded": 0, "kept": 796},
        {"written": 0, "kept": 3},
    )
    after = {p: p.stat().st_mtime_ns for p in copy.rglob("*") if p.name != "refused.parquet"}
    assert {p: t for p, t in after.items() if p.is_file()} == {p: t for p, t in before.items() if p.is_file()}


def test_another_size_or_codec_decodes(nih_job: Callable[..., Job], copy: Path) -> None:
    for change in ("shards.image_px=64", "shards.codec=png"):
        manifest = prepare(nih_job(f"dataset={copy}", change), said := Silent())
        assert manifest["films"] == {"decoded": 796, "kept": 0}, change
        assert sum("other settings (shards) and will be replaced" in line for line in said.lines) == 1
    assert len(open_dataset(str(copy), ("train", "validation", "test")).index) == 796


def test_another_label_decodes_nothing(
    nih_job: Callable[..., Job], shared_data: Path, copy: Path, tmp_path: Path
) -> None:
    table = pd.read_csv(shared_data / "nih/Data_Entry_2017_v2020.csv.gz", dtype=str)
    row = table.index[
        table["Image Index"] == sorted(p.name for p in (shared_data / "nih/images").iterdir())[0]
    ]
    table.loc[row, "Finding Labels"] = "Hernia"
    table.to_csv(tmp_path / "labels.csv", index=False)
    before = open_dataset(str(copy), ()).manifest
    manifest = prepare(nih_job(f"dataset={copy}", f"source.labels={tmp_path / 'labels.csv'}"), Silent())
    assert manifest["films"] == {"decoded": 0, "kept": 796}
    assert manifest["films_fingerprint"] == before["films_fingerprint"]
    assert manifest["fingerprint"] != before["fingerprint"]


def test_more_films_decode_only_the_parts_they_fall_into(
    nih_job: Callable[..., Job], shared_data: Path, tmp_path: Path
) -> None:
    folder = tmp_path / "images"
    folder.mkdir()
    films = sorted((shared_data / "nih/images").iterdir())
    for film in films[:700]:
        (folder / film.name).symlink_to(film)
    job = nih_job(f"source.images={folder}", f"dataset={tmp_path / 'dataset'}")
    assert prepare(job, Silent())["films"] == {"decoded": 700, "kept": 0}
    (folder / films[700].name).symlink_to(films[700])
    counts = prepare(job, Silent())["films"]
    assert counts["decoded"] + counts["kept"] == 701
    assert 20 <= counts["decoded"] <= 80, "one of sixteen parts"


@pytest.mark.parametrize("place", ["films", "shards/train"])
def test_damage_is_mended_by_another_preparation(nih_job: Callable[..., Job], copy: Path, place: str) -> None:
    """A film part whose facts cannot be read is made again; a shard is read through and copied again."""
    damaged = sorted((copy / place).iterdir())[0]
    whole = damaged.read_bytes()
    damaged.write_bytes(whole[:-100])
    manifest = prepare(nih_job(f"dataset={copy}"), Silent())
    assert damaged.read_bytes() == whole
    assert (manifest["films"]["decoded"] > 0) == (place == "films")
    assert (manifest["shards"]["written"] == 1) == (place == "shards/train")
    damaged.write_bytes(whole[: len(whole) // 2] + b"\0" * 64 + whole[len(whole) // 2 + 64 :])
    if place == "films":  # it is read only where a shard is written from it
        shutil.rmtree(copy / "shards")
        with pytest.raises(
            InputError, match=r"part-\w+-\w+\.parquet is damaged .*remove it and prepare again"
        ):
            prepare(nih_job(f"dataset={copy}"), Silent())
        damaged.unlink()
    prepare(nih_job(f"dataset={copy}"), Silent())
    assert len(open_dataset(str(copy), ("train", "validation", "test")).index) == 796
    assert damaged.read_bytes() == whole


def test_row_groups_are_small(nih_dataset: str) -> None:
    for path in Path(nih_dataset).glob("shards/*/*.parquet"):
        metadata = pq.ParquetFile(path).metadata
        sizes = [metadata.row_group(i).num_rows for i in range(metadata.num_row_groups)]
        assert sizes[:-1] == [16] * (len(sizes) - 1)
        assert 0 < sizes[-1] <= 16


def test_another_split_copies_and_decodes_nothing(
    nih_job: Callable[..., Job], nih_dataset: str, copy: Path, silent: Silent
) -> None:
    before = {p.name: p.stat().st_mtime_ns for p in (copy / "films").iterdir()}
    fingerprints = open_dataset(str(copy), ()).manifest
    manifest = prepare(nih_job(f"dataset={copy}", "seed=7"), silent)
    assert manifest["films"] == {"decoded": 0, "kept": 796}
    assert manifest["shards"] == {"written": 3, "kept": 0}
    assert len(list(copy.glob("shards/*/*.parquet"))) == 3, "shards of the split before are gone"
    assert {p.name: p.stat().st_mtime_ns for p in (copy / "films").iterdir()} == before
    assert manifest["films_fingerprint"] == fingerprints["films_fingerprint"]
    assert manifest["fingerprint"] != fingerprints["fingerprint"]


def test_the_test_set_is_drawn_before_validation(
    nih_job: Callable[..., Job], nih_dataset: str, copy: Path
) -> None:
    def films(dataset: str, split: str) -> set[str]:
        index = open_dataset(dataset, ()).index
        return set(index.loc[index["split"] == split, "image_id"])

    prepare(nih_job(f"dataset={copy}", "split.validation=0.3"), Silent())
    assert films(str(copy), "test") == films(nih_dataset, "test")
    assert films(str(copy), "validation") != films(nih_dataset, "validation")


def test_the_same_settings_give_the_same_data_set(nih_job: Callable[..., Job], nih_dataset: str) -> None:
    again = prepare(nih_job(), Silent())
    first = open_dataset(nih_dataset, ()).manifest
    assert again["films"] == {"decoded": 796, "kept": 0}
    own = {"settings", "manifest_sha256", "films", "shards"}  # the directory is another one
    assert {k: v for k, v in again.items() if k not in own} == {
        k: v for k, v in first.items() if k not in own
    }


def test_a_patient_moved_between_splits_is_refused(copy: Path) -> None:
    index = pd.read_parquet(copy / "index.parquet")
    patient = index["patient_id"].value_counts().index[0]
    rows = index.index[index["patient_id"] == patient]
    index.loc[rows[0], "split"] = "train"
    index.loc[rows[1], "split"] = "test"
    index.to_parquet(copy / "index.parquet", index=False)
    with pytest.raises(RefusedError, match="patient leak: 1 patients"):
        open_dataset(str(copy), ("train",))


def test_changed_labels_and_missing_shards_are_told(copy: Path) -> None:
    next((copy / "shards/validation").iterdir()).unlink()
    open_dataset(str(copy), ("train", "test"))
    with pytest.raises(InputError, match="lacks shards/validation/part-00000"):
        open_dataset(str(copy), ("validation",))
    index = pd.read_parquet(copy / "index.parquet")
    index.loc[0, "Mass"] = 1 - index.loc[0, "Mass"]
    index.to_parquet(copy / "index.parquet", index=False)
    with pytest.raises(InputError, match="not the one that its manifest describes"):
        open_dataset(str(copy), ())


@pytest.mark.parametrize(
    "name", ["../outside/part-00000.parquet", "shards/../../part-00000.parquet", "../part-00000.parquet"]
)
def test_an_index_does_not_lead_out_of_its_data_set(copy: Path, name: str) -> None:
    """Of a data set that was handed over: whoever writes the index writes the manifest's hashes, too."""
    index = pd.read_parquet(copy / "index.parquet")
    row = index.index[index["split"] == "train"][0]
    index.loc[row, "shard"] = name
    index.to_parquet(copy / "index.parquet", index=False)
    manifest = json.loads((copy / "manifest.json").read_text())
    manifest["index_sha256"] = sha256((copy / "index.parquet").read_bytes())
    manifest["manifest_sha256"] = manifest_hash(manifest)
    (copy / "manifest.json").write_text(json.dumps(manifest))
    with pytest.raises(InputError, match="leads out of it"):
        open_dataset(str(copy), ("train",))


def test_what_is_no_data_set_is_told(tmp_path: Path, copy: Path) -> None:
    with pytest.raises(InputError, match="run `ray-cxr prepare` first"):
        open_dataset(str(tmp_path / "nothing"), ())
    (copy / "manifest.json").unlink()
    with pytest.raises(InputError, match="has not ended"):
        open_dataset(str(copy), ())


def test_a_damaged_film_is_refused_and_the_rest_goes_on(
    shared_data: Path, tmp_path: Path, ray_cluster: None, silent: Silent
) -> None:
    folder = tmp_path / "images"
    folder.mkdir()
    films = sorted((shared_data / "nih/images").iterdir())[:60]
    for film in films:
        shutil.copy(film, folder)
    broken = folder / films[3].name
    broken.write_bytes(broken.read_bytes()[:500])
    overrides = [
        "source.kind=nih",
        f"source.images={folder}",
        f"source.labels={shared_data / 'nih/Data_Entry_2017_v2020.csv.gz'}",
        f"dataset={tmp_path / 'dataset'}",
        "shards.image_px=64",
    ]
    with pytest.raises(InputError, match=r"source\.max_refused: 1 of 60 films .*1 × damaged"):
        prepare(load_job(None, overrides), silent)
    assert not (tmp_path / "dataset/manifest.json").exists()
    assert len(pd.read_parquet(tmp_path / "dataset/refused.parquet")) == 1
    manifest = prepare(load_job(None, [*overrides, "source.max_refused=0.05"]), silent)
    assert not any("did not end" in line for line in silent.lines), "it was refused, not interrupted"
    assert manifest["refused"] == {
        "count": 1,
        "reasons": {"damaged: it is cut short, or a checksum is wrong": 1},
    }
    refused = pd.read_parquet(tmp_path / "dataset/refused.parquet")
    assert refused["image_id"].tolist() == [films[3].name]
    assert len(open_dataset(str(tmp_path / "dataset"), ("train",)).index) == 59


def test_nothing_that_is_not_a_data_set_is_written_over(
    nih_job: Callable[..., Job], shared_data: Path, tmp_path: Path, silent: Silent
) -> None:
    mine = tmp_path / "mine"
    (mine / "films").mkdir(parents=True)
    shutil.copy(next((shared_data / "nih/images").iterdir()), mine / "films")
    before = sorted(p.name for p in mine.rglob("*"))
    with pytest.raises(InputError, match="would be written over the films of source.images"):
        prepare(nih_job(f"dataset={mine}", f"source.images={mine / 'films'}"), silent)
    with pytest.raises(InputError, match="holds something that is no data set"):
        prepare(nih_job(f"dataset={mine}"), silent)
    assert sorted(p.name for p in mine.rglob("*")) == before
    (tmp_path / "file").write_text("")
    with pytest.raises(InputError, match="cannot be written"):
        prepare(nih_job(f"dataset={tmp_path / 'file' / 'below'}"), silent)


def test_a_file_of_somebody_else_in_the_film_store_stays(
    nih_job: Callable[..., Job], copy: Path, silent: Silent
) -> None:
    (copy / "films/notes.txt").write_text("mine")
    prepare(nih_job(f"dataset={copy}"), silent)
    assert (copy / "films/notes.txt").read_text() == "mine"


def test_a_refused_preparation_leaves_the_data_set_that_was_there(
    nih_job: Callable[..., Job], copy: Path, silent: Silent
) -> None:
    with pytest.raises(InputError, match="ask for less"):
        prepare(nih_job(f"dataset={copy}", "split.test=796"), silent)
    assert len(open_dataset(str(copy), ("train", "validation", "test")).index) == 796
    assert not any("will be replaced" in line for line in silent.lines), "nothing was going to be"
    assert not (copy / "preparing.json").exists(), "the data set is whole: there is nothing to go on from"
    prepare(nih_job(f"dataset={copy}", "split.test=80"), silent)
    assert [line for line in silent.lines if "will be replaced" in line or "going on" in line] == [
        "the data set there was made with other settings (split) and will be replaced; "
        "runs that were trained on it can then not be evaluated any more"
    ]


@pytest.mark.parametrize("text", ["{}", "[]", '{"manifest_sha256": "x"}', "no json"])
def test_a_manifest_that_was_changed_is_told(copy: Path, text: str) -> None:
    (copy / "manifest.json").write_text(text)
    with pytest.raises(InputError, match=r"cannot be read|changed by hand"):
        open_dataset(str(copy), ())


def test_an_index_without_patients_is_told(copy: Path) -> None:
    pd.read_parquet(copy / "index.parquet").drop(columns="patient_id").to_parquet(copy / "index.parquet")
    with pytest.raises(InputError, match="cannot be read"):
        open_dataset(str(copy), ())


def test_the_list_of_refused_films_is_that_of_the_last_preparation(
    nih_job: Callable[..., Job], copy: Path, silent: Silent
) -> None:
    stale = pd.DataFrame(
        {"image_id": ["gone"], "source": ["nih"], "locator": ["gone"], "reason": ["damaged"]}
    )
    stale.to_parquet(copy / "refused.parquet")
    prepare(nih_job(f"dataset={copy}"), silent)
    assert len(pd.read_parquet(copy / "refused.parquet")) == 0


def _folder_of_films(shared_data: Path, folder: Path, count: int) -> list[Path]:
    folder.mkdir()
    films = sorted((shared_data / "nih/images").iterdir())[:count]
    return [Path(shutil.copy(film, folder)) for film in films]


def test_an_impossible_split_is_told_before_a_film_is_decoded(
    nih_job: Callable[..., Job], tmp_path: Path, silent: Silent
) -> None:
    with pytest.raises(InputError, match=r"split\.test"):
        prepare(nih_job(f"dataset={tmp_path / 'dataset'}", "split.test=100000"), silent)
    assert not (tmp_path / "dataset").exists()


def test_refused_films_of_many_kinds_are_counted_by_reason(
    nih_job: Callable[..., Job], shared_data: Path, tmp_path: Path, silent: Silent
) -> None:
    films = _folder_of_films(shared_data, tmp_path / "images", 60)
    bad = {
        "empty file": [b""],
        "not a PNG or JPEG film, but an HTML page": [b"<html>", b"<!DOCTYPE html>"],
        "damaged: it is cut short, or a checksum is wrong": [films[10].read_bytes()[:-20]],
        "too small": [_png(np.eye(side, dtype=np.uint8)) for side in (8, 16, 31)],
        "blank: all pixels are alike": [_png(np.zeros((64, 64), np.uint8))],
    }
    contents = [data for group in bad.values() for data in group]
    for film, data in zip(films, contents, strict=False):
        film.write_bytes(data)
    settings = [f"source.images={tmp_path / 'images'}", f"dataset={tmp_path / 'dataset'}"]
    with pytest.raises(
        InputError, match=r"source\.max_refused: 8 of 60 films .* \(3 × too small; 2 × not a PNG"
    ) as stop:
        prepare(nih_job(*settings), silent)
    assert stop.value.exit_code == 2
    named = pd.read_parquet(tmp_path / "dataset/refused.parquet")
    assert sorted(named["image_id"]) == [f.name for f in films[:8]]
    assert "too small (16×16, at least 32 pixels each way)" in set(named["reason"])
    made = prepare(nih_job(*settings, "source.max_refused=0.2"), silent)
    assert made["refused"]["count"] == 8
    assert made["refused"]["reasons"] == {reason: len(group) for reason, group in bad.items()}
    assert made["films"] == {"decoded": 0, "kept": 60}, "refused films are not tried again"


def test_refused_film_that_was_mended_is_read(
    nih_job: Callable[..., Job], shared_data: Path, tmp_path: Path, silent: Silent
) -> None:
    films = _folder_of_films(shared_data, tmp_path / "images", 60)
    whole = films[5].read_bytes()
    films[5].write_bytes(whole[:500])
    settings = [
        f"source.images={tmp_path / 'images'}",
        f"dataset={tmp_path / 'dataset'}",
        "source.max_refused=0.1",
    ]
    assert prepare(nih_job(*settings), silent)["refused"]["count"] == 1
    films[5].write_bytes(whole)
    assert prepare(nih_job(*settings), silent)["refused"]["count"] == 0
    assert len(pd.read_parquet(tmp_path / "dataset/refused.parquet")) == 0


def test_source_of_which_every_film_is_refused_is_told(
    nih_job: Callable[..., Job], shared_data: Path, tmp_path: Path, silent: Silent
) -> None:
    for film in _folder_of_films(shared_data, tmp_path / "images", 60):
        film.write_bytes(b"GIF89a")
    settings = [
        f"source.images={tmp_path / 'images'}",
        f"dataset={tmp_path / 'dataset'}",
        "source.max_refused=1",
    ]
    with pytest.raises(
        InputError, match=r"none of the 60 films can be used \(60 × not a PNG or JPEG film, but a GIF image\)"
    ):
        prepare(nih_job(*settings), silent)
    assert len(pd.read_parquet(tmp_path / "dataset/refused.parquet")) == 60


def _png(pixels: np.ndarray) -> bytes:
    ok, data = cv2.imencode(".png", pixels)
    assert ok
    return bytes(data.tobytes())
