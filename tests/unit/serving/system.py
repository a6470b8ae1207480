"""The application over the stores in memory, with a Kafka that tests can read and break."""

import json
import time
from collections.abc import AsyncGenerator, Iterable, Sequence
from pathlib import Path
from typing import Any

import msgspec

from serving.app import create_app
from serving.kafka.event_log import Delivery, QueueFullError
from serving.kafka.impressions import NotAnsweringError
from state.entries import CATALOGUE, Table
from state.memory_store import AsyncMemoryStore, MemoryStore
from state.records import Impression, Item
from state.settings import Settings
from state.store import Changes, StoreUnavailableError, TableChanges, UserState
from state.topics import Topic

NOW_MS = int(time.time() * 1000)


class FakeOutbox:
    """Keeps what is sent; acknowledges it unless told otherwise."""

    def __init__(self) -> None:
        self.sent: list[tuple[Topic, str, bytes | None]] = []
        self.full = False
        self.n_unacked = 0
        self.stalled = False

    @property
    def n_queued(self) -> int:
        return len(self.sent)

    def put(self, topic: Topic, key: str, value: bytes) -> bool:
        if not self.full:
            self.sent.append((topic, key, value))
        return not self.full

    async def deliver(self, topic: Topic, messages: Sequence[tuple[str, bytes | None]], wait_s: float) -> Delivery:
        if self.full:
            raise QueueFullError
        self.sent += [(topic, key, value) for key, value in messages]
        delivery = Delivery(len(messages), None)  # type: ignore[arg-type]
        delivery.n_acked = len(messages) - self.n_unacked
        return delivery


class FakeLists:
    """What `KafkaLists` finds, in what was sent."""

    def __init__(self, outbox: FakeOutbox) -> None:
        self._outbox = outbox
        self.asked: list[tuple[int, int]] = []
        self.broken = False

    def find(self, request_id: str, ts: int, partition: int) -> Impression | None:
        if self.broken:
            raise NotAnsweringError("Kafka does not answer")
        self.asked.append((ts, partition))
        logged = [msgspec.msgpack.decode(value or b"", type=Impression) for _, _, value in self._outbox.sent]
        return next((found for found in logged if found.request_id == request_id), None)


class FakeLog:
    def __init__(self) -> None:
        self.events = FakeOutbox()
        self.impressions = FakeOutbox()
        self.lists = FakeLists(self.impressions)

    def close(self) -> None: ...


class LosableStore(AsyncMemoryStore):
    lost = False

    async def follow(self, tables: Iterable[Table[Any]]) -> AsyncGenerator[TableChanges, None]:
        self._check()
        async for changes in super().follow(tables):
            self._check()
            yield changes

    async def user_state(self, user_id: str, session_id: str | None = None) -> UserState:
        self._check()
        return await super().user_state(user_id, session_id)

    async def add_overlay(self, *events: Any) -> None:
        self._check()
        await super().add_overlay(*events)

    async def get(self, entry: Any, entity_id: str) -> Any:
        self._check()
        return await super().get(entry, entity_id)

    async def put(self, entry: Any, entity_id: str, value: Any) -> None:
        self._check()
        await super().put(entry, entity_id, value)

    async def get_rows(self, table: Any, fields: Sequence[str]) -> Any:
        self._check()
        return await super().get_rows(table, fields)

    async def get_many(self, entry: Any, entity_ids: Sequence[str]) -> Any:
        self._check()
        return await super().get_many(entry, entity_ids)

    async def watermarks(self, flow: str) -> Any:
        self._check()
        return await super().watermarks(flow)

    async def ping(self) -> None:
        self._check()

    def _check(self) -> None:
        if self.lost:
            raise StoreUnavailableError("Redis does not answer")


class System:
    def __init__(self, tmp_path: Path) -> None:
        self.flows = MemoryStore()
        self.store = LosableStore(self.flows)
        self.log = FakeLog()
        self.settings = Settings(home=tmp_path, request_budget_ms=60_000)
        changes = Changes()
        for n in range(60):
            item = Item(item_id=f"m{n}", title=f"Title {n}", genres=["War"] if n % 6 == 0 else ["Drama", f"G{n % 7}"])
            changes.upsert(CATALOGUE, item.item_id, item)
        self.flows.commit(changes)
        self.app = create_app(self.settings, self.store, self.log)  # type: ignore[arg-type]
        self.client: Any = None

    async def call(self, method: str, path: str, body: Any = None, **params: Any) -> tuple[int, Any]:
        raw = body if isinstance(body, bytes | None) else json.dumps(body).encode()
        answer = await self.client.simulate_request(method, path, body=raw, params=params or None)
        kind = answer.headers.get("content-type", "")
        if answer.status_code >= 400 and answer.status_code != 503:
            assert kind == "application/problem+json"
        return answer.status_code, answer.json if "json" in kind else answer.content

    async def ids(self, user: str, **params: Any) -> list[str]:
        status, answer = await self.call("GET", f"/v1/users/{user}/recommendations", **params)
        assert status == 200, answer
        return [item["item_id"] for item in answer["items"]]


def an_event(**fields: Any) -> dict[str, Any]:
    return {"event_id": "e1", "type": "click", "user_id": "u1", "item_id": "m1", "ts": NOW_MS} | fields
