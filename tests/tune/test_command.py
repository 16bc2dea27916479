"""`ray-cxr tune` from end to end, but for the training of its trials."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

from ray_cxr.cli.main import run
from ray_cxr.config import to_yaml
from ray_cxr.job import Job, load_job
from ray_cxr.tune.search import Search
from tests.tune.conftest import Player

SPACE = {"train.learning_rate": {"low": 1e-3, "high": 1e-2}, "loss.kind": {"choices": ["bce", "focal"]}}


@pytest.fixture
def trials_made_up(monkeypatch: pytest.MonkeyPatch) -> None:
    """Better with a higher learning rate; the second trial fails."""

    def score(plan: Any, epoch: int) -> float:
        if plan.number == 1:
            raise RuntimeError("out of memory (made up)")
        return float(0.5 + plan.recipe.train.learning_rate)

    def play(search: Search, show: Callable[[dict[str, Any]], None]) -> None:
        show(
            {
                "kind": "search",
                "trials": 5,
                "epochs": 3,
                "concurrent": 1,
                "objective": "mean_auroc",
                "known": 0,
            }
        )
        Player(load_job(None, []), score).play(search)

    monkeypatch.setattr("ray_cxr.tune.ray_search.run_on_ray", play)


@pytest.mark.usefixtures("trials_made_up")
def test_search_report_and_final_run(
    tune_job: Callable[..., Job], tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    job = tune_job("tune.trials=5", "train.epochs=2", space=SPACE)
    (tmp_path / "job.yaml").write_text(to_yaml(job))
    command = ["tune", str(tmp_path / "job.yaml"), "--json", "tune.final=true"]
    for _ in range(2):  # the second time there is nothing left to do
        assert run(command) == 0
        shown = capfd.readouterr()
        result = json.loads(shown.out)
    out = Path(job.out)
    number = result["winner"]["number"]
    assert result["failures"] == {"out of memory (made up)": 1}
    assert "trial 1 failed: out of memory (made up)" not in shown.err, "it was told in the run before"
    page = (out / "report/index.html").read_text()
    assert "out of memory (made up)" in page
    final = out / f"final-{number:05d}"
    assert result["final"]["run"] == final.name
    metrics = json.loads((final / "metrics.json").read_text())
    assert metrics["split"] == "test"
    assert metrics["mean_auroc"] == result["final"]["value"]
    assert metrics["test_openings"] == 1
    kept, best = (yaml.safe_load((path).read_text()) for path in (final / "config.yaml", out / "best.yaml"))
    assert kept["train"] == best["train"]
