"""Which items follow which: item-to-item covisitation, learned event by event."""

from datetime import timedelta

import numpy as np
from numpy.typing import NDArray

from online_models.arrays import Slots, grown

NO_ITEM = -1
_STEP = 16  # half-lives between landmarks: far from float32's range of 127
_FORGOTTEN = -140.0  # half-lives: less than float32 can hold


class Covisitation:
    """Bounded, time-decayed, asymmetric neighbour lists per item.

    When a user takes item j at time t after h_0, h_1, ... (newest first), for each h_x of the window:

        c(h_x -> j) += forward  distance_decay^x 2^(t / half_life)
        c(j -> h_x) += backward distance_decay^x 2^(t / half_life)

    (the directions swap for a history item that is later than a late event). Read at `now`, all is multiplied by
    2^-(now / half_life). An item keeps at most `capacity` neighbours: when a list is full, its weakest quarter is
    dropped to make room, so a newcomer has that many insertions' time to gather weight. Memory: 8 bytes a neighbour.

    A user with history h is predicted to take j with score

        s(j) = sum_x distance_decay^x c(h_x -> j) / (1 + sum_k c(h_x -> k))^damping

    Parameters
    ----------
    capacity
        Neighbours per item.
    window
        Newest distinct items of the user that an event is paired with; at most a quarter of the capacity.
    half_life
        Of a pair's weight.
    forward, backward
        Weight of "j came after" and "j came before".
    distance_decay
        Per item in between.
    damping
        How much a busy history item's votes are shared out, 0 to 1.

    References
    ----------
    Linden, Smith, York: Amazon.com recommendations, IEEE Internet Computing 2003; sequential rules with distance decay
    as in Ludewig, Jannach: Evaluation of session-based recommendation algorithms, UMUAI 2018; forward decay as in
    `online_models.popularity`.
    """

    def __init__(
        self,
        capacity: int = 64,
        window: int = 10,
        half_life: timedelta = timedelta(days=7),
        forward: float = 1.0,
        backward: float = 0.3,
        distance_decay: float = 0.8,
        damping: float = 0.7,
    ) -> None:
        if not 0 < window <= capacity // 4:
            raise ValueError(f"window: expected 1 to {capacity // 4}, a quarter of the capacity, got {window}")
        self.capacity = capacity
        self.window = window
        self.damping = damping
        self._half_life_ms = half_life / timedelta(milliseconds=1)
        self._discounts: NDArray[np.float64] = np.power(distance_decay, np.arange(64, dtype=np.float64))
        self._after = (forward * self._discounts).astype(np.float32)
        self._before = (backward * self._discounts).astype(np.float32)
        self._kept = capacity - capacity // 4
        self.neighbours: NDArray[np.int32] = np.full((0, capacity), NO_ITEM, dtype=np.int32)
        self.weights: NDArray[np.float32] = np.zeros((0, capacity), dtype=np.float32)
        """Times 2^(landmark - now / half_life) is the decayed weight."""
        self._landmark = 0
        """In half-lives since 1970; moves up in steps with the time of events."""
        self._sizes: NDArray[np.int32] = np.zeros(0, dtype=np.int32)
        self.changed: set[int] = set()
        """Slots whose lists have changed since somebody cleared this."""

    def reserve(self, n_slots: int) -> None:
        """Make room for slots below `n_slots`."""
        self.neighbours = grown(self.neighbours, n_slots, NO_ITEM)
        self.weights = grown(self.weights, n_slots, 0.0)
        self._sizes = grown(self._sizes, n_slots, 0)

    def learn_one(self, slot: int, ts_ms: int, history: Slots, times_ms: NDArray[np.int64]) -> None:
        """Learn that a user took `slot`.

        Parameters
        ----------
        history
            The user's distinct other items, newest first; the window is taken from its begin.
        times_ms
            When each was taken.
        """
        history = history[: self.window]
        n = len(history)
        if n == 0:
            return
        scale = self._scale(ts_ms)
        after, before = self._after[:n] * scale, self._before[:n] * scale
        if times_ms[0] > ts_ms:  # a late event
            in_order = times_ms[:n] <= ts_ms
            after, before = np.where(in_order, after, before), np.where(in_order, before, after)
        self._add_to_each(history, slot, after)
        self._add_to_one(slot, history, before)
        self.changed.add(slot)
        self.changed.update(history.tolist())

    def predict_one(self, slot: int, history: Slots, now_ms: int) -> float:
        """Return the score of one item for a user with this history, newest first."""
        score = 0.0
        for x, seen in enumerate(history.tolist()):
            size = int(self._sizes[seen])
            decay = self._decay(now_ms)
            found = [float(w) for i, w in zip(self.neighbours[seen, :size], self.weights[seen, :size], strict=True)]
            mass = sum(found) * decay
            for neighbour, weight in zip(self.neighbours[seen, :size], found, strict=True):
                if neighbour == slot:
                    score += float(self._discounts[x]) * weight * decay / (1.0 + mass) ** self.damping
        return score

    def predict_many(self, history: Slots, now_ms: int) -> tuple[Slots, NDArray[np.float64]]:
        """Return every item with a positive score, shape (n,), ascending by slot, and the scores.

        The only pass over the lists: `at` looks single items up in the result.
        """
        neighbours, votes = self.votes(history, now_ms)
        present = neighbours != NO_ITEM
        return total(neighbours[present], votes[present])

    def votes(self, history: Slots, now_ms: int) -> tuple[NDArray[np.int32], NDArray[np.float64]]:
        """Return the neighbours of each history item and their votes, both of shape (n_history, capacity)."""
        weights = self.weights[history] * np.float64(self._decay(now_ms))
        shares = self._discounts[: len(history)] / (1.0 + weights.sum(axis=1)) ** self.damping
        return self.neighbours[history], weights * shares[:, None]

    def row(self, slot: int) -> tuple[bytes, bytes, int]:
        """Return neighbours (int32), weights (float32) and the landmark that the weights refer to."""
        size = self._sizes[slot]
        return self.neighbours[slot, :size].tobytes(), self.weights[slot, :size].tobytes(), self._landmark

    def restore(self, slot: int, neighbours: bytes, weights: bytes, landmark: int) -> None:
        size = min(len(neighbours) // 4, self.capacity)
        self._clear(slot)
        if landmark > self._landmark:
            self._move(landmark)
        factor = np.float32(2.0 ** max(landmark - self._landmark, _FORGOTTEN))
        self.neighbours[slot, :size] = np.frombuffer(neighbours, dtype=np.int32)[:size]
        self.weights[slot, :size] = np.frombuffer(weights, dtype=np.float32)[:size] * factor
        self._sizes[slot] = size

    def forget(self, slots: Slots) -> None:
        """Drop the items' lists and take them out of all others'."""
        for slot in slots.tolist():
            self._clear(slot)
            self.changed.discard(slot)
        gone = np.zeros(len(self._sizes) + 1, dtype=np.bool_)  # one more: NO_ITEM reads the last
        gone[slots] = True
        touched = np.flatnonzero(gone[self.neighbours].any(axis=1))
        for slot in touched.tolist():
            self._keep(slot, ~gone[self.neighbours[slot, : self._sizes[slot]]])
        self.changed.update(touched.tolist())

    def _decay(self, now_ms: int) -> float:
        """Return the factor from stored weights to those at `now_ms`; a moment before the landmark counts as it."""
        return float(2.0 ** min(0.0, self._landmark - now_ms / self._half_life_ms))

    def _scale(self, ts_ms: int) -> np.float32:
        """Return what a weight of 1 at this time is at the landmark, which is moved up where that grows too large."""
        time = ts_ms / self._half_life_ms
        if time >= self._landmark + _STEP:
            self._move(int(time) // _STEP * _STEP)
        return np.float32(2.0 ** max(time - self._landmark, _FORGOTTEN))

    def _move(self, landmark: int) -> None:
        """Multiply all weights by a power of two, which loses nothing."""
        self.weights *= np.float32(2.0 ** max(self._landmark - landmark, _FORGOTTEN))
        self._landmark = landmark

    def _add_to_each(self, rows: Slots, item: int, weights: NDArray[np.float32]) -> None:
        """Add `item` to the list of each row."""
        where, column = (self.neighbours[rows] == item).nonzero()
        if len(where):
            self.weights[rows[where], column] += weights[where]
            if len(where) == len(rows):
                return
            missing = np.ones(len(rows), dtype=np.bool_)
            missing[where] = False
            rows, weights = rows[missing], weights[missing]
        sizes = self._sizes[rows]
        if sizes.max() >= self.capacity:
            for full in rows[sizes >= self.capacity].tolist():
                self._drop_weakest(full)
            sizes = self._sizes[rows]
        self.neighbours[rows, sizes] = item
        self.weights[rows, sizes] = weights
        self._sizes[rows] = sizes + 1

    def _add_to_one(self, row: int, items: Slots, weights: NDArray[np.float32]) -> None:
        """Add each item to the list of `row`."""
        size = int(self._sizes[row])
        where, column = (items[:, None] == self.neighbours[row, :size]).nonzero()
        if len(where):
            self.weights[row, column] += weights[where]
            if len(where) == len(items):
                return
            missing = np.ones(len(items), dtype=np.bool_)
            missing[where] = False
            items, weights = items[missing], weights[missing]
        if size + len(items) > self.capacity:
            self._drop_weakest(row)
            size = int(self._sizes[row])
        self.neighbours[row, size : size + len(items)] = items
        self.weights[row, size : size + len(items)] = weights
        self._sizes[row] = size + len(items)

    def _drop_weakest(self, row: int) -> None:
        weights = self.weights[row, : self._sizes[row]]
        keep = np.ones(len(weights), dtype=np.bool_)
        keep[np.argsort(weights, kind="stable")[: len(weights) - self._kept]] = False
        self._keep(row, keep)

    def _keep(self, row: int, keep: NDArray[np.bool_]) -> None:
        size = int(self._sizes[row])
        neighbours, weights = self.neighbours[row, :size][keep], self.weights[row, :size][keep]
        self._clear(row)
        self.neighbours[row, : len(neighbours)] = neighbours
        self.weights[row, : len(weights)] = weights
        self._sizes[row] = len(neighbours)

    def _clear(self, row: int) -> None:
        self.neighbours[row] = NO_ITEM
        self.weights[row] = 0.0
        self._sizes[row] = 0


def total(slots: Slots, votes: NDArray[np.float64]) -> tuple[Slots, NDArray[np.float64]]:
    """Return the distinct slots, ascending, and the sum of the votes of each."""
    distinct, which = np.unique(slots, return_inverse=True)
    return distinct, np.bincount(which, weights=votes, minlength=len(distinct)).astype(np.float64)


def at(slots: Slots, known: Slots, values: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the value of each slot, 0 where it is not among the `known`, which are ascending."""
    if len(known) == 0:
        return np.zeros(len(slots))
    found = np.minimum(np.searchsorted(known, slots), len(known) - 1)
    return np.where(known[found] == slots, values[found], 0.0)
