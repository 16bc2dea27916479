"""The manifests, held against KubeRay's own schemas and against what they promise."""

import gzip
import re
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import yaml

ROOT = Path(__file__).resolve().parents[2]
FOLDER = ROOT / "cluster/kubernetes"
Manifest = dict[str, Any]


def strict(schema: Manifest) -> Manifest:
    """An OpenAPI schema of Kubernetes as a JSON schema that refuses fields it does not know, as `kubectl` does."""
    known = {k: v for k, v in schema.items() if not k.startswith("x-kubernetes-") and k != "default"}
    for word in ("properties", "additionalProperties", "items"):
        if word == "properties" and word in known:
            known[word] = {name: strict(value) for name, value in known[word].items()}
        elif isinstance(known.get(word), dict):
            known[word] = strict(known[word])
    open_to_all = schema.get("x-kubernetes-preserve-unknown-fields", False)
    if "properties" in known and "additionalProperties" not in known and not open_to_all:
        known["additionalProperties"] = False
    return known


@cache
def crd_schema(shared_data: Path, plural: str) -> Manifest:
    text = gzip.decompress((shared_data / f"kuberay/ray.io_{plural}.yaml.gz").read_bytes())
    versions = yaml.load(text, Loader=yaml.CSafeLoader)["spec"]["versions"]
    found: Manifest = next(v["schema"]["openAPIV3Schema"] for v in versions if v["name"] == "v1")
    return found


def manifest(name: str) -> Manifest:
    found: Manifest = yaml.safe_load((FOLDER / f"{name}.yaml").read_text())
    return found


def errors(shared_data: Path, plural: str, document: Manifest) -> list[str]:
    schema = strict(crd_schema(shared_data, plural))
    schema["properties"]["metadata"] = {"type": "object"}
    validator = jsonschema.Draft7Validator(schema)
    return [f"{'/'.join(map(str, e.path))}: {e.message[:200]}" for e in validator.iter_errors(document)]


def pods(cluster_spec: Manifest) -> dict[str, Manifest]:
    """The pod specifications of a cluster by the name of their group."""
    groups = {group["groupName"]: group["template"]["spec"] for group in cluster_spec["workerGroupSpecs"]}
    return {"head": cluster_spec["headGroupSpec"]["template"]["spec"], **groups}


def test_the_cluster_is_one_for_kuberay(shared_data: Path) -> None:
    assert errors(shared_data, "rayclusters", manifest("raycluster")) == []


def test_the_job_is_one_for_kuberay(shared_data: Path) -> None:
    assert errors(shared_data, "rayjobs", manifest("rayjob")) == []


@pytest.mark.parametrize(
    ("path", "value", "part"),
    [
        (("spec", "authOptions", "mode"), "tokens", "mode"),
        (("spec", "authOption"), {"mode": "token"}, "authOption"),
        (("spec", "workerGroupSpecs", 0, "maxReplicas"), "8", "maxReplicas"),
        (("spec", "headGroupSpec", "template", "spec", "containers", 0, "resource"), {}, "resource"),
    ],
)
def test_a_mistake_in_the_cluster_is_seen(
    shared_data: Path, path: tuple[str | int, ...], value: Any, part: str
) -> None:
    document = manifest("raycluster")
    place: Any = document
    for step in path[:-1]:
        place = place[step]
    place[path[-1]] = value
    found = errors(shared_data, "rayclusters", document)
    assert len(found) == 1 and part in found[0]


def test_the_job_brings_up_the_same_cluster() -> None:
    assert manifest("rayjob")["spec"]["rayClusterSpec"] == manifest("raycluster")["spec"]


def test_strangers_have_no_token() -> None:
    spec = manifest("raycluster")["spec"]
    assert spec["authOptions"] == {"mode": "token"}
    assert spec["headGroupSpec"]["serviceType"] == "ClusterIP"


def all_pods() -> Iterator[tuple[str, Manifest]]:
    yield from pods(manifest("raycluster")["spec"]).items()
    yield "submitter", manifest("rayjob")["spec"]["submitterPodTemplate"]["spec"]


@pytest.mark.parametrize("name", ["head", "gpu", "films", "submitter"])
def test_pods_run_without_rights(name: str) -> None:
    pod = dict(all_pods())[name]
    assert pod["securityContext"]["runAsNonRoot"] is True
    assert pod["securityContext"]["runAsUser"] > 0
    assert pod["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
    # The head's autoscaler speaks to Kubernetes; nothing else does.
    assert pod.get("automountServiceAccountToken", True) is (name == "head")
    for container in pod["containers"]:
        assert container["securityContext"] == {
            "allowPrivilegeEscalation": False,
            "readOnlyRootFilesystem": True,
            "capabilities": {"drop": ["ALL"]},
        }
        written = {mount["mountPath"] for mount in container["volumeMounts"]}
        assert "/tmp" in written
        assert {m["name"] for m in container["volumeMounts"]} <= {v["name"] for v in pod["volumes"]}


@pytest.mark.parametrize("group", ["gpu", "films"])
def test_spot_nodes_are_drained_before_they_go(group: str) -> None:
    pod = pods(manifest("raycluster")["spec"])[group]
    (container,) = pod["containers"]
    command, seconds = container["lifecycle"]["preStop"]["exec"]["command"]
    assert int(seconds) < pod["terminationGracePeriodSeconds"]
    copied = re.search(
        rf"COPY .*cluster/drain\.sh /usr/local/bin/{command}\n", (ROOT / "cluster/Dockerfile").read_text()
    )
    assert copied is not None
    assert any(
        "spot" in toleration["key"] + str(toleration.get("value")) for toleration in pod["tolerations"]
    )


def test_the_policy_is_about_these_pods() -> None:
    policy = manifest("network-policy")
    chosen = policy["spec"]["podSelector"]["matchLabels"]
    cluster = manifest("raycluster")["spec"]
    templates = [cluster["headGroupSpec"]["template"], *(g["template"] for g in cluster["workerGroupSpecs"])]
    templates.append(manifest("rayjob")["spec"]["submitterPodTemplate"])
    for template in templates:
        assert chosen.items() <= template["metadata"]["labels"].items()


def test_the_policy_lets_no_stranger_in(shared_data: Path) -> None:
    policy = manifest("network-policy")["spec"]
    assert policy["policyTypes"] == ["Ingress", "Egress"]
    own, *others = policy["ingress"]
    assert own == {"from": [{"podSelector": policy["podSelector"]}]}
    for rule in others:
        assert rule["ports"], "only its own pods may use every port"
        assert all(place["namespaceSelector"]["matchLabels"] for place in rule["from"])
    # KubeRay's schema has Kubernetes' rules in it, so it can judge the form of ours.
    rules = crd_schema(shared_data, "rayclusters")["properties"]["spec"]["properties"]["networkPolicy"]
    form = strict(rules["properties"]["head"])["properties"]
    jsonschema.validate(policy["ingress"], form["ingressRules"])
    jsonschema.validate(policy["egress"], form["egressRules"])


def test_volumes_are_those_that_are_claimed() -> None:
    claim = manifest("storage")
    assert claim["spec"]["accessModes"] == ["ReadWriteMany"]
    for name, pod in all_pods():
        claims = [
            v["persistentVolumeClaim"]["claimName"] for v in pod["volumes"] if "persistentVolumeClaim" in v
        ]
        assert claims == ([] if name == "submitter" else [claim["metadata"]["name"]])
