"""Why the ranker scores a candidate as it does: what each input contributes to the difference from a baseline."""

import numpy as np
from numpy.typing import NDArray

from online_models.engine.layers import LEAK
from online_models.engine.scorer import Scorer

_Vector = NDArray[np.float64]


def contributions(
    scorer: Scorer, features: NDArray[np.float32], mean: NDArray[np.float32]
) -> tuple[NDArray[np.float64], float]:
    """Return what each input contributes to each score, shape (n, n_inputs), and the baseline's score.

    The baseline is a candidate that is as the list is on average: its score plus an item's contributions is the item's
    score. They are integrated gradients, from the baseline to the item in a straight line of normalised inputs. The
    network is linear between the points of that line at which one of its rectifiers bends, so that the integral is
    a sum over the pieces between them: exact but for rounding.

    References
    ----------
    Sundararajan, Taly, Yan (2017), Axiomatic attribution for deep networks.
    """
    normalised = scorer.normalised(np.vstack([mean[None, :], features]), mean).astype(np.float64)
    layers = [layer.astype(np.float64) for layer in scorer.layers]
    baseline, n = normalised[0], scorer.n_inputs
    found = np.empty((len(features), n))
    for row, item in zip(found, normalised[1:], strict=True):
        step = item - baseline
        parts = step * _mean_gradient(layers, baseline, step)
        row[:] = parts[:n] + parts[n:]
    return found, float(scorer.predict_many(mean[None, :], mean)[0])


def _mean_gradient(layers: list[NDArray[np.float64]], start: _Vector, step: _Vector) -> _Vector:
    """Return the mean of the score's gradient from `start` to `start + step`."""
    w1, b1, w2, b2, w3, skip = layers
    at, slope = start @ w1 + b1, step @ w1
    into_first = np.zeros(len(at))
    for begin, end in _pieces(at, slope, 0.0, 1.0):
        first = _bends(at + slope * 0.5 * (begin + end))
        at_2, slope_2 = (at * first) @ w2 + b2, (slope * first) @ w2
        for low, high in _pieces(at_2, slope_2, begin, end):
            second = _bends(at_2 + slope_2 * 0.5 * (low + high))
            into_first += (high - low) * first * (w2 @ (second * w3))
    return np.asarray(w1 @ into_first + skip)


def _bends(values: _Vector) -> _Vector:
    """Return the rectifiers' slopes."""
    return np.where(values > 0.0, 1.0, float(LEAK))


def _pieces(at: _Vector, slope: _Vector, begin: float, end: float) -> list[tuple[float, float]]:
    """Return the stretches of [begin, end] within which no at + t * slope changes its sign."""
    bending = slope != 0.0
    zeros = -at[bending] / slope[bending]
    bounds = np.unique(np.concatenate([[begin], zeros[(zeros > begin) & (zeros < end)], [end]]))
    return list(zip(bounds[:-1].tolist(), bounds[1:].tolist(), strict=True))
