"""Prometheus metrics of a flow: what it reads, how far it is behind, what goes wrong. Off unless asked for.

librdkafka counts anyway; here its numbers are told. Beside them are the process' own: CPU, memory, open files.
"""

import logging
from collections.abc import Callable
from typing import Any

import msgspec
from prometheus_client import Counter, Gauge, start_http_server

from state.settings import Settings

log = logging.getLogger(__name__)

_EVERY_MS = 5000
_PORTS = 32
"""Tried one after the other: the flows of one machine share the setting."""

UP = Gauge("freshet_flow_up", "1 while the flow's process runs", ["flow"])
LAG = Gauge("freshet_flow_lag", "Messages that a flow has not read yet", ["topic", "partition"])
READ = Counter("freshet_flow_messages_read", "Messages read", ["topic"])
WRITTEN = Counter("freshet_flow_messages_written", "Messages written", ["topic"])
LOGGED = Counter("freshet_flow_logged", "Records logged, from warnings upwards", ["level"])


class _Partition(msgspec.Struct):
    app_offset: int = -1
    eof_offset: int = -1
    ls_offset: int = -1
    rxmsgs: int = 0
    txmsgs: int = 0


class _Topic(msgspec.Struct):
    partitions: dict[str, _Partition]


class _Statistics(msgspec.Struct):
    """Of https://github.com/confluentinc/librdkafka/blob/master/STATISTICS.md."""

    topics: dict[str, _Topic]


_decode = msgspec.json.Decoder(_Statistics).decode


class _LogCounter(logging.Handler):
    def emit(self, record: logging.LogRecord) -> None:
        LOGGED.labels(record.levelname.lower()).inc()


def expose(settings: Settings, flow: str) -> int | None:
    """Serve the metrics on the chosen port, or the next free one; return it, None when they are off.

    Raise `OSError` when none of the ports is free.
    """
    first = settings.flow_metrics_port
    if not first:
        return None
    for port in range(first, first + _PORTS):
        try:
            start_http_server(port, settings.flow_metrics_host)
        except OSError as error:
            if port == first + _PORTS - 1:
                raise OSError(f"no port from {first} to {port} is free for Prometheus metrics") from error
            continue
        break
    UP.labels(flow).set(1)
    logging.getLogger().addHandler(_LogCounter(logging.WARNING))
    log.info("Prometheus metrics: http://%s:%d/metrics", settings.flow_metrics_host, port)
    return port


def statistics(settings: Settings) -> dict[str, Any]:
    """Return what a Kafka client's configuration needs for its numbers to be told; nothing when they are off."""
    if not settings.flow_metrics_port:
        return {}
    return {"statistics.interval.ms": _EVERY_MS, "stats_cb": teller()}


def teller() -> Callable[[str], None]:
    """Return what takes one client's statistics, as JSON."""
    before: dict[tuple[str, str], _Partition] = {}

    def tell(statistics: str) -> None:
        for name, topic in _decode(statistics).topics.items():
            for partition, now in topic.partitions.items():
                if partition == "-1":  # what has no partition yet
                    continue
                old = before.get((name, partition), _Partition())
                before[name, partition] = now
                READ.labels(name).inc(max(0, now.rxmsgs - old.rxmsgs))
                WRITTEN.labels(name).inc(max(0, now.txmsgs - old.txmsgs))
                # A transaction ends with a record that nobody reads: who has seen the end is not behind it.
                position = max(now.app_offset, now.eof_offset)
                if position >= 0 and now.ls_offset >= 0:
                    LAG.labels(name, partition).set(max(0, now.ls_offset - position))

    return tell
