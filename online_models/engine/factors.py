"""Matrix factorisation of implicit feedback that follows the stream.

Two models at two confidences: one smooth, one that follows the last few steps. Users are folded in exactly from
their newest history at every request; item vectors are solved again when their item has an event, over a bounded
sample of its users. The Gramians of all users and all items are corrected at each change of a vector.

References
----------
Hu, Koren, Volinsky (2008), Collaborative filtering for implicit feedback datasets.
He, Zhang, Kan, Chua (2016), Fast matrix factorization for online recommendation with implicit feedback.
"""

import numpy as np
from numpy.typing import NDArray

from online_models.engine.items import grown
from online_models.engine.jit import jit

RANK = 32
SMOOTH, SHARP = 0, 1
CONFIDENCE = np.array([3.0, 30.0], np.float32)
REGULARISATION = np.array([20.0, 5.0], np.float32)
WEIGHT_OTHER = 0.3
"""Confidence of an interaction that was not positive, relative to a positive one."""

FOLDS = ((SMOOTH, 0.8, 30), (SMOOTH, 0.93, 70), (SHARP, 0.6, 15))
"""Of the request's user vectors: model, weight per step back, steps."""

N_USER, N_ITEM_USERS = 100, 256
"""Newest events of a user, newest users of an item that a solve looks at; sums are scaled to the true number."""

N_PAST = 1 << 16
"""Past events to draw the replayed one from."""

N_ACTIVE = 4096
"""Items scanned for candidates, whatever the size of the catalogue."""


@jit
def solve(a: NDArray[np.float32], b: NDArray[np.float32]) -> None:
    """Solve a x = b for symmetric positive definite `a` in place: `a` is spoiled, `b` becomes x."""
    n = b.size
    for k in range(n - 1):
        inverse = np.float32(1.0) / a[k, k]
        for i in range(k + 1, n):
            share = a[k, i] * inverse
            for j in range(i, n):
                a[i, j] -= share * a[k, j]
            b[i] -= share * b[k]
    for k in range(n - 1, -1, -1):
        rest = b[k]
        for j in range(k + 1, n):
            rest -= a[k, j] * b[j]
        b[k] = rest / a[k, k]


@jit
def add_rows(
    a: NDArray[np.float32],
    b: NDArray[np.float32],
    vectors: NDArray[np.float32],
    rows: NDArray[np.int32],
    weights: NDArray[np.float32],
    n: int,
    scale: float,
) -> None:
    """Add `scale * sum(max(c - 1, 0) y y')` to `a` and `scale * sum(c y)` to `b` over `n` rows with weights c."""
    rank = b.size
    for m in range(n):
        y = vectors[rows[m]]
        c = weights[m]
        more = np.float32(scale) * max(c - np.float32(1.0), np.float32(0.0))
        for r in range(rank):
            b[r] += np.float32(scale) * c * y[r]
        if more > 0.0:
            for r in range(rank):
                share = more * y[r]
                for s in range(rank):
                    a[r, s] += share * y[s]


@jit
def fold_in(
    vectors: NDArray[np.float32],
    gramian: NDArray[np.float64],
    regularisation: float,
    confidence: float,
    history: NDArray[np.int32],
    positive: NDArray[np.bool_],
    n_history: int,
    fading: float,
    newest: int,
    out: NDArray[np.float32],
) -> None:
    """Solve one user vector from the newest steps of a history, each step back weighing `fading` times as much."""
    a = gramian.astype(np.float32)
    for r in range(out.size):
        a[r, r] += np.float32(regularisation)
        out[r] = 0.0
    n = min(newest, n_history)
    rows = np.empty(n, np.int32)
    weights = np.empty(n, np.float32)
    fade = confidence
    for x in range(n):
        rows[x] = history[n_history - 1 - x]
        weights[x] = fade * (1.0 if positive[n_history - 1 - x] else WEIGHT_OTHER)
        fade *= fading
    add_rows(a, out, vectors, rows, weights, n, 1.0)
    solve(a, out)


@jit
def replace_vector(gramian: NDArray[np.float64], old: NDArray[np.float32], new: NDArray[np.float32]) -> None:
    """Correct a Gramian for a changed vector and store it."""
    for r in range(new.size):
        for s in range(new.size):
            gramian[r, s] += np.float64(new[r]) * new[s] - np.float64(old[r]) * old[s]
    for r in range(new.size):
        old[r] = new[r]


@jit
def learn_user(
    x: NDArray[np.float32],
    y: NDArray[np.float32],
    gram_x: NDArray[np.float64],
    gram_y: NDArray[np.float64],
    regularisation: float,
    confidence: float,
    user: int,
    items: NDArray[np.int32],
    positive: NDArray[np.bool_],
    n_items: int,
    n_total: int,
) -> None:
    """Solve the vector of `user` again on the newest `n_items` of `n_total` events."""
    a = gram_y.astype(np.float32)
    new = np.zeros(x.shape[1], np.float32)
    weights = np.empty(n_items, np.float32)
    for r in range(new.size):
        a[r, r] += np.float32(regularisation)
    for m in range(n_items):
        weights[m] = confidence * (1.0 if positive[m] else WEIGHT_OTHER)
    add_rows(a, new, y, items, weights, n_items, max(n_total, n_items) / max(n_items, 1))
    solve(a, new)
    replace_vector(gram_x, x[user], new)


@jit
def learn_vector(
    x: NDArray[np.float32],
    y: NDArray[np.float32],
    gram_x: NDArray[np.float64],
    gram_y: NDArray[np.float64],
    regularisation: float,
    confidence: float,
    item: int,
    ring: NDArray[np.int32],
    n_total: int,
) -> None:
    """Solve the vector of `item` again. `ring` holds 2 * user + positive of its newest events."""
    a = gram_x.astype(np.float32)
    new = np.zeros(y.shape[1], np.float32)
    n = min(n_total, ring.size)
    rows = np.empty(n, np.int32)
    weights = np.empty(n, np.float32)
    for r in range(new.size):
        a[r, r] += np.float32(regularisation)
    for m in range(n):
        rows[m] = ring[m] >> 1
        weights[m] = confidence * (1.0 if ring[m] & 1 else WEIGHT_OTHER)
    add_rows(a, new, x, rows, weights, n, n_total / max(n, 1))
    solve(a, new)
    replace_vector(gram_y, y[item], new)


class Factors:
    """Vectors of items and users by slot, both models, and the set of active items that requests scan."""

    def __init__(self, rng: np.random.Generator, capacity: int = 1024) -> None:
        self._rng = rng
        self.items = np.zeros((2, capacity, RANK), np.float32)
        self.users = np.zeros((2, capacity, RANK), np.float32)
        self.gram_items = np.zeros((2, RANK, RANK))
        self.gram_users = np.zeros((2, RANK, RANK))
        self.rings = np.zeros((capacity, N_ITEM_USERS), np.int32)
        self.n_events = np.zeros(capacity, np.int64)
        self.active = np.zeros(N_ACTIVE, np.int32)
        self.active_at = np.full(capacity, -1, np.int32)
        self.active_vectors = np.zeros((2, N_ACTIVE, RANK), np.float32)
        self.n_active = 0

    def grow(self, capacity: int) -> None:
        self.items = np.stack([grown(m, capacity) for m in self.items])
        self.rings = grown(self.rings, capacity)
        self.n_events = grown(self.n_events, capacity)
        active_at = np.full(capacity, -1, np.int32)
        active_at[: len(self.active_at)] = self.active_at
        self.active_at = active_at

    def grow_users(self, capacity: int) -> None:
        self.users = np.stack([grown(m, capacity) for m in self.users])

    def fold_in(self, history: NDArray[np.int32], positive: NDArray[np.bool_], n: int) -> NDArray[np.float32]:
        """Return the user's vectors, one per entry of `FOLDS`, shape (3, RANK)."""
        out = np.zeros((len(FOLDS), RANK), np.float32)
        if n:
            for row, (m, fading, newest) in zip(out, FOLDS, strict=True):
                fold_in(
                    self.items[m],
                    self.gram_items[m],
                    float(REGULARISATION[m]),
                    float(CONFIDENCE[m]),
                    history,
                    positive,
                    n,
                    fading,
                    newest,
                    row,
                )
        return out

    def add_item(self, item: int) -> None:
        """Give a new item small random vectors."""
        for m in (SMOOTH, SHARP):
            new = self._rng.normal(0.0, 0.05, RANK).astype(np.float32)
            replace_vector(self.gram_items[m], self.items[m, item], new)

    def append(self, user: int, item: int, positive: bool) -> None:
        """Remember who had an event with `item`."""
        ring = self.rings[item]
        ring[self.n_events[item] % len(ring)] = 2 * user + positive
        self.n_events[item] += 1

    def learn_one(
        self, user: int, item: int, items: NDArray[np.int32], positive: NDArray[np.bool_], n_total: int
    ) -> None:
        """Solve both vectors of a (user, item) pair; `items` are the user's newest events of `n_total`."""
        for m in (SMOOTH, SHARP):
            reg, confidence = float(REGULARISATION[m]), float(CONFIDENCE[m])
            x, y = self.users[m], self.items[m]
            gx, gy = self.gram_users[m], self.gram_items[m]
            learn_user(x, y, gx, gy, reg, confidence, user, items, positive, len(items), n_total)
            learn_vector(x, y, gx, gy, reg, confidence, item, self.rings[item], int(self.n_events[item]))
        at = self.active_at[item]
        if at >= 0:
            self.active_vectors[:, at] = self.items[:, item]

    def activate(self, item: int, strength: NDArray[np.float32]) -> None:
        """Let `item` be scanned; when the set is full it replaces the weakest of eight drawn members.

        `strength`: of every item by slot.
        """
        if self.active_at[item] >= 0:
            return
        at = self.n_active
        if at == N_ACTIVE:
            drawn = self._rng.integers(0, N_ACTIVE, 8)
            at = int(drawn[np.argmin(strength[self.active[drawn]])])
            if strength[self.active[at]] >= strength[item]:
                return
            self.active_at[self.active[at]] = -1
        else:
            self.n_active += 1
        self.active[at] = item
        self.active_at[item] = at
        self.active_vectors[:, at] = self.items[:, item]
