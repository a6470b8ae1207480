"""When each event of a log is sent, and with which time: pure, so that a replay can be reasoned about."""

import heapq
import itertools
import random
from collections.abc import Iterable, Iterator
from datetime import timedelta
from typing import NamedTuple

import msgspec

from state.records import Event

HISTORY_SHARE = 0.9
"""The part of a log that is played as fast as it goes before its rest is played as live traffic."""


class Due(NamedTuple):
    """An event, and when to send it."""

    event: Event
    after_s: float | None = None
    """Seconds since the live part began, None: at once."""
    live: bool = False
    """Carries the time at which it is sent."""


def shifted(events: Iterable[Event], shift_ms: int) -> Iterator[Event]:
    """Move every event by the same time, so that gaps stay as they are."""
    for event in events:
        yield msgspec.structs.replace(event, ts=event.ts + shift_ms) if shift_ms else event


def disordered(events: Iterable[Event], duplicate_share: float, window: timedelta, seed: int) -> Iterator[Event]:
    """Repeat a share of the events and delay each by up to `window` of event time, reproducibly.

    Event times and ids stay as they are: only the order changes, as when phones send what they kept.
    """
    draw = random.Random(seed)  # noqa: S311 - reproducible, not secret
    window_ms = window / timedelta(milliseconds=1)
    waiting: list[tuple[float, int, Event]] = []
    serial = itertools.count()
    for event in events:
        while waiting and waiting[0][0] <= event.ts:
            yield heapq.heappop(waiting)[2]
        for _ in range(1 + (draw.random() < duplicate_share)):
            heapq.heappush(waiting, (event.ts + draw.random() * window_ms, next(serial), event))
    while waiting:
        yield heapq.heappop(waiting)[2]


def paced(events: Iterable[Event], speed: float, carry_present: bool) -> Iterator[Due]:
    """Send events at `speed` times the pace of their own times."""
    first: int | None = None
    for event in events:
        first = event.ts if first is None else first
        yield Due(event, after_s=(event.ts - first) / 1000 / speed, live=carry_present)


def at_rate(events: Iterable[Event], per_second: float) -> Iterator[Due]:
    """Send events evenly, carrying the present time."""
    for place, event in enumerate(events):
        yield Due(event, after_s=place / per_second, live=True)
