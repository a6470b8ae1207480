"""Looks at everything that Freshet stands on; `findings` judges it."""

import shutil
import time
from collections.abc import Iterable, Iterator, Sequence
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, cast

import psutil
import redis
from confluent_kafka import KafkaException
from confluent_kafka.admin import ConfigResource, ResourceType

from ops.lag import NotCaughtUpError, PartitionLag, lags
from ops.operating import findings, groups, kafka_version
from ops.operating.findings import Finding, TopicFacts
from ops.stack import kafka
from ops.stack.children import is_free, wait_until
from ops.stack.home import Home
from ops.stack.parts import FLOWS
from ops.stack.status import serving_answers
from ops.stack.supervisor import Supervisor
from serving.access.keys import KeyFileError, NotProtectedError, ring
from state import topics
from state.entries import Entry, StateDecodeError, Table, decode_watermarks, watermark_key
from state.keyspace import owner_of
from state.redis_client import connect, is_cluster
from state.redis_commit import Keys
from state.settings import Settings
from state.store import StoreUnavailableError

if TYPE_CHECKING:
    from confluent_kafka.admin import AdminClient

_ANSWER = timedelta(seconds=5)
_N_KEYS = 2000
_N_ROWS = 10
_LAKE, _GATHERS = "lake", 3.0
"""The lake writes when rows have waited for its delay, and a write takes a while."""
_AWAY = "Start it, or say where it is: {variable}. freshet up starts one on this machine."


def examine(settings: Settings, patience: timedelta) -> Iterator[Finding]:
    """Yield findings as they are made; `patience`: how long a flow that is behind may stand still."""
    yield from _of_parts(settings)
    client = kafka.admin(settings.kafka_brokers)
    has_kafka = kafka.answers(client, _ANSWER)
    if has_kafka:
        yield from _of_kafka(client, settings)
    else:
        found = f"nothing answers at {settings.kafka_brokers}"
        yield Finding("kafka", "failed", found, _AWAY.format(variable="KAFKA_BROKERS"))
    try:
        yield from _of_redis(settings)
        has_redis = True
    except (redis.RedisError, OSError) as error:
        has_redis = False
        found = f"nothing answers at {settings.redis_url}: {error}"
        yield Finding("redis", "failed", found, _AWAY.format(variable="REDIS_URL"))
    if has_kafka and has_redis:
        yield from _of_flows(client, settings, patience)
    yield from _of_machine(settings)


def _of_parts(settings: Settings) -> Iterator[Finding]:
    home = Home.of(settings)
    for name, process in Supervisor(home).processes().items():
        if process.state in {"backoff", "fatal", "exited", "unknown"}:
            log = home.log(name)
            found = f"{process.state}, started again {process.restarts} times"
            yield Finding(f"part {name}", "failed", found, f"The end of {log} tells why.")


def _of_kafka(client: "AdminClient", settings: Settings) -> Iterator[Finding]:
    metadata = client.list_topics(timeout=_ANSWER.total_seconds())
    n_brokers = len(metadata.brokers)
    yield Finding(
        "kafka", "ok", f"{n_brokers} brokers at {settings.kafka_brokers}, controller {metadata.controller_id}"
    )
    some = next(iter(metadata.brokers.values()))
    try:
        yield findings.of_kafka_version(kafka_version.ask(some.host, some.port, _ANSWER.total_seconds()))
    except (OSError, ValueError) as error:
        yield Finding(
            "kafka version",
            "warning",
            f"{some.host}:{some.port} does not tell: {error}",
            "It is asked without TLS; kafka-broker-api-versions.sh tells, too.",
        )
    brokers = [ConfigResource(ResourceType.BROKER, str(broker)) for broker in metadata.brokers]
    present = {topic: metadata.topics.get(topic.full_name(settings)) for topic in topics.ALL}
    named = {
        topic: ConfigResource(ResourceType.TOPIC, topic.full_name(settings))
        for topic, found in present.items()
        if found is not None
    }
    configs = _configs(client, [*brokers, *named.values()])
    for broker in brokers:
        yield findings.of_broker(int(broker.name), configs[broker])
    for topic, found in present.items():
        facts = (
            None
            if found is None
            else TopicFacts(
                len(found.partitions),
                min(len(partition.replicas) for partition in found.partitions.values()),
                configs[named[topic]],
            )
        )
        yield findings.of_topic(topic, facts, settings, n_brokers)


def _configs(client: "AdminClient", resources: Sequence[ConfigResource]) -> dict[ConfigResource, dict[str, str]]:
    answers = client.describe_configs(list(resources), request_timeout=_ANSWER.total_seconds())
    return {
        resource: {name: entry.value for name, entry in answer.result().items()} for resource, answer in answers.items()
    }


def _of_redis(settings: Settings) -> Iterator[Finding]:
    with connect(settings, socket_timeout=_ANSWER.total_seconds()) as client:
        asked = time.time()
        seconds, microseconds = cast("tuple[int, int]", client.time())
        answered = time.time()
        info = cast("dict[str, object]", client.info("everything"))
        yield from findings.of_redis(info, as_cluster=is_cluster(settings))
        yield findings.of_clock("redis", seconds + microseconds / 1e6 - (asked + answered) / 2)
        yield _of_state_format(client, Keys(settings))


def _of_state_format(client: redis.Redis, keys: Keys) -> Finding:
    """Read some keys of this namespace. A scan goes through a hash table, so the first ones are a sample."""
    prefix = keys("")
    looked_at: list[str] = []
    unknown: list[str] = []
    unreadable: list[str] = []
    for found in client.scan_iter(f"{prefix}v[0-9]*", count=_N_KEYS):
        key = found.decode(errors="replace").removeprefix(prefix)
        looked_at.append(key)
        owner = owner_of(key)
        if owner is None:
            unknown.append(key)
        elif not _is_readable(client, found, key, owner):
            unreadable.append(key)
        if len(looked_at) == _N_KEYS:
            break
    return findings.of_state_format(len(looked_at), _kinds(unknown), _kinds(unreadable))


def _is_readable(client: redis.Redis, name: bytes, key: str, owner: object) -> bool:
    try:
        if isinstance(owner, Table):
            _, rows = cast("tuple[int, dict[bytes, bytes]]", client.hscan(name.decode(), count=_N_ROWS))
            for field, value in rows.items():
                owner.codec.decode(f"{key} {field!r}", value)
        elif owner == "watermark":
            marks = cast("dict[bytes, bytes]", client.hgetall(name.decode()))
            decode_watermarks(key.removeprefix(watermark_key("")), marks)
        elif isinstance(owner, Entry) and client.type(name) == b"string":
            stored = cast("bytes | None", client.get(name))
            if stored is not None:  # else it has expired just now
                owner.decode(stored)
    except (StateDecodeError, redis.ResponseError):
        return False
    return True


def _kinds(keys: Iterable[str]) -> list[str]:
    """Leave out who it is about: reports are shown around."""
    return [key if owner_of(key) is None else _pattern(key) for key in keys]


def _pattern(key: str) -> str:
    owner = owner_of(key)
    return owner.pattern if isinstance(owner, Entry) else key


def _of_flows(client: "AdminClient", settings: Settings, patience: timedelta) -> Iterator[Finding]:
    try:
        before = after = _by_flow(settings)

        def all_moved() -> bool:
            nonlocal after
            after = _by_flow(settings)
            return all(
                not any(lag.events for lag in now)
                or [lag.position for lag in now] != [lag.position for lag in before[flow]]
                for flow, now in after.items()
            )

        wait_until(all_moved, patience, timedelta(seconds=0.5))
        divided = groups.ask(client, settings, [flow for flow in FLOWS if flow.has_group], _ANSWER.total_seconds())
    except (KafkaException, NotCaughtUpError, StoreUnavailableError) as error:
        yield Finding("flows", "failed", f"how far they are cannot be told: {error}", "Mend what failed above first.")
        return
    for flow in FLOWS:
        gathers_s = _GATHERS * settings.lake_delay_s if flow.name == _LAKE else 0.0
        yield findings.of_flow(flow.name, before[flow.name], after[flow.name], gathers_s)
        if flow.name in divided:
            yield groups.judge(flow.name, divided[flow.name], before[flow.name], after[flow.name], gathers_s)
    arrivals = [lag.last_event_ts for lag in after["clean"] if lag.last_event_ts is not None]
    if arrivals and max(arrivals) / 1000 > time.time():
        yield findings.of_clock("kafka", max(arrivals) / 1000 - time.time())


def _by_flow(settings: Settings) -> dict[str, list[PartitionLag]]:
    found = lags(settings)
    return {flow.name: [lag for lag in found if lag.flow == flow.name] for flow in FLOWS}


def _of_machine(settings: Settings) -> Iterator[Finding]:
    folders = {Home.of(settings).folder}
    if "://" not in settings.lake_root:
        folders.add(Path(settings.lake_root))
    for folder in sorted(folders):
        there = next(parent for parent in (folder, *folder.parents) if parent.exists())
        usage = shutil.disk_usage(there)
        yield findings.of_disk(str(folder), usage.free, usage.total)
    memory = psutil.virtual_memory()
    yield findings.of_memory(memory.available, memory.total)
    yield _of_port(settings)
    try:
        ring(settings)
    except (KeyFileError, NotProtectedError) as error:
        yield Finding("api keys", "failed", str(error), "freshet keys create NAME --scope read makes one.")
    else:
        found = "only this machine can call" if settings.api_keys is None else f"in {settings.api_keys}"
        yield Finding("api keys", "ok", found)


def _of_port(settings: Settings) -> Finding:
    check = f"port {settings.port}"
    if serving_answers(settings):
        return Finding(check, "ok", "serving is ready")
    if is_free(settings.host, settings.port):
        return Finding(check, "warning", "nothing serves here", "freshet up, or python -m serving.")
    return Finding(
        check,
        "failed",
        "taken, but does not say that it is ready",
        "If it is serving, /health/ready tells what it waits for; else choose another port: FRESHET_PORT.",
    )
