"""Kernels of implicit-feedback matrix factorisation: exact solves, and Gramians that follow each vector."""

import numpy as np
from numpy.typing import NDArray

from online_models.engine.jit import jit

RANK = 32
"""Length of all vectors."""

WEIGHT_OTHER = 0.3
"""Confidence of an interaction that was not positive, relative to a positive one."""


@jit
def eliminate(a: NDArray[np.float32], b: NDArray[np.float32], k: int, i: int) -> None:
    """Subtract a multiple of row k from row i, so that element (i, k) becomes 0."""
    share = a[k, i] / a[k, k]
    for j in range(RANK):
        a[i, j] -= share * a[k, j]
    b[i] -= share * b[k]


@jit
def solve(a: NDArray[np.float32], b: NDArray[np.float32]) -> None:
    """Solve a x = b for symmetric positive definite `a`, of which the upper half is read; `b` becomes x.

    Gaussian elimination by four rows at a time, which loads and stores the rows below a quarter as often. Whole rows
    are worked on, although half of each does not matter: loops of a fixed length become vector instructions.
    """
    for k in range(0, RANK, 4):
        for p in range(k, k + 4):
            for i in range(p + 1, k + 4):
                eliminate(a, b, p, i)
        i0, i1 = np.float32(1.0) / a[k, k], np.float32(1.0) / a[k + 1, k + 1]
        i2, i3 = np.float32(1.0) / a[k + 2, k + 2], np.float32(1.0) / a[k + 3, k + 3]
        for i in range(k + 4, RANK):
            s0, s1, s2, s3 = a[k, i] * i0, a[k + 1, i] * i1, a[k + 2, i] * i2, a[k + 3, i] * i3
            for j in range(RANK):
                a[i, j] -= s0 * a[k, j] + s1 * a[k + 1, j] + s2 * a[k + 2, j] + s3 * a[k + 3, j]
            b[i] -= s0 * b[k] + s1 * b[k + 1] + s2 * b[k + 2] + s3 * b[k + 3]
    for k in range(RANK - 1, -1, -1):
        rest = b[k]
        for j in range(k + 1, RANK):
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
    shares = np.zeros(4, np.float32)
    four = np.zeros((4, RANK), np.float32)
    n_waiting = 0
    for m in range(n):
        y = vectors[rows[m]]
        c = np.float32(scale) * weights[m]
        for r in range(RANK):
            b[r] += c * y[r]
        if weights[m] > 1.0:
            shares[n_waiting] = c - np.float32(scale)
            for r in range(RANK):
                four[n_waiting, r] = y[r]
            n_waiting += 1
            if n_waiting == 4:
                add_four(a, four, shares)
                n_waiting = 0
    if n_waiting > 0:
        shares[n_waiting:] = 0.0
        add_four(a, four, shares)


@jit
def add_four(a: NDArray[np.float32], y: NDArray[np.float32], shares: NDArray[np.float32]) -> None:
    """Add four weighted outer products at once: each element of `a` is loaded and stored once for all."""
    for r in range(RANK):
        s0, s1 = shares[0] * y[0, r], shares[1] * y[1, r]
        s2, s3 = shares[2] * y[2, r], shares[3] * y[3, r]
        for s in range(RANK):
            a[r, s] += s0 * y[0, s] + s1 * y[1, s] + s2 * y[2, s] + s3 * y[3, s]


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
def fold_in_each(
    vectors: NDArray[np.float32],
    gramians: NDArray[np.float64],
    regularisation: NDArray[np.float64],
    confidence: NDArray[np.float64],
    models: NDArray[np.int64],
    fading: NDArray[np.float64],
    newest: NDArray[np.int64],
    history: NDArray[np.int32],
    positive: NDArray[np.bool_],
    out: NDArray[np.float32],
) -> None:
    """Solve several user vectors, row by row: of which model, with which fading, from how many of the newest steps."""
    for k in range(len(out)):
        m = models[k]
        fold_in(
            vectors[m],
            gramians[m],
            regularisation[m],
            confidence[m],
            history,
            positive,
            history.size,
            fading[k],
            newest[k],
            out[k],
        )


@jit
def replace_vector(gramian: NDArray[np.float64], old: NDArray[np.float32], new: NDArray[np.float32]) -> None:
    """Correct a Gramian for a changed vector and store it."""
    for r in range(RANK):
        for s in range(RANK):
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


@jit
def learn_pair(
    x: NDArray[np.float32],
    y: NDArray[np.float32],
    gram_x: NDArray[np.float64],
    gram_y: NDArray[np.float64],
    regularisation: NDArray[np.float64],
    confidence: NDArray[np.float64],
    user: int,
    item: int,
    items: NDArray[np.int32],
    positive: NDArray[np.bool_],
    n_total: int,
    ring: NDArray[np.int32],
    n_ring: int,
) -> None:
    """Solve the vectors of a user and an item again, in each of the models, which are the first axis."""
    n = items.size
    for m in range(x.shape[0]):
        reg, conf = regularisation[m], confidence[m]
        learn_user(x[m], y[m], gram_x[m], gram_y[m], reg, conf, user, items, positive, n, n_total)
        learn_vector(x[m], y[m], gram_x[m], gram_y[m], reg, conf, item, ring, n_ring)
