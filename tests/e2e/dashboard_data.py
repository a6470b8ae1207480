"""An hour of made-up traffic on a server with a dashboard: for the test of the page and for its picture.

Lists, clicks and labels are drawn by a simple rule, with a seed; they go through the same sums and the same server as
real ones.
"""

import asyncio
import math
import random
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import cast

import msgspec
import uvicorn

from flows.common.batches import KafkaBatch
from ops.play.memory_log import MemoryEventLog, MemoryLog
from ops.play.one_process_metrics import LocalMetrics
from ops.stack.children import free_ports
from serving.app import create_app
from serving.kafka.event_log import EventLog
from state.entries import CATALOGUE
from state.memory_store import AsyncMemoryStore, MemoryStore
from state.records import CleanEvent, Example, Impression, Item, Watermark
from state.settings import Settings
from state.store import Changes
from state.topics import CLEAN, EXAMPLES, IMPRESSIONS, Topic

MINUTE = 60_000
_N_ITEMS = 400
_LENGTH = 10
_SURFACES = {"home": (1.0, 0.055), "similar": (0.6, 0.075), "popular": (0.35, 0.03)}
"""Share of the traffic, and click rate."""
_ARMS = {"a": 1.0, "b": 1.25}
_DEVICES = ("mobile", "desktop", "tv")

_encode = msgspec.msgpack.encode


class Traffic:
    """Draws lists and what comes of them."""

    def __init__(self, store: MemoryStore, seed: int = 0) -> None:
        self._metrics = LocalMetrics(store)
        self._draw = random.Random(seed)
        self._n = 0

    def play(self, begin: int, end: int, lists_a_minute: float) -> None:
        """Play from `begin` to `end` (epoch ms)."""
        slates, events, examples = [], [], []
        for minute in range(begin - begin % MINUTE, end, MINUTE):
            wave = 1 + 0.35 * math.sin(minute / MINUTE / 9) + 0.1 * self._draw.random()
            for _ in range(round(lists_a_minute * wave)):
                ts = minute + self._draw.randrange(MINUTE)
                if begin <= ts < end:
                    self._list(ts, slates, events, examples)
        for topic, values in ((IMPRESSIONS, slates), (CLEAN, events), (EXAMPLES, examples)):
            self._give(topic, values)
        self._metrics.flush(int(time.time() * 1000))

    def _list(self, ts: int, slates: list[bytes], events: list[bytes], examples: list[bytes]) -> None:
        draw = self._draw
        self._n += 1
        (surface,) = draw.choices(list(_SURFACES), [share for share, _ in _SURFACES.values()])
        arm = draw.choice(list(_ARMS))
        items = [f"i{min(_N_ITEMS - 1, int(draw.paretovariate(0.6)))}" for _ in range(_LENGTH)]
        degraded = {"score": "late"} if draw.random() < 0.004 else None
        slate = Impression(
            f"r{self._n}", f"u{self._n % 500}", ts, surface, items,
            [0.08 * draw.betavariate(2, 5) / (at + 1) ** 0.3 for at in range(_LENGTH)], [["popular"]] * _LENGTH,
            [1.0] * _LENGTH, b"", "f", "listwise", "1", {"ranker": arm}, degraded, None, draw.choice(_DEVICES),
        )  # fmt: skip
        slates.append(_encode(slate))
        rate = _SURFACES[surface][1] * _ARMS[arm]
        labels = [int(draw.random() < rate / (at + 1) ** 0.4 * 2) for at in range(_LENGTH)]
        for at, label in enumerate(labels):
            if label:
                self._events(slate, items[at], at, events)
        examples.append(
            _encode(
                Example(
                    f"x{self._n}",
                    slate.request_id,
                    slate.user_id,
                    ts,
                    surface,
                    items,
                    labels,
                    ["click" if label else None for label in labels],
                    slate.propensities,
                    b"",
                    "f",
                    "1",
                    slate.experiments,
                )
            )
        )

    def _events(self, slate: Impression, item_id: str, at: int, events: list[bytes]) -> None:
        kinds: list[tuple[str, float | None]] = [("click", None)]
        if self._draw.random() < 0.7:
            kinds.append(("watch", self._draw.expovariate(1 / 400)))
        if self._draw.random() < 0.1:
            kinds.append((self._draw.choice(["save", "like", "hide"]), None))
        for kind, value in kinds:
            event = CleanEvent(
                f"{slate.request_id}-{at}-{kind}", kind, slate.user_id, item_id, slate.ts + 1,
                request_id=slate.request_id, position=at, value=value,
            )  # fmt: skip
            events.append(_encode(event))

    def _give(self, topic: Topic, values: list[bytes]) -> None:
        n = len(values)
        self._metrics.apply(KafkaBatch(topic.name, 0, list(range(n)), [b""] * n, values, [0] * n, n))


@contextmanager
def serving(folder: Path) -> Iterator[tuple[Traffic, str]]:
    """Serve the dashboard of two hours of traffic that end now; yield what plays more, and the address."""
    store = MemoryStore()
    now = int(time.time() * 1000)
    changes = Changes()
    for number in range(_N_ITEMS):
        changes.upsert(CATALOGUE, f"i{number}", Item(item_id=f"i{number}", title=f"Item {number}"))
    changes.advance("features", CLEAN.name, 0, Watermark(1, now - 40, now - 20))
    store.commit(changes)
    traffic = Traffic(store)
    traffic.play(now - 120 * MINUTE, now, lists_a_minute=70)
    (port,) = free_ports(1)
    settings = Settings(home=folder, port=port)
    app = create_app(settings, AsyncMemoryStore(store), cast(EventLog, MemoryEventLog(MemoryLog())))
    server = uvicorn.Server(uvicorn.Config(app, port=port, lifespan="on", log_level="warning", access_log=False))
    thread = threading.Thread(target=lambda: asyncio.run(server.serve()))
    thread.start()
    try:
        while not server.started and thread.is_alive():
            thread.join(0.05)
        yield traffic, f"http://127.0.0.1:{port}"
    finally:
        server.should_exit = True
        thread.join()
