"""All flows in one process: their pure logic, fed from a log in memory, over a store in memory."""

import asyncio
import logging
import time
from collections import Counter
from datetime import timedelta

import msgspec

from flows.attribution.attributing import Attribution, Rules
from flows.catalogue.cataloguing import CatalogueWriter, ItemChange, parse_change
from flows.clean.cleaning import PartitionCleaner, Progress
from flows.clean.deduplication import RecentIds
from flows.common.batches import KafkaBatch
from flows.experiments.arms import ArmState
from flows.experiments.guarding import Guard, GuardedArms
from flows.features.feature_state import FeatureState
from flows.learn.learning import LearningState
from online_models.learning.learner import Learner
from ops.play.memory_log import MemoryLog
from ops.play.one_process_metrics import LocalMetrics
from state.settings import Settings
from state.store import Store
from state.topics import CLEAN, CONTROL, EVENTS, EXAMPLES, IMPRESSIONS, ITEMS, Topic
from state.validation import InvalidInputError

log = logging.getLogger(__name__)

_PARTITION = 0
_VERIFY_EVERY_S = 1.0
_MESSAGES_AT_ONCE = 32
"""While requests wait for their turn."""
_MAX_REMEMBERED_IDS = 200_000

_encode = msgspec.msgpack.Encoder().encode


class Flows:
    """`clean`, `catalogue`, `features`, `attribution`, `learn`, `metrics`, `experiments`, one step after the other.

    What `state.store` and the flows' logic promise holds here too, but nothing outlives the process.
    `counts` tells what became of the messages, by name.
    """

    def __init__(self, settings: Settings, store: Store, messages: MemoryLog) -> None:
        self.counts: Counter[str] = Counter()
        self._messages = messages
        self._cleaner = PartitionCleaner(_PARTITION, lambda _: _PARTITION, RecentIds(_MAX_REMEMBERED_IDS), Progress())
        self._catalogue = CatalogueWriter(store)
        self._features = FeatureState(store, "features", CLEAN.name, [_PARTITION])
        self._learning = LearningState(store, "learn", Learner())
        self._metrics = LocalMetrics(store)
        window = timedelta(seconds=settings.attribution_window_s)
        self._arms = GuardedArms(ArmState(store, "experiments", [_PARTITION], window), Guard(store, _tell_nobody))
        self._attribution = Attribution(Rules(wait=timedelta(seconds=settings.attribution_wait_s), window=window))

    def step(self, at_most: int) -> int:
        """Take up to so many messages of each topic as far as they go; return how many there were."""
        self._messages.take(CONTROL, at_most)  # is in the store, and nothing is restored from a log that forgets
        items = self._messages.take(ITEMS, at_most)
        events = self._messages.take(EVENTS, at_most)
        slates = self._messages.take(IMPRESSIONS, at_most)
        if items.values:
            self._write_items(items)
            self._learning.apply(items)
        if events.values:
            self._clean(events)
        clean = self._messages.take(CLEAN, at_most)
        if clean.values:
            self._features.apply(clean)
            self._features.flush()
            self._learning.apply(clean)
        self._attribute(slates, clean)
        examples = self._messages.take(EXAMPLES, at_most)
        if examples.values:
            self._learning.apply(examples)
        self._learning.flush()
        for batch in (slates, clean, examples):
            self._metrics.apply(batch)
            self._arms.apply(batch)
        self._metrics.flush(_now_ms())
        self._arms.flush()
        return sum(len(batch.values) for batch in (items, events, slates, clean, examples))

    async def run(self) -> None:
        """Take messages as they come, until cancelled; a bug ends it."""
        verify_at = time.monotonic()
        while True:
            await self._messages.wait(self._pause_s())
            # Requests have their turn between two steps.
            while self.step(_MESSAGES_AT_ONCE):
                await asyncio.sleep(0)
            if time.monotonic() >= verify_at:
                self._features.verify()
                self._learning.verify()
                self._arms.verify()
                self._metrics.flush(_now_ms())
                verify_at = time.monotonic() + _VERIFY_EVERY_S

    def _pause_s(self) -> float:
        """Return for how long nothing happens by itself."""
        due = self._attribution.next_due(_now_ms())
        return _VERIFY_EVERY_S if due is None else min(_VERIFY_EVERY_S, max(0.001, (due - _now_ms()) / 1000))

    def _write_items(self, batch: KafkaBatch) -> None:
        changed: list[tuple[int, int, ItemChange]] = []
        columns = zip(batch.offsets, batch.keys, batch.values, batch.timestamps, strict=True)
        for offset, key, value, timestamp in columns:
            try:
                changed.append((offset, timestamp, parse_change(key, value)))
            except InvalidInputError as error:
                self.counts["rejected"] += 1
                log.warning("an item is left out: %s", error)
        self._catalogue.write(_PARTITION, changed)
        self.counts["items"] += len(changed)

    def _clean(self, batch: KafkaBatch) -> None:
        cleaned = self._cleaner.clean(batch)
        self._cleaner.apply(cleaned)
        for user, value in cleaned.clean:
            self._messages.append(CLEAN, user, value)
        for rejected in cleaned.rejected:
            log.warning("an event is left out: %s", rejected.error)
        self.counts["events"] += len(cleaned.clean)
        self.counts["duplicates"] += cleaned.n_duplicates
        self.counts["rejected"] += len(cleaned.rejected)

    def _attribute(self, slates: KafkaBatch, clean: KafkaBatch) -> None:
        now = _now_ms()
        for batch in (slates, clean):
            self._attribution.apply(batch, now)
        for example in self._attribution.advance(now):
            self.counts[f"examples {example.reason}"] += 1
            self._messages.append(EXAMPLES, example.user_id.encode(), _encode(example))


def _tell_nobody(topic: Topic, key: str, value: bytes) -> None:
    """Results and documents are in the store; there is no log to tell."""


def _now_ms() -> int:
    return time.time_ns() // 1_000_000
