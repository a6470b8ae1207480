"""`freshet lag` and `freshet doctor` on a real Kafka and a real Redis."""

import json
import time
from datetime import timedelta

import msgspec
from confluent_kafka import Consumer, Producer
from typer.testing import CliRunner

from ops.cli import app
from ops.operating.doctor import examine
from ops.stack.children import environment, wait_until
from ops.stack.parts import FLOWS
from state.entries import CATALOGUE, USER_PROFILE
from state.records import CleanEvent, Item, UserProfile, Watermark
from state.redis_store import RedisStore
from state.settings import Settings
from state.store import Changes
from state.topics import CLEAN, EVENTS

FEATURES = "features"


def freshet(settings: Settings, *arguments: str) -> tuple[int, str]:
    result = CliRunner().invoke(app, list(arguments), env=environment(settings))
    return result.exit_code, result.output


def write_clean(settings: Settings, n_events: int, ts: int) -> None:
    producer = Producer({"bootstrap.servers": settings.kafka_brokers})
    for n in range(n_events):
        event = CleanEvent(f"e{n}", "click", "anna", "i1", ts + n, None, None, None, None, None)
        producer.produce(CLEAN.full_name(settings), msgspec.msgpack.encode(event), b"anna", 0)
    assert producer.flush(30) == 0


def stand_at(settings: Settings, next_offset: int) -> None:
    changes = Changes()
    changes.advance(FEATURES, CLEAN.name, 0, Watermark(next_offset, 0), after=None)
    RedisStore(settings).commit(changes)


def test_lag_is_told_in_events_and_seconds(settings: Settings) -> None:
    """R28: of a flow that has taken in 7 of 10 events, and of one that has not begun."""
    before = time.time()
    write_clean(settings, 10, ts=1_000)
    stand_at(settings, 7)
    code, out = freshet(settings, "lag", "--json", "--flow", FEATURES, "--flow", "learn")
    assert code == 0, out
    found = {(lag["flow"], lag["topic"], lag["partition"]): lag for lag in json.loads(out)}
    assert len(found) == 4 + 3 * 4
    behind = found[FEATURES, "clean", 0]
    assert [behind[name] for name in ("position", "end", "events", "last_event_ts")] == [7, 10, 3, 1_006]
    assert 0 < behind["seconds"] < time.time() - before + 60
    assert found["learn", "clean", 0]["position"] is None
    assert found["learn", "clean", 0]["events"] == 10
    assert found[FEATURES, "clean", 1] == {
        "flow": FEATURES,
        "topic": "clean",
        "partition": 1,
        "position": None,
        "end": 0,
        "events": 0,
        "seconds": 0.0,
        "last_event_ts": None,
    }
    code, out = freshet(settings, "lag", "--flow", "nobody")
    assert (code, "one of" in out) == (2, True)


def test_the_doctor_finds_what_is_wrong(settings: Settings) -> None:
    """R28: a flow that stands still, state that cannot be read, no room for doubt about the rest."""
    write_clean(settings, 3, ts=1_000)
    stand_at(settings, 1)
    store = RedisStore(settings)
    changes = Changes()
    changes.put(USER_PROFILE, "anna", UserProfile())
    changes.upsert(CATALOGUE, "i1", Item(item_id="i1", title="One"))
    store.commit(changes)
    found = {finding.check: finding for finding in examine(settings, timedelta(0))}
    assert found["kafka"].level == "ok"
    assert found["kafka version"].level == "ok"
    assert "metadata.version" in found["kafka version"].found
    assert "available" in found["memory"].found
    assert {finding.level for name, finding in found.items() if name.startswith("topic")} == {"ok"}
    assert {finding.level for name, finding in found.items() if name.startswith(("redis", "clock"))} == {"ok"}
    assert found["state format"].level == "ok"
    assert found["api keys"].level == "ok"
    assert "stands still" in found[f"flow {FEATURES}"].found
    assert {name for name in found if name.startswith("flow ")} == {f"flow {flow.name}" for flow in FLOWS}
    assert found["flow catalogue"].level == "ok"
    assert {name for name in found if name.startswith("group ")} == {"group clean", "group lake", "group metrics"}
    assert "no process takes part" in found["group clean"].found

    spoiled = Changes()
    spoiled.put(USER_PROFILE, "anna", 7)
    store.commit(spoiled)
    code, out = freshet(settings, "doctor", "--json", "--patience", "0")
    assert code == 1
    (format_,) = [finding for finding in json.loads(out) if finding["check"] == "state format"]
    assert format_["level"] == "failed"
    assert "anna" not in out


def test_the_doctor_names_who_reads_and_who_has_nothing_to_read(settings: Settings) -> None:
    """R28: five processes of a flow whose topic has four partitions."""
    topic, group = EVENTS.full_name(settings), settings.group_id("clean")
    config = {"bootstrap.servers": settings.kafka_brokers, "group.id": group, "auto.offset.reset": "earliest"}
    members = [Consumer({**config, "group.instance.id": f"{group}-{n}"}) for n in range(5)]
    try:
        for member in members:
            member.subscribe([topic])

        def is_divided() -> bool:
            for member in members:
                member.poll(0.1)
            return sorted(len(member.assignment()) for member in members) == [0, 1, 1, 1, 1]

        assert wait_until(is_divided, timedelta(seconds=60))
        found = {finding.check: finding for finding in examine(settings, timedelta(0))}["group clean"]
        (idle,) = (f"{group}-{n}" for n, member in enumerate(members) if not member.assignment())
        assert (found.level, f"idle, without a partition: {idle} at 127.0.0.1" in found.found) == ("warning", True)
    finally:
        for member in members:
            member.close()


def test_the_doctor_says_that_nothing_answers(settings: Settings) -> None:
    """R28"""
    away = settings.model_copy(update={"kafka_brokers": "127.0.0.1:1", "redis_url": "redis://127.0.0.1:1/0"})
    failed = {finding.check: finding for finding in examine(away, timedelta(0)) if finding.level == "failed"}
    assert set(failed) == {"kafka", "redis"}
    assert all("freshet up" in (finding.remedy or "") for finding in failed.values())
