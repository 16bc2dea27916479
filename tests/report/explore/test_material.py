"""What is explored: the label table, or the data set that was made of it."""

import io
import json
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from ray_cxr.errors import InputError
from ray_cxr.job import Job, load_job
from ray_cxr.report.explore.exploration import Exploration, exploration_json
from ray_cxr.report.explore.material import (
    Material,
    material_of_dataset,
    material_of_job,
    same_preparation,
)
from ray_cxr.report.explore.remarks import leak_alarm
from ray_cxr.shards.manifest import manifest_hash

Explore = Callable[..., Exploration]


def test_a_job_is_explored_as_its_data_set_once_that_is_there(drawn_job: Job) -> None:
    assert same_preparation(drawn_job) == (True, True)
    material = material_of_job(drawn_job)
    assert material.prepared
    assert material.frame["split"].value_counts()["train"] > 100
    other = drawn_job.model_copy(update={"seed": 1})
    assert same_preparation(other) == (True, False)
    before = material_of_job(other)
    assert not before.prepared
    assert any("other settings" in note for note in before.notes)
    elsewhere = drawn_job.model_copy(update={"dataset": drawn_job.dataset + "-not-there"})
    assert same_preparation(elsewhere) == (False, False)
    assert material_of_job(elsewhere).notes == ()


def test_how_it_is_carried_out_makes_no_other_data_set(drawn_job: Job) -> None:
    shards = drawn_job.shards.model_copy(update={"engine": "ray"})
    assert same_preparation(drawn_job.model_copy(update={"shards": shards})) == (True, True)


def test_before_and_after_agree(drawn_job: Job, explore_quietly: Explore) -> None:
    """The split that would be drawn is the one that was drawn, and counts are the same."""
    elsewhere = drawn_job.model_copy(update={"dataset": drawn_job.dataset + "-not-there"})
    before, after = (explore_quietly(material_of_job(job)) for job in (elsewhere, drawn_job))
    assert before.splits == after.splits
    assert before.overall == after.overall
    assert before.patients == after.patients
    assert before.leaks["splits"].clean
    assert before.duplicates is None
    assert after.duplicates == 0
    one, two = exploration_json(before), exploration_json(after)
    same = ("rows", "findings", "overall", "splits", "co_occurrence", "age", "by", "auroc_without_pixels")
    assert {k: one[k] for k in same} == {k: two[k] for k in same}


def test_material_names_nobody_before_prepare(drawn_job: Job) -> None:
    elsewhere = drawn_job.model_copy(update={"dataset": drawn_job.dataset + "-not-there"})
    assert not {"image_id", "film_name", "locator"} & set(material_of_job(elsewhere).frame)


def test_a_split_that_cannot_be_drawn_is_a_note(drawn_job: Job, explore_quietly: Explore) -> None:
    split = drawn_job.split.model_copy(update={"test": 5000.0})
    job = drawn_job.model_copy(update={"dataset": drawn_job.dataset + "-not-there", "split": split})
    material = material_of_job(job)
    assert any("cannot be drawn" in note for note in material.notes)
    found = explore_quietly(material, films=3)
    assert found.splits == {}
    assert found.trained is found.overall
    assert found.pixels is not None


def leaky_copy(job: Job, folder: Path) -> str:
    """The data set with a test film's patient put into training, as if nobody had checked."""
    shutil.copytree(job.dataset, folder)
    index = pd.read_parquet(folder / "index.parquet")
    train, test = (index.index[index["split"] == s][0] for s in ("train", "test"))
    index.loc[test, "patient_id"] = index.loc[train, "patient_id"]
    buffer = io.BytesIO()
    index.to_parquet(buffer, index=False)
    (folder / "index.parquet").write_bytes(buffer.getvalue())
    return str(folder)


def test_a_leak_is_shown_not_refused(drawn_job: Job, tmp_path: Path, explore_quietly: Explore) -> None:
    found = explore_quietly(material_of_dataset(leaky_copy(drawn_job, tmp_path / "leaky")), films=4)
    leak = found.leaks["splits"]
    assert leak.shared_patients == 1
    assert leak.pairs["train and test"] == 1


def test_what_is_no_data_set_or_a_changed_one_is_told(drawn_job: Job, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="holds no prepared data set"):
        material_of_dataset(str(tmp_path))
    folder = tmp_path / "changed"
    shutil.copytree(drawn_job.dataset, folder)
    manifest = json.loads((folder / "manifest.json").read_text())
    (folder / "manifest.json").write_text(json.dumps(manifest | {"protocol": "official"}))
    with pytest.raises(InputError, match="changed by hand"):
        material_of_dataset(str(folder))
    manifest["protocol"] = "official"
    manifest["manifest_sha256"] = manifest_hash(manifest)
    (folder / "manifest.json").write_text(json.dumps(manifest))
    assert material_of_dataset(str(folder)).prepared


def test_a_given_split_that_leaks_is_shown_before_it_is_prepared(
    tmp_path: Path, shared_data: Path, monkeypatch: pytest.MonkeyPatch, explore_quietly: Explore
) -> None:
    """Somebody's published split of NIH films, in which 15, 8 and 9 patients are shared."""
    monkeypatch.setenv("RAY_CXR_PSEUDONYM_KEY", "0123456789abcdef" * 2)
    films = [
        p for s in ("train", "valid", "test") for p in sorted((shared_data / "nih-64" / s).rglob("*.png"))
    ]
    names = [str(p.relative_to(shared_data / "nih-64")) for p in films]
    rows = [
        (n, p.name.split("_")[0], n.split("/")[0], i % 5 == 0)
        for i, (n, p) in enumerate(zip(names, films, strict=True))
    ]
    table = pd.DataFrame(rows, columns=["image_id", "patient_id", "split", "Mass"]).astype({"Mass": int})
    table.to_csv(tmp_path / "table.csv", index=False)
    source = f"source={{kind: csv, images: {shared_data / 'nih-64'}, labels: {tmp_path / 'table.csv'}}}"
    job = load_job(None, [source, f"dataset={tmp_path / 'set'}", "split.method=column"])
    found = explore_quietly(material_of_job(job))
    assert found.leaks["splits"].pairs == {
        "train and validation": 15,
        "train and test": 8,
        "validation and test": 9,
    }
    alarm = leak_alarm(found)
    assert alarm is not None
    assert alarm.text.startswith("Patient leak in the splits: 30 of 264 patients")


def test_original_sizes_come_from_the_film_store(drawn_job: Job, tmp_path: Path) -> None:
    material = material_of_dataset(drawn_job.dataset)
    assert material.sizes is not None
    assert len(material.sizes) == len(material.frame)
    assert set(material.sizes["width"]) == {64}
    folder = tmp_path / "without-store"
    shutil.copytree(drawn_job.dataset, folder)
    shutil.rmtree(folder / "films")
    assert material_of_dataset(str(folder)).sizes is None


def test_a_partial_download(shared_data: Path, nih_job: Callable[..., Job]) -> None:
    material: Material = material_of_job(nih_job())
    assert len(material.frame) == 112_120
    assert material.frame["here"].sum() == 796
    there = material.frame["split"] != ""
    assert (there == material.frame["here"]).all(), "what is not here is in no split"
    assert material.films_from == "train"
    assert set(np.unique(material.frame["split"])) == {"", "train", "validation", "test"}


def test_labels_without_any_film(shared_data: Path, nih_job: Callable[..., Job], tmp_path: Path, explore_quietly: Explore) -> None:  # fmt: skip
    found = explore_quietly(
        material_of_job(nih_job(f"source.images={tmp_path}", "split.folds=null")), films=50
    )
    assert found.pixels is None
    assert found.films_here == 0
    assert sum(c.films for c in found.splits.values()) == 112_120
    # Wang et al. 2017 and the data set's own page: 30,805 patients; 227 films with Hernia.
    assert found.patients.patients == 30_805
    assert found.overall.findings["Hernia"].positives == 227
    assert found.people.views == {"PA": 67_310, "AP": 44_810}
