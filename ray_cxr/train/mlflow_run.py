"""Figures of a training for MLflow, an extra that `train.mlflow` switches on.

Reads: the events of `Worker.report`, and `history.jsonl` where a run goes on. Writes: `mlflow.json` of the run directory (the id of
MLflow's run, so that the same one goes on), all else to the tracking server. Only MLflow's client is used: its fluent interface
would send the user's name and the command, and print. What the server does not take now is sent after a later epoch.
"""

from __future__ import annotations

import json
import math
import os
import re
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from ray_cxr import __version__
from ray_cxr.config import dotted
from ray_cxr.errors import InputError, RayCxrError, reason_of
from ray_cxr.storage import Folder
from ray_cxr.train.event_files import figures_of
from ray_cxr.train.log import run_id
from ray_cxr.train.settings import Recipe
from ray_cxr.train.worker import Worker

NAME = "mlflow.json"
_ENVIRONMENT = {
    # MLflow would wait for minutes by default, and training with it; what fails is tried again after a later epoch.
    "MLFLOW_HTTP_REQUEST_TIMEOUT": "10",
    "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "0",
    # Without it MLflow tells its makers how it is used.
    "MLFLOW_DISABLE_TELEMETRY": "true",
    # A folder is named by whoever wants one, although MLflow would rather have a data base.
    "MLFLOW_ALLOW_FILE_STORE": "true",
}
"""Set where the user has not."""
_AGAIN_S = 300.0
"""A server that did not answer is left alone for so long, since each try may cost `MLFLOW_HTTP_REQUEST_TIMEOUT`."""
_PLACES = ("out", "dataset", "stream.cache", "train.mlflow", "train.mlflow_experiment")
"""Settings that are not sent: a path may name a patient."""
_MOST_CHARACTERS = 500
_EPOCH, _KEPT = "loss/training", "best/epoch"


def check_mlflow() -> None:
    """Raises InputError where the extra is not installed."""
    if find_spec("mlflow") is None:
        raise InputError(
            "train.mlflow: is given, but the package mlflow is not installed; pip install 'ray_cxr[mlflow]', or leave the "
            "setting out."
        )


def absolute_tracking(uri: str) -> str:
    """A tracking address that means the same in every directory."""
    if uri.startswith("sqlite:///"):
        return f"sqlite:///{Path(uri.removeprefix('sqlite:///')).absolute()}"
    return uri if "://" in uri or uri.startswith(("file:", "databricks")) else Path(uri).absolute().as_uri()


@contextmanager
def reporting_to_mlflow(recipe: Recipe, worker: Worker) -> Iterator[Worker]:
    """The worker; where the job asks for it, the epochs that rank 0 reports also go to MLflow."""
    if recipe.train.mlflow is None or not worker.is_first:
        yield worker
        return
    for name, value in _ENVIRONMENT.items():
        os.environ.setdefault(name, value)
    run = MlflowRun(recipe, worker)

    def report(event: Mapping[str, Any]) -> None:
        worker.report(dict(event))
        run.take(event)

    try:
        yield replace(worker, report=report)
    except BaseException as error:
        run.end("FAILED" if isinstance(error, Exception) else "KILLED")
        raise
    run.end("FINISHED")


class MlflowRun:
    """A run of MLflow's, begun with the first step; whatever goes wrong with it is a note."""

    def __init__(self, recipe: Recipe, worker: Worker) -> None:
        self._recipe, self._worker, self._folder = recipe, worker, Folder(recipe.out)
        self._client: Any = None
        self._id = ""
        self._sent: set[tuple[str, int]] = set()
        """Name and step of what MLflow has of the epochs."""
        self._lines: list[Mapping[str, Any]] = []
        self._begun = self._missed = False
        self._again_at = -math.inf

    def take(self, event: Mapping[str, Any]) -> None:
        """Sends what is new after an epoch, and at the beginning that there is a run."""
        kind = event["kind"]
        if kind == "resumed":
            text = self._folder.read_bytes("history.jsonl").decode()
            self._lines = [json.loads(line) for line in text.splitlines()]
        elif kind == "epoch":
            self._lines.append(event)
        if kind in ("resumed", "epoch") or (kind == "step" and not self._begun):
            self._begun = True
            self._try(self._send_epochs)

    def end(self, status: str) -> None:
        """Tells how the training has ended, and which epoch is kept."""
        if not self._begun:
            return
        self._again_at = -math.inf

        def send() -> None:
            self._send_epochs()
            if status == "FINISHED":
                self._send_kept()
            self._client.update_run(self._id, status)

        self._try(send)

    def _try(self, send: Any) -> None:
        if time.monotonic() < self._again_at:
            return
        try:
            send()
        except Exception as error:  # noqa: BLE001  whatever a server answers, training goes on
            self._again_at = time.monotonic() + _AGAIN_S
            if not self._missed:
                self._missed = True
                self._note(
                    f"warning: MLflow does not get the figures now ({_reason(error)}); training goes on"
                )
            return
        if self._missed:
            self._missed = False
            self._note("MLflow has all figures now")

    def _note(self, text: str) -> None:
        self._worker.report({"kind": "note", "text": text})

    def _send_epochs(self) -> None:
        self._open()
        for line in self._lines:
            figures = figures_of({**line, "kind": "epoch"}) | {"epoch": line["epoch"]}
            self._log(_EPOCH, line["step"], figures)

    def _send_kept(self) -> None:
        if not self._lines or not self._folder.exists("metrics.json"):
            return
        kept = self._folder.read_json("metrics.json")
        figures = {"auroc/mean": kept["mean_auroc"], **{f"auroc/{f}": v for f, v in kept["auroc"].items()}}
        known = {f"best/{name}": value for name, value in figures.items() if value is not None}
        self._log(_KEPT, self._lines[-1]["step"], known | {_KEPT: kept["epoch"]})

    def _log(self, what: str, step: int, figures: Mapping[str, float]) -> None:
        """Sends figures in one request, unless MLflow has `what` of this step: it would keep both."""
        from mlflow.entities import Metric

        if (what, step) in self._sent:
            return
        now = time.time_ns() // 10**6
        metrics = [Metric(_name(name), float(value), now, step) for name, value in figures.items()]
        self._client.log_batch(self._id, metrics=metrics)
        self._sent.add((what, step))

    def _open(self) -> None:
        """Finds the run that goes on, or makes one."""
        if self._id:
            return
        from mlflow.entities import RunStatus
        from mlflow.tracking import MlflowClient

        uri, experiment = self._recipe.train.mlflow or "", self._recipe.train.mlflow_experiment
        self._client = MlflowClient(tracking_uri=absolute_tracking(uri), registry_uri=absolute_tracking(uri))
        run = self._earlier(uri)
        if run is None:
            run = self._client.create_run(
                self._experiment_id(experiment), tags=self._tags(), run_name=self._title()
            )
            self._folder.write_json(NAME, {"tracking": uri, "run": run.info.run_id})
            self._sent = set()
        elif run.info.status != RunStatus.to_string(RunStatus.RUNNING):
            self._client.update_run(run.info.run_id, "RUNNING")
        from mlflow.entities import Param

        missing = [Param(k, v) for k, v in self._parameters().items() if k not in run.data.params]
        if missing:
            self._client.log_batch(run.info.run_id, params=missing)
        self._id = run.info.run_id

    def _earlier(self, uri: str) -> Any:
        """The run of an earlier start at this server, with what it has in `_sent`; None where training began anew since."""
        if not self._folder.exists(NAME):
            return None
        known = self._folder.read_json(NAME)
        if known.get("tracking") != uri:
            return None
        from mlflow.exceptions import MlflowException

        try:
            run = self._client.get_run(known["run"])
        except MlflowException as error:
            if error.error_code == "RESOURCE_DOES_NOT_EXIST":
                return None
            raise
        if run.info.lifecycle_stage == "deleted":
            return None
        for what in (_EPOCH, _KEPT):
            if what in run.data.metrics:
                history = self._client.get_metric_history(run.info.run_id, what)
                self._sent |= {(what, metric.step) for metric in history}
        return run if self._lines or not self._sent else None

    def _experiment_id(self, name: str) -> str:
        from mlflow.exceptions import MlflowException

        found = self._client.get_experiment_by_name(name)
        if found is None:
            try:
                return str(self._client.create_experiment(name))
            except MlflowException:  # another trial of the same search was quicker
                found = self._client.get_experiment_by_name(name)
        if found is None or found.lifecycle_stage == "deleted":
            raise RayCxrError(f"its experiment {name} was deleted")
        return str(found.experiment_id)

    def _title(self) -> str:
        return f"{self._recipe.model.backbone} {run_id(self._folder)}"

    def _tags(self) -> dict[str, str]:
        manifest = Folder(self._recipe.dataset).read_json("manifest.json")
        return {
            "ray_cxr.run": run_id(self._folder),
            "ray_cxr.version": __version__,
            "ray_cxr.dataset": manifest["fingerprint"],
            "ray_cxr.protocol": manifest["protocol"],
        }

    def _parameters(self) -> dict[str, str]:
        settings = self._recipe.model_dump(mode="json", include=set(Recipe.model_fields))
        flat = {name: value for name, value in dotted(settings).items() if name not in _PLACES}
        if self._is_path(flat["model.weights"]):
            flat["model.weights"] = "a file"
        return {_name(name): _text(value) for name, value in flat.items()}

    @staticmethod
    def _is_path(weights: str) -> bool:
        from ray_cxr.model.sources import NAMED_WEIGHTS

        return weights not in NAMED_WEIGHTS


def _name(name: str) -> str:
    """Of the characters that MLflow takes in a name."""
    return re.sub(r"[^\w./ -]", "_", name)


def _text(value: Any) -> str:
    text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
    return text if len(text) <= _MOST_CHARACTERS else text[: _MOST_CHARACTERS - 1] + "…"


def _reason(error: Exception) -> str:
    """In a few words. MLflow wraps what the network says into sentences of its own, which tell of addresses and retries."""
    cause: BaseException | None = error
    while cause is not None:
        if type(cause).__module__.startswith(("requests", "urllib3")):
            return "the tracking server does not answer"
        cause = cause.__cause__ or cause.__context__
    return reason_of(error)[:200].rstrip(".")
