"""The write side of all models: learns each event and each labelled list once, and tells which rows have changed."""

import math
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from hashlib import blake2b
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from online_models import learner_rows
from online_models.arrays import Noise, Slots, grown
from online_models.columns import Columns
from online_models.engine import inputs
from online_models.engine.context import Context
from online_models.engine.defaults import default_weights
from online_models.engine.factors import Factors
from online_models.engine.history import History
from online_models.engine.items import CLOCK_LAST, N_EVENTS
from online_models.engine.listwise import ListwiseRanker
from online_models.items import ItemSlots
from online_models.learner_users import LearnerUsers
from online_models.outcomes import INTERACTIONS, is_positive
from online_models.rings import RecentIds, Ring
from online_models.sources import LEARNED, REPEATS_FROM, Source, gather
from state.records import CleanEvent, Example, Item, UserRow
from state.store import Changes, Store
from state.validation import ERASE

_PAST = (128, 512)


@dataclass
class LearnerCounts:
    """What the learner has done since its models began."""

    events: int = 0
    lists: int = 0
    """Served lists with a positive, that the ranker learned."""
    lists_without_positive: int = 0
    organic: int = 0
    """Positives that no request explains, of items that were known."""
    organic_lists: int = 0
    """Of these, those that the ranker learned from a list of that moment."""
    repeated_examples: int = 0
    skipped_examples: int = 0
    """Without inputs, or with those of another definition, or with values that are no numbers."""
    forgotten_items: int = 0


class Budget:
    """Grants work as long as it takes at most a share of the time, measured with the given clock (seconds)."""

    def __init__(self, share: float, clock: Callable[[], float] = time.perf_counter, burst_s: float = 0.1) -> None:
        self._share = share
        self._clock = clock
        self._burst_s = burst_s
        self._credit_s = burst_s
        self._at = clock()

    def start(self) -> float | None:
        """Return when the work began, to be given to `stop`; None when there is no time for it."""
        now = self._clock()
        self._credit_s = min(self._burst_s, self._credit_s + (now - self._at) * self._share)
        self._at = now
        return now if self._credit_s > 0 else None

    def stop(self, started: float) -> None:
        self._credit_s -= self._clock() - started


class Slate(NamedTuple):
    """Candidates of one request with what ranks them."""

    slots: Slots
    inputs: NDArray[np.float32]
    """Shape (n, n_inputs)."""


class Learner:
    """All models over one numbering of the items, learned from the stream: sources from every event, the ranker from
    lists.

    Lists are of two kinds: served ones, with the inputs that were logged, and organic ones: a positive that belongs to
    no request trains the ranker with the list of that moment. `organic_share` of the time goes into those, at most,
    and `replay_share` into solving the factors of past pairs again: a stream that is faster than the learner gets less
    of both, and every event is learned.

    Bounded: at most `max_items` items; the twentieth with the oldest last event (the time of arrival, for one without)
    is forgotten when another comes. At most `max_users` users stay in memory; others are read back from the store when
    they return (`missing_users`, `restore_users`).
    """

    def __init__(
        self,
        max_items: int = 1_000_000,
        max_users: int = 100_000,
        organic_share: float = 0.06,
        replay_share: float = 0.03,
        clock: Callable[[], float] = time.perf_counter,
        seed: int = 0,
        ranker: ListwiseRanker | None = None,
        sources: Sequence[Source] = LEARNED,
    ) -> None:
        self.items = ItemSlots()
        self.factors = Factors(seed)
        self.columns = Columns(self.factors)
        self.users = LearnerUsers(max_users, lambda: self.counts.forgotten_items, self._evict)
        self.ranker = ranker or ListwiseRanker(inputs.N_INPUTS, seed=seed).load(default_weights(), inputs.NAMES)
        self.counts = LearnerCounts()
        self.stream_ts = 0
        self.repeat_share = 0.0
        self._seed = seed
        self._sources = sources
        self._max_items = max_items
        self._budget = Budget(organic_share, clock)
        self._replay_budget = Budget(replay_share, clock)
        self._refreshed = np.zeros(2, np.int32)
        self._past: Ring[np.int64] = Ring(*_PAST, np.int64)
        """Pairs of user slot and item slot, to be learned from again."""
        self.example_ids = RecentIds()
        self.noise = Noise(seed)
        self.given_at: NDArray[np.int64] = np.zeros(0, np.int64)
        self.arrived: NDArray[np.float64] = np.zeros(0)
        self.changed_items: set[int] = set()
        self.gone: set[str] = set()
        self.taken_back: set[int] = set()
        self.n_lists_written = -1

    # What it learns

    def learn_item(self, item_id: str, item: Item | None) -> None:
        """Take over a catalogue entry; None forgets the item."""
        if item is None:
            slot = self.items.get(item_id)
            if slot is not None:
                self._forget(np.array([slot], np.int32))
            return
        self.columns.describe(self._slot(item_id), item)

    def learn_event(self, event: CleanEvent) -> None:
        """Learn one clean event, once."""
        if event.type == ERASE:
            self.erase_user(event.user_id)
            return
        if event.item_id is None or event.type not in INTERACTIONS:
            return
        self.stream_ts = max(self.stream_ts, event.ts)
        positive = is_positive(event.type, event.value, event.context)
        self.learn(event.user_id, event.item_id, positive, event.ts / 1000.0, served=event.request_id is not None)

    def learn(
        self, user: str, item_id: str, positive: bool, t: float, served: bool = False, slate: Slate | None = None
    ) -> None:
        """Learn that a user took an item at `t` (epoch seconds): the ranker first, from the list of this moment.

        `slate`: that list, if the caller has just made it. `served`: its list comes as an example.
        """
        self.counts.events += 1
        known = self.items.get(item_id) is not None
        slot = self._slot(item_id)
        history = self.users.of(user)
        self.factors.reserve_users(history.slot + 1)
        if known and positive and not served:
            self._learn_organic(slot, history, t, slate)
        self._learn_sources(slot, history, positive, t)
        self.users.changed.add(user)
        self.changed_items.add(slot)

    def _learn_organic(self, slot: int, history: History, t: float, slate: Slate | None) -> None:
        self.counts.organic += 1
        started = self._budget.start()
        if started is None:
            return
        if slate is None:
            slate = self.slate(history, t, self.repeats)
        target = np.flatnonzero(slate.slots == slot)
        if len(target) and len(slate.slots) > 1:
            self.ranker.learn_many(slate.inputs, int(target[0]))
            self.counts.organic_lists += 1
        self._budget.stop(started)

    @property
    def repeats(self) -> bool:
        """Whether the stream says that items are taken again."""
        return self.repeat_share > REPEATS_FROM

    def slate(self, history: History, t: float, repeats: bool) -> Slate:
        """Make the list of a moment: candidates and their inputs."""
        context = Context(self.columns, history.steps(), t, repeats)
        if not repeats:
            context.bar(history.seen)
        slots = gather(context, self._sources).slots
        return Slate(slots, context.inputs(slots))

    def _learn_sources(self, slot: int, history: History, positive: bool, t: float) -> None:
        columns = self.columns
        if not columns.items.counts[slot, N_EVENTS]:
            self.factors.add_item(slot, str(self.items.item_id(slot)))
        columns.items.learn_one(slot, t, positive, history.n, columns.n_events)
        at = history.place(t, lambda other: str(self.items.item_id(other)) > str(self.items.item_id(slot)))
        columns.neighbours.learn_one(history.items[:at], history.times[:at], history.positive[:at], slot, t, positive)
        again = history.insert(at, slot, t, positive)
        if history.n > 1:
            self.repeat_share += max(1.0 / (columns.n_events + 1), 0.001) * (again - self.repeat_share)
        self.factors.append(history.slot, slot, positive)
        self.factors.learn_one(history.slot, slot, history.items, history.positive, history.n)
        self._past.append(history.slot << 32 | slot)
        self._refreshed[:] = slot
        started = self._replay_budget.start()
        if started is not None:
            self._refreshed[1] = self._learn_again()
            self._replay_budget.stop(started)
        self.factors.refresh(self._refreshed, columns.items)
        columns.n_events += 1

    def _learn_again(self) -> int:
        """Solve the factors of one past pair again, unless user or item is gone; return the item's slot."""
        drawn = int(self.noise.uniform(1)[0] * len(self._past))
        pair = int(self._past.values[drawn])
        slot, history = pair & 0xFFFFFFFF, self.users.at(pair >> 32)
        if history is not None and self.columns.present[slot]:
            self.factors.learn_one(history.slot, slot, history.items, history.positive, history.n)
        return slot

    def learn_example(self, example: Example) -> None:
        """Learn one labelled list, once: a repeat among the newest 32 768 is recognised by its id.

        Organic ones are left out: a list was made for the event itself, when it came.
        """
        if example.reason == "organic":
            return
        if not self.example_ids.add(hashed_id(example.example_id)):
            self.counts.repeated_examples += 1
            return
        n = len(example.items)
        if example.feature_set != inputs.FEATURE_SET or len(example.features) != 4 * (n + 1) * inputs.N_INPUTS:
            self.counts.skipped_examples += 1
            return
        values = np.frombuffer(example.features, np.float32).reshape(n + 1, inputs.N_INPUTS)
        if not np.isfinite(values).all():
            self.counts.skipped_examples += 1
            return
        positives = [position for position, label in enumerate(example.labels) if label == 1]
        others = [position for position, label in enumerate(example.labels) if label != 1]
        if not positives:
            self.counts.lists_without_positive += 1
        elif others:
            for position in positives:
                shown = np.array([position, *others])
                self.ranker.learn_many(values[shown], 0, mean=values[n], weight=examination_weight(position))
            self.counts.lists += 1

    # Which items there are

    def _slot(self, item_id: str) -> int:
        slot = self.items.get(item_id)
        if slot is not None:
            return slot
        if len(self.items) >= self._max_items:
            self._forget_oldest()
        slot = self.items.add(item_id)
        self.reserve(self.items.n_slots)
        self.columns.translation[slot] = slot
        self.columns.set_present(slot, True)
        self.given_at[slot] = self.counts.forgotten_items
        self.arrived[slot] = self.stream_ts / 1000.0
        self.changed_items.add(slot)
        return slot

    def reserve(self, n_slots: int) -> None:
        """Make room for slots below `n_slots`."""
        self.columns.reserve(n_slots)
        self.columns.translation = grown(self.columns.translation, n_slots, 0)
        self.given_at = grown(self.given_at, n_slots, 0)
        self.arrived = grown(self.arrived, n_slots, 0.0)

    def _forget_oldest(self) -> None:
        present = np.flatnonzero(self.columns.present)
        n = max(1, self._max_items // 20)
        last = np.maximum(self.columns.items.clocks[present, CLOCK_LAST], self.arrived[present])
        self._forget(present[np.argsort(last, kind="stable")[:n]].astype(np.int32))

    def _forget(self, slots: Slots) -> None:
        self.gone.update(str(self.items.item_id(slot)) for slot in slots.tolist())
        gone = np.zeros(self.columns.n_slots, np.bool_)
        gone[slots] = True
        self.users.forget_items(gone)
        self.columns.forget(slots)
        self.items.forget(slots.tolist())
        self.changed_items.difference_update(slots.tolist())
        self.counts.forgotten_items += len(slots)

    def _evict(self, user_slots: Slots) -> None:
        self.factors.forget_users(user_slots)
        self.taken_back.update(user_slots.tolist())
        self.changed_items.update(self.columns.items.known().tolist())  # whose rings may have lost entries

    def erase_user(self, user_id: str) -> None:
        """Forget a user (R27): history, factors and place among the items' newest users.

        What the models have learned from the user's events together with everybody's stays: it names nobody.
        """
        history = self.users.erase(user_id)
        if history is not None:
            slots = np.array([history.slot], np.int32)
            self.factors.forget_users(slots)
            self.taken_back.add(history.slot)
            self.changed_items.update(history.seen.tolist())

    # What it is stored as

    def missing_users(self, user_ids: Iterable[str]) -> list[str]:
        """Return those whose histories are not in memory: to be given to `restore_users` before their events."""
        return self.users.missing(user_ids)

    def restore_users(self, rows: Mapping[str, UserRow | None]) -> None:
        self.users.restore(rows, self.is_current)

    def is_current(self, slots: Slots, as_of: int) -> NDArray[np.bool_]:
        """Return whether slots as stored at `as_of` still are the items that they were."""
        known = slots < self.columns.n_slots
        current = np.zeros(len(slots), np.bool_)
        current[known] = self.columns.present[slots[known]] & (self.given_at[slots[known]] <= as_of)
        return current

    def write(self, changes: Changes) -> None:
        """Add all rows that have changed since the last call."""
        learner_rows.write(self, changes)

    def written(self) -> None:
        """Say that what `write` gave is stored."""
        learner_rows.written(self)

    def restore(self, store: Store) -> None:
        """Take over all rows of a store. Only on a new learner. Raise `LearnerError`."""
        learner_rows.restore(self, store)

    def rings(self) -> tuple[tuple[str, Ring[Any]], ...]:
        """Return the learner's own memories, by name."""
        return ("past", self._past), ("examples", self.example_ids.ring)


def examination_weight(position: int) -> float:
    """Return how much a positive at this position (from 0) counts: the inverse of how likely it was looked at.

    p(position) = (position + 1) ** -0.5, weights clipped at 4 and scaled so that the first position counts 1.

    References
    ----------
    Joachims, Swaminathan, Schnabel (2017), Unbiased learning-to-rank with biased feedback.
    """
    return min(4.0, math.sqrt(position + 1.0))


def hashed_id(example_id: str) -> int:
    """Return 64 bits of an id."""
    return int.from_bytes(blake2b(example_id.encode(), digest_size=8).digest(), signed=True)
