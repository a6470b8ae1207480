"""Three brokers, of which one is killed in the middle of a replay: nothing may be lost, and nothing counted twice."""

import asyncio
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from datetime import timedelta
from functools import partial
from pathlib import Path

from rich.console import Console

from ops.bench.api import BenchError
from ops.bench.background import Background
from ops.bench.report import Figure, Report
from ops.bench.systems import everything_caught_up, restarts
from ops.datasets import Dataset
from ops.lake.query import opened
from ops.stack import kafka
from ops.stack.children import Child, free_ports
from ops.stack.status import address
from ops.traffic.replay import Plan, Summary, replay
from ops.traffic.verify import compare, expected_counts
from state.settings import Settings
from state.topics import EVENTS

N_BROKERS = 3
_START = timedelta(seconds=120)
_CATCH_UP = timedelta(minutes=10)
_KILLED_AT = 0.4
"""Of the events."""
_POLL_S = 0.02


@dataclass(frozen=True)
class Broker:
    """One of them."""

    number: int
    address: str
    process: Child


@contextmanager
def running() -> Iterator[list[Broker]]:
    """Start three brokers in a temporary folder; replication factor 3, of which 2 must have what is acknowledged."""
    ports = free_ports(2 * N_BROKERS)
    cluster = kafka.Cluster(tuple(ports[N_BROKERS:]))
    with (
        tempfile.TemporaryDirectory(prefix="freshet-brokers-", ignore_cleanup_errors=True) as folder,
        ExitStack() as processes,
    ):
        brokers = []
        for number, (port, controller_port) in enumerate(zip(ports, cluster.controller_ports, strict=False), 1):
            home = Path(folder) / str(number)
            argv = kafka.command(home, port, controller_port, cluster=cluster, number=number)
            child = processes.enter_context(Child(f"broker {number}", argv, home / "log.txt"))
            brokers.append(Broker(number, f"127.0.0.1:{port}", child))
        for broker in brokers:
            broker.process.wait_until(partial(_knows_all, broker.address), _START)
        yield brokers


def _knows_all(broker: str) -> bool:
    return n_brokers(broker) == N_BROKERS


def n_brokers(brokers: str) -> int:
    """Return how many brokers there are; 0 when none answers."""
    from confluent_kafka import KafkaException

    try:
        return len(kafka.admin(brokers).list_topics(timeout=1).brokers)
    except KafkaException:
        return 0


def measure(settings: Settings, brokers: list[Broker], dataset: Dataset, limit: int | None, console: Console) -> Report:
    """Replay into an empty system, and kill the broker that leads the first partition of `events` on the way.

    Raises
    ------
    SendingError, NotCaughtUpError, ConnectionFailedError, BenchError
    """
    victim = _leader(settings, brokers)
    n_events = min(dataset.n_events, limit or dataset.n_events)
    summary = Summary()
    with _Killer(victim, summary, int(_KILLED_AT * n_events), console) as killer:
        replay(settings, dataset, Plan(limit=limit), summary, console)
    everything_caught_up(settings, _CATCH_UP)
    if killer.at is None:
        raise BenchError("the replay was over before a broker was killed: ask for more events")
    verdict = asyncio.run(compare(address(settings), *expected_counts(dataset, limit)))
    with opened(settings) as lake:
        ((rows, different),) = lake.ask("select count(*), count(distinct event_id) from events").rows
    return Report(
        f"Loss of one of {N_BROKERS} brokers in the middle of {n_events:,} events",
        [
            Figure("events sent until then", killer.at, f"of {n_events:,}", note=f"broker {victim.number} got SIGKILL"),
            Figure("through all flows", n_events / (summary.wall_s + max(summary.caught_up_s.values())), "events/s"),
            Figure(
                "users and items with wrong counts",
                verdict.n_different,
                f"of {verdict.n_users + verdict.n_items:,}",
                target=0,
                note="; ".join(f"{d.entity}: {d.got}, not {d.expected}" for d in verdict.examples),
            ),
            Figure("events that the lake lacks", n_events - different, "events", target=0),
            Figure("events that the lake has twice", rows - different, "events", target=0),
            Figure("processes that were started again", restarts(settings), "times", note="by themselves"),
            Figure("brokers left", n_brokers(settings.kafka_brokers), f"of {N_BROKERS}"),
        ],
    )


def _leader(settings: Settings, brokers: list[Broker]) -> Broker:
    name = EVENTS.full_name(settings)
    leader = kafka.admin(settings.kafka_brokers).list_topics(name, timeout=10).topics[name].partitions[0].leader
    return next(broker for broker in brokers if broker.number == leader)


class _Killer(Background):
    """Waits until so many events are sent, and kills a broker."""

    def __init__(self, victim: Broker, summary: Summary, n_events: int, console: Console) -> None:
        super().__init__()
        self.at: int | None = None
        """Events that were sent when it did."""
        self._victim = victim
        self._summary = summary
        self._n_events = n_events
        self._console = console

    def work(self) -> None:
        while self._summary.sent < self._n_events:
            if self.stopping.wait(_POLL_S):
                return
        self.at = self._summary.sent
        self._victim.process.kill()
        self._console.print(f"broker {self._victim.number} is gone after {self.at:,} events", highlight=False)
