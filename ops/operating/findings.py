"""What is wrong with what was found, and what to do about it: judgements of `freshet doctor`, without any I/O."""

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import msgspec

from ops.lag import PartitionLag
from ops.operating.kafka_version import JOIN_GROUP, METADATA, TXN_OFFSET_COMMIT, KafkaVersion
from ops.stack import kafka
from state.settings import Settings
from state.topics import Topic

Level = Literal["ok", "warning", "failed"]

_MIN_REDIS = (6, 2)
"""Client-side caching (6.0) and `XTRIM MINID` (6.2) are used."""
_FULL, _NEARLY_FULL = 0.9, 0.75
_MIN_FREE_BYTES = 512 << 20
_MIN_FREE_SHARE = 0.1
_SKEW_S, _MAX_SKEW_S = 1.0, 60.0
"""Events more than five minutes ahead of the broker's clock are refused; recency is told in seconds."""
_SLOW_S = 60.0
_NEEDED = {JOIN_GROUP: (5, "static members of groups"), TXN_OFFSET_COMMIT: (3, "transactions of group members")}
"""Request -> the version that flows need of it, and for what; both are there since Kafka 2.5."""
_SUPPORTED_METADATA = 4
"""Of Kafka 3.3, the first with KRaft for production."""
_SESSION_MS, _TRANSACTION_MS = 6000, 10_000
"""What flows ask of a broker: `flows.clean`, `flows.common.quix`."""


class Finding(msgspec.Struct, frozen=True):
    """One line of the report."""

    check: str
    level: Level
    found: str
    remedy: str | None = None
    """None where all is well."""


@dataclass(frozen=True)
class TopicFacts:
    """A topic as the broker describes it."""

    n_partitions: int
    n_replicas: int
    config: Mapping[str, str]


def of_topic(topic: Topic, facts: TopicFacts | None, settings: Settings, n_brokers: int) -> Finding:
    """Judge a topic against the one that we would create."""
    name = topic.full_name(settings)
    check = f"topic {name}"
    if facts is None:
        return Finding(check, "failed", "there is none", "freshet topics creates it.")
    wanted = kafka.n_partitions(topic, settings)
    if facts.n_partitions != wanted:
        return Finding(
            check,
            "failed",
            f"{facts.n_partitions} partitions, the settings say {wanted}",
            f"Set FRESHET_PARTITIONS={facts.n_partitions} everywhere, or move to a new FRESHET_NAMESPACE: a user who "
            "changes partition loses what was remembered there.",
        )
    expected = kafka.config(topic)
    different = {key: value for key, value in expected.items() if facts.config.get(key, value) != value}
    if different:
        found = ", ".join(f"{key}={facts.config[key]}" for key in different)
        change = ",".join(f"{key}={value}" for key, value in different.items())
        return Finding(
            check,
            "warning" if set(different) == {"retention.ms"} else "failed",
            f"{found}, expected {', '.join(different.values())}",
            f"kafka-configs.sh --alter --topic {name} --add-config {change}. A shorter retention is how far back a "
            "rebuild can go; another cleanup or timestamp loses or misdates events.",
        )
    if facts.n_replicas < min(3, n_brokers):
        return Finding(
            check,
            "warning",
            f"{facts.n_replicas} replica on {n_brokers} brokers",
            "The loss of one broker stops it, or loses it: kafka-reassign-partitions.sh adds replicas.",
        )
    return Finding(check, "ok", f"{facts.n_partitions} partitions, {facts.n_replicas} replicas")


def of_kafka_version(version: KafkaVersion) -> Finding:
    """Judge what a broker can do."""
    check = "kafka version"
    missing = [what for request, (needed, what) in _NEEDED.items() if version.newest.get(request, -1) < needed]
    if missing:
        return Finding(
            check, "failed", f"{version}; it lacks {', '.join(missing)}", "Freshet needs Kafka 2.5 or later."
        )
    if version.features.get(METADATA, 0) < _SUPPORTED_METADATA:
        return Finding(
            check,
            "warning",
            str(version),
            "Freshet is tested with KRaft, Kafka 4: upgrade, then kafka-features.sh upgrade --release-version.",
        )
    return Finding(check, "ok", str(version))


def of_memory(available: int, total: int) -> Finding:
    """Judge the memory of this machine."""
    found = f"{available >> 20} of {total >> 20} MiB available"
    if available < _MIN_FREE_BYTES or available < _MIN_FREE_SHARE * total:
        return Finding(
            "memory",
            "warning",
            found,
            "When it is out, the system kills the largest process: docs/capacity.md tells what each takes.",
        )
    return Finding("memory", "ok", found)


def of_broker(broker: int, config: Mapping[str, str]) -> Finding:
    """Judge a broker's limits."""
    check = f"broker {broker}"
    session = int(config.get("group.min.session.timeout.ms", _SESSION_MS))
    transaction = int(config.get("transaction.max.timeout.ms", _TRANSACTION_MS))
    if session > _SESSION_MS or transaction < _TRANSACTION_MS:
        return Finding(
            check,
            "failed",
            f"group.min.session.timeout.ms={session}, transaction.max.timeout.ms={transaction}",
            f"Flows ask for sessions of {_SESSION_MS} ms and transactions of {_TRANSACTION_MS} ms: change the broker.",
        )
    if config.get("auto.create.topics.enable") == "true":
        return Finding(
            check,
            "warning",
            "auto.create.topics.enable=true",
            "A mistyped name, or a read of a topic before `freshet topics`, makes one with wrong partitions: switch it "
            "off.",
        )
    return Finding(check, "ok", "its limits suffice")


def of_flow(
    flow: str, before: Sequence[PartitionLag], after: Sequence[PartitionLag], gathers_s: float = 0.0
) -> Finding:
    """Judge a flow that was looked at twice, some seconds apart; it may gather messages for `gathers_s`."""
    check = f"flow {flow}"
    events, seconds = sum(lag.events for lag in after), max((lag.seconds for lag in after), default=0.0)
    if not events:
        return Finding(check, "ok", "has taken in everything")
    behind = f"{events} events behind, the oldest for {seconds:.0f} s"
    if seconds <= gathers_s:
        return Finding(check, "ok", f"gathers: {behind}")
    if [lag.position for lag in before] == [lag.position for lag in after]:
        if all(lag.position is None for lag in after):
            return Finding(
                check, "failed", f"has not begun: {behind}", f"Start it: python -m flows.{flow}, or freshet up."
            )
        return Finding(
            check,
            "failed",
            f"stands still: {behind}",
            "freshet status tells whether it runs; its log tells why it does not, or what it waits for.",
        )
    still = [
        f"{now.topic}[{now.partition}]"
        for then, now in zip(before, after, strict=False)
        if now.events and now.seconds > max(_SLOW_S, gathers_s) and then.position == now.position
    ]
    if still:
        return Finding(
            check,
            "warning",
            f"no progress in {', '.join(still)}: {behind}",
            "If it stays so, its processes do not cover all partitions: FRESHET_FLOW_PROCESSES must be how many run, "
            "each with a FRESHET_FLOW_INDEX of its own.",
        )
    if seconds > _SLOW_S:
        return Finding(
            check,
            "warning",
            f"catches up: {behind}",
            "If freshet lag --watch shows it growing, give it more processes: see docs/operations.md, Scale.",
        )
    return Finding(check, "ok", f"moves on: {behind}")


def of_redis(info: Mapping[str, object], *, as_cluster: bool = False) -> list[Finding]:
    """Judge Redis by its answer to INFO, as redis-py parses it; `as_cluster`: the settings say that it is one."""
    version = str(info.get("redis_version", "0"))
    product = f"Valkey {info['valkey_version']}" if "valkey_version" in info else f"Redis {version}"
    numbers = tuple(int(part) for part in re.findall(r"\d+", version)[:2])
    findings = [
        Finding("redis version", "ok", product)
        if numbers >= _MIN_REDIS
        else Finding("redis version", "failed", product, "Freshet needs Redis 6.2 or Valkey 7.2, or later.")
    ]
    role = info.get("role")
    if role != "master":
        findings.append(
            Finding("redis role", "failed", f"{role}", "REDIS_URL must name the primary: replicas take no writes.")
        )
    if info.get("cluster_enabled") and not as_cluster:
        findings.append(
            Finding(
                "redis cluster",
                "failed",
                "cluster mode",
                "REDIS_URL must say so: redis+cluster://host:port,host:port. See docs/operations.md.",
            )
        )
    findings += [_eviction(info), _memory(info), _persistence(info)]
    return findings


def _eviction(info: Mapping[str, object]) -> Finding:
    policy = info.get("maxmemory_policy", "noeviction")
    if policy != "noeviction":
        return Finding(
            "redis eviction",
            "failed",
            f"maxmemory-policy {policy}",
            "State that is evicted is missing until a rebuild: config set maxmemory-policy noeviction.",
        )
    return Finding("redis eviction", "ok", "noeviction")


def _memory(info: Mapping[str, object]) -> Finding:
    used = int(str(info.get("used_memory", 0)))
    limit = int(str(info.get("maxmemory", 0))) or int(str(info.get("total_system_memory", 0)))
    found = f"{used >> 20} of {limit >> 20} MiB"
    share = used / limit if limit else 0.0
    if share < _NEARLY_FULL:
        return Finding("redis memory", "ok", found)
    return Finding(
        "redis memory",
        "failed" if share > _FULL else "warning",
        found,
        "When it is full, flows stop and lists age: give it more memory; docs/capacity.md tells how much per user.",
    )


def _persistence(info: Mapping[str, object]) -> Finding:
    broken = [
        f"{name} {info[name]}"
        for name in ("aof_last_write_status", "aof_last_bgrewrite_status", "rdb_last_bgsave_status")
        if info.get(name, "ok") != "ok"
    ]
    if broken:
        return Finding("redis persistence", "failed", ", ".join(broken), "Its disk is full or cannot be written.")
    if not info.get("aof_enabled"):
        return Finding(
            "redis persistence",
            "warning",
            "no append-only file",
            "After a restart it is empty, and flows read the whole log again: config set appendonly yes.",
        )
    return Finding("redis persistence", "ok", "append-only file")


def of_state_format(n_looked_at: int, unknown: Sequence[str], unreadable: Sequence[str]) -> Finding:
    """Judge a sample of keys: those that this version does not know, and those whose values it cannot read."""
    check = "state format"
    if unreadable:
        return Finding(
            check,
            "failed",
            f"{len(unreadable)} of {n_looked_at} keys cannot be read, as {unreadable[0]}",
            "Another version wrote them: freshet rebuild makes the state anew from the log.",
        )
    if unknown:
        return Finding(
            check,
            "warning",
            f"{len(unknown)} of {n_looked_at} keys are not of this version, as {unknown[0]}",
            "Nobody reads them. If no older version runs any more, delete them.",
        )
    return Finding(check, "ok", f"{n_looked_at} keys looked at" if n_looked_at else "empty")


def of_disk(folder: str, free: int, total: int) -> Finding:
    """Judge the room for what is kept on this machine."""
    check, found = f"disk {folder}", f"{free >> 20} of {total >> 20} MiB free"
    remedy = "Make room, or move it: FRESHET_HOME, FRESHET_LAKE. Old lake files go with freshet lake compact."
    if free < _MIN_FREE_BYTES:
        return Finding(check, "failed", found, remedy)
    if free < _MIN_FREE_SHARE * total:
        return Finding(check, "warning", found, remedy)
    return Finding(check, "ok", found)


def of_clock(whose: str, ahead_s: float) -> Finding:
    """Judge how far another machine's clock is ahead of this one's."""
    found = f"{abs(ahead_s):.1f} s {'ahead' if ahead_s >= 0 else 'behind'}"
    if abs(ahead_s) <= _SKEW_S:
        return Finding(f"clock of {whose}", "ok", found)
    return Finding(
        f"clock of {whose}",
        "failed" if abs(ahead_s) > _MAX_SKEW_S else "warning",
        found,
        "Keep all machines on one time (chrony, ntpd): event times, lifetimes and lag are told by it.",
    )


def is_well(findings: Iterable[Finding]) -> bool:
    """Return whether nothing failed; warnings pass."""
    return all(finding.level != "failed" for finding in findings)
