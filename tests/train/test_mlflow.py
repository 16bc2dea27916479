"""What MLflow has of a training, by its own client; that no server holds a training up; what is never sent."""

import json
import os
import socket
import sqlite3
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from mlflow.entities import Run
from mlflow.tracking import MlflowClient

from ray_cxr.config import to_yaml
from ray_cxr.errors import InputError
from ray_cxr.job import Job, load_job
from ray_cxr.storage import Folder
from ray_cxr.train import epoch, mlflow_run
from ray_cxr.train.event_files import figures_of
from ray_cxr.train.fit import check_recipe, fit, with_absolute_paths
from ray_cxr.train.log import run_id
from ray_cxr.train.mlflow_run import MlflowRun, absolute_tracking
from ray_cxr.train.worker import Worker

Events = list[dict[str, Any]]


class StoppedError(Exception):
    """In the place of a kill."""


@pytest.fixture(autouse=True)
def environment() -> Iterator[None]:
    """What a training sets for MLflow is gone after the test."""
    before = dict(os.environ)
    os.environ.update({"MLFLOW_DISABLE_TELEMETRY": "true", "MLFLOW_ALLOW_FILE_STORE": "true"})
    yield
    for name in set(os.environ) - set(before):
        del os.environ[name]
    os.environ.update(before)


@pytest.fixture
def job(nih_job: Callable[..., Job], nih_dataset: str, tmp_path: Path) -> Job:
    return nih_job(
        f"dataset={nih_dataset}", f"train.mlflow={tmp_path / 'mlflow'}", "train.mlflow_experiment=chest"
    )


def _runs(job: Job) -> list[Run]:
    assert job.train.mlflow is not None
    client = MlflowClient(absolute_tracking(job.train.mlflow))
    found = client.get_experiment_by_name(job.train.mlflow_experiment)
    return [] if found is None else list(client.search_runs([found.experiment_id]))


def _history(job: Job, run: Run, name: str) -> list[tuple[int, float]]:
    """Step and figure, as often as they were sent."""
    assert job.train.mlflow is not None
    client = MlflowClient(absolute_tracking(job.train.mlflow))
    return [(m.step, m.value) for m in client.get_metric_history(run.info.run_id, name)]


def _fit(job: Job) -> tuple[Events, list[str]]:
    """Events, and the notes about MLflow."""
    events: Events = []
    fit(job, to_yaml(job), events.append)
    return events, [e["text"] for e in events if e["kind"] == "note" and "MLflow" in e["text"]]


def _until(job: Job, place: tuple[int, int], monkeypatch: pytest.MonkeyPatch) -> None:
    """Trains to a step, from 0, and breaks off."""
    train_step = epoch.train_step

    def stopped(s: Any, plan: Any, step: int, batch: Any) -> float | None:
        if (plan.epoch, step) == place:
            raise StoppedError
        return train_step(s, plan, step, batch)

    with monkeypatch.context() as patch:
        patch.setattr(epoch, "train_step", stopped)
        with pytest.raises(StoppedError):
            fit(job, to_yaml(job), lambda event: None)


def _lines(job: Job) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (Path(job.out) / "history.jsonl").read_text().splitlines()]


def _assert_all_figures_once(job: Job, run: Run) -> None:
    lines = _lines(job)
    for name in set().union(*(figures_of({**line, "kind": "epoch"}) for line in lines)):
        expected = [(line["step"], figures_of({**line, "kind": "epoch"})[name]) for line in lines]
        assert _history(job, run, name) == expected, name


def test_one_run_has_settings_each_epoch_once_and_the_kept_epoch_also_of_a_training_that_went_on(
    job: Job, monkeypatch: pytest.MonkeyPatch
) -> None:
    _until(job, (2, 3), monkeypatch)
    (broken,) = _runs(job)
    assert broken.info.status == "FAILED" and len(_history(job, broken, "loss/training")) == 1
    _fit(job)
    (run,) = _runs(job)
    assert (run.info.run_id, run.info.status) == (broken.info.run_id, "FINISHED")
    _assert_all_figures_once(job, run)
    _fit(job)  # all is done; it sends nothing again
    (run,) = _runs(job)
    _assert_all_figures_once(job, run)

    metrics = json.loads((Path(job.out) / "metrics.json").read_text())
    assert _history(job, run, "best/epoch") == [(_lines(job)[-1]["step"], metrics["epoch"])]
    assert run.data.metrics["best/auroc/mean"] == metrics["mean_auroc"]
    assert run.data.params["train.learning_rate"] == str(job.train.learning_rate)
    assert run.data.params["model.backbone"] == job.model.backbone and run.data.params["seed"] == str(
        job.seed
    )
    assert run.data.tags["ray_cxr.run"] == run_id(Folder(job.out))
    assert run.data.tags["ray_cxr.dataset"] == Folder(job.dataset).read_json("manifest.json")["fingerprint"]


def test_no_path_no_person_and_no_host_is_sent(job: Job, tmp_path: Path) -> None:
    _fit(job)
    index = pd.read_parquet(Path(job.dataset) / "index.parquet")
    known = {
        socket.gethostname(),
        job.out,
        job.dataset,
        *index["image_id"],
        *index["patient_id"].map('"{}"'.format),
    }
    sent = [p for p in (tmp_path / "mlflow").rglob("*") if p.is_file() and p.name != "meta.yaml"]
    assert len(sent) > 20
    for path in sent:
        assert not [word for word in known if word in path.read_text() or word in path.name], path
    (run,) = _runs(job)
    assert run.info.user_id in ("", "unknown")
    # An address of MLflow's own, of nothing that was sent.
    assert job.out not in run.info.artifact_uri
    assert not [value for value in run.data.params.values() if "/" in value]


def test_weights_of_a_path_are_a_file(job: Job) -> None:
    recipe = job.model_copy(
        update={"model": job.model.model_copy(update={"weights": "/films/patient 17/w.safetensors"})}
    )
    parameters = MlflowRun(recipe, Worker())._parameters()
    assert parameters["model.weights"] == "a file" and "17" not in json.dumps(parameters["model.weights"])
    assert not {"out", "dataset", "train.mlflow"} & set(parameters)


@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # MLflow's own, of SQLAlchemy
def test_a_data_base_serves_as_well(nih_job: Callable[..., Job], nih_dataset: str, tmp_path: Path) -> None:
    job = nih_job(f"dataset={nih_dataset}", "train.epochs=1", f"train.mlflow=sqlite:///{tmp_path}/mlflow.db")
    _, notes = _fit(job)
    assert notes == []
    with sqlite3.connect(tmp_path / "mlflow.db") as base:
        (losses,) = base.execute("select count(*) from metrics where key = 'loss/validation'").fetchone()
    assert losses == 1 and not Path("mlruns").exists()


def test_training_begun_anew_is_another_run(job: Job, monkeypatch: pytest.MonkeyPatch) -> None:
    _until(job, (2, 0), monkeypatch)
    for path in (Path(job.out) / "checkpoints").rglob("*.safetensors"):
        path.write_bytes(b"damaged")
    _fit(job)
    runs = {run.info.status: run for run in _runs(job)}
    assert set(runs) == {"FAILED", "FINISHED"}
    _assert_all_figures_once(job, runs["FINISHED"])


class Silent:
    """A server that takes a connection and never answers."""

    def __init__(self) -> None:
        self.socket = socket.create_server(("127.0.0.1", 0))
        self.port = self.socket.getsockname()[1]
        self.asked = 0
        self._held: list[socket.socket] = []
        threading.Thread(target=self._take, daemon=True).start()

    def _take(self) -> None:
        try:
            while True:
                self._held.append(self.socket.accept()[0])
                self.asked += 1
        except OSError:
            return

    def close(self) -> None:
        self.socket.shutdown(socket.SHUT_RDWR)
        for held in [*self._held, self.socket]:
            held.close()


def test_server_that_never_answers_costs_a_warning_and_some_seconds(
    nih_job: Callable[..., Job], nih_dataset: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_TIMEOUT", "1")
    server = Silent()
    job = nih_job(f"dataset={nih_dataset}", f"train.mlflow=http://127.0.0.1:{server.port}")
    started = time.monotonic()
    _, notes = _fit(job)
    took = time.monotonic() - started
    server.close()
    assert notes == [
        "warning: MLflow does not get the figures now (the tracking server does not answer); training goes on"
    ]
    # At the beginning and at the end; after an epoch in between not again so soon.
    assert server.asked == 2 and took < 60
    assert (Path(job.out) / "best/model.safetensors").exists()
    log = [json.loads(line) for line in (Path(job.out) / "log.jsonl").read_text().splitlines()]
    assert [line["level"] for line in log if "MLflow" in line.get("text", "")] == ["warning"]


def test_what_a_server_missed_is_sent_when_it_is_back(job: Job, monkeypatch: pytest.MonkeyPatch) -> None:
    whole, missed = MlflowClient.log_batch, [1, 2]
    monkeypatch.setattr(mlflow_run, "_AGAIN_S", 0.0)

    def away(client: Any, run: str, **what: Any) -> None:
        if what.get("metrics") and missed:
            missed.pop()
            raise OSError(110, "Connection timed out")
        whole(client, run, **what)

    monkeypatch.setattr(MlflowClient, "log_batch", away)
    _, notes = _fit(job)
    assert notes == [
        "warning: MLflow does not get the figures now (Connection timed out); training goes on",
        "MLflow has all figures now",
    ]
    (run,) = _runs(job)
    _assert_all_figures_once(job, run)


def test_other_ranks_send_nothing(job: Job) -> None:
    from ray_cxr.stream.plan import World

    worker = Worker(World(1, 2))
    with mlflow_run.reporting_to_mlflow(job, worker) as reporting:
        assert reporting is worker


@pytest.mark.parametrize(
    ("uri", "absolute"),
    [
        ("https://mlflow.example.org", "https://mlflow.example.org"),
        ("databricks", "databricks"),
        ("file:///srv/mlflow", "file:///srv/mlflow"),
        ("runs/mlflow", f"file://{os.getcwd()}/runs/mlflow"),
        ("sqlite:///mlflow.db", f"sqlite:///{os.getcwd()}/mlflow.db"),
        ("sqlite:////srv/mlflow.db", "sqlite:////srv/mlflow.db"),
    ],
)
def test_workers_mean_the_same_place(uri: str, absolute: str) -> None:
    recipe = with_absolute_paths(Job.model_validate({"train": {"mlflow": uri}}))
    assert recipe.train.mlflow == absolute


@pytest.mark.parametrize(
    "uri", ["https://me:geheim@mlflow.example.org", "https://token@mlflow.example.org/x"]
)
def test_secret_in_the_address_is_refused_and_not_repeated(uri: str) -> None:
    with pytest.raises(InputError) as caught:
        load_job(None, [f"train.mlflow={uri}"])
    assert "MLFLOW_TRACKING_PASSWORD" in caught.value.message
    assert "geheim" not in caught.value.message and "token" not in caught.value.message


def test_unknown_kind_of_address_is_refused() -> None:
    with pytest.raises(
        InputError, match=r"train\.mlflow: got an address that begins with htp:, but allowed are"
    ):
        load_job(None, ["train.mlflow=htp://mlflow.example.org"])


def test_extra_that_is_missing_is_said_before_anything_starts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(mlflow_run, "find_spec", lambda name: None)
    with pytest.raises(InputError, match=r"train\.mlflow: .* pip install 'ray_cxr\[mlflow\]'"):
        check_recipe(Job.model_validate({"train": {"mlflow": "runs/mlflow"}}))
