"""Slates, events and batches as `flows.attribution.attributing` takes them."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import timedelta

import msgspec
import numpy as np

from flows.attribution.attributing import Attribution, Rules
from flows.common.batches import KafkaBatch
from state.records import CleanEvent, Example, Impression
from state.topics import CLEAN, IMPRESSIONS, Topic

T0 = 1_700_000_000_000
S = 1000
MINUTE = 60 * S
RULES = Rules()
SETTLE = RULES.settle // timedelta(milliseconds=1)


def slate(
    request_id: str = "r", user_id: str = "u", ts: int = T0, items: Sequence[str] = ("a", "b", "c")
) -> Impression:
    n_items = len(items)
    return Impression(
        request_id=request_id,
        user_id=user_id,
        ts=ts,
        surface="home",
        items=list(items),
        scores=[0.5] * n_items,
        sources=[["popular"]] * n_items,
        propensities=[1.0] * n_items,
        features=np.arange(2 * n_items, dtype=np.float32).tobytes(),
        feature_set="test",
        model="ranker",
        model_version="7",
        experiments={"layer": "arm"},
    )


def event(
    item_id: str,
    ts: int = T0 + S,
    *,
    kind: str = "click",
    user_id: str = "u",
    request_id: str | None = "r",
    event_id: str | None = None,
    value: float | str | None = None,
) -> CleanEvent:
    return CleanEvent(
        event_id=event_id or f"{kind}-{user_id}-{item_id}-{ts}",
        type=kind,
        user_id=user_id,
        item_id=item_id,
        ts=ts,
        request_id=request_id,
        value=value,
    )


@dataclass
class Partition:
    """A log of both topics and the logic that reads it."""

    logic: Attribution
    now: int = T0 + 24 * 60 * MINUTE
    n_impressions: int = 0
    n_events: int = 0

    @classmethod
    def of(cls, rules: Rules = RULES) -> "Partition":
        return cls(Attribution(rules))

    def read(self, *records: Impression | CleanEvent) -> list[Example]:
        """Read messages, each in a batch of its own, and return what becomes certain."""
        for record in records:
            self.logic.apply(self.batch([record]), self.now)
        return self.logic.advance(self.now)

    def batch(self, records: Iterable[Impression | CleanEvent]) -> KafkaBatch:
        records = list(records)
        if isinstance(records[0], Impression):
            first, self.n_impressions = self.n_impressions, self.n_impressions + len(records)
            return make_batch(IMPRESSIONS, records, first)
        first, self.n_events = self.n_events, self.n_events + len(records)
        return make_batch(CLEAN, records, first)

    def reach_ends(self) -> list[Example]:
        """Nothing is left to read."""
        self.logic.apply(make_batch(IMPRESSIONS, [], self.n_impressions, at_end=True), self.now)
        self.logic.apply(make_batch(CLEAN, [], self.n_events, at_end=True), self.now)
        return self.logic.advance(self.now)

    def idle(self, ms: int) -> list[Example]:
        """Nothing comes for that long."""
        examples = self.reach_ends()
        self.now += ms
        return examples + self.logic.advance(self.now)


def make_batch(
    topic: Topic, records: Sequence[Impression | CleanEvent], first_offset: int, *, at_end: bool = False
) -> KafkaBatch:
    n_records = len(records)
    return KafkaBatch(
        topic=topic.name,
        partition=0,
        offsets=list(range(first_offset, first_offset + n_records)),
        keys=[record.user_id.encode() for record in records],
        values=[msgspec.msgpack.encode(record) for record in records],
        timestamps=[record.ts for record in records],
        next_offset=first_offset + n_records,
        at_end=at_end,
    )


def labels(example: Example) -> dict[str, int]:
    return dict(zip(example.items, example.labels, strict=True))
