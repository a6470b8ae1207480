"""Simulated traffic at an even rate for as long as it is wanted, and what it must come to in windows of metrics."""

import asyncio
import itertools
import threading
import time
import uuid
from collections import Counter

import msgspec

from ops.bench.background import Background
from ops.http_client import Client, ConnectionFailedError
from ops.traffic.replay import now_ms
from ops.traffic.sending import KafkaSender
from ops.traffic.simulator import World, user_id
from state.records import Event
from state.settings import Settings

MINUTE_MS = 60_000
_POOL = 100_000
"""Events that are made before the start. They come again and again, each time with ids, sessions and times of their
own, and of other users, until those of the first time are back."""
_VISITS = 6
"""Of each user in the whole time: so all have come after the first sixth, and then only what they do adds."""
_LIMIT = 20
_MOST_AT_ONCE = 16
_RETRY_S = 1.0
_PAUSE_S = 0.01
"""Between those that are due and the next: a pause for each event would cost the machine more than the event."""
_AT_ONCE = 100
"""Events of the same time, at most."""

Sent = Counter[tuple[str, int, str]]
"""(family of metrics, start of the minute in epoch ms, name of the sum) -> what it must come to."""


class _Answer(msgspec.Struct):
    request_id: str
    items: list[msgspec.Raw]


_decode = msgspec.json.Decoder(_Answer).decode


def pool(world: World) -> list[Event]:
    """Return the events that are played."""
    return list(world.history(_POOL, until_ms=now_ms()))


def n_crowds(per_s: float, seconds: float) -> int:
    """Return how many times other users come before the first ones are back."""
    return max(1, round(per_s * seconds / _VISITS / _POOL))


def visitor(user_id: str, crowd: int) -> str:
    """Return the user who does in one crowd what `user_id` does in the pool."""
    return f"{user_id}-{crowd}"


def send_evenly(
    settings: Settings, events: list[Event], per_s: float, seconds: float, halt: threading.Event, sent: Sent
) -> tuple[int, float]:
    """Send events with the present time and count them in `sent`; return how many, and how long it took in seconds.

    Who cannot send so many is late with all that follow, and says so by the rate. Raise `SendingError`.
    """
    run = uuid.uuid4().hex[:12]
    crowds, n = n_crowds(per_s, seconds), 0
    with KafkaSender(settings) as sender:
        started = time.perf_counter()
        while (elapsed_s := time.perf_counter() - started) < seconds and not halt.is_set():
            due = min(int(elapsed_s * per_s) + 1, n + _AT_ONCE)
            if n == due:
                sender.poll()
                halt.wait(_PAUSE_S)
            ts = now_ms()
            for k in range(n, due):
                event, times = events[k % len(events)], k // len(events)
                sender.event(
                    msgspec.structs.replace(
                        event,
                        event_id=f"soak-{run}-{k}",
                        user_id=visitor(event.user_id, times % crowds),
                        session_id=f"{event.session_id}-{times}",
                        ts=ts,
                    )
                )
                sent["events", ts - ts % MINUTE_MS, event.type] += 1
            n = due
        sender.flush()
        took_s = time.perf_counter() - started
    return n, took_s


class Readers(Background):
    """Ask for lists of a world's users, evenly, in as many crowds as come."""

    def __init__(self, base_url: str, world: World, crowds: int, per_s: float, sent: Sent) -> None:
        super().__init__()
        self.n_lists = 0
        self.n_failed = 0
        self._base_url = base_url
        self._world = world
        self._crowds = crowds
        self._per_s = per_s
        self._sent = sent

    def work(self) -> None:
        asyncio.run(self._ask())

    async def _ask(self) -> None:
        async with asyncio.TaskGroup() as readers:
            for first in range(_MOST_AT_ONCE):
                readers.create_task(self._read(first))

    async def _read(self, first: int) -> None:
        started = time.monotonic()
        async with Client(self._base_url, timeout_s=10) as client:
            for n in itertools.count(first, _MOST_AT_ONCE):
                while (early_s := started + n / self._per_s - time.monotonic()) > 0 and not self.stopping.is_set():
                    await asyncio.sleep(min(early_s, 0.2))
                if self.stopping.is_set():
                    return
                try:
                    await self._list(client, n)
                except (ConnectionFailedError, TimeoutError):
                    self.n_failed += 1
                    await asyncio.sleep(_RETRY_S)

    async def _list(self, client: Client, n: int) -> None:
        user = visitor(user_id(n * 7919 % self._world.n_users), n % self._crowds)
        answer = await client.get(f"/v1/users/{user}/recommendations?limit={_LIMIT}")
        if answer.status != 200:
            self.n_failed += 1
            return
        self.n_lists += 1
        told = _decode(answer.body)
        if told.items:  # an empty list is not logged
            ts = int(told.request_id[:12], 16)
            self._sent["slates", ts - ts % MINUTE_MS, "slates"] += 1
