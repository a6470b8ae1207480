"""Kernels of implicit-feedback matrix factorisation, and Gramians that follow each vector.

Requests fold a user in exactly. Learning takes a few steps towards a vector's solution as its events come.
"""

import numpy as np
from numpy.typing import NDArray

from online_models.engine.jit import jit, jit_bare

RANK = 32
"""Length of all vectors."""

WEIGHT_OTHER = 0.3
"""Confidence of an interaction that was not positive, relative to a positive one."""

N_STEPS = 2
"""Of conjugate gradients at a time. Exact solutions give no better lists at three times the cost."""


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
) -> None:
    """Add `sum(max(c - 1, 0) y y')` to `a` and `sum(c y)` to `b` over rows y with weights c."""
    shares = np.zeros(4, np.float32)
    four = np.zeros((4, RANK), np.float32)
    n_waiting = 0
    for m in range(rows.size):
        y = vectors[rows[m]]
        c = weights[m]
        for r in range(RANK):
            b[r] += c * y[r]
        if c > 1.0:
            shares[n_waiting] = c - np.float32(1.0)
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
    add_rows(a, out, vectors, rows, weights)
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


@jit_bare
def replace_vector(gramian: NDArray[np.float64], old: NDArray[np.float32], new: NDArray[np.float32]) -> None:
    """Correct a Gramian for a changed vector and store it."""
    for r in range(RANK):
        for s in range(RANK):
            gramian[r, s] += np.float64(new[r]) * new[s] - np.float64(old[r]) * old[s]
    for r in range(new.size):
        old[r] = new[r]


@jit_bare
def times(
    a: NDArray[np.float32],
    vectors: NDArray[np.float32],
    rows: NDArray[np.int32],
    shares: NDArray[np.float32],
    pulls: NDArray[np.float32],
    p: NDArray[np.float32],
    out: NDArray[np.float32],
) -> None:
    """Write A p + sum((share y'p - pull) y) over the rows y of `vectors`, whose number is a multiple of 4.

    Four rows at a time: their sums do not wait for each other, and `out` is loaded and stored once for all.
    """
    for r in range(RANK):
        out[r] = 0.0
    for s in range(0, RANK, 4):
        p0, p1, p2, p3 = p[s], p[s + 1], p[s + 2], p[s + 3]
        for r in range(RANK):
            out[r] += p0 * a[s, r] + p1 * a[s + 1, r] + p2 * a[s + 2, r] + p3 * a[s + 3, r]
    for m in range(0, rows.size, 4):
        y0, y1, y2, y3 = vectors[rows[m]], vectors[rows[m + 1]], vectors[rows[m + 2]], vectors[rows[m + 3]]
        d0 = d1 = d2 = d3 = np.float32(0.0)
        for r in range(RANK):
            d0 += y0[r] * p[r]
            d1 += y1[r] * p[r]
            d2 += y2[r] * p[r]
            d3 += y3[r] * p[r]
        d0, d1 = d0 * shares[m] - pulls[m], d1 * shares[m + 1] - pulls[m + 1]
        d2, d3 = d2 * shares[m + 2] - pulls[m + 2], d3 * shares[m + 3] - pulls[m + 3]
        for r in range(RANK):
            out[r] += d0 * y0[r] + d1 * y1[r] + d2 * y2[r] + d3 * y3[r]


@jit
def approach(
    x: NDArray[np.float32],
    gramian: NDArray[np.float64],
    regularisation: float,
    vectors: NDArray[np.float32],
    rows: NDArray[np.int32],
    pulls: NDArray[np.float32],
    scale: float,
) -> None:
    """Take some steps of conjugate gradients from `x` towards its solution.

    That is, of (G + l I + sum(max(c - scale, 0) y y')) x = sum(c y) over rows y with pulls c. A vector is solved
    again and again, as its events come, so that what a step leaves the next ones mend.
    Takacs, Pilaszy, Tikk (2011), Applications of the conjugate gradient method for implicit feedback collaborative
    filtering.
    """
    a = gramian.astype(np.float32)
    for r in range(RANK):
        a[r, r] += np.float32(regularisation)
    shares = np.empty_like(pulls)
    for m in range(pulls.size):
        shares[m] = max(pulls[m] - np.float32(scale), np.float32(0.0))
    rest, p, image = np.empty(RANK, np.float32), np.empty(RANK, np.float32), np.empty(RANK, np.float32)
    times(a, vectors, rows, shares, pulls, x, image)
    error = np.float32(0.0)
    for r in range(RANK):
        p[r] = rest[r] = -image[r]
        error += rest[r] * rest[r]
    pulls[:] = 0.0
    for _ in range(N_STEPS):
        if error < 1e-12:
            return
        times(a, vectors, rows, shares, pulls, p, image)
        along = np.float32(0.0)
        for r in range(RANK):
            along += p[r] * image[r]
        step, before = error / along, error
        error = np.float32(0.0)
        for r in range(RANK):
            x[r] += step * p[r]
            rest[r] -= step * image[r]
            error += rest[r] * rest[r]
        turn = error / before
        for r in range(RANK):
            p[r] = rest[r] + turn * p[r]


@jit
def learn_vector(
    x: NDArray[np.float32],
    y: NDArray[np.float32],
    gram_x: NDArray[np.float64],
    gram_y: NDArray[np.float64],
    regularisation: float,
    confidence: float,
    slot: int,
    others: NDArray[np.int32],
    positive: NDArray[np.bool_],
    n_total: int,
) -> None:
    """Improve vector `slot` of `x` by the newest of its `n_total` events: with which rows of `y`, and how they were."""
    n = others.size
    scale = max(n_total, n) / max(n, 1)
    n_padded = (n + 3) // 4 * 4  # as `times` wants it: the last ones weigh nothing
    rows, pulls = np.zeros(n_padded, np.int32), np.zeros(n_padded, np.float32)
    for m in range(n):
        rows[m] = others[m]
        pulls[m] = scale * confidence * (1.0 if positive[m] else WEIGHT_OTHER)
    new = x[slot].copy()
    approach(new, gram_y, regularisation, y, rows, pulls, scale)
    replace_vector(gram_x, x[slot], new)


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
    of_user: bool,
    of_item: bool,
) -> None:
    """Improve the vectors of a user, an item or both in each of the models, which are the first axis.

    `items` are the user's newest of `n_total` events; `ring` holds 2 * user + positive of the item's of `n_ring`.
    """
    users, liked = np.empty(ring.size, np.int32), np.empty(ring.size, np.bool_)
    for k in range(ring.size):
        users[k] = ring[k] >> 1
        liked[k] = ring[k] & 1 == 1
    for m in range(x.shape[0]):
        reg, conf = regularisation[m], confidence[m]
        if of_user:
            learn_vector(x[m], y[m], gram_x[m], gram_y[m], reg, conf, user, items, positive, n_total)
        if of_item:
            learn_vector(y[m], x[m], gram_y[m], gram_x[m], reg, conf, item, users, liked, n_ring)
