"""Three ways to ask a model for lists along a log, each strictly causal.

A model is asked for a list before it is shown the event that the list is judged by.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from itertools import compress
from operator import itemgetter
from time import thread_time
from typing import Literal, Protocol

import numpy as np
from numpy.typing import NDArray

from state.records import Item

LENGTH = 20
"""Items asked for."""

COLD = 5
"""Fewer earlier events than this make a user cold."""

Candidates = Literal["unseen", "all"]
Progress = Callable[[int, int], None]
"""Called with events done and events in all."""


class Recommender(Protocol):
    """What a protocol drives. Users may be sessions; times are epoch seconds."""

    def describe(self, item: Item) -> None: ...

    def observe(self, user: str, item: str, positive: bool, rating: float, t: float) -> None: ...

    def recommend(self, user: str, n: int, t: float, candidates: Candidates) -> list[str]: ...


@dataclass(frozen=True)
class Log:
    """Events in the order in which they are shown, arrays of one length."""

    users: Sequence[str]
    items: Sequence[str]
    ratings: NDArray[np.float64]
    positive: NDArray[np.bool_]
    times: NDArray[np.float64]
    catalogue: Sequence[Item] = ()
    """Shown to the model before the first event."""

    def __len__(self) -> int:
        return len(self.users)

    def head(self, n: int) -> "Log":
        """Return the first `n` events."""
        return Log(self.users[:n], self.items[:n], self.ratings[:n], self.positive[:n], self.times[:n], self.catalogue)

    def where(self, kept: NDArray[np.bool_]) -> "Log":
        """Return the events that are `kept`, in their order."""
        return Log(
            list(compress(self.users, kept)),
            list(compress(self.items, kept)),
            self.ratings[kept],
            self.positive[kept],
            self.times[kept],
            self.catalogue,
        )


@dataclass
class Outcome:
    """What came of each query, in the order of the stream."""

    ranks: list[int] = field(default_factory=list)
    """Position of the target from 1, 0 for a miss."""
    new_ranks: list[int] = field(default_factory=list)
    """The same with the user's current item taken out of the list; -1 where the target is that item."""
    clusters: list[str] = field(default_factory=list)
    """User or session of the query: their errors are not independent."""
    earlier_events: list[int] = field(default_factory=list)
    """Of the user, before the query."""
    item_events: list[int] = field(default_factory=list)
    """Of the target, before the query."""
    positions: list[int] = field(default_factory=list)
    """Index in the stream."""
    lists: list[list[str]] = field(default_factory=list)
    novelty: list[float] = field(default_factory=list)
    """Mean self-information (bits) of the first ten items, by their share of the events so far."""
    observe_s: list[float] = field(default_factory=list)
    """CPU time of this thread, of each call."""
    recommend_s: list[float] = field(default_factory=list)

    def __len__(self) -> int:
        return len(self.ranks)


class _Stream:
    """The state that a protocol itself keeps: counts of events, and each user's newest item."""

    def __init__(self, model: Recommender, catalogue: Sequence[Item]) -> None:
        self.model = model
        for item in catalogue:
            model.describe(item)
        self.outcome = Outcome()
        self.by_user: dict[str, int] = {}
        self.by_item: dict[str, int] = {}
        self.current: dict[str, str] = {}
        self.n_events = 0

    def show(self, user: str, item: str, positive: bool, rating: float, t: float) -> None:
        began = thread_time()
        self.model.observe(user, item, positive, rating, t)
        self.outcome.observe_s.append(thread_time() - began)
        self.by_user[user] = self.by_user.get(user, 0) + 1
        self.by_item[item] = self.by_item.get(item, 0) + 1
        self.current[user] = item
        self.n_events += 1

    def ask(self, user: str, target: str, t: float, candidates: Candidates) -> None:
        outcome = self.outcome
        began = thread_time()
        found = self.model.recommend(user, LENGTH + 1, t, candidates)
        outcome.recommend_s.append(thread_time() - began)
        listed = found[:LENGTH]
        current = self.current.get(user)
        others = [item for item in found if item != current][:LENGTH]
        outcome.ranks.append(_rank(listed, target))
        outcome.new_ranks.append(-1 if target == current else _rank(others, target))
        outcome.clusters.append(user)
        outcome.earlier_events.append(self.by_user.get(user, 0))
        outcome.item_events.append(self.by_item.get(target, 0))
        outcome.positions.append(self.n_events)
        outcome.lists.append(listed)
        total = self.n_events + len(self.by_item) + 1
        shares = [(self.by_item.get(item, 0) + 1) / total for item in listed[:10]]
        outcome.novelty.append(float(-np.log2(shares).mean()) if shares else 0.0)


def _rank(listed: Sequence[str], target: str) -> int:
    return listed.index(target) + 1 if target in listed else 0


def prequential(
    model: Recommender, log: Log, warm_up: float = 0.5, progress: Progress | None = None, ask_every: int = 1
) -> Outcome:
    """Before each positive event after the warm-up ask for the user's list, then show the event.

    Candidates are the items that occurred earlier minus those that the user already had an event with. `ask_every`:
    only one in so many events is asked for, which is enough for tuning.
    """
    stream = _Stream(model, log.catalogue)
    first = int(warm_up * len(log))
    events = zip(log.users, log.items, log.positive.tolist(), log.ratings.tolist(), log.times.tolist(), strict=True)
    for k, (user, item, positive, rating, t) in enumerate(events):
        if positive and k >= first and k % ask_every == 0:
            stream.ask(user, item, t, "unseen")
        stream.show(user, item, positive, rating, t)
        if progress is not None and not k % 256:
            progress(k, len(log))
    return stream.outcome


def sessions(
    model: Recommender, train: Log, test: Log, progress: Progress | None = None, ask_every: int = 1
) -> Outcome:
    """Learn `train`, then predict each event of `test` that is not the first of its session; repeats allowed.

    The model is shown the events of `test` too, each after its prediction. `ask_every`: see `prequential`.
    """
    stream = _Stream(model, train.catalogue)
    n = len(train) + len(test)
    for part, asks in ((train, False), (test, True)):
        events = zip(
            part.users, part.items, part.positive.tolist(), part.ratings.tolist(), part.times.tolist(), strict=True
        )
        for user, item, positive, rating, t in events:
            if asks and user in stream.by_user and stream.n_events % ask_every == 0:
                stream.ask(user, item, t, "all")
            stream.show(user, item, positive, rating, t)
            if progress is not None and not stream.n_events % 256:
                progress(stream.n_events, n)
    return stream.outcome


def leave_last_out(
    model: Recommender, histories: dict[str, list[str]], validate: bool = False, progress: Progress | None = None
) -> Outcome:
    """Feed all histories but their last item in order of relative position, then ask for each user's last.

    With `validate` the last items stay hidden and those before them are the targets. There is no time in such files:
    one event a second is as good as any.
    """
    held = 2 if validate else 1
    fed = [(user, items[:-held], items[-held]) for user, items in histories.items() if len(items) > held]
    events = [((k + 0.5) / len(items), user, item) for user, items, _ in fed for k, item in enumerate(items)]
    events.sort(key=itemgetter(0))
    stream = _Stream(model, ())
    n = len(events)
    for k, (_, user, item) in enumerate(events):
        stream.show(user, item, True, 1.0, float(k))
        if progress is not None and not k % 256:
            progress(k, n)
    for user, _, target in fed:
        stream.ask(user, target, float(n), "unseen")
    return stream.outcome
