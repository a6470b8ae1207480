"""The engine: learn each event once, answer a list at any time."""

import math
from typing import Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

from online_models.engine import inputs, neighbours
from online_models.engine.candidates import Scratch, gather, merge
from online_models.engine.content import Content
from online_models.engine.factors import N_PAST, SHARP, SMOOTH, Factors
from online_models.engine.history import REQUEST, History
from online_models.engine.items import (
    CLOCK_FIRST,
    CLOCK_POSITIVE,
    DAY,
    N_EVENTS,
    POP_SLOW,
    SUM_STAGE,
    ItemTable,
    stage,
)
from online_models.engine.listwise import ListwiseRanker
from online_models.engine.neighbours import Neighbours
from state.records import Item

Candidates = Literal["unseen", "all"]

_REPEAT_RATE = math.log(2.0) / (8 * DAY)


class Slate(NamedTuple):
    """Candidates of one request with the inputs that rank them."""

    items: NDArray[np.int32]
    inputs: NDArray[np.float32]
    """Shape (n, N_INPUTS)."""


class Engine:
    """Sources, ranker and the users' records, driven in process.

    Order matters: `recommend` uses what was observed before the call, and nothing else.

    Parameters
    ----------
    seed
        Of everything random: initial vectors and weights, replay.
    weights
        Ranker weights to begin with, see `ListwiseRanker.weights`; None: random ones.
    """

    def __init__(self, seed: int = 0, weights: bytes | None = None) -> None:
        self._rng = np.random.default_rng(seed)
        self.items = ItemTable()
        self.neighbours = Neighbours()
        self.factors = Factors(seed)
        self.content = Content()
        self.ranker = ListwiseRanker(inputs.N_INPUTS, seed=seed)
        if weights is not None:
            self.ranker.load(weights, inputs.NAMES)
        self._scratch = Scratch(1024)
        self._own = np.zeros(0, np.int32)
        self._slots: dict[str, int] = {}
        self._names: list[str] = []
        self._users: dict[str, int] = {}
        self._past = np.zeros((N_PAST, 2), np.int32)
        self._histories: list[History] = []
        self.n_events = 0
        self._repeat_share = 0.0
        self._pending: tuple[str, int, Slate] | None = None

    def __len__(self) -> int:
        return len(self._names)

    def describe(self, item: Item) -> None:
        """Take over a catalogue entry, new or changed."""
        slot = self._slots.get(item.item_id)
        self.content.learn_one(self._add_item(item.item_id) if slot is None else slot, item)

    def observe(self, user: str, item: str, positive: bool, rating: float, t: float) -> None:
        """Learn one event: the ranker first, from the list of this moment, then the sources."""
        at = self._user(user)
        slot = self._slots.get(item)
        if slot is None:
            slot = self._add_item(item)
        elif positive:
            self._learn_ranker(user, self._histories[at], slot, t)
        self._learn_sources(at, slot, positive, t)
        self._pending = None

    def recommend(self, user: str, n: int, t: float, candidates: Candidates = "unseen") -> list[str]:
        """Return the best `n` items for a user at time `t` (epoch seconds), best first."""
        at = self._users.get(user)
        record = History() if at is None else self._histories[at]
        repeats = candidates == "all"
        slate = self.slate(record, t, repeats)
        self._pending = (user, self.n_events, slate)
        if not len(slate.items):
            return []
        scores = self.ranker.predict_many(slate.inputs) if self.ranker.is_ready else slate.inputs[:, 0]
        best = np.argsort(-scores)[:n]
        return [self._names[k] for k in slate.items[best]]

    def slate(self, user: History, t: float, repeats: bool) -> Slate:
        """Gather the candidates of a request and their inputs."""
        table, lists, scratch = self.items, self.neighbours, self._scratch
        scratch.tick += 1
        history, times, positive = user.items[-REQUEST:], user.times[-REQUEST:], user.positive[-REQUEST:]
        n_touched = merge(
            lists.ids,
            lists.values,
            lists.starts,
            lists.sizes,
            lists.totals,
            lists.refs,
            self._own,
            neighbours.RATE,
            table.counts[:, N_EVENTS],
            history,
            times,
            t,
            scratch.at,
            scratch.stamp,
            scratch.tick,
            scratch.touched,
            scratch.evidence,
        )
        folds = self.factors.fold_in(history, positive, len(history))
        vectors = self.factors.active_vectors
        n = gather(
            history,
            user.seen,
            repeats,
            n_touched,
            scratch.touched,
            scratch.evidence,
            table.fast.ids,
            table.slow.ids,
            self.factors.active,
            vectors[SMOOTH] @ folds[0],
            vectors[SHARP] @ folds[2],
            scratch.hidden,
            scratch.chosen,
            scratch.tick,
            scratch.candidates,
        )
        items = scratch.candidates[:n].copy()
        out = np.zeros((inputs.N_INPUTS, n), np.float32)
        inputs.fill(
            out,
            items,
            t,
            self.n_events,
            user.n,
            stage(user.n),
            table.counts,
            table.clocks,
            table.seq_last,
            table.rates,
            scratch.at,
            scratch.stamp,
            scratch.tick,
            scratch.evidence,
            self.factors.items,
            folds,
        )
        if repeats:
            inputs.fill_repeats(out, items, history)
        self.content.match(history, positive, items, t, out[inputs.CONTENT])
        last = self._of_last(int(history[-1]), t) if len(history) else None
        inputs.finish(out, last, inputs.context(history, times, user.n, t, table))
        return Slate(items, np.ascontiguousarray(out.T))

    def _of_last(self, item: int, t: float) -> tuple[float, float, float]:
        """Return ln popularity, ln age and mean stage of an item now."""
        age, pop = self._age_and_pop(item, t)
        row = self.items.counts[item]
        return pop, age, float(row[SUM_STAGE] / row[N_EVENTS])

    def _age_and_pop(self, item: int, t: float) -> tuple[float, float]:
        clock = self.items.clocks[item]
        fade = math.exp(-self.items.rates[POP_SLOW] * max(t - clock[CLOCK_POSITIVE], 0.0))
        age = math.log1p(max(t - clock[CLOCK_FIRST], 0.0) / DAY) if self.items.counts[item, N_EVENTS] else 0.0
        return age, math.log(float(self.items.counts[item, POP_SLOW]) * fade + 0.05)

    def _learn_ranker(self, user: str, record: History, item: int, t: float) -> None:
        repeats = self._repeat_share > 0.02
        pending = self._pending
        if pending is not None and pending[:2] == (user, self.n_events):
            slate = pending[2]
        else:
            slate = self.slate(record, t, repeats)
        target = np.flatnonzero(slate.items == item)
        if len(target) and len(slate.items) > 1:
            self.ranker.learn_many(slate.inputs, int(target[0]))

    def _learn_sources(self, at: int, item: int, positive: bool, t: float) -> None:
        user, factors = self._histories[at], self.factors
        if user.n:
            again = float(user.has_seen(item))
            self._repeat_share += max(1.0 / (self.n_events + 1), 0.001) * (again - self._repeat_share)
        if not self.items.counts[item, N_EVENTS]:
            factors.add_item(item)
        self.items.learn_one(item, t, positive, user.n, self.n_events)
        self.neighbours.learn_one(user.items, user.times, user.positive, item, t, positive)
        user.append(item, t, positive)
        factors.append(at, item, positive)
        factors.learn_one(at, item, user.items, user.positive, user.n)
        self._past[self.n_events % N_PAST] = at, item
        past_at, past_item = self._past[int(self._rng.integers(0, min(self.n_events + 1, N_PAST)))].tolist()
        past = self._histories[past_at]
        factors.learn_one(past_at, past_item, past.items, past.positive, past.n)
        factors.refresh(np.array([item, past_item], np.int32), self.items)
        self.n_events += 1

    def _user(self, name: str) -> int:
        at = self._users.get(name)
        if at is None:
            at = self._users[name] = len(self._users)
            self._histories.append(History())
            self.factors.reserve_users(at + 1)
        return at

    def _add_item(self, name: str) -> int:
        slot = self._slots[name] = len(self._names)
        self._names.append(name)
        for part in (self.items, self.neighbours, self.factors, self.content, self._scratch):
            part.reserve(slot + 1)
        if slot >= len(self._own):
            self._own = np.arange(2 * slot + 1024, dtype=np.int32)
        return slot
