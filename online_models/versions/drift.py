"""Whether the stream is still what the ranker has learned: River's ADWIN on its inputs, predictions and residuals.

Looked at are means over 32 lists in a row, of which each signal has one:

- `input_NAME`: the mean of an input over a list's candidates, as it was logged;
- `prediction`: how undecided the ranker is between the items shown, the entropy of their chances, 0 to 1;
- `residual`: what the ranker loses against guessing, the log loss of what was taken less log n; before it is learned.

ADWIN, and neither of the others: Page-Hinkley wants a threshold in the unit of each signal, KSWIN keeps raw values and
compares random parts of them. ADWIN bounds how often it errs, and adapts to the size of the change.

References
----------
Bifet, Gavalda (2007), Learning from time-changing data with adaptive windowing.
"""

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple, Self
from zlib import crc32

import msgspec
import numpy as np
from numpy.typing import NDArray
from river.drift import ADWIN

from online_models.engine import inputs
from online_models.evaluation.held_out import chances_of, log_loss
from online_models.learning.examples import values_of
from state.records import Example

SIGNALS = (*(f"input_{name}" for name in inputs.NAMES), "prediction", "residual")
_PREDICTION, _RESIDUAL = len(SIGNALS) - 2, len(SIGNALS) - 1

PER_MEAN = 32
"""Lists."""
ALPHA = 0.01
"""Chance of a false alarm of some signal at a mean, at most; in practice far less, as the bound is a loose one."""
N_BASELINE = 16
"""First means, that give a signal its scale: nothing is said before."""
N_KEPT = 256
"""Means that a detector looks back on; when there are so many, the older half is dropped."""
_FAR = 8.0
"""Standard deviations: further ones count as this."""
_AFTER = 5
"""Newest means that an alarm tells of: what ADWIN needs at least."""

Score = Callable[[NDArray[np.float32], NDArray[np.float32]], NDArray[np.float32]]
"""Scores of a list's items, from their inputs and the list's mean."""


class Alarm(NamedTuple):
    """A signal that is not what it was."""

    signal: str
    ts: int
    """Of the newest list, epoch ms."""
    before: float
    after: float
    """Its mean over the newest lists."""
    n_lists: int
    """That it was followed for."""


class _Head(msgspec.Struct, array_like=True):
    """Of the lists that make no mean yet, and how many means each signal has."""

    feature_set: str
    stream_ts: int
    n_lists: int
    sums: bytes
    counts: bytes
    lengths: list[int]


class Drift:
    """Follows all signals of the labelled lists. Bounded; its state is that of its means, so that it can be restored.

    Parameters
    ----------
    share
        Of the lists that are looked at, chosen by their request ids.
    """

    ROWS = (_HEAD, _MEANS) = "drift", "drift:means"

    def __init__(self, share: float = 1.0) -> None:
        self._share = share
        self.stream_ts = 0
        self._n_lists = 0
        self._sums = np.zeros(len(SIGNALS))
        self._counts = np.zeros(len(SIGNALS), np.int64)
        self._signals = [_Signal() for _ in SIGNALS]
        self._looked = self._closed = False

    def look(self, example: Example, score: Score) -> list[Alarm]:
        """Look at a labelled list before it is learned; return what has changed, mostly nothing."""
        n = len(example.items)
        if example.request_id is None or crc32(example.request_id.encode()) >= self._share * 2**32:
            return []
        values = values_of(example)
        if n < 2 or values is None:
            return []
        chances = chances_of(score(values[:n], values[n]))
        taken = np.array(example.labels) == 1
        self.stream_ts = max(self.stream_ts, example.ts)
        self._sums[:_PREDICTION] += values[n]
        self._sums[_PREDICTION] += -float(chances @ np.log(np.maximum(chances, 1e-12))) / np.log(n)
        self._counts[:_RESIDUAL] += 1
        if taken.any() and not taken.all():
            self._sums[_RESIDUAL] += log_loss(chances, taken) - np.log(n)
            self._counts[_RESIDUAL] += 1
        self._n_lists += 1
        self._looked = True
        return self._close() if self._n_lists == PER_MEAN else []

    def _close(self) -> list[Alarm]:
        """Show the detectors the means."""
        self._closed = True
        found = []
        for name, signal, total, n in zip(SIGNALS, self._signals, self._sums, self._counts, strict=True):
            change = signal.add(float(np.float32(total / n))) if n else None
            if change is not None:
                before, after, n_means = change
                found.append(Alarm(name, self.stream_ts, before, after, PER_MEAN * n_means))
        self._n_lists, self._sums[:], self._counts[:] = 0, 0.0, 0
        return found

    def rows(self) -> dict[str, bytes]:
        """Return what has changed since `written`: by name, what a restored one goes on from identically."""
        if not self._looked:
            return {}
        lengths = [len(signal.means) for signal in self._signals]
        sums, counts = self._sums.tobytes(), self._counts.tobytes()
        head = _Head(inputs.FEATURE_SET, self.stream_ts, self._n_lists, sums, counts, lengths)
        rows = {self._HEAD: msgspec.msgpack.encode(head)}
        if self._closed:
            means = np.concatenate([np.array(signal.means, np.float32) for signal in self._signals])
            rows[self._MEANS] = means.tobytes()
        return rows

    def written(self) -> None:
        """Say that what `rows` gave is stored."""
        self._looked = self._closed = False

    def restore(self, rows: Mapping[str, bytes]) -> Self:
        """Take over rows. Those of other inputs are of no use: then all begins anew."""
        if self._HEAD not in rows:
            return self
        was = msgspec.msgpack.decode(rows[self._HEAD], type=_Head)
        if was.feature_set != inputs.FEATURE_SET:
            return self
        self.stream_ts, self._n_lists = was.stream_ts, was.n_lists
        self._sums[:] = np.frombuffer(was.sums)
        self._counts[:] = np.frombuffer(was.counts, np.int64)
        parts = np.split(np.frombuffer(rows.get(self._MEANS, b""), np.float32), np.cumsum(was.lengths)[:-1])
        self._signals = [_Signal(part.tolist()) for part in parts]
        return self


class _Signal:
    """One detector, and all the means that it was shown."""

    def __init__(self, means: list[float] | None = None) -> None:
        self.means: list[float] = []
        self._detector: Any = None
        for mean in means or ():
            self.add(mean)

    def add(self, mean: float) -> tuple[float, float, int] | None:
        """Return the means before and after a change, and how many there were; None without a change."""
        if len(self.means) == N_KEPT:
            kept = self.means[N_KEPT // 2 :]
            self.means, self._detector = [], None
            for earlier in kept:
                self.add(earlier)
        self.means.append(mean)
        if len(self.means) < N_BASELINE:
            return None
        if self._detector is None:
            self._detector = ADWIN(  # type: ignore[no-untyped-call]
                delta=ALPHA / len(SIGNALS), clock=1
            )
            baseline = np.array(self.means)
            self._centre, self._scale = float(baseline.mean()), max(float(baseline.std()), 1e-9)
            for first in self.means[:-1]:
                self._detector.update(self._scaled(first))
        self._detector.update(self._scaled(mean))
        if not self._detector.drift_detected:
            return None
        was, self.means, self._detector = self.means, [], None
        return float(np.mean(was[:-_AFTER])), float(np.mean(was[-_AFTER:])), len(was)

    def _scaled(self, mean: float) -> float:
        return float(np.clip((mean - self._centre) / self._scale, -_FAR, _FAR))
