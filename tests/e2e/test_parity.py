"""What is evaluated is what serves: one code, in process or through Kafka, Redis and HTTP."""

from contextlib import ExitStack
from datetime import timedelta
from itertools import islice
from pathlib import Path
from typing import Any

import httpx
import msgspec
import pytest
from confluent_kafka import Consumer
from falcon import testing

from online_models.learning import rows
from online_models.learning.budget import UNLIMITED
from online_models.learning.learner import Learner
from online_models.users.profiles import apply_event
from ops.datasets import Dataset, default_folder, detect
from ops.datasets.simulated import simulated
from ops.stack.children import wait_until
from ops.traffic.sending import KafkaSender
from serving.app import create_app
from state.entries import CATALOGUE, USER_PROFILE
from state.memory_store import AsyncMemoryStore, MemoryStore
from state.records import CleanEvent, UserProfile, Watermark
from state.redis_store import RedisStore
from state.settings import Settings
from state.store import Changes
from state.topics import CLEAN, ITEMS
from tests.conftest import MakeSettings, RunProcess
from tests.unit.serving.system import FakeLog

N_EVENTS, N_USERS = 2000, 60
PATIENCE = timedelta(seconds=120)


@pytest.fixture
def dataset(tmp_path: Path) -> Dataset:
    """MovieTweetings where it is at hand, else a simulated log."""
    folder = default_folder(Settings())
    return simulated(tmp_path, n_events=N_EVENTS) if folder is None else detect(folder)


@pytest.mark.timeout(300)
async def test_lists_through_kafka_redis_and_http_are_those_of_the_in_process_run(
    dataset: Dataset, make_settings: MakeSettings, run_process: RunProcess, tmp_path: Path
) -> None:
    """R13, R14: the same sources, inputs, ranker and re-ranking, to the last item."""
    settings = make_settings(partitions=1, learn_organic_share=UNLIMITED, learn_replay_share=UNLIMITED)
    store = RedisStore(settings)
    events = list(islice(dataset.events(), N_EVENTS))
    wanted = {event.item_id for event in events}
    items = [item for item in dataset.items() if item.item_id in wanted]
    with ExitStack() as stack:
        sender = stack.enter_context(KafkaSender(settings))
        for item in items:
            sender.item(item)
        sender.flush()
        for flow in ("clean", "catalogue", "features", "learn"):
            stack.enter_context(run_process(f"flows.{flow}", settings))
        assert wait_until(lambda: _applied(store, "learn", ITEMS.name) == len(items), PATIENCE)
        assert wait_until(lambda: len(dict(store.scan_rows(CATALOGUE))) == len(items), PATIENCE)
        for event in events:
            sender.event(event)
        sender.flush()
        cleaned = _cleaned(settings, len(events))
        last = cleaned[-1][0]
        assert wait_until(
            lambda: all(_applied(store, flow, CLEAN.name) > last for flow in ("features", "learn")), PATIENCE
        )
        users = list(dict.fromkeys(event.user_id for event in events))[-N_USERS:]
        stack.enter_context(run_process("serving", settings))
        with httpx.Client(base_url=f"http://{settings.host}:{settings.port}", timeout=30) as client:
            assert wait_until(lambda: _is_current(client, store), PATIENCE)
            served = {user: _list(client.get(f"/v1/users/{user}/recommendations").json()) for user in users}
    order = [item_id for item_id, _ in store.scan_rows(CATALOGUE)]
    expected = await _in_process(items, [event for _, event in cleaned], users, order, tmp_path)
    assert served == expected
    assert len({tuple(item for item, _ in items) for items in served.values()}) > N_USERS // 2


def _applied(store: RedisStore, flow: str, topic: str) -> int:
    mark = store.watermarks(flow).get((topic, 0))
    return 0 if mark is None else mark.next_offset


def _cleaned(settings: Settings, n_events: int) -> list[tuple[int, CleanEvent]]:
    """Return the clean log with its offsets."""
    consumer = Consumer(
        {"bootstrap.servers": settings.kafka_brokers, "group.id": "parity", "auto.offset.reset": "earliest"}
    )
    consumer.subscribe([CLEAN.full_name(settings)])
    decode = msgspec.msgpack.Decoder(CleanEvent).decode
    found: list[tuple[int, CleanEvent]] = []
    try:

        def complete() -> bool:
            found.extend((message.offset(), decode(message.value())) for message in consumer.consume(500, 0.2))
            return len(found) >= n_events

        assert wait_until(complete, PATIENCE)
    finally:
        consumer.close()
    return found


def _is_current(client: httpx.Client, store: RedisStore) -> bool:
    """Return whether serving has the newest model, and answers whole."""
    try:
        answer = client.get("/v1/users/nobody/recommendations").json()
    except httpx.TransportError:
        return False
    learner = Learner()
    rows.restore(learner, store)
    return answer["degraded"] is None and answer["model"]["version"].endswith(f"-{learner.ranker.n_lists}")


def _list(answer: dict[str, Any]) -> list[tuple[str, float]]:
    assert answer["degraded"] is None
    return [(item["item_id"], round(item["score"], 5)) for item in answer["items"]]


async def _in_process(
    items: list[Any], events: list[CleanEvent], users: list[str], order: list[str], tmp_path: Path
) -> dict[str, list[tuple[str, float]]]:
    learner = Learner(organic_share=UNLIMITED, replay_share=UNLIMITED)
    changes = Changes()
    genres = {}
    for item in items:
        learner.learn_item(item.item_id, item)
        changes.upsert(CATALOGUE, item.item_id, item)
        genres[item.item_id] = item.genres
    profiles: dict[str, UserProfile] = {}
    for event in events:
        learner.learn_event(event)
        apply_event(profiles.setdefault(event.user_id, UserProfile()), event, genres.get(event.item_id or "", ()))
    rows.write(learner, changes)
    entries = changes.rows[CATALOGUE]
    changes.rows[CATALOGUE] = {item_id: entries[item_id] for item_id in order}  # what explores draws by place
    for user, profile in profiles.items():
        changes.put(USER_PROFILE, user, profile)
    newest = max(event.ts for event in events)
    changes.advance("features", CLEAN.name, 0, Watermark(len(events), newest))
    store = MemoryStore()
    store.commit(changes)
    settings = Settings(home=tmp_path / "in-process", request_budget_ms=60_000)
    app = create_app(settings, AsyncMemoryStore(store), FakeLog())  # type: ignore[arg-type]
    found = {}
    async with testing.ASGIConductor(app) as client:
        while (await client.simulate_get("/health/ready")).status_code != 200:
            pass
        for user in users:
            found[user] = _list((await client.simulate_get(f"/v1/users/{user}/recommendations")).json)
    return found
