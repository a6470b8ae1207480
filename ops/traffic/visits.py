"""Simulated users who ask the API for lists and click by taste and position, so that impressions exist."""

import asyncio
import threading
import time
import uuid
from collections.abc import Callable
from dataclasses import dataclass

import msgspec
import numpy as np

from ops.http_client import Client, ConnectionFailedError
from ops.traffic.simulator import DEVICES, World, examination, number, user_id
from state.records import Event

_LIMIT = 20
_MAX_PAGES = 5
_GO_ON = 0.6
_THINK_S = 0.5
"""On average, between two lists of a visit."""
_MAX_VISITS = 16
_RETRY_S = 1.0

_encode = msgspec.json.Encoder().encode


class _Listed(msgspec.Struct):
    item_id: str


class _Slate(msgspec.Struct):
    request_id: str
    items: list[_Listed]
    degraded: dict[str, str] | None = None


_slate_decoder = msgspec.json.Decoder(_Slate)


@dataclass
class Tally:
    """What the simulated users have seen and done."""

    visits: int = 0
    lists: int = 0
    shown: int = 0
    clicks: int = 0
    events: int = 0
    degraded: int = 0
    failures: int = 0
    expected_clicks: float = 0.0
    """The sum of the true click probabilities of what was shown: how good the lists were, without luck."""

    @property
    def click_rate(self) -> float:
        return self.expected_clicks / self.shown if self.shown else 0.0

    def __str__(self) -> str:
        return (
            f"{self.visits:,} visits, {self.lists:,} lists, {self.clicks:,} clicks, {self.events:,} events, "
            f"true click rate {self.click_rate:.3f}, {self.degraded:,} degraded, {self.failures:,} failed"
        )


class Visitors:
    """Plays visits of a world's users against the API."""

    def __init__(
        self, world: World, base_url: str, tally: Tally, seed: int | None = None, think_s: float = _THINK_S
    ) -> None:
        self.tally = tally
        self._world = world
        self._base_url = base_url
        self._think_s = think_s
        self._draw = np.random.default_rng(seed)
        self._run = uuid.uuid4().hex[:12]

    async def play(
        self,
        visits_per_s: float,
        stop: threading.Event,
        duration_s: float | None = None,
        report: Callable[[float], None] = lambda elapsed_s: None,
    ) -> None:
        """Start visits evenly until `stop` is set or `duration_s` is over; at most 16 go on at a time.

        `report` gets the seconds since the start.
        """
        room = asyncio.Semaphore(_MAX_VISITS)
        started = time.monotonic()
        async with asyncio.TaskGroup() as visits:
            n_started = 0
            while not stop.is_set() and (duration_s is None or time.monotonic() - started < duration_s):
                if time.monotonic() - started >= n_started / visits_per_s and not room.locked():
                    n_started += 1
                    visits.create_task(self._visit_if_possible(room, stop))
                report(time.monotonic() - started)
                await asyncio.sleep(min(0.1, 1 / visits_per_s))

    async def _visit_if_possible(self, room: asyncio.Semaphore, stop: threading.Event) -> None:
        async with room:
            try:
                async with Client(self._base_url, timeout_s=10) as client:
                    await self.visit(client, self._world.draw_user(self._draw), stop)
            except (ConnectionFailedError, TimeoutError):
                # The API restarts or is overloaded: counted, and the next visit tries again.
                self.tally.failures += 1
                await asyncio.sleep(_RETRY_S)

    async def visit(self, client: Client, user: int, stop: threading.Event | None = None) -> None:
        """Look at up to 5 lists, one after the other. Raise `ConnectionFailedError` or `TimeoutError`."""
        self.tally.visits += 1
        session_id = f"sim-{self._run}-{self.tally.visits}"
        device = str(self._draw.choice(DEVICES))
        path = f"/v1/users/{user_id(user)}/recommendations?limit={_LIMIT}&device={device}"
        for _ in range(_MAX_PAGES):
            answer = await client.get(path)
            if answer.status != 200:
                self.tally.failures += 1
                return
            events = self._look_at(_slate_decoder.decode(answer.body), user, session_id, device)
            if events:
                posted = await client.post("/v1/events", _encode({"events": events}))
                self.tally.failures += posted.status != 202
            if self._draw.random() > _GO_ON or (stop is not None and stop.is_set()):
                return
            await asyncio.sleep(self._think_s * 2 * self._draw.random())

    def _look_at(self, slate: _Slate, user: int, session_id: str, device: str) -> list[Event]:
        """Click by taste and position; return what the user did."""
        tally, now_ms = self.tally, time.time_ns() // 1_000_000
        tally.lists += 1
        tally.degraded += slate.degraded is not None
        relevance = self._world.relevance(user, now_ms, device)
        events: list[Event] = []
        for position, listed in enumerate(slate.items):
            try:
                likes = float(relevance[number(listed.item_id)])
            except (ValueError, IndexError):
                likes = 0.0  # an item of another catalogue: nobody in this world wants it
            probability = examination(position) * likes
            tally.shown += 1
            tally.expected_clicks += probability
            if self._draw.random() >= probability:
                continue
            tally.clicks += 1
            for outcome in self._world.outcomes(likes, self._draw):
                events.append(
                    Event(
                        event_id=f"sim-{self._run}-{tally.events}",
                        type=outcome.type,
                        user_id=user_id(user),
                        item_id=listed.item_id,
                        ts=now_ms,
                        session_id=session_id,
                        request_id=slate.request_id,
                        position=position,
                        value=outcome.value,
                        context={"scale": 5, "device": device} if outcome.type == "rating" else {"device": device},
                    )
                )
                tally.events += 1
        return events
