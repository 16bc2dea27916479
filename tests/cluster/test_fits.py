"""What jobs ask for is counted against what each way to bring up a cluster gives."""

import re
import shlex
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import yaml

from ray_cxr.job import Job, load_job
from ray_cxr.stream.plan import check_world_size
from ray_cxr.train.sizing import Needs

ROOT = Path(__file__).resolve().parents[2]
JOBS = [
    path
    for path in sorted((ROOT / "jobs").glob("*.yaml"))
    if yaml.safe_load(path.read_text())["train"]["workers"]  # others train without Ray
]


class Nodes(NamedTuple):
    """What a cluster has when it is as large as it may grow: GPU nodes, all alike, and CPUs of other nodes."""

    number: int
    cpus: float
    gpus: float
    other_cpus: float


def of_kubernetes(name: str) -> Nodes:
    spec: dict[str, Any] = yaml.safe_load((ROOT / f"cluster/kubernetes/{name}.yaml").read_text())["spec"]
    spec = spec.get("rayClusterSpec", spec)
    groups = {group["groupName"]: group for group in spec["workerGroupSpecs"]}
    given = {name: group["template"]["spec"]["containers"][0]["resources"] for name, group in groups.items()}
    # What is asked for is what is given: Ray counts the limit, Kubernetes promises the request.
    assert all(resources["requests"] == resources["limits"] for resources in given.values())
    gpu, films = given["gpu"]["limits"], given["films"]["limits"]
    return Nodes(
        groups["gpu"]["maxReplicas"],
        float(gpu["cpu"]),
        float(gpu["nvidia.com/gpu"]),
        groups["films"]["maxReplicas"] * float(films["cpu"]),
    )


def of_a_launcher(name: str) -> Nodes:
    document = yaml.safe_load((ROOT / f"cluster/{name}.yaml").read_text())
    types = document["available_node_types"]
    # Both kinds at their largest must be allowed together.
    assert types["gpu"]["max_workers"] + types["films"]["max_workers"] <= document["max_workers"]
    gpu = types["gpu"]["resources"]
    others = types["films"]["max_workers"] * types["films"]["resources"]["CPU"]
    return Nodes(types["gpu"]["max_workers"], gpu["CPU"], gpu["GPU"], others)


def of_slurm() -> Nodes:
    asked = dict(
        re.findall(r"^#SBATCH --([a-z-]+)=(\S+)$", (ROOT / "cluster/slurm.sh").read_text(), re.MULTILINE)
    )
    return Nodes(int(asked["nodes"]), float(asked["cpus-per-task"]), float(asked["gpus-per-node"]), 0.0)


CLUSTERS = {
    "kubernetes/raycluster": of_kubernetes("raycluster"),
    "kubernetes/rayjob": of_kubernetes("rayjob"),
    "aws": of_a_launcher("aws"),
    "gcp": of_a_launcher("gcp"),
    "slurm": of_slurm(),
}


def most_workers(job: Job) -> int:
    """Where the cluster decides, the fewest: it then takes what fits."""
    fewest, most = job.train.range_of_workers
    return fewest if most is None else most


def check(needs: Needs, nodes: Nodes) -> None:
    whole = {
        "CPU": nodes.number * nodes.cpus + nodes.other_cpus,
        "GPU": nodes.number * nodes.gpus,
    }
    assert needs.missing(whole) is None
    # Workers may come to lie on as few nodes as hold them: there, too, each must leave a CPU for its stream.
    on_a_node = nodes.gpus if needs.gpu else needs.workers
    left = nodes.cpus - on_a_node * needs.bundle["CPU"]
    assert left >= on_a_node, f"{left:g} CPUs left on a node with {on_a_node:g} workers"


@pytest.mark.parametrize("cluster", CLUSTERS)
@pytest.mark.parametrize("path", JOBS, ids=lambda path: path.stem)
def test_a_job_fits(path: Path, cluster: str) -> None:
    job = load_job(str(path), [])
    for gpu in (False, True):
        check(Needs(most_workers(job), gpu=gpu), CLUSTERS[cluster])


@pytest.mark.parametrize("cluster", CLUSTERS)
@pytest.mark.parametrize("path", JOBS, ids=lambda path: path.stem)
def test_a_job_fits_with_every_gpu_at_work(path: Path, cluster: str) -> None:
    nodes = CLUSTERS[cluster]
    workers = int(nodes.number * nodes.gpus)
    check(Needs(workers, gpu=True), nodes)
    check_world_size(workers, load_job(str(path), []).stream.batch_size)


def test_what_does_not_fit_is_seen() -> None:
    with pytest.raises(AssertionError, match="CPUs left on a node"):
        check(Needs(4, gpu=True), Nodes(4, 1.0, 1.0, 32.0))
    with pytest.raises(AssertionError):
        check(Needs(9, gpu=True), CLUSTERS["aws"])


def test_nodes_of_a_launcher_have_what_their_machines_have() -> None:
    """From the pages of AWS and Google: g5.2xlarge, m6i.2xlarge, g2-standard-8, n2-standard-8."""
    machines = {
        "g5.2xlarge": (8, 1),
        "m6i.2xlarge": (8, 0),
        "g2-standard-8": (8, 1),
        "n2-standard-8": (8, 0),
    }
    for cloud, key in (("aws", "InstanceType"), ("gcp", "machineType")):
        types = yaml.safe_load((ROOT / f"cluster/{cloud}.yaml").read_text())["available_node_types"]
        for kind in ("gpu", "films"):
            resources = types[kind]["resources"]
            assert (resources["CPU"], resources.get("GPU", 0)) == machines[types[kind]["node_config"][key]]


def commands() -> Iterator[tuple[str, list[str]]]:
    """Every command of ray-cxr that a file of cluster/ runs, or tells to run."""
    job = yaml.safe_load((ROOT / "cluster/kubernetes/rayjob.yaml").read_text())
    yield "kubernetes/rayjob", shlex.split(job["spec"]["entrypoint"])[1:]
    (told,) = re.findall(
        r"^#   sbatch cluster/slurm\.sh (.+)$", (ROOT / "cluster/slurm.sh").read_text(), re.MULTILINE
    )
    yield "slurm", shlex.split(told)


@pytest.mark.parametrize(("cluster", "words"), list(commands()))
def test_commands_that_are_told_are_right(cluster: str, words: list[str]) -> None:
    command, path, *overrides = words
    assert command == "train"
    job: Job = load_job(str(ROOT / path.replace("/opt/ray-cxr/", "")), overrides)
    check(Needs(most_workers(job), gpu=job.train.gpu is True), CLUSTERS[cluster])
    check_world_size(most_workers(job), job.stream.batch_size)
    # All nodes see these places.
    for place in (job.dataset, job.out):
        assert place.startswith(("/data/", "/scratch/"))


@pytest.mark.parametrize("name", ["raycluster", "rayjob"])
def test_shared_memory_holds_rays_object_store(name: str) -> None:
    """Ray takes 30 % of a pod's memory; where /dev/shm is smaller it writes to the disk instead."""
    spec = yaml.safe_load((ROOT / f"cluster/kubernetes/{name}.yaml").read_text())["spec"]
    spec = spec.get("rayClusterSpec", spec)
    for template in (spec["headGroupSpec"], *spec["workerGroupSpecs"]):
        pod = template["template"]["spec"]
        (memory,) = [v["emptyDir"]["sizeLimit"] for v in pod["volumes"] if v["name"] == "memory"]
        given = pod["containers"][0]["resources"]["limits"]["memory"]
        assert float(memory.removesuffix("Gi")) >= 0.3 * float(given.removesuffix("Gi")), template
