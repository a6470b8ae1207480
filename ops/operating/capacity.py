"""How many processes, cores and GiB a number of daily users takes: arithmetic over measured costs and assumptions.

The unit of growth is the cell, a whole system of its own: `learn` is one process and Redis one primary, so users are
divided among as many cells as the fuller of the two needs.
"""

from importlib import resources
from math import ceil
from pathlib import Path

import msgspec

from ops.stack.errors import StackError

_DAY_S = 86_400
_GIB = 1 << 30
_MONTH_H = 730
SHARED = ("clean", "attribution", "features", "experiments", "metrics", "lake")
"""Flows that are spread over processes."""


class Costs(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What `freshet bench capacity` measures, on one core of one machine."""

    machine: str
    measured: str
    """Date, and of what."""
    event_us: dict[str, float]
    """CPU of each part for one event, microseconds."""
    list_us: dict[str, float]
    """CPU of each part for one list of 20: served, logged, attributed, learned from."""
    event_log_bytes: float
    """In Kafka, compressed, one replica."""
    list_log_bytes: float
    event_lake_bytes: float
    list_lake_bytes: float
    user_bytes: float
    """In Redis."""
    item_bytes: float
    """In Redis."""


class Assumptions(msgspec.Struct, frozen=True):
    """What is not measured; each is an option of the command."""

    events_per_user: float = 20
    """A day."""
    lists_per_user: float = 60
    """A day: each refresh and each page is one."""
    peak: float = 3.6
    """Of a day's highest second, over its mean."""
    remembered: float = 3
    """Users in Redis for each daily one."""
    items: int = 1_000_000
    utilisation: float = 0.6
    """Of a core at the peak."""
    redis_gib: float = 64
    """Memory of one Redis, of which `utilisation` is filled."""
    retention_days: float = 7
    """Of Kafka."""
    lake_days: float = 365
    replicas: int = 3
    core_hour: float = 0.04
    """Price of a core, as of the following: any currency."""
    gib_hour: float = 0.005
    disk_gib_month: float = 0.08
    lake_gib_month: float = 0.023


class Need(msgspec.Struct, frozen=True):
    """What so many daily users take."""

    daily_users: int
    events_per_s: float
    """At the peak."""
    lists_per_s: float
    cells: int
    bound_by: str
    """What fills a cell: `learn`, `redis memory` or `redis cpu`."""
    processes: dict[str, int]
    """Of each flow in one cell."""
    partitions: int
    """Of each topic in one cell."""
    serving_cores: int
    flow_cores: int
    kafka_cores: int
    redis_cores: int
    redis_gib: int
    """Of all primaries; their replicas have as much again."""
    kafka_tib: float
    lake_tib: float
    per_month: float


def shipped() -> Costs:
    """Return the costs that docs/capacity.md tells."""
    return read(Path(str(resources.files("ops.operating") / "costs.json")))


def read(path: Path) -> Costs:
    """Read what `freshet bench capacity --out` has written. Raise `StackError`."""
    try:
        return msgspec.json.decode(path.read_bytes(), type=Costs)
    except (OSError, msgspec.MsgspecError) as error:
        raise StackError(f"{path}: {error}", "freshet bench capacity --out FILE writes one.") from error


def need(daily_users: int, costs: Costs, assumed: Assumptions) -> Need:
    """Return what so many daily users take, at the peak."""
    events = daily_users * assumed.events_per_user * assumed.peak / _DAY_S
    lists = daily_users * assumed.lists_per_user * assumed.peak / _DAY_S

    def cores(part: str) -> float:
        return (events * costs.event_us.get(part, 0.0) + lists * costs.list_us.get(part, 0.0)) / 1e6

    node_bytes = assumed.redis_gib * _GIB * assumed.utilisation - assumed.items * costs.item_bytes
    if node_bytes <= 0:
        raise StackError(
            f"{assumed.items:,} items do not fit into a Redis of {assumed.redis_gib} GiB.", "--redis-gib takes more."
        )
    users_bytes = daily_users * assumed.remembered * costs.user_bytes
    wanted = {
        "learn": cores("learn") / assumed.utilisation,
        "redis memory": users_bytes / node_bytes,
        "redis cpu": cores("redis") / assumed.utilisation,
    }
    bound_by = max(wanted, key=lambda name: wanted[name])
    cells = max(1, ceil(wanted[bound_by]))
    processes = {flow: max(1, ceil(cores(flow) / cells / assumed.utilisation)) for flow in SHARED}
    redis_gib = ceil((users_bytes + cells * assumed.items * costs.item_bytes) / assumed.utilisation / _GIB)
    serving = ceil(cores("serving") / assumed.utilisation)
    flows = cells * (sum(processes.values()) + 2)  # and `learn`, `catalogue`
    kafka = max(assumed.replicas * cells, ceil(assumed.replicas * cores("kafka") / assumed.utilisation))
    daily_log = daily_users * (
        assumed.events_per_user * costs.event_log_bytes + assumed.lists_per_user * costs.list_log_bytes
    )
    daily_lake = daily_users * (
        assumed.events_per_user * costs.event_lake_bytes + assumed.lists_per_user * costs.list_lake_bytes
    )
    kafka_gib = daily_log * assumed.retention_days * assumed.replicas / _GIB
    lake_gib = daily_lake * assumed.lake_days / _GIB
    all_cores = serving + flows + kafka + 2 * cells
    memory_gib = 2 * redis_gib + 2 * (serving + flows) + 4 * kafka
    return Need(
        daily_users,
        events,
        lists,
        cells,
        bound_by,
        processes,
        _power_of_two(2 * max(processes.values())),
        serving,
        flows,
        kafka,
        2 * cells,
        redis_gib,
        kafka_gib / 1024,
        lake_gib / 1024,
        _MONTH_H * (all_cores * assumed.core_hour + memory_gib * assumed.gib_hour)
        + kafka_gib * assumed.disk_gib_month
        + lake_gib * assumed.lake_gib_month,
    )


def _power_of_two(at_least: int) -> int:
    """Room to grow: partitions cannot be changed later."""
    return max(4, 1 << (at_least - 1).bit_length())
