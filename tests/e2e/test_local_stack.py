"""`freshet up`, `down` and `status` as a person runs them. Kafka and Redis are their own where a test is about that."""

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import psutil
import pytest

from ops.stack.children import environment, free_ports, variables, wait_until
from ops.stack.home import project_root
from ops.stack.supervisor import STACK_VARIABLE
from state.settings import Settings

FLOWS = ["clean", "catalogue", "attribution", "metrics", "features", "experiments", "lake", "learn"]
PARTS = ["kafka", "redis", *FLOWS, "serving"]
SOON = timedelta(seconds=60)


class Freshet:
    """The command, with a home folder and a port of its own."""

    def __init__(self, home: Path, env: dict[str, str]) -> None:
        self.home = home
        (self.port,) = free_ports(1)
        self.env = env | {"FRESHET_HOME": str(home), "FRESHET_PORT": str(self.port), "COLUMNS": "120"}

    def __call__(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        argv = [sys.executable, "-m", "ops", *arguments]
        return subprocess.run(
            argv, cwd=project_root(), env=self.env, capture_output=True, text=True, timeout=200, check=False
        )

    def up(self) -> None:
        done = self("up", "--traffic", "none", "--detach")
        assert done.returncode == 0, done.stdout + done.stderr

    def status(self) -> dict[str, Any]:
        done = self("status", "--json")
        assert done.returncode == 0, done.stderr
        answer: dict[str, Any] = json.loads(done.stdout)
        return answer

    def processes(self) -> list[psutil.Process]:
        return [
            process
            for process in psutil.process_iter(["environ"])
            if (process.info["environ"] or {}).get(STACK_VARIABLE) == str(self.home)
        ]

    def nothing_is_left(self) -> bool:
        return wait_until(lambda: not self.processes(), SOON)


@pytest.fixture
def own(tmp_path: Path) -> Iterator[Freshet]:
    """A system with its own Kafka and Redis."""
    outside = {name: value for name, value in os.environ.items() if name not in variables().values()}
    freshet = Freshet(tmp_path / "home", outside)
    yield freshet
    freshet("down")
    assert freshet.nothing_is_left()


@pytest.fixture
def guest(settings: Settings, tmp_path: Path) -> Iterator[Freshet]:
    """A system on the test run's Kafka and Redis."""
    freshet = Freshet(tmp_path / "home", environment(settings))
    yield freshet
    freshet("down")
    assert freshet.nothing_is_left()


def test_up_status_and_down(own: Freshet) -> None:
    """R32: a whole system by one command, again in less than 20 s, and stopped without a trace."""
    own.up()
    status = own.status()
    assert status["ready"] is True
    assert [part["name"] for part in status["parts"]] == PARTS
    assert {part["state"] for part in status["parts"]} == {"running"}
    assert all(psutil.pid_exists(part["pid"]) for part in status["parts"])
    assert {part["lag"] for part in status["parts"] if part["kind"] == "flow"} == {0}

    again = own("up", "--traffic", "none", "--detach")
    assert (again.returncode, "already up" in again.stdout) == (0, True)
    assert own("down").returncode == 0
    assert not own.processes()
    assert own("down").returncode == 0
    assert own.status()["ready"] is False

    own.env["FRESHET_ON_DRIFT"] = "register"  # R19: who learns a challenger gives way to what is live
    own.up()
    status = own.status()
    assert (status["ready"], status["parts"][-1]["name"]) == (True, "challenger")
    assert wait_until(lambda: psutil.Process(own.status()["parts"][-1]["pid"]).nice() >= 10, SOON)

    supervisor = psutil.Process(int((own.home / "supervisord.pid").read_text()))
    supervisor.kill()
    assert own.nothing_is_left(), "the parts ended with their supervisor"


def test_running_servers_are_used_a_taken_port_is_named_and_parts_that_die_come_back(guest: Freshet) -> None:
    """R31: the supervisor brings them back. One system for all three: a start is dear."""
    guest.up()
    status = guest.status()
    assert status["ready"] is True
    assert {part["name"]: part["state"] for part in status["parts"][:2]} == {"kafka": "external", "redis": "external"}
    assert not (guest.home / "kafka").exists()

    other = Freshet(guest.home.with_name("other"), guest.env)
    refused = other("up", "--traffic", "none", "--detach", "--port", str(guest.port))
    assert refused.returncode == 1
    assert f"Port {guest.port} is taken" in refused.stderr
    assert "--port" in refused.stderr
    assert not other.processes()

    names = {"clean", "features", "serving"}
    before = {part["name"]: part["pid"] for part in guest.status()["parts"] if part["name"] in names}
    for pid in before.values():
        psutil.Process(pid).kill()

    def are_back() -> bool:
        now = [part for part in guest.status()["parts"] if part["name"] in names]
        return all(p["state"] == "running" and p["pid"] != before[p["name"]] and p["restarts"] for p in now)

    assert wait_until(are_back, SOON), guest.status()


@pytest.mark.parametrize("how", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL])
def test_what_runs_in_the_foreground_ends_with_it(guest: Freshet, how: signal.Signals, tmp_path: Path) -> None:
    with (tmp_path / "up.log").open("w") as log:
        up = subprocess.Popen(
            [sys.executable, "-m", "ops", "up", "--traffic", "none"], cwd=project_root(), env=guest.env, stdout=log
        )
        try:
            assert wait_until(lambda: "Ctrl-C" in (tmp_path / "up.log").read_text(), timedelta(seconds=120))
            up.send_signal(how)
            assert up.wait(60) == (-signal.SIGKILL if how is signal.SIGKILL else 0)
        finally:
            up.kill()
    assert guest.nothing_is_left()


@pytest.mark.parametrize("variable", ["REDIS_URL", "KAFKA_BROKERS"])
def test_a_server_that_does_not_answer_is_named(guest: Freshet, variable: str) -> None:
    (nowhere,) = free_ports(1)
    guest.env[variable] = f"redis://127.0.0.1:{nowhere}/0" if variable == "REDIS_URL" else f"127.0.0.1:{nowhere}"
    refused = guest("up", "--traffic", "none", "--detach")
    assert refused.returncode == 1
    assert f"Nothing answers at {variable}" in refused.stderr
    assert not guest.processes()


def test_a_part_that_keeps_dying_is_shown_with_its_last_words(own: Freshet) -> None:
    own.env["FRESHET_REDIS_SERVER"] = "/bin/false"
    refused = own("up", "--traffic", "none", "--detach")
    assert refused.returncode == 1
    assert "redis keeps dying" in refused.stderr
    assert str(own.home / "logs" / "redis.log") in refused.stderr
    assert not own.processes()


def test_a_replay_without_a_data_set_is_refused_before_anything_starts(own: Freshet) -> None:
    refused = own("up", "--traffic", "replay")
    assert (refused.returncode, "--data" in refused.stderr) == (1, True)
    assert not own.home.exists()
