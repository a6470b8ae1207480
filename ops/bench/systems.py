"""Which system a benchmark measures: one of its own in a temporary folder, or the one that runs here."""

import sys
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from datetime import timedelta
from functools import partial
from pathlib import Path
from time import monotonic

import redis
from rich.console import Console

from ops.bench import ceiling
from ops.bench.api import BenchError
from ops.lag import Progress
from ops.stack.children import Child, environment, free_ports, wait_until
from ops.stack.display import Display
from ops.stack.home import Home
from ops.stack.parts import FLOWS, Flow
from ops.stack.start import start, stop
from ops.stack.supervisor import Supervisor
from state.settings import Settings
from state.topics import Topic

_START = timedelta(seconds=30)
_RESTART = timedelta(seconds=60)


@contextmanager
def own_system(
    console: Console, partitions: int = 4, kafka_brokers: str | None = None, **settings_of_it: object
) -> Iterator[Settings]:
    """Start an empty system with one serving worker; stop and delete it at the end. Raise `StackError`.

    It has a Kafka of its own, or uses `kafka_brokers`.
    """
    with tempfile.TemporaryDirectory(prefix="freshet-bench-", ignore_cleanup_errors=True) as folder:
        (port,) = free_ports(1)
        chosen = {"home": Path(folder), "port": port, "host": "127.0.0.1", "workers": 1, "namespace": ""}
        environ = {} if kafka_brokers is None else {"KAFKA_BROKERS": kafka_brokers}
        if kafka_brokers is not None:
            settings_of_it["kafka_brokers"] = kafka_brokers
        settings = Settings.model_validate(chosen | {"partitions": partitions} | settings_of_it)
        home = Home.of(settings)
        try:
            with Display(console) as display:
                settings = start(settings, environ, display, tied=True)
            yield settings
        finally:
            stop(home)


def pids(settings: Settings) -> dict[str, int]:
    """Return the process id of each part that runs here."""
    found = Supervisor(Home.of(settings)).processes()
    return {name: process.pid for name, process in found.items() if process.pid is not None}


def restarts(settings: Settings) -> int:
    """Return how often parts that run here were started again."""
    return sum(process.restarts for process in Supervisor(Home.of(settings)).processes().values())


def everything_caught_up(settings: Settings, within: timedelta) -> None:
    """Wait for all flows, also for those that no list waits for, to have taken in what there is. Raise `BenchError`.

    One after the other, as they write for each other, each up to where its inputs end when it is its turn: examples of
    lists that nobody answered come for minutes after all else.
    """
    until = monotonic() + within.total_seconds()
    progress = Progress(settings)
    try:
        for flow in FLOWS:
            taken_in = partial(_has_taken_in, progress, flow, {topic: progress.ends(topic) for topic in flow.inputs})
            if not wait_until(taken_in, timedelta(seconds=until - monotonic()), timedelta(seconds=0.5)):
                raise BenchError(f"{flow.name} is still behind after {within}")
    finally:
        progress.close()


def _has_taken_in(progress: Progress, flow: Flow, ends: Mapping[Topic, Mapping[int, int]]) -> bool:
    return not any(progress.behind(flow, topic, of_topic) for topic, of_topic in ends.items())


def running_flows(settings: Settings) -> dict[str, int]:
    """Return the process ids of the flows that run here at the moment."""
    found = pids(settings)
    return {flow.name: found[flow.name] for flow in FLOWS if flow.name in found}


def flow_pids(settings: Settings) -> dict[str, int]:
    """Return the process id of each flow, once all run that are started again. Raise `BenchError` when one does not."""
    if not wait_until(lambda: len(running_flows(settings)) == len(FLOWS), _RESTART):
        missing = {flow.name for flow in FLOWS} - running_flows(settings).keys()
        raise BenchError(f"flows that do not run here: {', '.join(sorted(missing))}")
    return running_flows(settings)


@contextmanager
def bare_endpoint(settings: Settings) -> Iterator[str]:
    """Run the serving benchmark's ceiling with the server options of serving; yield its address."""
    (port,) = free_ports(1)
    url = f"http://127.0.0.1:{port}"
    with redis.Redis.from_url(settings.redis_url) as client:
        client.set(ceiling.KEY, ceiling.VALUE)
    argv = [
        *(sys.executable, "-m", "gunicorn", "--no-control-socket", f"--bind=127.0.0.1:{port}", "--workers=1"),
        *("--worker-class=serving.worker.Worker", "--keep-alive=75", "--log-level=warning"),
        "ops.bench.ceiling:create()",
    ]
    with (
        tempfile.TemporaryDirectory(prefix="freshet-ceiling-") as folder,
        Child("the bare endpoint", argv, Path(folder) / "log", environment(settings)) as server,
    ):
        server.wait_until(lambda: _answers(url), _START)
        yield url


def _answers(url: str) -> bool:
    import httpx

    try:
        return httpx.get(url, timeout=1).status_code == 200
    except httpx.HTTPError:
        return False
