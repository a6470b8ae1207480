"""The flows' logic over a log and a store in memory."""

import asyncio
import time
from pathlib import Path
from typing import Any

import msgspec
import pytest

from online_models.engine.inputs import FEATURE_SET, N_INPUTS
from ops.play.memory_log import MAX_WAITING, MemoryLog, MemoryOutbox
from ops.play.one_process import Flows
from serving.kafka.event_log import QueueFullError
from serving.resources.users import clean
from state.entries import CATALOGUE, ITEM_ACTIVITY, MODEL, USER_PROFILE, activity_field
from state.memory_store import AsyncMemoryStore, MemoryStore
from state.records import Event, Impression, Item
from state.settings import Settings
from state.topics import CONTROL, EVENTS, IMPRESSIONS, ITEMS

_json = msgspec.json.Encoder().encode
_ENOUGH = 1000


class System:
    def __init__(self, home: Path) -> None:
        self.store = MemoryStore()
        self.log = MemoryLog()
        self.flows = Flows(Settings(home=home), self.store, self.log)
        self.n_events = 0
        for n in range(20):
            self.log.append(ITEMS, f"m{n}".encode(), _json(Item(item_id=f"m{n}", genres=["War" if n % 2 else "Drama"])))
        self.settle()

    def settle(self) -> None:
        while self.flows.step(_ENOUGH):
            pass

    def happens(self, **fields: Any) -> None:
        self.n_events += 1
        defaults = {"event_id": f"e{self.n_events}", "type": "click", "user_id": "u1", "item_id": "m1", "ts": _now()}
        event = Event(**defaults | fields)
        self.log.append(EVENTS, event.user_id.encode(), _json(event))

    def profile(self, user_id: str = "u1") -> Any:
        return self.store.get_many(USER_PROFILE, [user_id])[0]


@pytest.fixture
def system(tmp_path: Path) -> System:
    return System(tmp_path)


def _now() -> int:
    return time.time_ns() // 1_000_000


def test_events_become_profiles_activity_and_models(system: System) -> None:
    """R5, R29"""
    assert len(dict(system.store.scan_rows(CATALOGUE))) == 20
    system.happens()
    system.happens(item_id="m3", type="like")
    system.settle()
    assert [step.item_id for step in system.profile().recent] == ["m1", "m3"]
    assert system.profile().affinity["War"] > 0
    row = activity_field(0, "m1")
    assert system.store.get_rows(ITEM_ACTIVITY, [row])[row].counts == {"click": 1}


def test_what_is_sent_twice_counts_once_and_what_is_invalid_is_left_out(system: System) -> None:
    """R22, R24"""
    system.happens(event_id="same")
    system.happens(event_id="same")
    system.log.append(EVENTS, b"u1", b"{")
    system.log.append(ITEMS, b"m1", b'{"item_id": 1}')
    system.settle()
    assert system.profile().activity.counts == {"click": 1}
    assert (system.flows.counts["duplicates"], system.flows.counts["rejected"]) == (1, 2)


def test_an_item_can_be_taken_out_of_the_catalogue(system: System) -> None:
    """R3"""
    system.log.append(ITEMS, b"m1", None)
    system.settle()
    assert "m1" not in dict(system.store.scan_rows(CATALOGUE))


async def test_feedback_stays_pending_until_the_flow_has_applied_it(system: System) -> None:
    """R5"""
    outbox, store = MemoryOutbox(system.log), AsyncMemoryStore(system.store)
    event = Event(event_id="h1", type="hide", user_id="u1", item_id="m1", ts=_now())
    await store.add_overlay(clean(event))
    assert (await outbox.deliver(EVENTS, [("u1", _json(event))], 1.0)).n_pending == 0
    assert len((await store.user_state("u1")).pending) == 1
    system.settle()
    state = await store.user_state("u1")
    assert state.pending == []
    assert state.profile is not None
    assert state.profile.feedback == {"m1": ["hide"]}


async def test_a_click_on_a_shown_list_teaches_the_ranker(system: System) -> None:
    """R13, R23: by the logged features, once the click has settled; the flows run as they do in `freshet play`."""
    slate = Impression(
        request_id="r1",
        user_id="u1",
        ts=_now(),
        surface="home",
        items=["m1", "m2"],
        scores=[1.0, 0.5],
        sources=[["popular"], ["popular"]],
        propensities=[1.0, 1.0],
        features=bytes(4 * 3 * N_INPUTS),
        feature_set=FEATURE_SET,
        model="ranker",
        model_version="1",
    )
    assert MemoryOutbox(system.log).put(IMPRESSIONS, "u1", msgspec.msgpack.encode(slate))
    system.happens(item_id="m2", request_id="r1", position=1)
    running = asyncio.create_task(system.flows.run())
    async with asyncio.timeout(60):
        while not system.flows.counts["examples outcome"]:
            await asyncio.sleep(0.01)
        while not dict(system.store.scan_rows(MODEL)):
            await asyncio.sleep(0.01)
    running.cancel()
    with pytest.raises(asyncio.CancelledError):
        await running


def test_rules_do_not_keep_the_flows_busy(system: System) -> None:
    """R9: nobody reads the log of control documents here; what waits in it would be looked at for ever."""
    system.log.append(CONTROL, b"rules/1", b"a document")
    system.settle()
    assert system.log.n_waiting == 0


def test_a_full_log_takes_no_more(system: System) -> None:
    """R10"""
    outbox = MemoryOutbox(system.log)
    for _ in range(MAX_WAITING):
        system.log.append(IMPRESSIONS, b"u", b"")
    assert not outbox.put(IMPRESSIONS, "u1", b"x")
    with pytest.raises(QueueFullError):
        asyncio.run(outbox.deliver(EVENTS, [("u1", b"x")], 1.0))


async def test_a_reader_waits_for_what_comes(system: System) -> None:
    waiting = asyncio.create_task(system.log.wait(60))
    await asyncio.sleep(0)
    system.happens()
    async with asyncio.timeout(30):
        await waiting
    batch = system.log.take(EVENTS, 1)
    assert (batch.offsets, batch.next_offset, batch.at_end) == ([0], 1, True)


async def test_a_reader_of_the_log_that_is_cancelled_ends_though_a_message_comes_at_the_same_time() -> None:
    log = MemoryLog()
    waiting = asyncio.create_task(log.wait(60))
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    log.append(EVENTS, b"u1", b"{}")
    waiting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await waiting
