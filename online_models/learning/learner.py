"""The write side of all models: learns each event and each labelled list once, and tells which rows have changed."""

import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from online_models.arrays import Noise, Slots, grown
from online_models.columns import Columns
from online_models.contexts import ContextCounts
from online_models.engine import inputs, learning
from online_models.engine.als import RANK
from online_models.engine.changes import Changed
from online_models.engine.context import Context
from online_models.engine.defaults import default_weights
from online_models.engine.factors import Factors
from online_models.engine.history import History
from online_models.engine.items import CLOCK_LAST
from online_models.engine.listwise import ListwiseRanker
from online_models.engine.models import models_of, plain
from online_models.engine.names import Names
from online_models.items import ItemSlots
from online_models.learning.budget import Budget
from online_models.learning.examples import examination_weight, hashed_id, values_of
from online_models.learning.rings import RecentIds, Ring
from online_models.learning.users import LearnerUsers
from online_models.sources import LEARNED, REPEATS_FROM, Source, gather
from online_models.users.outcomes import INTERACTIONS, is_positive
from state.records import CleanEvent, Example, Item, UserRow
from state.validation import ERASE

_PAST = (128, 512)
_NONE_NEW = np.zeros((1, 2, RANK), np.float32)


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
        self.users = LearnerUsers(
            max_users, lambda: self.counts.forgotten_items, self.is_current, self._learn_run, self._evict
        )
        self.ranker = ranker or ListwiseRanker(inputs.N_INPUTS, seed=seed).load(default_weights(), inputs.NAMES)
        self.counts = LearnerCounts()
        self.stream_ts = 0
        self._seed = seed
        self._sources = sources
        self._max_items = max_items
        self._budget = Budget(organic_share, clock)
        self._replay_budget = Budget(replay_share, clock)
        self._names = Names()
        self._run = learning.Run.empty()
        self._n_run = 0
        """Events that are yet to be learned."""
        self._n_events, self._n_past = np.zeros(1, np.int64), np.zeros(1, np.int64)
        self._repeat_share = np.zeros(1)
        self._past: Ring[np.int64] = Ring(*_PAST, np.int64)
        """Pairs of user slot and item slot, to be learned from again."""
        self.example_ids = RecentIds()
        self.contexts = ContextCounts()
        self.noise = Noise(seed)
        self.given_at: NDArray[np.int64] = np.zeros(0, np.int64)
        self.arrived: NDArray[np.float64] = np.zeros(0)
        self.changed_items = Changed(1024)
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
        self.learn_events((event,))

    def learn_events(self, events: Iterable[CleanEvent]) -> None:
        """Learn clean events in their order, each once: the same as one at a time, and several times as fast."""
        for event in events:
            if event.type == ERASE:
                self._learn_run()
                self.erase_user(event.user_id)
                continue
            if event.item_id is None or event.type not in INTERACTIONS:
                continue
            self.stream_ts = max(self.stream_ts, event.ts)
            positive = is_positive(event.type, event.value, event.context)
            if positive:
                self.contexts.learn_one(event.item_id, event.ts, event.context)
            self._take(event.user_id, event.item_id, positive, event.ts / 1000.0, event.request_id is not None, None)
        self._learn_run()

    def learn(
        self, user: str, item_id: str, positive: bool, t: float, served: bool = False, slate: Slate | None = None
    ) -> None:
        """Learn that a user took an item at `t` (epoch seconds): the ranker first, from the list of this moment.

        `slate`: that list, if the caller has just made it. `served`: its list comes as an example.
        """
        self._take(user, item_id, positive, t, served, slate)
        self._learn_run()

    def _take(self, user: str, item_id: str, positive: bool, t: float, served: bool, slate: Slate | None) -> None:
        """Put an event into the run. What looks at the models, or takes slots back, has the run learned before."""
        self.counts.events += 1
        slot = self.items.get(item_id)
        known = slot is not None
        if slot is None:
            slot = self._slot(item_id)
        user_slot = self.users.slot(user)
        if known and positive and not served:
            self._learn_organic(slot, user_slot, t, slate)
        run, k = self._run, self._n_run
        run.items[k], run.users[k], run.times[k], run.positive[k] = slot, user_slot, t, positive
        self._n_run += 1
        if self._n_run == learning.N_AT_MOST:
            self._learn_run()

    def _learn_organic(self, slot: int, user_slot: int, t: float, slate: Slate | None) -> None:
        self.counts.organic += 1
        started = self._budget.start()
        if started is None:
            return
        self._learn_run()
        started = self._budget.clock()
        if slate is None:
            slate = self.slate(self.users.histories.of(user_slot), t, self.repeats)
        target = np.flatnonzero(slate.slots == slot)
        if len(target) and len(slate.slots) > 1:
            self.ranker.learn_many(slate.inputs, int(target[0]))
            self.counts.organic_lists += 1
        self._budget.stop(started)

    @property
    def repeat_share(self) -> float:
        """How often an event's item is one that its user took before, lately."""
        return float(self._repeat_share[0])

    @repeat_share.setter
    def repeat_share(self, share: float) -> None:
        self._repeat_share[0] = share

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

    def _learn_run(self) -> None:
        """Learn the events of the run."""
        n, run = self._n_run, self._run
        if not n:
            return
        self._n_run = 0
        columns, factors, histories = self.columns, self.factors, self.users.histories
        factors.reserve_users(len(self.users.held))
        n_replayed = self._replay_budget.grants(n)
        run.draws[:n] = -1.0
        run.draws[:n_replayed] = self.noise.uniform(n_replayed)
        first_vectors = self._first_vectors(n)
        self._n_events[0], self._n_past[0] = columns.n_events, self._past.n_appended
        stream = learning.Stream(
            self._n_events, self._repeat_share, self._past.values, self._n_past, columns.present, self.users.held
        )
        started = self._replay_budget.clock()
        learned = 0
        while learned < n:
            for pools in (histories, columns.neighbours, factors.rings):
                pools.ensure()
            models = models_of(columns.items, histories, self._names.arrays, columns.neighbours, factors)
            learned = learning.learn_run(plain(models), tuple(stream), first_vectors, tuple(run), learned, n)
        self._replay_budget.spent(self._replay_budget.clock() - started, n_replayed, n + n_replayed)
        columns.n_events += n
        self._past.appended(n)
        self.users.changed.add_many(run.users[:n])
        self.changed_items.add_many(run.items[:n])

    def _first_vectors(self, n: int) -> NDArray[np.float32]:
        """Return the vectors that items begin with whose first event is in the run, and say there which is whose."""
        slots = self._run.items[:n]
        self._run.new[:n] = -1
        n_events = self.columns.items.n_events[slots]
        if n_events.all():
            return _NONE_NEW
        first = np.flatnonzero(n_events == 0.0)
        rows: dict[int, int] = {}
        for k, slot in zip(first.tolist(), slots[first].tolist(), strict=True):
            self._run.new[k] = rows.setdefault(slot, len(rows))
        return np.array([self.factors.first_vectors(str(self.items.item_id(slot))) for slot in rows])

    def learn_example(self, example: Example) -> None:
        """Learn one labelled list, once: a repeat among the newest 32 768 is recognised by its id.

        Organic ones, of earlier versions, are left out: a list was made for the event itself, when it came.
        """
        if example.reason == "organic":
            return
        if not self.example_ids.add(hashed_id(example.example_id)):
            self.counts.repeated_examples += 1
            return
        self._learn_exposure(example)
        values = values_of(example)
        if values is None:
            self.counts.skipped_examples += 1
            return
        positives = [position for position, label in enumerate(example.labels) if label == 1]
        others = [position for position, label in enumerate(example.labels) if label != 1]
        if not positives:
            self.counts.lists_without_positive += 1
        elif others:
            for position in positives:
                shown = np.array([position, *others])
                self.ranker.learn_many(values[shown], 0, mean=values[-1], weight=examination_weight(position))
            self.counts.lists += 1

    def _learn_exposure(self, example: Example) -> None:
        """Count impressions that are told of for the first time, and what of them was taken.

        Beside a positive, others are told to be negative unless they were before: then the positive's impression was.
        """
        is_first = 0 in example.labels or len(example.labels) == 1
        for item_id, label in zip(example.items, example.labels, strict=True):
            slot = self.items.get(item_id)
            if label >= 0 and slot is not None and self.columns.items.learn_exposure(slot, is_first, label == 1):
                self.changed_items.add(slot)

    # Which items there are

    def _slot(self, item_id: str) -> int:
        slot = self.items.get(item_id)
        if slot is not None:
            return slot
        if len(self.items) >= self._max_items or self.items.reuses:
            self._learn_run()  # its events are of before the slot changes hands
        if len(self.items) >= self._max_items:
            self._forget_oldest()
        slot = self.items.add(item_id)
        self.reserve(self.items.n_slots)
        self._names.put(slot, item_id)
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
        self.changed_items.reserve(len(self.arrived))

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
        self.changed_items.drop(slots)
        self.counts.forgotten_items += len(slots)

    def _evict(self, user_slots: Slots) -> None:
        self.factors.reserve_users(len(self.users.held))
        self.factors.forget_users(user_slots)
        self.taken_back.update(user_slots.tolist())
        self.changed_items.add_many(self.columns.items.known())  # whose rings may have lost entries

    def erase_user(self, user_id: str) -> None:
        """Forget a user (R27): history, factors and place among the items' newest users.

        What the models have learned from the user's events together with everybody's stays: it names nobody.
        """
        history = self.users.get(user_id)
        if history is not None:
            self.factors.reserve_users(len(self.users.held))
            self.factors.forget_users(np.array([history.slot], np.int32))
            self.taken_back.add(history.slot)
            self.changed_items.add_many(history.seen)
        self.users.erase(user_id)

    # What it is stored as

    def missing_users(self, user_ids: Iterable[str]) -> list[str]:
        """Return those whose histories are not in memory: to be given to `restore_users` before their events."""
        return self.users.missing(user_ids)

    def restore_users(self, rows: Mapping[str, UserRow | None]) -> None:
        self.users.restore(rows)

    def is_current(self, slots: Slots, as_of: int) -> NDArray[np.bool_]:
        """Return whether slots as stored at `as_of` still are the items that they were."""
        known = slots < self.columns.n_slots
        current = np.zeros(len(slots), np.bool_)
        current[known] = self.columns.present[slots[known]] & (self.given_at[slots[known]] <= as_of)
        return current

    def name_slots(self, names: Mapping[str, int]) -> None:
        """Take over which item has which slot. Only on a new learner."""
        self.items.restore(dict(names))
        for item_id, slot in names.items():
            self._names.put(slot, item_id)

    def rings(self) -> tuple[tuple[str, Ring[Any]], ...]:
        """Return the learner's own memories, by name."""
        return ("past", self._past), ("examples", self.example_ids.ring)
