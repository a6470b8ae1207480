"""Kernels of implicit-feedback matrix factorisation: exact solves, and Gramians that follow each vector."""

import numpy as np
from numpy.typing import NDArray

from online_models.engine.jit import jit

WEIGHT_OTHER = 0.3
"""Confidence of an interaction that was not positive, relative to a positive one."""


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
    """Solve the vector of `item` again. `ring` holds 2 * user + positive of its newest of `n_total` events."""
    a = gram_x.astype(np.float32)
    new = np.zeros(y.shape[1], np.float32)
    n = ring.size
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
