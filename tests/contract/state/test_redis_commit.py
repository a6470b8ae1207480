"""Large commits over Redis: in pieces behind a journal, and still all or nothing."""

import tracemalloc
import uuid
from collections.abc import Callable
from typing import Any

import msgspec
import pytest

from state import redis_commit
from state.entries import (
    CATALOGUE,
    ITEM_MODEL,
    LEARNER_USER,
    MODEL,
    NEIGHBOURS,
    SESSION,
    USER_PROFILE,
    Table,
    journal_key,
)
from state.memory_store import MemoryStore
from state.records import BlobRow, CleanEvent, Item, ItemRow, SessionProfile, UserProfile, UserRow, Watermark
from state.redis_store import AsyncRedisStore, RedisStore
from state.settings import Settings
from state.store import Changes, StateLostError, Store, StoreUnavailableError

FLOW = "learn"
N = 700


class CutOffError(Exception):
    """Stands for the end of the process."""


@pytest.fixture
def settings(redis_url: str) -> Settings:
    return Settings.model_validate({"redis_url": redis_url, "namespace": f"t-{uuid.uuid4().hex[:12]}"})


@pytest.fixture(autouse=True)
def small_pieces(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let some hundred rows make several pieces."""
    monkeypatch.setattr(redis_commit, "PIECE_US", 400.0)


def large(version: int) -> Changes:
    """Everything that a flow can write, in more rows than one transaction may have; half of them go each time."""
    changes = Changes()
    for n in range(N):
        gone = version and n % 2 == version % 2
        changes.upsert(ITEM_MODEL, f"i{n}", ItemRow(n, version, 0.0, b"x" * 50))
        changes.rows.setdefault(NEIGHBOURS, {})[f"i{n}"] = None if gone else BlobRow(bytes([version]) * (n % 300))
        changes.entries[LEARNER_USER, f"u{n}"] = None if gone else UserRow(b"", b"", b"", b"", version, 0)
        changes.put(USER_PROFILE, f"u{n}", UserProfile(last_ts=version))
        changes.settle(f"u{n}", f"e{version}")
    changes.put(SESSION, "s", SessionProfile("u"))
    changes.upsert(CATALOGUE, "i0", Item(item_id="i0", title=str(version)))
    changes.upsert(MODEL, "progress", BlobRow(bytes([version])))
    before = Watermark(version, version, version) if version else None
    changes.advance(FLOW, "clean", 0, Watermark(version + 1, version + 1, version + 1), after=before)
    return changes


def everything(store: Store) -> dict[str, Any]:
    tables: tuple[Table[Any], ...] = (ITEM_MODEL, NEIGHBOURS, CATALOGUE, MODEL)
    found: dict[str, Any] = {table.name: dict(store.scan_rows(table)) for table in tables}
    users = [f"u{n}" for n in range(N)]
    for entry in (LEARNER_USER, USER_PROFILE, SESSION):
        found[entry.pattern] = store.get_many(entry, [*users, "s"])
    return found | {"watermarks": store.watermarks(FLOW)}


def expected(n_commits: int) -> dict[str, Any]:
    store = MemoryStore()
    for version in range(n_commits):
        store.commit(large(version))
    return everything(store)


def count_pieces(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Note the number of each piece that is applied."""
    applied: list[int] = []
    original = redis_commit._apply

    def apply(client: Any, journal: str, head: Any, number: int) -> bool:
        applied.append(number)
        return original(client, journal, head, number)

    monkeypatch.setattr(redis_commit, "_apply", apply)
    return applied


def cut_off_at(monkeypatch: pytest.MonkeyPatch, step: str, number: int) -> None:
    """Let the process end before the given call of a function."""
    original: Callable[..., Any] = getattr(redis_commit, step)
    calls = iter(range(10_000))

    def until(*arguments: Any) -> Any:
        if next(calls) == number:
            raise CutOffError
        return original(*arguments)

    monkeypatch.setattr(redis_commit, step, until)


def test_pieces_write_what_one_transaction_writes(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    """R23"""
    applied = count_pieces(monkeypatch)
    store = RedisStore(settings)
    for version in range(3):
        store.commit(large(version))
        assert everything(store) == expected(version + 1)
    assert len(applied) > 30
    assert store._redis.exists(store._key(journal_key(FLOW))) == 0


def test_a_commit_takes_the_memory_of_a_piece(settings: Settings) -> None:
    """R30: not that of all its rows, here 20 MB."""
    store = RedisStore(settings)
    changes = Changes()
    for n in range(2000):
        changes.upsert(NEIGHBOURS, f"i{n}", BlobRow(bytes([n % 256]) * 10_000))
    changes.advance(FLOW, "clean", 0, Watermark(1, 1, 1))
    tracemalloc.start()
    try:
        store.commit(changes)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert dict(store.scan_rows(NEIGHBOURS)) == changes.rows[NEIGHBOURS]
    assert peak < 5_000_000


def test_a_small_commit_has_no_journal(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    applied = count_pieces(monkeypatch)
    store = RedisStore(settings)
    changes = Changes()
    changes.upsert(CATALOGUE, "i", Item(item_id="i"))
    changes.advance(FLOW, "clean", 0, Watermark(1, 1, 1))
    store.commit(changes)
    assert dict(store.scan_rows(CATALOGUE)) == {"i": Item(item_id="i")}
    assert applied == []


@pytest.mark.parametrize("number", [0, 1, 7])
def test_a_commit_that_is_cut_off_is_completed_before_the_flow_goes_on(
    settings: Settings, monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    """R23: rows of two moments are never what a flow starts from."""
    store = RedisStore(settings)
    store.commit(large(0))
    with monkeypatch.context() as patched:
        cut_off_at(patched, "_apply", number)
        with pytest.raises(CutOffError):
            store.commit(large(1))
    assert store.watermarks(FLOW) == {("clean", 0): Watermark(1, 1, 1)}
    restarted = RedisStore(settings)
    restarted.recover(FLOW)
    assert everything(restarted) == expected(2)
    restarted.commit(large(2))
    assert everything(restarted) == expected(3)


def test_a_commit_that_never_had_a_head_is_none(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    """R23: all pieces lie in the journal, and nothing says that they hold."""
    store = RedisStore(settings)
    store.commit(large(0))
    with monkeypatch.context() as patched:
        patched.setattr(msgspec.msgpack, "encode", _fail_on_heads(msgspec.msgpack.encode))
        with pytest.raises(CutOffError):
            store.commit(large(1))
    assert store._redis.hlen(store._key(journal_key(FLOW))) > 3
    restarted = RedisStore(settings)
    restarted.recover(FLOW)
    assert everything(restarted) == expected(1)
    restarted.commit(large(1))
    assert everything(restarted) == expected(2)


def _fail_on_heads(encode: Callable[[Any], bytes]) -> Callable[[Any], bytes]:
    def failing(value: Any) -> bytes:
        if isinstance(value, redis_commit._Head):
            raise CutOffError
        return encode(value)

    return failing


def test_a_commit_goes_on_after_a_lost_connection(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    """R29: called again, it completes what it had begun."""
    store = RedisStore(settings)
    store.commit(large(0))
    with monkeypatch.context() as patched:
        cut_off_at(patched, "_apply", 2)
        with pytest.raises(CutOffError):
            store.commit(large(1))
    store.commit(large(1))
    assert everything(store) == expected(2)


def test_two_writers_are_noticed(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    """R23: a process that was thought dead does not write over what its successor has written."""
    store, other = RedisStore(settings), RedisStore(settings)
    store.commit(large(0))
    original = redis_commit._apply

    def apply(client: Any, journal: str, head: Any, number: int) -> bool:
        if number == 3:
            monkeypatch.setattr(redis_commit, "_apply", original)
            other.recover(FLOW)
        return original(client, journal, head, number)

    monkeypatch.setattr(redis_commit, "_apply", apply)
    with pytest.raises(StateLostError, match="piece 3"):
        store.commit(large(1))
    assert everything(other) == expected(2)


async def test_feedback_leaves_the_overlay_with_its_profile(
    settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    """R5: after each piece, every event is in the profile or pending, and not both."""
    store, serving = RedisStore(settings), AsyncRedisStore(settings, timeout_s=5)
    users = [f"u{n}" for n in range(N)]
    store.commit(large(0))
    await serving.add_overlay(*(CleanEvent("e1", "like", user, "i", 1) for user in users))
    cut_off_at(monkeypatch, "_apply", 3)
    with pytest.raises(CutOffError):
        store.commit(large(1))
    states = [await serving.user_state(user) for user in users]
    applied = [state.profile is not None and state.profile.last_ts == 1 for state in states]
    assert any(applied)
    assert not all(applied)
    assert [not state.pending for state in states] == applied
    await serving.aclose()


def test_an_unreachable_server_is_said_so(settings: Settings) -> None:
    """R29"""
    away = RedisStore(settings.model_copy(update={"redis_url": "redis://127.0.0.1:1/0"}))
    with pytest.raises(StoreUnavailableError):
        away.recover(FLOW)
