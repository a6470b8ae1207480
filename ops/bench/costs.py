"""What one event and one list cost each part, in CPU, log, lake and Redis: the input of `freshet capacity`."""

import os
import platform
import threading
import time
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import cast

import redis
from rich.console import Console

from flows.common.kafka_log import KafkaLog
from ops.bench.api import BenchError
from ops.bench.loadgen import Load, generate
from ops.bench.processes import ProcessCosts
from ops.bench.serving import known_users
from ops.bench.systems import everything_caught_up
from ops.datasets import Dataset
from ops.operating.capacity import Costs
from ops.stack.children import wait_until
from ops.stack.home import Home
from ops.stack.status import address
from ops.traffic.replay import Plan, Summary, replay
from state.entries import TABLES, USER_VECTOR
from state.redis_commit import Keys
from state.settings import Settings
from state.topics import EXAMPLES, IMPRESSIONS, Topic

N_CLIENTS = 4
"""Few: no candidates are shed."""
_N_USERS = 500
_IDLE_S = 5.0
_CATCH_UP = timedelta(seconds=120)


def measure(
    settings: Settings, dataset: Dataset, pids: Mapping[str, int], limit: int | None, seconds: float, console: Console
) -> Costs:
    """Replay into an empty system, then ask it for lists; wait for all flows after each.

    Raises
    ------
    SendingError, NotCaughtUpError, LoadError, BenchError
    """
    empty = _Sizes(settings)
    summary = Summary()
    replay(settings, dataset, Plan(limit=limit, part="catalogue"), summary, console)
    with ProcessCosts(pids) as of_events:
        replay(settings, dataset, Plan(limit=limit, part="events"), summary, console)
        everything_caught_up(settings, _CATCH_UP)
    full = _Sizes(settings)
    n_users, n_examples = _n_users(settings), _n_messages(settings, EXAMPLES)
    idle = _idle(pids)
    with ProcessCosts(pids) as of_lists:
        started = time.monotonic()
        paths = [f"/v1/users/{user}/recommendations?limit=20" for user in known_users(settings, _N_USERS)]
        result = generate(Load(address(settings), paths, N_CLIENTS, seconds))
        if result.n_errors:
            raise BenchError(f"{result.n_errors} of {result.n_requests} lists failed")
        _wait_for_examples(settings, n_examples)
        everything_caught_up(settings, _CATCH_UP)
        took = time.monotonic() - started
    n_lists = _n_messages(settings, IMPRESSIONS)
    shown = _Sizes(settings)
    return Costs(
        machine=f"{platform.machine()}, {os.cpu_count()} cores, Python {platform.python_version()}",
        measured=f"{datetime.now(UTC):%Y-%m-%d}: {summary.sent:,} events of {dataset.name}, {n_lists:,} lists",
        event_us={part: cost.cpu_s / summary.sent * 1e6 for part, cost in of_events.costs.items()},
        list_us={
            part: max(0.0, cost.cpu_s - idle[part] * took) / n_lists * 1e6 for part, cost in of_lists.costs.items()
        },
        event_log_bytes=(full.log - empty.log) / summary.sent,
        list_log_bytes=(shown.log - full.log) / n_lists,
        event_lake_bytes=(full.lake - empty.lake) / summary.sent,
        list_lake_bytes=(shown.lake - full.lake) / n_lists,
        user_bytes=(full.redis - empty.redis - full.items) / n_users,
        item_bytes=full.items / summary.items,
    )


class _Sizes:
    """What is kept where, in bytes, at this moment."""

    def __init__(self, settings: Settings) -> None:
        home = Home.of(settings)
        self.log = _size(home.kafka, "freshet.*/*.log")
        self.lake = _size(Path(settings.lake_root), "*/**/*.parquet")
        keys = Keys(settings)
        with redis.Redis.from_url(settings.redis_url) as client:
            self.redis = int(cast("dict[str, int]", client.info("memory"))["used_memory"])
            self.items = sum(
                cast("int | None", client.memory_usage(keys(table.key(bucket)), samples=0)) or 0
                for table in TABLES
                if table is not USER_VECTOR
                for bucket in range(table.n_buckets)
            )


def _size(folder: Path, pattern: str) -> int:
    return sum(file.stat().st_size for file in folder.rglob(pattern) if file.is_file())


def _n_users(settings: Settings) -> int:
    with redis.Redis.from_url(settings.redis_url) as client:
        return sum(1 for _ in client.scan_iter(Keys(settings)("v1:user:*:profile"), count=1000))


def _idle(pids: Mapping[str, int]) -> dict[str, float]:
    """Return the share of a core that each part takes when there is nothing to do."""
    with ProcessCosts(pids) as costs:
        threading.Event().wait(_IDLE_S)
    return {part: cost.cpu_s / _IDLE_S for part, cost in costs.costs.items()}


def _wait_for_examples(settings: Settings, n_before: int) -> None:
    """Each list becomes one example, when its user has not clicked for long enough."""
    n_lists = _n_messages(settings, IMPRESSIONS)
    if not wait_until(lambda: _n_messages(settings, EXAMPLES) >= n_before + n_lists, _CATCH_UP, timedelta(seconds=0.5)):
        found = _n_messages(settings, EXAMPLES) - n_before
        raise BenchError(f"{n_lists} lists were shown, and {found} of them became examples")


def _n_messages(settings: Settings, topic: Topic) -> int:
    with KafkaLog(settings, "freshet-bench") as log:
        bounds = [log.bounds(topic, partition) for partition in range(settings.partitions)]
    return sum(end - first for first, end in bounds)
