"""A real Kafka and a real Redis, started once per test run when the first test asks for them."""

import sys
import uuid
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager
from datetime import timedelta
from pathlib import Path

import hypothesis
import pytest

from ops.stack import kafka as kafka_server
from ops.stack import redis_server
from ops.stack.children import Child, environment, free_ports, variables
from ops.stack.redis_server import cluster_ports
from state.settings import Settings

RunProcess = Callable[..., AbstractContextManager[Child]]
MakeSettings = Callable[..., Settings]

_START = timedelta(seconds=60)

# How long an example takes says how busy the machine is, not whether the code is right.
# The same examples in each run; `--hypothesis-profile=explore` looks for others.
hypothesis.settings.register_profile(
    "freshet", deadline=None, derandomize=True, suppress_health_check=[hypothesis.HealthCheck.too_slow]
)
hypothesis.settings.register_profile("explore", hypothesis.settings.get_profile("freshet"), derandomize=False)
hypothesis.settings.load_profile("freshet")


@pytest.fixture(autouse=True)
def no_settings_from_outside(monkeypatch: pytest.MonkeyPatch, tmp_path_factory: pytest.TempPathFactory) -> None:
    """Neither the environment nor a local stack that runs in this checkout changes a test."""
    for variable in variables().values():
        monkeypatch.delenv(variable, raising=False)
    monkeypatch.setenv("FRESHET_HOME", str(tmp_path_factory.getbasetemp() / "home"))


@pytest.fixture(autouse=True)
def console_of_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    """Rich keeps one console for a process, as wide as `COLUMNS` was when it was first asked for."""
    monkeypatch.setattr("rich._console", None)


@pytest.fixture(scope="session")
def kafka(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The bootstrap address of a broker that belongs to this test run."""
    folder = tmp_path_factory.mktemp("kafka")
    port, controller_port = free_ports(2)
    brokers = f"127.0.0.1:{port}"
    with Child("kafka", kafka_server.command(folder, port, controller_port), folder / "kafka.log") as broker:
        client = kafka_server.admin(brokers)
        broker.wait_until(lambda: kafka_server.answers(client), _START)
        yield brokers


@pytest.fixture(scope="session")
def redis_url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The URL of a Redis that belongs to this test run."""
    folder = tmp_path_factory.mktemp("redis")
    (port,) = free_ports(1)
    url = f"redis://127.0.0.1:{port}/0"
    with Child("redis", redis_server.command(folder, port), folder / "redis.log") as server:
        server.wait_until(lambda: redis_server.answers(url), _START)
        yield url


@pytest.fixture(scope="session")
def redis_cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The URL of a cluster of three nodes that belongs to this test run."""
    ports = cluster_ports(3)
    with ExitStack() as nodes:
        for port in ports:
            folder = tmp_path_factory.mktemp(f"redis-{port}")
            argv = redis_server.command(folder, port, cluster=True)
            node = nodes.enter_context(Child("redis", argv, folder / "redis.log"))
            node.wait_until(lambda port=port: redis_server.answers(f"redis://127.0.0.1:{port}"), _START)  # type: ignore[misc]
        redis_server.join(ports)
        yield "redis+cluster://" + ",".join(f"127.0.0.1:{port}" for port in ports)


@pytest.fixture
def make_settings(kafka: str, redis_url: str, tmp_path: Path) -> Iterator[MakeSettings]:
    """Settings of a system of its own (a fresh namespace), its topics created: `make_settings(partitions=2, ...)`."""
    made = []

    def make(**chosen: object) -> Settings:
        (port,) = free_ports(1)
        defaults = {
            "kafka_brokers": kafka,
            "redis_url": redis_url,
            "namespace": f"t-{uuid.uuid4().hex[:12]}",
            "home": tmp_path / "home",
            "port": port,
            "request_budget_ms": 60_000,  # a busy machine is not to show as degraded
        }
        settings = Settings.model_validate(defaults | chosen)
        made.append(settings)
        kafka_server.create_topics(settings)
        return settings

    yield make
    for settings in made:
        kafka_server.delete_topics(settings)


@pytest.fixture
def settings(make_settings: MakeSettings) -> Settings:
    """Settings of a system of its own, its topics created."""
    return make_settings()


@pytest.fixture
def run_process(tmp_path: Path) -> RunProcess:
    """`with run_process("flows.clean", settings) as process:` runs `python -m flows.clean` with these settings.

    It is stopped at the end; `process.kill()` and `process.stop()` end it before. Its output is in `process.log`.
    """

    @contextmanager
    def run(module: str, settings: Settings, *arguments: str) -> Iterator[Child]:
        argv = [sys.executable, "-m", module, *arguments]
        with Child(module, argv, tmp_path / f"{module}.log", environment(settings)) as process:
            yield process

    return run
