"""compose.yaml and Dockerfile say what the code and the local stack say."""

import re
from typing import Any

import pytest
import yaml

from ops.stack import kafka
from ops.stack.children import variables
from ops.stack.home import project_root
from ops.stack.jars import KAFKA_VERSION
from ops.stack.parts import FLOWS
from state.settings import Settings

COMPOSE: dict[str, Any] = yaml.safe_load((project_root() / "compose.yaml").read_text())
SERVICES: dict[str, dict[str, Any]] = COMPOSE["services"]
OURS = [*(flow.name for flow in FLOWS), "serving", "topics", "keys"]


def test_every_part_is_there() -> None:
    assert set(SERVICES) == {"kafka", "redis", "prometheus", "grafana", *OURS}
    for flow in FLOWS:
        assert SERVICES[flow.name]["command"] == ["python", "-m", f"flows.{flow.name}"]
    assert SERVICES["serving"]["command"] == ["python", "-m", "serving"]


@pytest.mark.parametrize("name", OURS)
def test_only_settings_are_set_and_they_are_valid(name: str) -> None:
    environment = SERVICES[name]["environment"]
    fields = {variable: field for field, variable in variables().items()}
    assert set(environment) <= set(fields)
    # Compose puts the default where the variable is not set.
    values = {variable: re.sub(r"\$\{\w+:-(.*?)\}", r"\1", value) for variable, value in environment.items()}
    chosen = Settings.model_validate({fields[variable]: value for variable, value in values.items()})
    assert chosen.partitions == Settings.model_fields["partitions"].default


def test_serving_has_the_keys_that_are_made_before_it_starts() -> None:
    """R29"""
    serving, keys = SERVICES["serving"], SERVICES["keys"]
    (variable, path) = next(iter(keys["environment"].items()))
    assert serving["environment"][variable] == path
    assert f"{variable}={path}" in (project_root() / "Dockerfile").read_text()
    (volume, folder) = keys["volumes"][0].split(":")
    assert path.startswith(f"{folder}/")
    assert f"{volume}:{folder}:ro" in serving["volumes"]
    assert serving["depends_on"]["keys"]["condition"] == "service_completed_successfully"
    assert keys["command"][:3] == ["freshet", "keys", "create"]


def test_kafka_is_the_same_version_with_the_same_settings() -> None:
    assert SERVICES["kafka"]["image"] == f"apache/kafka:{KAFKA_VERSION}"
    own = kafka.SERVER
    for variable, value in SERVICES["kafka"]["environment"].items():
        name = variable.removeprefix("KAFKA_").lower().replace("_", ".")
        if "listener" not in name:
            assert own.get(name, value) == value, name


def test_nothing_listens_to_the_outside() -> None:
    ports = [port for service in SERVICES.values() for port in service.get("ports", [])]
    assert ports
    assert all(port.startswith("127.0.0.1:") for port in ports)


def test_volumes_and_dependencies_exist_and_servers_are_checked() -> None:
    for name, service in SERVICES.items():
        for volume in service.get("volumes", []):
            source = volume.split(":")[0]
            assert source in COMPOSE["volumes"] or (project_root() / source).is_dir(), name
        for needed, how in service.get("depends_on", {}).items():
            assert needed in SERVICES
            assert how["condition"] != "service_healthy" or "healthcheck" in SERVICES[needed]


def test_the_image_holds_every_package_and_does_not_run_as_root() -> None:
    lines = (project_root() / "Dockerfile").read_text().splitlines()
    for package in ("state", "online_models", "flows", "serving", "ops"):
        assert f"COPY {package} /src/{package}" in lines
        assert f"!{package}" in (project_root() / ".dockerignore").read_text().splitlines()
    assert lines.index("USER freshet") > max(n for n, line in enumerate(lines) if line.startswith("FROM"))
    assert any("--require-hashes" in line for line in lines)
