"""Prometheus' rules and Grafana's dashboard ask for metrics that there are."""

import json
import re
from typing import Any

import pytest
import yaml
from prometheus_client import REGISTRY

from flows.common import telemetry as of_flows
from ops.stack.home import project_root
from ops.stack.parts import FLOWS
from serving import telemetry as of_serving

FOLDER = project_root() / "deploy"
RULES: dict[str, Any] = yaml.safe_load((FOLDER / "prometheus/alerts.yml").read_text())
CONFIG: dict[str, Any] = yaml.safe_load((FOLDER / "prometheus/prometheus.yml").read_text())
DASHBOARD: dict[str, Any] = json.loads((FOLDER / "grafana/dashboards/freshet.json").read_text())
ALERTS = [rule for group in RULES["groups"] for rule in group["rules"]]


def known_names() -> set[str]:
    assert of_flows.UP
    assert of_serving.QUEUED
    names: set[str] = set()
    for family in REGISTRY.collect():
        suffixes = {"counter": ["_total"], "histogram": ["_bucket", "_count", "_sum"]}.get(family.type, [""])
        names.update(family.name + suffix for suffix in suffixes)
    return names | {"up"}


def names_in(expression: str) -> set[str]:
    return set(re.findall(r"\b(?:freshet_|process_)\w+|\bup\b", expression))


@pytest.mark.parametrize("alert", ALERTS, ids=lambda alert: alert["alert"])
def test_an_alert_asks_for_what_there_is_and_tells_what_to_do(alert: dict[str, Any]) -> None:
    """R28"""
    asked = names_in(alert["expr"])
    assert asked
    assert asked <= known_names()
    assert alert["labels"]["severity"] in ("page", "ticket")
    assert alert["annotations"]["summary"]
    assert f"`{alert['alert']}`" in (project_root() / "docs/operations.md").read_text()


def test_every_panel_asks_for_what_there_is() -> None:
    """R28"""
    expressions = [target["expr"] for panel in DASHBOARD["panels"] for target in panel["targets"]]
    assert len(expressions) >= len(DASHBOARD["panels"]) > 10
    for expression in expressions:
        assert names_in(expression), expression
        assert names_in(expression) <= known_names(), expression


def test_prometheus_asks_every_flow_at_the_port_that_compose_sets() -> None:
    compose = yaml.safe_load((project_root() / "compose.yaml").read_text())["services"]
    jobs = {job["job_name"]: job["static_configs"][0]["targets"] for job in CONFIG["scrape_configs"]}
    port = compose["clean"]["environment"]["FRESHET_FLOW_METRICS_PORT"]
    assert sorted(jobs["flows"]) == sorted(f"{flow.name}:{port}" for flow in FLOWS)
    assert jobs["serving"] == ["serving:8000"]
    for name in ("prometheus", "grafana"):
        mounted = [volume.split(":")[0] for volume in compose[name]["volumes"] if volume.startswith("./")]
        assert mounted
        assert all((project_root() / path).exists() for path in mounted)
