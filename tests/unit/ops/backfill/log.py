"""A log of tastes, as messages of partitions."""

from collections.abc import Iterator

import numpy as np

from online_models.engine import inputs
from ops.backfill.running import Request
from ops.backfill.sources import Record, Served, Where
from ops.backfill.training import Parameters
from state.records import CleanEvent, Example, Item

START_MS = 1_790_000_000_000
STEP_MS = 60_000


class FakeLog:
    """Two partitions of events, examples and impressions of users who like every fifth item of their own kind."""

    def __init__(self, n_events: int = 500, seed: int = 0) -> None:
        rng = np.random.default_rng(seed)
        self.items = {f"m{k}": Item(item_id=f"m{k}", genres=[f"G{k % 5}"]) for k in range(60)}
        self.records: dict[Where, dict[int, Record]] = {}
        for k in range(n_events):
            user = int(rng.integers(40))
            item = f"m{5 * int(rng.integers(12)) + user % 5}"
            ts = START_MS + k * STEP_MS
            self._add("clean", user % 2, CleanEvent(f"e{k}", "click", f"u{user}", item, ts))
            if k % 3 == 0:
                self._add_served(k, user, ts, rng)
        self.broken_after: int | None = None

    def _add_served(self, k: int, user: int, ts: int, rng: np.random.Generator) -> None:
        """The first input of an item tells whether it is taken."""
        values = rng.normal(size=(11, inputs.N_INPUTS)).astype("<f4")
        values[10] = values[:10].mean(axis=0)
        taken = int(np.argmax(values[:10, 0]))
        items = [f"m{n}" for n in rng.permutation(60)[:10]]
        scores = [0.1] * 10
        labels = [int(place == taken) for place in range(10)]
        self._add("impressions", user % 2, Served(f"r{k}", None, ts, None, None, scores))  # type: ignore[arg-type]
        example = Example(
            f"x{k}", f"r{k}", f"u{user}", ts, "home", items, labels, [None] * 10, [1.0] * 10, values.tobytes(),
            inputs.FEATURE_SET, "7",
        )  # fmt: skip
        self._add("examples", user % 2, example)

    def _add(self, topic: str, partition: int, record: Record) -> None:
        records = self.records.setdefault((topic, partition), {})
        records[2 * len(records)] = record  # as where transactions end, offsets have gaps

    def bounds(self) -> dict[Where, tuple[int, int]]:
        return {where: (0, max(records) + 1) for where, records in self.records.items()}

    def span(self) -> tuple[int, int] | None:
        times = [record.ts for where, of in self.records.items() if where[0] == "clean" for record in of.values()]
        return (min(times), max(times)) if times else None

    def catalogue(self) -> dict[str, Item]:
        return self.items

    def read(self, where: Where, begin: int, end: int) -> Iterator[tuple[int, Record]]:
        for offset, record in self.records[where].items():
            if begin <= offset < end:
                yield offset, record


def a_request(**fields: object) -> Request:
    known = {"source": "lake", "since_ms": None, "until_ms": None, "held_out": 0.3, "code": "test"}
    return Request(**known | {"parameters": Parameters()} | fields)  # type: ignore[arg-type]
