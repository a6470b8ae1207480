"""Work that may be left out, so that it takes no more than its share of the time."""

import math
import time
from collections.abc import Callable

UNLIMITED = 1.0
"""The share that is no bound."""


class Budget:
    """Grants work as long as it takes at most a share of the time, measured with the given clock (seconds).

    A share of `UNLIMITED` or more grants all work and one of 0 none, whatever the clock says.
    """

    def __init__(self, share: float, clock: Callable[[], float] = time.perf_counter, burst_s: float = 0.1) -> None:
        self.clock = clock
        self._share = share
        self._burst_s = burst_s
        self._credit_s = burst_s if share > 0 else 0.0
        self._at = clock()
        self._piece_s = 0.0

    def start(self) -> float | None:
        """Return when the work began, to be given to `stop`; None when there is no time for it."""
        now = self.clock()
        self._credit_s = min(self._burst_s, self._credit_s + (now - self._at) * self._share)
        self._at = now
        return now if self._credit_s > 0 or self._share >= UNLIMITED else None

    def stop(self, started: float) -> None:
        self._charge(self.clock() - started)

    def grants(self, n: int) -> int:
        """Return how many of n equal pieces of work there is time for, by what the last ones took."""
        if self._share >= UNLIMITED:
            return n
        if self.start() is None:
            return 0
        return n if self._piece_s * n <= self._credit_s else math.ceil(self._credit_s / self._piece_s)

    def spent(self, seconds: float, n_granted: int, n_pieces: int) -> None:
        """Say that `n_pieces` took so long, of which `n_granted` were granted and the others had to be done anyway."""
        self._piece_s = seconds / n_pieces
        self._charge(self._piece_s * n_granted)

    def _charge(self, seconds: float) -> None:
        """A debt is at most the burst: one long pause, as for compiling, does not stop the work for long."""
        self._credit_s = max(-self._burst_s, self._credit_s - seconds)
