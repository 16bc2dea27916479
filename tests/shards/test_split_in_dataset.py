"""The split on its way into a data set: leaks refused or let through and told, edits noticed, metadata alone."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from ray_cxr.cli.main import run
from ray_cxr.errors import InputError
from ray_cxr.job import Job, load_job
from ray_cxr.labels.table import build_label_table
from ray_cxr.shards.dataset import open_dataset
from ray_cxr.shards.index import split_films
from ray_cxr.shards.manifest import protocol_details
from ray_cxr.shards.prepare import prepare
from ray_cxr.splits.leak import check_leaks
from ray_cxr.splits.lists import read_lists
from tests.conftest import Silent


def _leaking(shared_data: Path, folder: Path) -> list[str]:
    """Overrides of a job over somebody's published split, which shares patients between its parts."""
    parts = {name: str(shared_data / "nih-64" / name) for name in ("train", "valid", "test")}
    return [
        "source.kind=nih", f"source.images=[{parts['train']}, {parts['valid']}, {parts['test']}]",
        f"source.labels={shared_data / 'nih/Data_Entry_2017_v2020.csv.gz'}", "shards.image_px=64",
        f"dataset={folder / 'dataset'}", f"out={folder / 'run'}", "stream.image_px=64", "model.backbone=test_convnext",
        "train.epochs=1", "train.workers=0", "split.method=lists", f"split.lists.train={parts['train']}",
        f"split.lists.validation={parts['valid']}", f"split.lists.test={parts['test']}",
    ]  # fmt: skip


def test_a_leak_is_refused_unless_it_is_allowed_and_then_every_result_begins_with_it(
    shared_data: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    job = tmp_path / "job.yaml"
    job.write_text("{}")
    settings = _leaking(shared_data, tmp_path)
    assert run(["prepare", str(job), *settings]) == 3
    said = capfd.readouterr().err
    assert "patient leak: 30 patients are in more than one split" in said
    assert "(15 in train and validation, 8 in train and test, 9 in validation and test)" in said
    assert not (tmp_path / "dataset/films").exists(), "it is told before films are decoded"
    settings.append("split.allow_leak=true")
    assert run(["prepare", str(job), *settings, "--json"]) == 0
    out, err = capfd.readouterr()
    answer = json.loads(out)
    assert answer["protocol"] == "custom"
    assert answer["leak_check"]["shared_patients"] == 30
    assert (answer["leak_check"]["clean"], answer["leak_check"]["allowed"]) == (False, True)
    assert answer["warnings"][0].startswith("patient leak, allowed by split.allow_leak: 30 of 264 patients")
    assert answer["warnings"][0] in err.replace("\n", " ")
    assert run(["train", str(job), *settings]) == 0
    assert "warning: patient leak, allowed by split.allow_leak: 30 of 264" in capfd.readouterr().err
    assert run(["evaluate", str(tmp_path / "run"), "--json"]) == 0
    out, err = capfd.readouterr()
    assert "warning: patient leak, allowed by split.allow_leak: 30 of 264" in err
    assert json.loads(out)["leak"] == answer["leak_check"]
    for name in ("metrics.json", "metrics-validation.json"):
        metrics = json.loads((tmp_path / "run" / name).read_text())
        assert metrics["leak"] == answer["leak_check"]
    details = json.loads((tmp_path / "run/metrics.json").read_text())["protocol_details"]
    assert details["split_films"] == {"train": 600, "validation": 200, "test": 200, "all": 1000}
    assert details["split_minority_floor"] is None
    body = (tmp_path / "run/report/index.html").read_text().partition("<body>")[2]
    first = body.strip().splitlines()[0]
    assert first.startswith(
        '<p class="banner" role="alert">Patient leak, allowed by split.allow_leak: 30 of 264 patients'
    )


def test_a_leak_is_let_through_only_where_it_was_allowed(nih_dataset: str, tmp_path: Path) -> None:
    """Writing `allowed` into a manifest does not help: it has a hash."""
    copy = Path(shutil.copytree(nih_dataset, tmp_path / "dataset"))
    manifest = json.loads((copy / "manifest.json").read_text())
    manifest["leak_check"]["allowed"] = True
    (copy / "manifest.json").write_text(json.dumps(manifest))
    with pytest.raises(InputError, match="changed by hand"):
        open_dataset(str(copy), ())


@pytest.mark.parametrize(("column", "value"), [("sampling_weight", 7.0), ("fold", 3), ("age", 1.0)])
def test_an_edited_index_is_refused(nih_dataset: str, tmp_path: Path, column: str, value: float) -> None:
    copy = Path(shutil.copytree(nih_dataset, tmp_path / "dataset"))
    index = pd.read_parquet(copy / "index.parquet")
    rows = index.index[index[column] != value]
    index.loc[rows[0], column] = value
    index.to_parquet(copy / "index.parquet", index=False)
    with pytest.raises(InputError, match="folds, weights or places of films were changed"):
        open_dataset(str(copy), ())


def test_folds_weights_and_protocol_are_in_the_data_set(nih_job: Callable[..., Job], silent: Silent) -> None:
    job = nih_job("split.minority_floor=0.5", "split.target=Effusion", "split.test=60", "split.validation=40")
    manifest = prepare(job, silent)
    index = open_dataset(job.dataset, ("train", "validation", "test")).index
    assert (index["split"] == "test").sum() == 60
    details = manifest["protocol_details"]
    assert details["films"] == {"train": manifest["splits"]["train"]["images"], "validation": 40, "test": 60,
                                "all": 796 - manifest["splits"]["unused"]["images"]}  # fmt: skip
    assert details["target_share"]["test"] >= 0.5 > details["target_share"]["all"]
    assert (details["minority_floor"], details["target"], details["folds"]) == (0.5, "Effusion", 5)
    test = index[index["split"] == "test"]
    natural = (index["Effusion"] == 1).mean()
    weighted = np.average(test["Effusion"] == 1, weights=test["sampling_weight"])
    assert abs(weighted - natural) < 0.1 < test["Effusion"].mean() - natural
    folds = index["fold"][index["split"].isin(["train", "validation"])]
    assert folds.notna().all() and set(folds) == set(range(5))
    assert index["fold"][index["split"].isin(["test", "unused"])].isna().all()
    unused = index["split"] == "unused"
    assert index["sampling_weight"].isna().equals(unused)
    assert any(line.startswith("warning: only 60 test films") for line in silent.lines)


def test_the_official_split_of_all_rows_without_a_film(shared_data: Path, tmp_path: Path) -> None:
    """86,524 and 25,596 films of the paper's lists; validation is drawn from the first by patient."""
    labels = shared_data / "nih/Data_Entry_2017_v2020.csv.gz"
    job = load_job(None, ["source.kind=nih", f"source.images={tmp_path}", f"source.labels={labels}",
                          "split.method=official", "split.folds=null"])  # fmt: skip
    table = build_label_table(job.source, None, keep_missing=True)
    index, notes = split_films(table.frame, table.findings, job, read_lists(job.split, [str(labels)]))
    assert len(index) == 112_120
    assert notes == []
    films = protocol_details(index, table.findings, job.split)["films"]
    assert films == {"train": 86_524 - 11_212, "validation": 11_212, "test": 25_596, "all": 112_120}
    check = check_leaks(index)
    assert (check.clean, check.patients) == (True, 30_805)
    # Every finding has its share: 11,212 of the 86,524 films that are not for the test.
    rest = index[index["split"] != "test"]
    expected = rest[table.findings].sum() * 11_212 / 86_524
    assert (index[index["split"] == "validation"][table.findings].sum() - expected).abs().max() < 1
