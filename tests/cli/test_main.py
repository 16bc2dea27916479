"""The contract of the command line: exit codes, one JSON object, sentences instead of tracebacks."""

import json
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from ray_cxr.cli.demo import demo_job
from ray_cxr.cli.main import run
from ray_cxr.job import load_job

ROOT = Path(__file__).resolve().parents[2]


def test_config_show_prints_the_effective_settings(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    job = tmp_path / "job.yaml"
    job.write_text("train: {epochs: 3}\n")
    assert run(["config", "show", str(job), "stream.batch_size=64", "--json"]) == 0
    shown = json.loads(capfd.readouterr().out)
    assert shown["train"]["epochs"] == 3
    assert shown["stream"]["batch_size"] == 64
    assert run(["config", "show", str(job)]) == 0
    again = tmp_path / "again.yaml"
    again.write_text(capfd.readouterr().out)
    assert load_job(again) == load_job(job)


def test_config_schema_knows_every_setting_with_its_sentence(capfd: pytest.CaptureFixture[str]) -> None:
    assert run(["config", "schema"]) == 0
    schema = json.loads(capfd.readouterr().out)
    assert set(schema["properties"]) == {
        "seed", "out", "dataset", "fold", "source", "findings", "split", "shards", "stream", "model", "loss", "train", "tune",
    }  # fmt: skip
    for name, definition in schema["$defs"].items():
        for key, setting in definition["properties"].items():
            assert setting.get("description"), f"{name}.{key} has no sentence"


@pytest.mark.parametrize(
    ("arguments", "code", "said"),
    [
        (["config", "show", "{job}", "train.lerning_rate=1"], 2, "did you mean train.learning_rate?"),
        (["config", "show", "{job}", "epochs=1"], 2, "did you mean train.epochs?"),
        (["config", "show", "{job}", "stream.augmentation=flip"], 2, "dextrocardia"),
        (["config", "show", "nowhere.yaml"], 2, "does not exist"),
        (["prepare", "{job}", "source={kind: nih, images: none, labels: none}"], 2, "source."),
        (["train", "{job}", "dataset=nowhere"], 2, "run `ray-cxr prepare` first"),
        (["evaluate", "nowhere"], 2, "holds no trained run"),
        (["predict", "nowhere", "nothing.png", "--out", "p.csv"], 2, "neither a file nor a folder"),
        (["predict", "nowhere", "{job}", "--out", "p.txt"], 2, "must end in .csv or .parquet"),
        (["predict", "nowhere", "{job}", "--out", "p.csv"], 2, "holds no trained model"),
    ],
)
def test_a_mistake_is_one_sentence_with_its_exit_code(
    tmp_path: Path,
    capfd: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    arguments: list[str],
    code: int,
    said: str,
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "job.yaml").write_text("seed: 1\n")
    line = [a.replace("{job}", "job.yaml") for a in arguments]
    assert run(line) == code
    told = capfd.readouterr()
    assert said in told.err
    assert "Traceback" not in told.err
    assert told.out == ""
    assert run([*line, "--json"]) == code
    told = capfd.readouterr()
    answer = json.loads(told.out)
    assert answer["exit_code"] == code
    assert said in answer["error"]


def test_a_wrong_command_line_is_exit_2_and_still_one_json_object(capfd: pytest.CaptureFixture[str]) -> None:
    assert run(["train"]) == 2
    assert run(["trian", "x"]) == 2
    capfd.readouterr()
    for line, said in (
        (["train", "--json"], "Missing argument 'JOB'"),
        (["trian", "--json"], "No such command 'trian'"),
        (["evaluate", "--predictons", "p.csv", "--json"], "No such option: --predictons"),
        (["evaluate", "--draws", "many", "--json"], "Invalid value for '--draws'"),
    ):
        assert run(line) == 2
        told = capfd.readouterr()
        answer = json.loads(told.out)
        assert answer["exit_code"] == 2
        assert answer["error"].startswith("the command line cannot be understood: ")
        assert said in answer["error"]
        assert said in told.err


def test_doctor_finds_this_machine_fit(capfd: pytest.CaptureFixture[str]) -> None:
    assert run(["doctor", "--json"]) == 0
    answer = json.loads(capfd.readouterr().out)
    assert answer["healthy"] is True
    assert {f["name"] for f in answer["findings"]} >= {"python", "torch", "ray", "films", "disk"}


def test_doctor_lists_backbones(capfd: pytest.CaptureFixture[str]) -> None:
    assert run(["doctor", "--backbones", "densenet*", "--json"]) == 0
    assert "densenet121" in json.loads(capfd.readouterr().out)["backbones"]


def test_version_and_help_come_without_torch() -> None:
    code = (
        "import sys; from ray_cxr.cli.main import run; run(['--version']); run(['train', '--help']);"
        "sys.exit(' '.join({'torch', 'ray', 'cv2', 'sklearn'} & set(sys.modules)) or None)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_the_demo_is_the_shipped_job_file() -> None:
    assert demo_job(Path("demo")) == load_job(ROOT / "jobs/demo.yaml")


@pytest.mark.parametrize("path", sorted((ROOT / "jobs").glob("*.yaml")), ids=lambda p: p.name)
def test_every_shipped_job_is_valid_and_names_known_models(path: Path) -> None:
    from ray_cxr.torch_compat import timm

    assert load_job(path).model.backbone in timm.list_models()


def test_outputs_that_cannot_be_written_are_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("file").write_text("")
    Path("full").mkdir()
    Path("full/mine.txt").write_text("mine")
    assert run(["demo", "--out", "file"]) == 2
    assert run(["prepare", "file", "dataset=full"]) == 2
    assert run(["predict", "run", "file", "--out", "file/scores.csv"]) == 2
    assert "Traceback" not in capfd.readouterr().err


def test_help_under_json_is_one_object_too(capfd: pytest.CaptureFixture[str]) -> None:
    assert run(["train", "--help", "--json"]) == 0
    assert json.loads(capfd.readouterr().out) == {"help": "on stderr"}
    assert run(["--version", "--json"]) == 0
    assert "version" in json.loads(capfd.readouterr().out)


def test_ctrl_c_is_one_sentence_and_exit_1() -> None:
    # A shell ignores SIGINT for what it starts in the background, and children inherit that. Many short sleeps: a signal that
    # comes just before one is heard after it.
    code = "import signal; signal.signal(signal.SIGINT, signal.default_int_handler)\n" + (
        "import sys, time; from ray_cxr.cli import main; from ray_cxr.cli.commands import load_job\n"
        "import ray_cxr.cli.commands as c\n"
        "def slow(*a): print('here', file=sys.stderr, flush=True); [time.sleep(0.1) for _ in range(600)]\n"
        "c.load_job = slow\n"
        "sys.argv = ['ray-cxr', 'train', 'job.yaml', '--json']; main.main()"
    )
    process = subprocess.Popen(
        [sys.executable, "-c", code], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    assert process.stderr is not None
    assert process.stderr.readline().strip() == "here"
    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=30)
    assert process.returncode == 1
    assert json.loads(out) == {
        "error": "interrupted; the same command goes on from what is done",
        "exit_code": 1,
    }
    assert "Traceback" not in err
