"""The models in memory: loaded, followed, kept on disk, and kept when what comes is worse."""

import asyncio
from collections.abc import AsyncIterator, Callable, Iterable
from pathlib import Path
from typing import Any

import pytest

from online_models.replica import Replica
from serving.memory.mirror import Mirror
from state.entries import CATALOGUE
from state.memory_store import AsyncMemoryStore, MemoryStore
from state.records import Item, Watermark
from state.settings import Settings
from state.store import Changes, StoreUnavailableError, TableChanges


class NoStore(AsyncMemoryStore):
    async def follow(self, tables: Iterable[Any]) -> AsyncIterator[TableChanges]:
        raise StoreUnavailableError("gone")
        yield


class LateClock(AsyncMemoryStore):
    n_late = 2
    n_follows = 0

    def follow(self, tables: Iterable[Any]) -> AsyncIterator[TableChanges]:
        self.n_follows += 1
        return super().follow(tables)

    async def watermarks(self, flow: str) -> dict[tuple[str, int], Watermark]:
        if self.n_late:
            self.n_late -= 1
            raise StoreUnavailableError("late")
        return await super().watermarks(flow)


def items(*item_ids: str, **fields: Any) -> Changes:
    changes = Changes()
    for item_id in item_ids:
        changes.upsert(CATALOGUE, item_id, Item(item_id=item_id, genres=["War"], **fields))
    return changes


def stream_time(ts: int) -> Changes:
    changes = Changes()
    changes.advance("features", "clean", 0, Watermark(1, ts))
    return changes


async def until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(5):
        while not condition():
            await asyncio.sleep(0.005)


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    return Settings(home=tmp_path)


async def test_changes_are_followed(settings: Settings) -> None:
    """R7"""
    flows = MemoryStore()
    flows.commit(stream_time(1_400_000_000_000))
    flows.commit(items("a", "b"))
    mirror = Mirror(settings, AsyncMemoryStore(flows))
    await mirror.start()
    await until(lambda: mirror.ready and mirror.degraded is None)
    assert (mirror.origin, mirror.current.n_items) == ("redis", 2)
    flows.commit(items("c"))
    await until(lambda: mirror.current.n_items == 3)
    assert mirror.genres("c") == ["War"]
    assert (mirror.genres(None), mirror.genres("unknown")) == ([], [])
    await until(lambda: mirror.now_ms == 1_400_000_000_000)
    await mirror.aclose()


async def test_a_late_answer_is_no_reason_to_load_everything_anew(settings: Settings) -> None:
    """R10: that would make the next one late, too."""
    flows = MemoryStore()
    flows.commit(stream_time(1_400_000_000_000))
    store = LateClock(flows)
    mirror = Mirror(settings, store)
    await mirror.start()
    for n in range(3):
        flows.commit(items(f"i{n}"))
        await until(lambda: mirror.current.n_items > n)  # noqa: B023 - awaited at once
    await until(lambda: mirror.now_ms == 1_400_000_000_000)
    assert (store.n_late, store.n_follows, mirror.degraded) == (0, 1, None)
    await mirror.aclose()


async def test_the_index_of_vectors_follows_while_changes_never_cease(
    settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    """R7: as under load."""
    maintained = []
    monkeypatch.setattr(Replica, "maintain", lambda replica, budget_s: maintained.append(replica) or True)
    flows = MemoryStore()
    flows.commit(items("a"))
    mirror = Mirror(settings, AsyncMemoryStore(flows))
    await mirror.start()
    await until(lambda: mirror.ready)

    def changed_and_maintained() -> bool:
        flows.commit(items(f"i{mirror.current.n_items}"))
        return maintained.count(mirror.current) > 2

    await until(changed_and_maintained)
    await mirror.aclose()


async def test_the_copy_on_disk_is_started_from_without_a_store(settings: Settings) -> None:
    """R10"""
    flows = MemoryStore()
    flows.commit(stream_time(1_400_000_000_000))
    flows.commit(items("a", "b"))
    first = Mirror(settings, AsyncMemoryStore(flows))
    await first.start()
    await until(lambda: first.degraded is None and first.now_ms == 1_400_000_000_000)
    await first.aclose()
    second = Mirror(settings, NoStore(MemoryStore()))
    await second.start()
    assert (second.ready, second.origin, second.current.n_items) == (True, "disk", 2)
    assert second.now_ms == 1_400_000_000_000
    await until(lambda: "gone" in (second.degraded or ""))
    await second.aclose()


async def test_a_damaged_copy_is_refused(settings: Settings) -> None:
    """R10: and Redis waited for."""
    (settings.home / "replica-default.bin").write_bytes(b"another file, longer than a header")
    mirror = Mirror(settings, NoStore(MemoryStore()))
    await mirror.start()
    assert not mirror.ready
    await mirror.aclose()


async def test_an_emptied_store_does_not_empty_the_memory(settings: Settings) -> None:
    """R10"""
    flows = MemoryStore()
    flows.commit(items(*(f"i{n}" for n in range(10))))
    mirror = Mirror(settings, AsyncMemoryStore(flows))
    await mirror.start()
    await until(lambda: mirror.degraded is None)
    await mirror.aclose()
    emptied = MemoryStore()
    emptied.commit(items("i0"))
    again = Mirror(settings, AsyncMemoryStore(emptied))
    await again.start()
    await until(lambda: "rebuilt" in (again.degraded or ""))
    assert again.current.n_items == 10
    emptied.commit(items(*(f"i{n}" for n in range(9))))
    await until(lambda: again.degraded is None)
    assert again.current.n_items == 9
    await again.aclose()


async def test_own_writes_are_remembered_until_they_come_back(settings: Settings) -> None:
    """R9"""
    flows = MemoryStore()
    flows.commit(items("a", "b"))
    mirror = Mirror(settings, AsyncMemoryStore(flows))
    await mirror.start()
    await until(lambda: mirror.degraded is None)
    hidden = Item(item_id="a", genres=["War"], status="hidden")
    mirror.wrote("a", hidden)
    mirror.wrote("b", None)
    assert sorted(mirror.withheld) == ["a", "b"]
    assert (mirror.item("a"), mirror.item("b")) == (hidden, None)
    flows.commit(items("a", status="hidden"))
    await until(lambda: sorted(mirror.withheld) == ["b"])
    assert mirror.item("a") == hidden
    await mirror.aclose()
