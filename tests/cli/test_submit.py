"""`submit`, `jobs`, `logs`, `stop` as they are typed, on a cluster that is played by an object in this process."""

from __future__ import annotations

import json
import re
from collections.abc import AsyncIterator, Mapping
from pathlib import Path
from typing import Any

import pytest
import yaml

from ray_cxr.cli.main import run
from ray_cxr.submit import client
from ray_cxr.submit import follow as following
from ray_cxr.submit.client import JobState, Node
from ray_cxr.submit.pack import Bundle
from ray_cxr.submit.token import Token

HERE = ["--address", "http://127.0.0.1:8265"]
DONE = JobState(
    "ray-cxr-train-1", "SUCCEEDED", 0, "", {"command": "train", "out": "s3://b/run"}, 100.0, 165.0
)


class Fake:
    """A cluster of two strange nodes that keeps what it is sent."""

    state, text, interrupted = DONE, "one\n", False
    sent: dict[str, Any]
    token: Token | None

    def __init__(self, url: str, token: Token | None) -> None:
        self.url = url
        type(self).token = token

    def nodes(self) -> list[Node]:
        return [Node("far", "10.9.9.1"), Node("away", "10.9.9.2")]

    def submit(self, job: str, entrypoint: str, bundle: Bundle, variables: Mapping[str, str], metadata: Mapping[str, str]) -> None:  # fmt: skip
        type(self).sent = {
            "job": job, "entrypoint": entrypoint, "settings": yaml.safe_load((bundle.work / "job.yaml").read_text()),
            "package": bundle.package, "variables": dict(variables), "metadata": dict(metadata),
        }  # fmt: skip

    def job(self, job: str) -> JobState:
        return self.state

    def jobs(self) -> list[JobState]:
        return [self.state]

    def log(self, job: str) -> str:
        return self.text

    def stop(self, job: str) -> None:
        type(self).state = JobState(job, "STOPPED", None, "", {}, 100.0, 165.0)

    async def tail(self, job: str) -> AsyncIterator[str]:
        yield self.text
        if self.interrupted:
            raise KeyboardInterrupt


@pytest.fixture
def fake(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> type[Fake]:
    class Cluster(Fake):
        sent: dict[str, Any] = {}  # noqa: RUF012

    monkeypatch.setattr(client, "Cluster", Cluster)
    monkeypatch.setattr(following, "_LOOK_EVERY_S", 0.01)
    monkeypatch.setenv("RAY_AUTH_TOKEN", "t0ken")
    monkeypatch.chdir(tmp_path)
    Path("job.yaml").write_text("out: s3://b/run\ndataset: s3://b/dataset\n")
    return Cluster


def _answer(capfd: pytest.CaptureFixture[str], *arguments: str, code: int = 0) -> tuple[dict[str, Any], str]:
    capfd.readouterr()
    assert run([*arguments, "--json"]) == code
    printed = capfd.readouterr()
    assert len(printed.out.splitlines()) == 1
    answer: dict[str, Any] = json.loads(printed.out)
    return answer, printed.err


def test_effective_settings_are_sent_and_the_token_is_not(
    fake: type[Fake], capfd: pytest.CaptureFixture[str]
) -> None:
    answer, _ = _answer(capfd, "submit", "train", "job.yaml", "train.epochs=3", *HERE)
    assert (answer["command"], answer["out"], answer["status"]) == ("train", "s3://b/run", "PENDING")
    assert answer["job"] == fake.sent["job"]
    assert fake.sent["settings"]["train"]["epochs"] == 3
    assert fake.sent["settings"]["stream"]["batch_size"] == 32
    assert fake.sent["entrypoint"] == "python start.py train job.yaml --json"
    assert fake.sent["variables"]["RAY_CXR_JOB"] == answer["job"]
    assert fake.sent["package"] is not None
    assert fake.token is not None
    assert "t0ken" not in json.dumps({**fake.sent, "package": ""})


def test_installed_sends_no_package(fake: type[Fake], capfd: pytest.CaptureFixture[str]) -> None:
    _answer(capfd, "submit", "train", "job.yaml", "--installed", *HERE)
    assert fake.sent["package"] is None


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["train", "job.yaml", "out=here"], "out: .*/here: this lies on this machine"),
        (["train", "job.yaml", "model.weights=w.pt"], "model.weights: .*/w.pt"),
        (["train", "job.yaml", "out=memory://run"], "one process only"),
        (["evaluate", "job.yaml"], "got the command 'evaluate', but a cluster runs prepare, explore, train"),
        (["train", "job.yaml", "train.lerning_rate=1"], "did you mean train.learning_rate"),
        (["train", "nowhere.yaml"], "does not exist"),
    ],
)
def test_what_cannot_work_is_refused_before_anything_is_sent(
    fake: type[Fake], capfd: pytest.CaptureFixture[str], arguments: list[str], said: str
) -> None:
    answer, _ = _answer(capfd, "submit", *arguments, *HERE, code=2)
    assert re.search(said, answer["error"])
    assert fake.sent == {}


def test_a_shared_folder_is_sent_as_it_is(
    fake: type[Fake], capfd: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    _answer(capfd, "submit", "train", "job.yaml", "out=here", "--shared", ".", *HERE)
    assert fake.sent["settings"]["out"] == str(tmp_path / "here")


@pytest.mark.parametrize(("code", "status"), [(0, "SUCCEEDED"), (2, "FAILED"), (3, "FAILED")])
def test_following_ends_with_the_jobs_exit_code(
    fake: type[Fake], capfd: pytest.CaptureFixture[str], code: int, status: str
) -> None:
    fake.state = JobState("j", status, code, "", {}, 1.0, 2.0)
    fake.text = (
        "ray-cxr: a leak\n"
        + json.dumps({"error": "a leak", "exit_code": 3} if code else {"out": "s3://b/run"})
        + "\n"
    )
    answer, err = _answer(capfd, "submit", "train", "job.yaml", "--follow", *HERE, code=code)
    assert answer["exit_code"] == code
    assert "ray-cxr: a leak" in err
    assert (answer["result"] == {"out": "s3://b/run"}) if code == 0 else (answer["error"] == "a leak")


def test_ctrl_c_while_following_leaves_the_job_and_says_so(
    fake: type[Fake], capfd: pytest.CaptureFixture[str]
) -> None:
    fake.interrupted = True
    fake.state = JobState("j", "RUNNING", None, "", {}, 1.0, None)
    answer, _ = _answer(capfd, "logs", "j", "--follow", *HERE, code=1)
    assert "the job j goes on" in answer["error"]
    assert "ray-cxr stop j" in answer["error"]
    assert answer["status"] == "RUNNING"


def test_jobs_are_listed_with_ids_that_can_be_copied(
    fake: type[Fake], capfd: pytest.CaptureFixture[str]
) -> None:
    assert run(["jobs", *HERE]) == 0
    head, line = capfd.readouterr().out.splitlines()
    assert head.split() == ["id", "status", "began", "took", "place"]
    assert line.startswith("ray-cxr-train-1  succeeded  ")
    assert line.endswith("1 min 5 s  s3://b/run")
    answer, _ = _answer(capfd, "jobs", *HERE)
    assert answer["jobs"][0]["job"] == "ray-cxr-train-1"


def test_logs_and_stop(fake: type[Fake], capfd: pytest.CaptureFixture[str]) -> None:
    assert run(["logs", "j", *HERE]) == 0
    assert capfd.readouterr().out == "one\n"
    fake.state = JobState("j", "RUNNING", None, "", {}, 1.0, None)
    answer, _ = _answer(capfd, "stop", "j", *HERE)
    assert answer["status"] == "STOPPED"
    assert run(["stop", "j", *HERE]) == 0
    assert capfd.readouterr().out == "j: stopped\n"


def test_a_token_over_an_open_wire_is_cautioned(fake: type[Fake], capfd: pytest.CaptureFixture[str]) -> None:
    _, err = _answer(capfd, "jobs", "--address", "http://head.example:8265")
    assert "caution: the token crosses the network" in err
    _, err = _answer(capfd, "jobs", *HERE)
    assert "caution" not in err


def test_an_address_must_be_given(
    fake: type[Fake], capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("RAY_API_SERVER_ADDRESS", raising=False)
    answer, _ = _answer(capfd, "jobs", code=2)
    assert "which cluster" in answer["error"]
