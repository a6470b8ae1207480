"""What the supervisor is told, and how processes get their settings."""

import configparser
import shlex
import signal
import socket
import subprocess
import sys
import xmlrpc.client
from datetime import timedelta
from pathlib import Path

import httpx
import psutil
import pytest

from ops.admin import AdminApi
from ops.stack import home as home_module
from ops.stack import parts, tether
from ops.stack.children import environment, free_ports, is_free, last_lines, wait_until
from ops.stack.errors import StackError
from ops.stack.home import Home, Ports
from ops.stack.supervisor import Supervisor, configuration
from state.settings import Settings

_SOON = timedelta(seconds=60)
ALL = [
    parts.redis(["redis-server", "redis.conf"]),
    parts.broker(["java", "-Dname=100%", "kafka.Kafka", "a file"]),
    *(flow.part() for flow in parts.FLOWS),
    parts.serving(),
    *parts.challenger("promote", 60),
    parts.traffic("simulate"),
]


@pytest.fixture
def home(tmp_path: Path) -> Home:
    return Home(tmp_path / "a home")


def parsed(home: Home) -> configparser.RawConfigParser:
    parser = configparser.RawConfigParser()
    parser.read_string(configuration(ALL, home))
    return parser


def test_every_part_is_supervised_and_tied_to_the_supervisor(home: Home) -> None:
    config = parsed(home)
    for part in ALL:
        program = config[f"program:{part.name}"]
        command = shlex.split(program["command"].replace("%%", "%"))
        assert command == tether.command(part.argv, part.death_signal, part.nice)
        assert program["stdout_logfile"] == str(home.log(part.name))
        assert program["autorestart"] == ("unexpected" if part.name == "traffic" else "true")
    assert shlex.split(config["program:serving"]["command"])[4] == "SIGTERM", "its master ends its workers"


def test_what_depends_on_others_stops_first(home: Home) -> None:
    config = parsed(home)
    groups = {name: config[f"group:{name}"] for name in ("traffic", "training", "serving", "flows", "servers")}
    assert [name for name, _ in sorted(groups.items(), key=lambda g: -int(g[1]["priority"]))] == list(groups)
    assert groups["servers"]["programs"] == "redis,kafka"
    assert groups["flows"]["programs"] == "clean,catalogue,attribution,metrics,features,experiments,lake,learn"


def test_a_challenger_is_learned_on_drift_only_where_that_is_asked_for(home: Home) -> None:
    """R19: the policy is a setting; the command is the one that people give."""
    defaults = Settings()
    assert parts.challenger(defaults.on_drift, defaults.on_drift_rest_s) == []
    (part,) = parts.challenger("take-over", 60)
    assert part.argv[1:] == ["-m", "ops", "backfill", "--on-drift", "--rest", "60", "--take-over"]
    (part,) = parts.challenger("register", 3600)
    assert part.argv[-2:] == ["--rest", "3600"]
    assert parsed(home)["program:challenger"]["autorestart"] == "true", "it waits for the next alarm"


def test_commands_find_the_api_where_the_stack_was_started(home: Home, monkeypatch: pytest.MonkeyPatch) -> None:
    """R32: `freshet up --port 8291`, and then `freshet models list`."""
    asked = []

    def answer(method: str, url: str, **_: object) -> httpx.Response:
        asked.append(url)
        return httpx.Response(200, json={})

    monkeypatch.setattr(httpx, "request", answer)
    home.prepare()
    home.remember(Ports(*free_ports(3)), Settings(port=8291))
    monkeypatch.setenv("FRESHET_HOME", str(home.folder))
    monkeypatch.delenv("FRESHET_PORT", raising=False)
    AdminApi("models").call("GET", "", None)
    monkeypatch.setenv("FRESHET_PORT", "8292")
    AdminApi("models").call("GET", "", None)
    assert [url.partition("/v1")[0] for url in asked] == ["http://127.0.0.1:8291", "http://127.0.0.1:8292"]


def test_settings_survive_the_way_through_the_environment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    settings = Settings(
        kafka_brokers="k:1", redis_url="redis://r:2/0", namespace="n", home=tmp_path, flow_partitions=(0, 2), port=1234
    )
    monkeypatch.setenv("KAFKA_BROKERS", "another:9")
    monkeypatch.setenv("FRESHET_DATA", "elsewhere")
    passed_on = environment(settings)
    assert "FRESHET_DATA" not in passed_on
    monkeypatch.delenv("FRESHET_DATA")
    for name, value in passed_on.items():
        monkeypatch.setenv(name, value)
    assert Settings() == settings


def test_a_socket_path_that_is_too_long_is_moved(tmp_path: Path) -> None:
    assert Home(Path("/short")).socket == Path("/short/supervisor.sock")
    long = Home(tmp_path / ("x" * 100))
    assert len(str(long.socket)) < 100
    assert long.socket == Home(long.folder).socket


def test_ports_are_remembered_unless_someone_took_them(home: Home) -> None:
    home.folder.mkdir()
    first = home.ports()
    home.remember(first, Settings())
    assert home.ports() == first
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", first.kafka))
        listener.listen()
        assert not is_free("127.0.0.1", first.kafka)
        second = home.ports()
    assert second.kafka != first.kafka
    assert (second.controller, second.redis) == (first.controller, first.redis)


def test_a_command_finds_the_running_stack_and_the_environment_goes_first(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FRESHET_HOME", str(tmp_path))
    monkeypatch.delenv("KAFKA_BROKERS", raising=False)
    Home(tmp_path).remember(Ports(1, 2, 3), Settings(kafka_brokers="127.0.0.1:1", port=8123))
    assert home_module.local_settings().kafka_brokers == "127.0.0.1:1"
    assert home_module.local_settings(port=8124).port == 8124
    monkeypatch.setenv("KAFKA_BROKERS", "k:1")
    assert (home_module.local_settings().kafka_brokers, home_module.local_settings().port) == ("k:1", 8123)


def test_a_full_disk_is_said_before_anything_starts(home: Home, monkeypatch: pytest.MonkeyPatch) -> None:
    usage = home_module.shutil.disk_usage("/")
    monkeypatch.setattr(home_module.shutil, "disk_usage", lambda folder: usage._replace(free=100 * 2**20))
    with pytest.raises(StackError, match=r"disk is full: 100 MiB.*\n.*FRESHET_HOME"):
        home.prepare()


def test_a_damaged_memory_is_named(home: Home) -> None:
    home.folder.mkdir()
    (home.folder / "stack.json").write_text("{")
    with pytest.raises(StackError, match=r"stack\.json is damaged"):
        home.settings()


def test_the_end_of_a_log_is_short(tmp_path: Path) -> None:
    log = tmp_path / "log"
    assert last_lines(log) == ""
    log.write_text("".join(f"line {n}\n" for n in range(10_000)))
    assert last_lines(log, 2) == "line 9998\nline 9999"


def test_a_tied_process_ends_with_its_parent() -> None:
    """No orphans, also after `kill -9`."""
    tied = tether.command(["sleep", "60"], signal.SIGKILL)
    parent = subprocess.Popen(
        [
            sys.executable,
            "-c",
            f"import subprocess; p = subprocess.Popen({tied!r}); print(p.pid, flush=True); p.wait()",
        ],
        stdout=subprocess.PIPE,
        text=True,
    )
    assert parent.stdout is not None
    child = psutil.Process(int(parent.stdout.readline()))
    assert wait_until(lambda: child.name() == "sleep", _SOON)
    parent.kill()
    parent.communicate()
    assert wait_until(lambda: not child.is_running() or child.status() == psutil.STATUS_ZOMBIE, _SOON)


def test_one_that_stops_is_known_by_its_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """R32: `freshet down` while Ctrl-C of `freshet up` stops everything."""

    def refuse(self: Supervisor, method: str) -> None:
        raise xmlrpc.client.Fault(6, "SHUTDOWN_STATE")

    monkeypatch.setattr(Supervisor, "_call", refuse)
    supervisor = Supervisor(Home(tmp_path))
    assert (supervisor.pid(), supervisor.processes()) == (None, {})
    (tmp_path / "supervisord.pid").write_text("42\n")
    assert supervisor.pid() == 42
