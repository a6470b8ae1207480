"""The log as linked events: co-occurrence is walked exactly, with any window and decay, by the models to compare with.

An engine that serves cannot keep every event; a baseline may, so that no approximation is held against it.
"""

from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from online_models.engine.jit import jit

A = TypeVar("A", bound=np.generic)
Values = NDArray[np.float64]

NONE = -1
"""No such event."""


class LinkedLog:
    """Columns of events in their order, and links: to the same user's events and to the same item's earlier one."""

    def __init__(self) -> None:
        self.n = 0
        self.items = np.zeros(1024, np.int32)
        self.users = np.zeros(1024, np.int32)
        self.times = np.zeros(1024)
        self.positive = np.zeros(1024, np.bool_)
        self.before = np.full(1024, NONE, np.int64)
        self.after = np.full(1024, NONE, np.int64)
        self.earlier = np.full(1024, NONE, np.int64)
        self.of_user = np.full(1024, NONE, np.int64)
        """Newest event of each user."""
        self.of_item = np.full(1024, NONE, np.int64)
        self.n_of_user = np.zeros(1024)
        self.n_of_item = np.zeros(1024)

    def append(self, user: int, item: int, positive: bool, t: float) -> None:
        at = self.n
        if at == len(self.items):
            for name in ("items", "users", "times", "positive", "before", "after", "earlier"):
                setattr(self, name, doubled(getattr(self, name)))
        while user >= len(self.of_user):
            self.of_user, self.n_of_user = doubled(self.of_user), doubled(self.n_of_user)
        while item >= len(self.of_item):
            self.of_item, self.n_of_item = doubled(self.of_item), doubled(self.n_of_item)
        self.items[at], self.users[at], self.times[at], self.positive[at] = item, user, t, positive
        self.before[at], self.after[at], self.earlier[at] = self.of_user[user], NONE, self.of_item[item]
        if self.before[at] != NONE:
            self.after[self.before[at]] = at
        self.of_user[user] = self.of_item[item] = at
        self.n_of_user[user] += 1.0
        self.n_of_item[item] += 1.0
        self.n += 1


def doubled(array: NDArray[A]) -> NDArray[A]:
    """Return the array with as much room again: links filled with `NONE`, everything else with 0."""
    room = np.full_like(array, NONE) if array.dtype == np.int64 else np.zeros_like(array)
    return np.concatenate([array, room])


@jit
def add_cooccurrences(
    found: Values,
    items: NDArray[np.int32],
    users: NDArray[np.int32],
    times: Values,
    positive: NDArray[np.bool_],
    before: NDArray[np.int64],
    after: NDArray[np.int64],
    earlier: NDArray[np.int64],
    of_item: NDArray[np.int64],
    newest: int,
    now: float,
    n_steps: int,
    fading: float,
    dislike: float,
    n_occurrences: int,
    half_life: float,
    power: float,
    nearness: Values,
    backward: float,
) -> None:
    """Add to `found` (one per item) what stands near the newest occurrences of a user's newest items.

    sum over x < n_steps of fading^x / (n_x + 1)^power * sum over occurrences o of h_x by others of
    2^-(age of o / half life) * nearness[distance - 1], and `backward` times that for what came before o.
    n_x: the decayed number of these occurrences. `nearness` ends where the window does.
    """
    decay = np.empty(n_occurrences)
    at = newest
    place = 0
    while at >= 0 and place < n_steps:
        user = users[at]
        item = items[at]
        n = 0
        total = 0.0
        occurrence = of_item[item]
        while occurrence >= 0 and n < n_occurrences:
            if users[occurrence] != user:
                decay[n] = 2.0 ** (-(now - times[occurrence]) / half_life)
                total += decay[n]
                n += 1
            occurrence = earlier[occurrence]
        weight = fading**place / (total + 1.0) ** power
        if not positive[at]:
            weight *= dislike
        n = 0
        occurrence = of_item[item]
        while occurrence >= 0 and n < n_occurrences:
            if users[occurrence] != user:
                share = weight * decay[n]
                n += 1
                near = after[occurrence]
                distance = 0
                while near >= 0 and distance < nearness.size:
                    found[items[near]] += share * nearness[distance] * (1.0 if positive[near] else dislike)
                    near = after[near]
                    distance += 1
                near = before[occurrence]
                distance = 0
                while backward > 0.0 and near >= 0 and distance < nearness.size:
                    found[items[near]] += backward * share * nearness[distance] * (1.0 if positive[near] else dislike)
                    near = before[near]
                    distance += 1
            occurrence = earlier[occurrence]
        at = before[at]
        place += 1


@jit
def nearest_users(
    items: NDArray[np.int32],
    users: NDArray[np.int32],
    positive: NDArray[np.bool_],
    before: NDArray[np.int64],
    earlier: NDArray[np.int64],
    of_user: NDArray[np.int64],
    of_item: NDArray[np.int64],
    n_of_user: Values,
    similarity: Values,
    counted: NDArray[np.int64],
    newest: int,
    shared: NDArray[np.int64],
    fading: float,
    dislike: float,
    n_recent: int,
    n_neighbours: int,
    length_power: float,
) -> NDArray[np.int64]:
    """Return the users (sessions) that share a user's newest items, nearest first, and leave their `similarity`.

    Of each of the newest distinct items, as many as `shared` has room for, the `n_recent` newest events count fading^x;
    sums are divided by length^length_power; among equals the newest comes first. `counted` is scratch, one per user: -1
    before and after. `similarity` is 0 before, and of no use for users that are not returned.
    """
    touched = np.empty(shared.size * n_recent, np.int64)
    shared[:] = NONE
    n_touched = 0
    user = users[newest]
    at = newest
    place = 0
    while at >= 0 and place < shared.size:
        if not (shared == items[at]).any():
            shared[place] = items[at]
            weight = fading**place * (1.0 if positive[at] else dislike)
            n = 0
            event = of_item[items[at]]
            while event >= 0 and n < n_recent:
                other = users[event]
                event_weight = weight if positive[event] else weight * dislike
                event = earlier[event]
                if other == user or counted[other] == place:
                    continue
                if counted[other] < 0:
                    touched[n_touched] = other
                    n_touched += 1
                    similarity[other] = 0.0
                counted[other] = place
                similarity[other] += event_weight
                n += 1
            place += 1
        at = before[at]
    keys = np.empty(n_touched)
    for k in range(n_touched):
        other = touched[k]
        counted[other] = NONE
        similarity[other] /= n_of_user[other] ** length_power
        keys[k] = -similarity[other] * (1.0 + 1e-9 * of_user[other])
    return touched[np.argsort(keys)[:n_neighbours]]


@jit
def add_votes(
    found: Values,
    items: NDArray[np.int32],
    positive: NDArray[np.bool_],
    before: NDArray[np.int64],
    of_user: NDArray[np.int64],
    neighbours: NDArray[np.int64],
    similarity: Values,
    shared: NDArray[np.int64],
    n_items: int,
    dislike: float,
    distance: float,
) -> None:
    """Add to `found` each neighbour's newest `n_items` events, `distance`^d for one d places from a shared item."""
    for neighbour in neighbours:
        nearest = NONE
        n = 0
        event = of_user[neighbour]
        while event >= 0 and n < n_items and nearest < 0:
            if (shared == items[event]).any():
                nearest = n
            event = before[event]
            n += 1
        n = 0
        event = of_user[neighbour]
        while event >= 0 and n < n_items:
            far = distance ** abs(n - nearest) if nearest >= 0 else 1.0
            found[items[event]] += similarity[neighbour] * far * (1.0 if positive[event] else dislike)
            event = before[event]
            n += 1


@jit
def gram(
    items: NDArray[np.int32],
    before: NDArray[np.int64],
    of_user: NDArray[np.int64],
    n_users: int,
    columns: NDArray[np.int32],
    weights: NDArray[np.float32],
    n_newest: int,
    found: NDArray[np.float32],
) -> None:
    """Add X'X to `found`, X (users, columns) holding the weights of each user's `n_newest` events.

    `columns`: of each item, -1 for one that is left out.
    """
    events = np.empty(n_newest, np.int64)
    for user in range(n_users):
        n = 0
        event = of_user[user]
        while event >= 0 and n < n_newest:
            if columns[items[event]] >= 0:
                events[n] = event
                n += 1
            event = before[event]
        for a in range(n):
            row = found[columns[items[events[a]]]]
            weight = weights[events[a]]
            for b in range(n):
                row[columns[items[events[b]]]] += weight * weights[events[b]]
