"""deploy/kubernetes is what a cluster takes, and says what the code says.

kubernetes_schema.json is the part of Kubernetes 1.32's OpenAPI (strict: unknown fields are refused) that the manifests
use. Who uses another field adds it there, from https://github.com/yannh/kubernetes-json-schema.
"""

import json
import re
from functools import cache
from typing import Any

import jsonschema
import pytest
import yaml

from ops.stack.children import variables
from ops.stack.home import project_root
from ops.stack.parts import FLOWS
from state.settings import Settings
from tests.unit.ops.test_monitoring import known_names, names_in

FOLDER = project_root() / "deploy/kubernetes"
SCHEMA: dict[str, Any] = json.loads((project_root() / "tests/unit/ops/kubernetes_schema.json").read_text())
KUSTOMIZATION: dict[str, Any] = yaml.safe_load((FOLDER / "kustomization.yaml").read_text())
GROUPS = {"clean", "metrics", "lake"}
"""Flows whose processes share the partitions by themselves."""

Manifest = dict[str, Any]


def documents(name: str) -> list[Manifest]:
    return list(yaml.safe_load_all((FOLDER / name).read_text()))


def merged(base: Any, patch: Any) -> Any:
    """Merge as kustomize does: objects by field, lists of named things by name."""
    if isinstance(base, dict) and isinstance(patch, dict):
        return base | {key: merged(base[key], value) if key in base else value for key, value in patch.items()}
    if isinstance(base, list) and all(isinstance(one, dict) and "name" in one for one in [*base, *patch]):
        named = {one["name"]: one for one in base}
        return list(merged(named, {one["name"]: one for one in patch}).values())
    return patch


@cache
def manifests() -> list[Manifest]:
    (patch,) = KUSTOMIZATION["patches"]
    (shared,) = documents(patch["path"])
    del shared["metadata"]
    found = [one for name in KUSTOMIZATION["resources"] for one in documents(name)]
    return [merged(one, shared) if one["kind"] == patch["target"]["kind"] else one for one in found]


def by_name(kind: str) -> dict[str, Manifest]:
    return {one["metadata"]["name"]: one for one in manifests() if one["kind"] == kind}


WORKLOADS = [one for kind in ("StatefulSet", "Deployment", "Job") for one in by_name(kind).values()]


def container(workload: Manifest) -> Manifest:
    (only,) = workload["spec"]["template"]["spec"]["containers"]
    return only


def environment(workload: Manifest) -> dict[str, str]:
    """Return what is set by value, in the map and in the container."""
    (settings,) = KUSTOMIZATION["configMapGenerator"]
    common = dict(literal.split("=", 1) for literal in settings["literals"])
    return common | {one["name"]: one["value"] for one in container(workload).get("env", []) if "value" in one}


@pytest.mark.parametrize("manifest", manifests(), ids=lambda one: f"{one['kind']}-{one['metadata']['name']}")
def test_a_cluster_takes_it(manifest: Manifest) -> None:
    """R30"""
    errors = jsonschema.Draft7Validator(SCHEMA[manifest["kind"]]).iter_errors(manifest)
    assert [f"{error.json_path}: {error.message}" for error in errors] == []


def test_every_part_runs() -> None:
    """R30"""
    assert set(by_name("StatefulSet")) == {flow.name for flow in FLOWS}
    for name, flow in by_name("StatefulSet").items():
        assert container(flow)["command"] == ["python", "-m", f"flows.{name}"]
        assert flow["metadata"]["labels"] == {"app": name, "part": "flow"}
    assert container(by_name("Deployment")["serving"])["command"] == ["python", "-m", "serving"]
    assert container(by_name("Job")["topics"])["command"] == ["freshet", "topics"]


@pytest.mark.parametrize("workload", WORKLOADS, ids=lambda one: one["metadata"]["name"])
def test_a_pod_is_bounded_probed_and_may_do_little(workload: Manifest) -> None:
    """R29, R31"""
    pod, main = workload["spec"]["template"]["spec"], container(workload)
    assert pod["securityContext"]["runAsNonRoot"]
    assert main["securityContext"] == {
        "allowPrivilegeEscalation": False,
        "readOnlyRootFilesystem": True,
        "capabilities": {"drop": ["ALL"]},
    }
    assert set(main["resources"]["requests"]) == {"cpu", "memory"}
    assert "memory" in main["resources"]["limits"]
    if workload["kind"] != "Job":
        assert {"startupProbe", "readinessProbe", "livenessProbe"} <= set(main)
        selected = workload["spec"]["selector"]["matchLabels"]
        assert selected.items() <= workload["spec"]["template"]["metadata"]["labels"].items()
        assert selected in [pdb["spec"]["selector"]["matchLabels"] for pdb in by_name("PodDisruptionBudget").values()]
    claimed = [claim["metadata"]["name"] for claim in workload["spec"].get("volumeClaimTemplates", [])]
    volumes = {volume["name"] for volume in pod["volumes"]} | set(claimed)
    assert {mount["name"] for mount in main["volumeMounts"]} == volumes
    ports = {port["name"] for port in main.get("ports", [])}
    probed = re.findall(r'"port": "(\w+)"', json.dumps(main))
    assert set(probed) <= ports


@pytest.mark.parametrize("workload", WORKLOADS, ids=lambda one: one["metadata"]["name"])
def test_only_settings_are_set_and_they_are_valid(workload: Manifest) -> None:
    fields = {variable: field for field, variable in variables().items()}
    named = {one["name"] for one in container(workload).get("env", [])}
    assert named | set(environment(workload)) <= set(fields)
    values = {fields[variable]: value for variable, value in environment(workload).items()}
    Settings.model_validate(values)


def test_processes_of_a_flow_read_each_partition_once() -> None:
    """R30"""
    for name, flow in by_name("StatefulSet").items():
        replicas, settings = flow["spec"]["replicas"], environment(flow)
        indexed = any(one["name"] == "FRESHET_FLOW_INDEX" for one in container(flow)["env"])
        if indexed:
            assert int(settings["FRESHET_FLOW_PROCESSES"]) == replicas
        else:
            assert replicas == 1 or name in GROUPS
        assert replicas <= int(settings["FRESHET_PARTITIONS"])
        assert any(one["name"] == "FRESHET_INSTANCE" for one in container(flow)["env"])
    own = [p for index in range(3) for p in Settings(partitions=8, flow_processes=3, flow_index=index).own_partitions]
    assert sorted(own) == list(range(8))


def test_a_share_that_cannot_be_is_refused() -> None:
    with pytest.raises(ValueError, match="flow_index 2: expected less than flow_processes, 2"):
        Settings(flow_processes=2, flow_index=2)
    with pytest.raises(ValueError, match="at most one for each of the 4 partitions"):
        Settings(partitions=4, flow_processes=5)


def test_only_flows_that_share_by_themselves_are_scaled_by_their_lag() -> None:
    """R30"""
    for scaled in documents("autoscaling.yaml"):
        name, spec = scaled["metadata"]["name"], scaled["spec"]
        assert spec["scaleTargetRef"] == {"kind": "StatefulSet", "name": name}
        assert name in GROUPS
        most = int(environment(by_name("StatefulSet")[name])["FRESHET_PARTITIONS"])
        assert 1 <= spec["minReplicaCount"] <= spec["maxReplicaCount"] <= most
        (trigger,) = spec["triggers"]
        query = trigger["metadata"]["query"]
        assert names_in(query) == {"freshet_flow_lag"} <= known_names()
        assert f'flow="{name}"' in query


def test_what_is_measured_is_there() -> None:
    """R28"""
    for monitor in documents("monitoring.yaml"):
        selected = monitor["spec"]["selector"]["matchLabels"]
        pods = [one for one in WORKLOADS if selected.items() <= one["spec"]["template"]["metadata"]["labels"].items()]
        assert pods
        for endpoint in monitor["spec"]["podMetricsEndpoints"]:
            assert all(endpoint["port"] in {port["name"] for port in container(one)["ports"]} for one in pods)
    assert environment(pods[0])["FRESHET_FLOW_METRICS_PORT"] == "9200"


def test_services_reach_pods() -> None:
    for name, service in by_name("Service").items():
        selector = service["spec"]["selector"].items()
        pods = [one for one in WORKLOADS if selector <= one["spec"]["template"]["metadata"]["labels"].items()]
        assert pods, name
    assert {flow["spec"]["serviceName"] for flow in by_name("StatefulSet").values()} <= set(by_name("Service"))
