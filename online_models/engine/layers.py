"""Passes of the ranker's network that numpy would need several for."""

import numpy as np
from numpy.typing import NDArray

from online_models.engine.jit import jit

LEAK = np.float32(0.05)
CLIP = np.float32(4.0)
"""Normalised inputs lie within plus and minus this."""

_STEPS = np.float32(32767.0 / 4.0)


@jit
def normalise(
    features: NDArray[np.float32],
    of_list: NDArray[np.float32],
    statistics: NDArray[np.float32],
    out: NDArray[np.float32],
) -> None:
    """Write each input against all lists and against the mean of this list, shape (n, 2 * n_inputs)."""
    n = of_list.size
    scale = np.empty((2, n), np.float32)
    for k in range(n):
        between, within = statistics[1, k], statistics[2, k]
        scale[0, k] = np.float32(1.0) / np.sqrt(within + between + np.float32(1e-12))
        scale[1, k] = np.float32(1.0) / np.sqrt(within + np.float32(1e-12)) if within > 1e-10 else np.float32(0.0)
    for m in range(len(features)):
        row, first, second = features[m], out[m, :n], out[m, n:]
        for k in range(n):  # comparisons, unlike min and max, vectorise
            value = (row[k] - statistics[0, k]) * scale[0, k]
            value = -CLIP if value < -CLIP else value  # noqa: FURB136
            first[k] = CLIP if value > CLIP else value  # noqa: FURB136
        for k in range(n):
            value = (row[k] - of_list[k]) * scale[1, k]
            value = -CLIP if value < -CLIP else value  # noqa: FURB136
            second[k] = CLIP if value > CLIP else value  # noqa: FURB136


@jit
def rectify(h: NDArray[np.float32], bias: NDArray[np.float32]) -> None:
    """Add the bias and take a leaky rectifier, in place."""
    for m in range(len(h)):
        row = h[m]
        for k in range(bias.size):
            value = row[k] + bias[k]
            row[k] = value if value > np.float32(0.0) else LEAK * value


@jit
def rectify_back(g: NDArray[np.float32], h: NDArray[np.float32], sums: NDArray[np.float32]) -> None:
    """Take the gradient `g` back through a rectifier whose output was `h`, in place; write its column sums."""
    sums[:] = 0.0
    for m in range(len(h)):
        of_row, row = h[m], g[m]
        for k in range(sums.size):
            row[k] = LEAK * row[k] if of_row[k] < np.float32(0.0) else row[k]
            sums[k] += row[k]


@jit
def softmax_back(
    scores: NDArray[np.float32], sizes: NDArray[np.int64], weights: NDArray[np.float32], width: int
) -> None:
    """Turn scores of lists of `width`, target first, into the gradient of their mean weighted cross entropy."""
    for m in range(sizes.size):
        row = scores[m * width : (m + 1) * width]
        best, total = row[0], np.float32(0.0)
        for k in range(sizes[m]):
            best = max(best, row[k])
        for k in range(sizes[m]):
            row[k] = np.exp(row[k] - best)
            total += row[k]
        scale = weights[m] / np.float32(sizes.size)
        for k in range(sizes[m]):
            row[k] *= scale / total
        row[0] -= scale
        row[sizes[m] :] = 0.0


@jit
def pack(rows: NDArray[np.float32], out: NDArray[np.int16]) -> None:
    """Write normalised inputs in 16 bits."""
    for m in range(len(rows)):
        for k in range(rows.shape[1]):
            out[m, k] = np.int16(np.round(rows[m, k] * _STEPS))


@jit
def unpack(packed: NDArray[np.int16], out: NDArray[np.float32]) -> None:
    """Write packed inputs as floats; rows behind them are zero."""
    for m in range(len(packed)):
        row, of_packed = out[m], packed[m]
        for k in range(row.size):
            row[k] = np.float32(of_packed[k]) * (np.float32(1.0) / _STEPS)
    out[len(packed) :] = 0.0


@jit
def learn_statistics(
    features: NDArray[np.float32], of_list: NDArray[np.float32], statistics: NDArray[np.float32], rate: float
) -> None:
    """Move mean, variance between lists and variance within lists towards those of one list."""
    within = np.zeros(of_list.size, np.float32)
    for m in range(len(features)):
        row = features[m]
        for k in range(of_list.size):
            off = row[k] - of_list[k]
            within[k] += off * off
    step, share = np.float32(rate), np.float32(1.0 / len(features))
    for k in range(of_list.size):
        off = of_list[k] - statistics[0, k]
        statistics[0, k] += step * off
        statistics[1, k] += step * (off * off - statistics[1, k])
        statistics[2, k] += step * (within[k] * share - statistics[2, k])


@jit
def descend(
    gradient: NDArray[np.float32],
    moments: NDArray[np.float32],
    parameters: NDArray[np.float32],
    averaged: NDArray[np.float32],
    learning_rate: float,
    correction: float,
    decay: float,
    rate: float,
) -> None:
    """One Adam step and the average after it. `learning_rate` and `correction` hold the bias corrections."""
    speed, correct, shrink = np.float32(learning_rate), np.float32(correction), np.float32(decay)
    follow = np.float32(rate)
    for k in range(gradient.size):
        g = gradient[k]
        first = moments[0, k] + np.float32(0.1) * (g - moments[0, k])
        second = moments[1, k] + np.float32(0.001) * (g * g - moments[1, k])
        moments[0, k], moments[1, k] = first, second
        p = parameters[k]
        p -= speed * first / (np.sqrt(second * correct) + np.float32(1e-7)) + shrink * p
        parameters[k] = p
        averaged[k] += follow * (p - averaged[k])
