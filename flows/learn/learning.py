"""The learner, fed from Kafka's topics and kept in a store: the logic of `flows.learn`, without an engine."""

import logging
import time
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING

import msgspec

from flows.common.batches import KafkaBatch
from online_models.learning import rows
from online_models.learning.learner import Learner
from state.entries import LEARNER_USER
from state.records import CleanEvent, Example, Watermark
from state.store import Changes, Store, check_expected
from state.topics import CLEAN, EXAMPLES, ITEMS
from state.validation import ERASE, InvalidInputError, parse_item

if TYPE_CHECKING:
    from flows.learn.drifting import Drifting

log = logging.getLogger(__name__)

_BEGINNING = Watermark(next_offset=0, stream_ts=0)
_Where = tuple[str, int]


class LearningState:
    """A `StoreLogic`: learns `CleanEvent`s, `Example`s and catalogue entries, of all partitions.

    Parameters
    ----------
    store
        Where the models' rows are; read in full at the start.
    flow
        Name of the watermarks.
    learner
        A new one.
    clock
        Wall clock in seconds.
    drifting
        Looks at each labelled list before it is learned.
    on_erase
        Called when users were erased.
    """

    def __init__(
        self,
        store: Store,
        flow: str,
        learner: Learner,
        clock: Callable[[], float] = time.time,
        drifting: "Drifting | None" = None,
        on_erase: Callable[[], None] = lambda: None,
    ) -> None:
        self._store = store
        self._flow = flow
        self._clock = clock
        self._drifting = drifting
        self._on_erase = on_erase
        self.learner = learner
        self._decode_event = msgspec.msgpack.Decoder(CleanEvent).decode
        self._decode_example = msgspec.msgpack.Decoder(Example).decode
        self._apply = {
            CLEAN.name: self._learn_events,
            EXAMPLES.name: self._learn_examples,
            ITEMS.name: self._learn_items,
        }
        store.recover(flow)
        self._committed: dict[_Where, Watermark] = store.watermarks(flow)
        self._applied = dict(self._committed)
        started = clock()
        rows.restore(learner, store)
        log.info("%d items restored in %.1f s: %s", len(learner.items), clock() - started, learner.counts)

    def start(self) -> Mapping[_Where, int]:
        """Return the offset to begin with of each (topic, partition) that has been applied before."""
        return {where: mark.next_offset for where, mark in self._committed.items()}

    def apply(self, batch: KafkaBatch) -> None:
        where = batch.topic, batch.partition
        newest = self._apply[batch.topic](batch)
        self._applied[where] = Watermark(batch.next_offset, max(newest, self._applied.get(where, _BEGINNING).stream_ts))

    def _learn_events(self, batch: KafkaBatch) -> int:
        events = [self._decode_event(value) for value in batch.values if value is not None]
        missing = self.learner.missing_users(event.user_id for event in events)
        if missing:
            rows = self._store.get_many(LEARNER_USER, missing)
            self.learner.restore_users(dict(zip(missing, rows, strict=True)))
        self.learner.learn_events(events)
        if any(event.type == ERASE for event in events):
            self._on_erase()
        return max((event.ts for event in events), default=0)

    def _learn_examples(self, batch: KafkaBatch) -> int:
        examples = [self._decode_example(value) for value in batch.values if value is not None]
        for example in examples:
            if self._drifting is not None:
                self._drifting.look(example, self.learner)
            self.learner.learn_example(example)
        return max((example.ts for example in examples), default=0)

    def _learn_items(self, batch: KafkaBatch) -> int:
        for offset, key, value in zip(batch.offsets, batch.keys, batch.values, strict=True):
            if not value:
                if key is not None:
                    self.learner.learn_item(key.decode(errors="replace"), None)
                continue
            try:
                item = parse_item(value)
            except InvalidInputError as error:
                log.warning("%s[%d] offset %d is left out: %s", batch.topic, batch.partition, offset, error)
            else:
                self.learner.learn_item(item.item_id, item)
        return 0

    def flush(self) -> None:
        changes = Changes()
        now_ms = int(self._clock() * 1000)
        moved: dict[_Where, Watermark] = {}
        for where, mark in self._applied.items():
            before = self._committed.get(where)
            if mark is not before:
                moved[where] = Watermark(mark.next_offset, mark.stream_ts, now_ms)
                changes.advance(self._flow, *where, moved[where], after=before)
        if not moved:
            return
        rows.write(self.learner, changes)
        if self._drifting is not None:
            self._drifting.write(changes)
        self._store.commit(changes)
        rows.written(self.learner)
        if self._drifting is not None:
            self._drifting.written()
        self._committed.update(moved)
        self._applied.update(moved)

    def verify(self) -> None:
        check_expected(self._flow, self._committed, self._store.watermarks(self._flow))
