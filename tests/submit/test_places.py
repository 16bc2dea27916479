"""What a job reads and writes, and what of it a cluster can see."""

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Literal, get_args, get_origin

import pytest
from pydantic import BaseModel

from ray_cxr.config import to_yaml
from ray_cxr.errors import InputError
from ray_cxr.job import Job, load_job
from ray_cxr.labels.settings import CsvSource, FolderSource, NihSource, PhantomSource
from ray_cxr.submit.places import Place, absolute, change_places, refuse_unseen

_CSV = ["source.kind=csv", "source.images=[films,more]", "source.labels=table.csv"]


def _here(name: str) -> str:
    return os.path.join(os.getcwd(), name)


def test_relative_paths_become_absolute_and_urls_stay() -> None:
    job, places = absolute(load_job(None, [*_CSV, "out=s3://b/run", "dataset=d"]), "prepare")
    assert (job.out, job.dataset) == ("s3://b/run", _here("d"))
    assert {(p.setting, p.value) for p in places} == {
        ("dataset", _here("d")), ("source.images", _here("films")), ("source.images", _here("more")), ("source.labels", _here("table.csv")),
    }  # fmt: skip


def test_only_what_the_command_touches_counts() -> None:
    """A training reads no source, so films that stay at home are no reason to refuse it."""
    _, places = absolute(load_job(None, [*_CSV, "out=s3://b/run", "dataset=s3://b/d"]), "train")
    assert [p.setting for p in places] == ["dataset", "out"]


@pytest.mark.parametrize(("weights", "count"), [("none", 0), ("imagenet", 0), ("efficientnet-lite0", 0), ("w.safetensors", 1)])  # fmt: skip
def test_weights_are_a_place_unless_they_have_a_name(weights: str, count: int) -> None:
    job, places = absolute(load_job(None, [f"model.weights={weights}"]), "train")
    assert [p.value for p in places if p.setting == "model.weights"] == [_here(weights)] * count
    assert job.model.weights == (_here(weights) if count else weights)


@pytest.mark.parametrize(("uri", "sent", "place"), [
    ("runs", _here("runs"), _here("runs")), ("file:///m", "/m", "/m"), ("sqlite:///m.db", f"sqlite:///{_here('m.db')}", _here("m.db")),
    ("https://mlflow.example", "https://mlflow.example", None), ("databricks", "databricks", None),
])  # fmt: skip
def test_a_folder_of_mlflows_is_a_place_and_a_server_is_none(uri: str, sent: str, place: str | None) -> None:
    for command in ("train", "crossval", "tune"):
        job, places = absolute(load_job(None, [f"train.mlflow={uri}"]), command)
        assert job.train.mlflow == sent
        assert [p.value for p in places if p.setting == "train.mlflow"] == ([place] if place else [])


def test_lists_and_several_sources_are_named_by_their_place_in_the_job() -> None:
    job = load_job(None, [
        'source=[{kind: csv, images: a, labels: a.csv, pseudonym_key_file: key}, {kind: folder, images: b, patients: p.csv}]',
        "split.method=lists", "split.lists.train=[a.txt, b.txt]", "split.lists.test=t.txt",
    ])  # fmt: skip
    _, places = absolute(job, "prepare")
    assert {p.setting for p in places} == {
        "dataset", "source.0.images", "source.0.labels", "source.0.pseudonym_key_file", "source.1.images", "source.1.patients",
        "split.lists.train", "split.lists.test",
    }  # fmt: skip


def _holds_text(annotation: Any) -> bool:
    if annotation is str:
        return True
    return get_origin(annotation) is not Literal and any(_holds_text(a) for a in get_args(annotation))


def _texts(settings: type[BaseModel], prefix: str = "") -> Iterator[str]:
    for name, field in settings.model_fields.items():
        if isinstance(field.annotation, type) and issubclass(field.annotation, BaseModel):
            yield from _texts(field.annotation, f"{prefix}{name}.")
        elif _holds_text(field.annotation):
            yield prefix + name


def test_every_setting_that_is_a_text_is_a_place_or_known_not_to_be() -> None:
    """A new setting with a path in it would otherwise be sent as a path of this machine."""
    sources = (PhantomSource, NihSource, CsvSource, FolderSource)
    texts = set(_texts(Job)).union(*({f"source.{name}" for name in _texts(kind)} for kind in sources))
    no_places = {n for n in texts if n.startswith("source.columns.")} | {
        "findings", "model.backbone", "source.negative", "source.patient_regex", "source.views", "split.target", "split.words",
        "stream.target", "train.mlflow_experiment", "tune.space", "tune.storage",
    }  # fmt: skip
    assert texts - no_places == {
        "dataset", "out", "model.weights", "source.images", "source.labels", "source.patients", "source.pseudonym_key_file",
        "split.lists.test", "split.lists.train", "split.lists.train_validation", "split.lists.validation", "train.mlflow",
    }, "is it a place? then change_places must know it"  # fmt: skip


def test_what_is_sent_is_a_job_again(tmp_path: Path) -> None:
    job, _ = absolute(load_job(None, [*_CSV, "train.epochs=3"]), "prepare")
    (tmp_path / "job.yaml").write_text(to_yaml(job))
    assert load_job(tmp_path / "job.yaml") == job


def test_change_reaches_each_place_once() -> None:
    raw = load_job(None, _CSV).model_dump()
    seen: list[str] = []
    change_places(raw, lambda setting, value: seen.append(setting) or f"x/{value}")  # type: ignore[func-returns-value]
    assert sorted(seen) == ["dataset", "out", "source.images", "source.images", "source.labels"]
    assert raw["source"][0]["images"] == ["x/films", "x/more"]


def test_local_paths_are_refused_in_one_sentence_that_names_them_all() -> None:
    places = [Place("dataset", "/data/d"), Place("out", "s3://b/run"), Place("model.weights", "/home/me/w")]
    with pytest.raises(InputError) as caught:
        refuse_unseen(places, (), same_machine=False)
    assert "dataset: /data/d; model.weights: /home/me/w: these lie on this machine" in caught.value.message
    assert "--shared DIR" in caught.value.message
    assert "s3://b/run" not in caught.value.message


@pytest.mark.parametrize(
    ("value", "shared", "seen"),
    [
        ("/shared/d", "/shared", True),
        ("/shared/d", "/shared/", True),
        ("/shared", "/shared", True),
        ("/sharedsecret/d", "/shared", False),
        ("/d", "/shared", False),
    ],
)
def test_shared_folders(value: str, shared: str, seen: bool) -> None:
    places = [Place("dataset", value)]
    if seen:
        refuse_unseen(places, (shared,), same_machine=False)
        return
    with pytest.raises(InputError):
        refuse_unseen(places, (shared,), same_machine=False)


def test_a_path_cannot_leave_the_shared_folder_by_dots() -> None:
    job = load_job(None, ["dataset=/shared/../home/me/d", "out=/shared/run"])
    with pytest.raises(InputError, match="dataset: /home/me/d"):
        refuse_unseen(absolute(job, "train")[1], ("/shared",), same_machine=False)


def test_on_a_cluster_of_this_machine_paths_are_what_they_are() -> None:
    refuse_unseen([Place("dataset", "/data/d")], (), same_machine=True)


def test_a_memory_is_no_place_for_a_cluster() -> None:
    with pytest.raises(InputError, match="one process only"):
        refuse_unseen([Place("out", "memory://run")], (), same_machine=True)
