"""How fast a data set goes through all flows, beside a bare loop that consumes and decodes the same topic."""

import asyncio
import time
import uuid
from dataclasses import replace

import confluent_kafka
import msgspec
from rich.console import Console

from ops.bench.processes import ProcessCosts
from ops.bench.report import Figure, Report
from ops.datasets import Dataset
from ops.stack.status import address
from ops.traffic.replay import Plan, Summary, replay
from ops.traffic.verify import Verdict, compare, expected_counts
from state import topics
from state.records import Event
from state.settings import Settings

_BATCH = 5000
_TIMEOUT_S = 10.0
_WAIT_S = 0.02
_MIB = 2**20
_TARGET_PER_S = 8000.0
_MAX_RSS_MIB = 1024.0


def measure(
    settings: Settings, dataset: Dataset, pids: dict[str, int], plan: Plan, console: Console | None = None
) -> Report:
    """Replay into an empty system and wait until every flow has taken in everything.

    What is measured are the events: they are sent, as by `freshet replay`, when the flows have the catalogue.

    Parameters
    ----------
    pids
        Process id by part: what is measured while it runs.

    Raises
    ------
    SendingError, NotCaughtUpError, ConnectionFailedError
        As the replay and the comparison of counts do.
    """
    summary = Summary()
    replay(settings, dataset, replace(plan, part="catalogue"), summary, console)
    with ProcessCosts(pids) as costs:
        replay(settings, dataset, replace(plan, part="events"), summary, console)
    verdict = asyncio.run(compare(address(settings), *expected_counts(dataset, plan.limit)))
    total_s = summary.wall_s + max(summary.caught_up_s.values())
    ceiling = consume_and_decode(settings)
    figures = [
        Figure(
            "through all flows",
            summary.sent / total_s,
            "events/s",
            ceiling=ceiling,
            target=_TARGET_PER_S,
            at_most=False,
            note=f"{summary.sent:,} events; ceiling: consume and decode only",
        ),
        Figure(
            "users and items with wrong counts",
            verdict.n_different,
            _of(verdict),
            target=0,
            note="; ".join(f"{d.entity}: {d.got}, not {d.expected}" for d in verdict.examples),
        ),
        Figure("produced", summary.sent / summary.wall_s, "events/s"),
        Figure("the catalogue before them", summary.items / summary.catalogue_s, "items/s", note=f"{summary.items:,}"),
    ]
    for flow, seconds in summary.caught_up_s.items():
        figures.append(Figure(f"{flow} has it all after", summary.wall_s + seconds, "s"))
    for part, cost in costs.costs.items():
        figures.append(Figure(f"{part} CPU", cost.cpu_s / summary.sent * 1e6, "us/event"))
    for part, cost in costs.costs.items():
        figures.append(Figure(f"{part} peak memory", cost.peak_rss / _MIB, "MiB", target=_MAX_RSS_MIB))
    return Report(f"Replay of {dataset.name}", figures)


def _of(verdict: Verdict) -> str:
    return f"of {verdict.n_users + verdict.n_items:,}"


def consume_and_decode(settings: Settings) -> float:
    """Return the events/s at which one process can read and decode the `events` topic and do nothing else."""
    topic = topics.EVENTS.full_name(settings)
    consumer = confluent_kafka.Consumer(
        {
            "bootstrap.servers": settings.kafka_brokers,
            "group.id": f"freshet-bench-{uuid.uuid4().hex}",
            "enable.auto.commit": False,
            "enable.auto.offset.store": False,
            "enable.partition.eof": True,
        }
    )
    decode = msgspec.json.Decoder(Event).decode
    try:
        partitions = consumer.list_topics(topic, timeout=_TIMEOUT_S).topics[topic].partitions
        consumer.assign(
            [
                confluent_kafka.TopicPartition(topic, partition, confluent_kafka.OFFSET_BEGINNING)
                for partition in partitions
            ]
        )
        n_events = 0
        at_end: set[int | None] = set()
        batch = consumer.consume(1, _TIMEOUT_S)  # connecting is not reading
        started = ended = time.perf_counter()
        while len(at_end) < len(partitions) and time.perf_counter() - ended < _TIMEOUT_S:
            for message in batch:
                value = message.value()
                if message.error() is None and value is not None:
                    decode(value)
                    n_events += 1
                else:
                    at_end.add(message.partition())
            ended = time.perf_counter() if batch else ended
            batch = consumer.consume(_BATCH, _WAIT_S)
        return n_events / (ended - started)
    finally:
        consumer.close()
