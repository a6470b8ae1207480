"""When to write: soon while that is cheap, in larger steps under load."""

_NEVER = float("-inf")


class Pacer:
    """Decides when what has become dirty is flushed. All times in seconds, of any one clock.

    A flush is due `delay` after the first change; later when flushing would take more than `share` of the time; but
    never later than `at_most` after the first change.
    """

    def __init__(self, delay: float = 0.02, share: float = 0.2, at_most: float = 1.0) -> None:
        self._delay = delay
        self._at_most = at_most
        self._rest_per_cost = (1.0 - share) / share
        self._dirty_since: float | None = None
        self._rested_at = _NEVER

    @property
    def due_at(self) -> float | None:
        """Time of the next flush, None while nothing is dirty."""
        if self._dirty_since is None:
            return None
        return min(max(self._dirty_since + self._delay, self._rested_at), self._dirty_since + self._at_most)

    def touch(self, now: float) -> None:
        """Something changed."""
        if self._dirty_since is None:
            self._dirty_since = now

    def is_due(self, now: float) -> bool:
        due_at = self.due_at
        return due_at is not None and now >= due_at

    def flushed(self, started: float, ended: float) -> None:
        """Everything was written, from `started` to `ended`."""
        self._dirty_since = None
        self._rested_at = ended + (ended - started) * self._rest_per_cost
