"""The files for Ray's own launcher, held against the schema and the checks that `ray up` holds them against."""

import json
import re
from copy import deepcopy
from importlib.resources import files
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import yaml

from ray_cxr.job import load_job

ROOT = Path(__file__).resolve().parents[2]
CLOUDS = ["aws", "gcp"]
Launch = dict[str, Any]


def launch(cloud: str) -> Launch:
    found: Launch = yaml.safe_load((ROOT / f"cluster/{cloud}.yaml").read_text())
    return found


def errors(document: Launch) -> list[str]:
    schema = json.loads((files("ray.autoscaler") / "ray-schema.json").read_text())
    return [e.message for e in jsonschema.Draft7Validator(schema).iter_errors(document)]


@pytest.mark.parametrize("cloud", CLOUDS)
def test_rays_schema_takes_it(cloud: str) -> None:
    assert errors(launch(cloud)) == []


@pytest.mark.parametrize("cloud", CLOUDS)
def test_rays_own_checks_take_it(cloud: str) -> None:
    from ray.autoscaler._private.util import prepare_config, validate_config

    validate_config(prepare_config(launch(cloud)))


@pytest.mark.parametrize(
    ("path", "value", "says"),
    [
        (("max_worker",), 12, "max_worker"),
        (("provider", "type"), 3, "3 is not of type 'string'"),
        (("available_node_types", "gpu", "min_workers"), "0", "'0' is not of type 'integer'"),
        (("head_node_type",), None, "None is not of type 'string'"),
    ],
)
def test_a_mistake_is_seen(path: tuple[str, ...], value: Any, says: str) -> None:
    document = deepcopy(launch("aws"))
    place = document
    for step in path[:-1]:
        place = place[step]
    place[path[-1]] = value
    assert any(says in error for error in errors(document))


@pytest.mark.parametrize("cloud", CLOUDS)
def test_strangers_are_kept_out(cloud: str) -> None:
    document = launch(cloud)
    # The file with the token goes to every node, as the user's own.
    assert document["file_mounts"]["~/.ray/auth_token"] == "~/.ray/auth_token"
    assert "chmod 600 ~/.ray/auth_token" in document["setup_commands"]
    starts = [document["head_start_ray_commands"][-1], document["worker_start_ray_commands"][-1]]
    assert all("RAY_AUTH_MODE=token" in start for start in starts)
    assert "--dashboard-host=127.0.0.1" in starts[0]


@pytest.mark.parametrize("cloud", CLOUDS)
def test_films_and_runs_stay_at_home(cloud: str) -> None:
    excluded = launch(cloud)["rsync_exclude"]
    assert {".git", ".venv", "runs", "datasets", "demo"} <= set(excluded)
    for job in (ROOT / "jobs").glob("*.yaml"):
        settings = load_job(job)
        for place in (settings.out, settings.dataset):
            assert place.split("/")[0] in excluded, f"{job.name}: {place} would be copied to every node"


@pytest.mark.parametrize("cloud", CLOUDS)
def test_the_version_of_ray_is_the_one_that_was_tested(cloud: str) -> None:
    (tested,) = re.findall(r"^ray==(.+)$", (ROOT / "constraints.txt").read_text(), re.MULTILINE)
    text = (ROOT / f"cluster/{cloud}.yaml").read_text()
    assert re.findall(r"ray\[default\]==([\d.]+)", text) == [tested]
    for name in ("raycluster", "rayjob"):
        assert f"rayVersion: {tested}" in (ROOT / f"cluster/kubernetes/{name}.yaml").read_text()
