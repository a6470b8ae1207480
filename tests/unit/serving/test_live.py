"""R6: live lists, over the stores in memory."""

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

import pytest
from falcon import testing

from online_models.users import profiles
from serving.memory.live_users import LiveUsers
from serving.resources import live
from state.entries import USER_PROFILE
from state.records import RecentItem, UserProfile
from state.store import Changes, StoreUnavailableError
from tests.unit.serving.system import System

LIVE = "/v1/users/u1/recommendations/live"


class Stream:
    """One connection: parses what it brings."""

    def __init__(self) -> None:
        self.sent: asyncio.Queue[dict[str, Any]] = asyncio.Queue()
        self._text = ""

    async def next(self, seconds: float = 10.0) -> dict[str, str]:
        """Return the fields of the next event; comments are under ``. Raise `EOFError` at the end."""
        async with asyncio.timeout(seconds):
            while "\n\n" not in self._text:
                message = await self.sent.get()
                self._text += message.get("body", b"").decode()
                if not message.get("more_body"):
                    raise EOFError(self._text)
        block, _, self._text = self._text.partition("\n\n")
        return dict(line.split(": ", 1) if ": " in line else (line, "") for line in block.split("\n"))

    async def list(self) -> tuple[str, dict[str, Any]]:
        """Skip what is no list; return the id and the answer of the next one."""
        while (event := await self.next()).get("event") != "list":
            pass
        return event["id"], json.loads(event["data"])


@asynccontextmanager
async def listening(system: System, path: str = LIVE, last: str | None = None, **params: Any) -> AsyncIterator[Stream]:
    headers = {} if last is None else {"last-event-id": last}
    scope = testing.create_scope(path=path, query_string=urlencode(params), headers=headers)
    stream, gone = Stream(), asyncio.Event()
    requested = [{"type": "http.request"}]

    async def receive() -> dict[str, Any]:
        if requested:
            return requested.pop()
        await gone.wait()
        return {"type": "http.disconnect"}

    answering = asyncio.create_task(system.app(scope, receive, stream.sent.put))
    try:
        started = await stream.sent.get()
        assert started["status"] == 200
        assert dict(started["headers"])[b"content-type"].startswith(b"text/event-stream")
        yield stream
    finally:
        gone.set()
        answering.cancel()
        await asyncio.gather(answering, return_exceptions=True)


async def like(system: System, item: str, user: str = "u1") -> None:
    body = {"item_id": item, "type": "like"}
    assert (await system.call("POST", f"/v1/users/{user}/feedback", body))[0] == 202


async def test_a_list_comes_at_once_and_again_with_each_change(system: System) -> None:
    """R6: of the overlay, by feedback, and of the profile, by the flows."""
    async with listening(system, limit=5) as stream:
        first, answer = await stream.list()
        assert len(answer["items"]) == 5
        await like(system, "m1")
        second, answer = await stream.list()
        assert (answer["state"]["pending"], second) != (0, first)
        changes = Changes()
        changes.put(USER_PROFILE, "u1", UserProfile(recent=[RecentItem("m2", 5, "click")], seen={"m2": 5}, last_ts=5))
        system.flows.commit(changes)
        third, answer = await stream.list()
        assert third not in (first, second)
        assert "m2" not in [item["item_id"] for item in answer["items"]]


async def test_changes_in_quick_succession_are_one_list_a_second(
    system: System, monkeypatch: pytest.MonkeyPatch
) -> None:
    """R6"""
    clock = 1000.0
    monkeypatch.setattr(live, "monotonic", lambda: clock)
    async with listening(system, limit=5) as stream:
        await stream.list()
        for n in range(20):
            await like(system, f"m{n}")
        with pytest.raises(TimeoutError):
            await stream.next(0.2)
        clock += 1.0
        await like(system, "m30")
        _, answer = await stream.list()
        assert answer["state"]["pending"] == 21


async def test_others_changes_are_not_told(system: System) -> None:
    """R6"""
    async with listening(system) as stream:
        await stream.list()
        await like(system, "m1", user="u2")
        with pytest.raises(TimeoutError):
            await stream.next(0.2)


async def test_a_client_that_has_the_list_gets_none_until_there_is_a_change(system: System) -> None:
    """R6: `Last-Event-ID`, also one that another process has given."""
    async with listening(system, limit=5) as stream:
        last, _ = await stream.list()
    async with listening(system, last=last, limit=5) as stream:
        assert "retry" in await stream.next()
        with pytest.raises(TimeoutError):
            await stream.next(0.2)
        await like(system, "m1")
        now, _ = await stream.list()
        assert now != last
    async with listening(system, last=last, limit=5) as stream:
        assert (await stream.list())[0] == now


async def test_a_list_that_flows_have_taken_over_unchanged_is_not_sent_again(system: System) -> None:
    """R6: the same event leaves the overlay and enters the profile."""
    async with listening(system, limit=5) as stream:
        await stream.list()
        await like(system, "m1")
        version, _ = await stream.list()
        user = await system.store.user_state("u1")
        profile = UserProfile()
        for event in user.pending:
            profiles.apply_event(profile, event, ["Drama", "G1"])
        changes = Changes()
        changes.put(USER_PROFILE, "u1", profile)
        for event in user.pending:
            changes.settle("u1", event.event_id)
        system.flows.commit(changes)
    async with listening(system, last=version, limit=5) as stream:
        await stream.next()
        with pytest.raises(TimeoutError):
            await stream.next(0.2)


async def test_heartbeats_come_when_nothing_else_does(system: System, monkeypatch: pytest.MonkeyPatch) -> None:
    """R6"""
    monkeypatch.setattr(live.LiveRecommendations, "heartbeat_s", 0.01)
    async with listening(system) as stream:
        await stream.list()
        for _ in range(3):
            assert "" in await stream.next()


async def test_what_a_list_refuses_is_refused_before_the_stream(system: System) -> None:
    """R6"""
    for params in ({"limit": "0"}, {"surface": "nothing"}, {"filter": "nothing=1"}, {"what": "1"}):
        status, problem = await system.call("GET", LIVE, **params)
        assert (status, problem["field"]) == (400, next(iter(params)))
    assert (await system.call("GET", LIVE, surface="because", item="nope"))[0] == 404
    assert (await system.call("GET", LIVE, surface="home", window="1d"))[0] == 400


async def test_without_redis_a_list_stays_and_hears_of_what_this_process_is_told(system: System) -> None:
    """R6, R10"""
    async with listening(system, limit=5) as stream:
        await stream.list()
        system.store.lost = True
        await like(system, "m1")
        _, answer = await stream.list()
        assert answer["degraded"]
        assert len(answer["items"]) == 5


async def test_closing_ends_streams_whole(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """R6, R31"""
    made: list[LiveUsers] = []
    monkeypatch.setattr(LiveUsers, "start", lambda self: made.append(self))
    system = System(tmp_path)
    async with testing.ASGIConductor(system.app) as system.client, listening(system) as stream:
        await stream.list()
        made[0].close()
        with pytest.raises(EOFError):
            await stream.next()


class WatchedStore:
    """Whose connection is lost at will."""

    def __init__(self) -> None:
        self.reachable = True
        self.added: list[str] = []
        self.opened = asyncio.Event()
        self.fail: asyncio.Future[None] | None = None

    def watch_users(self, changed: Any) -> "WatchedStore":
        return self

    async def open(self) -> None:
        if not self.reachable:
            raise StoreUnavailableError("gone")
        self.fail = asyncio.get_running_loop().create_future()
        self.opened.set()

    async def add(self, user_id: str) -> None:
        self.added.append(user_id)

    def discard(self, user_id: str) -> None:
        self.added.remove(user_id)

    async def lost(self) -> None:
        assert self.fail is not None
        await self.fail

    async def aclose(self) -> None: ...


async def test_who_was_not_watched_for_a_while_looks_again() -> None:
    """R6"""
    store = WatchedStore()
    users = LiveUsers(store)  # type: ignore[arg-type]
    users.start()
    await store.opened.wait()
    with users.following("u1") as follower:
        await users.watch("u1")
        assert store.added == ["u1"]
        follower.changed = False
        assert store.fail is not None
        store.opened.clear()
        store.fail.set_exception(StoreUnavailableError("gone"))
        await store.opened.wait()
        await follower.wait(5)
        assert follower.changed
    assert users.n_followers == 0
    await users.aclose()
