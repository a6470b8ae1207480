"""When to write: soon while that is cheap, in larger steps under load."""

_NEVER = float("-inf")


class Pacer:
    """Decides when what has become dirty is flushed. All times in seconds, of any one clock.

    A flush is due `delay` after the first change; later when flushing would take more than `share` of the time, but
    then never later than `at_most` after the first change. What has changed often since the last flush takes no longer
    to write than what has changed once. Nothing is waited for any more when no change has come for `quiet`, and for as
    long as the last flush took.

    Behind a log, what changes soon changes again, and nobody sees it fresh anyway. So a flush then waits for half of
    what the changes are behind, from `late` on for as long as that, up to `at_most` too. The first flush does
    not wait: after a restart, readers have waited already.
    """

    def __init__(
        self,
        delay: float = 0.02,
        share: float = 0.08,
        at_most: float = 8.0,
        late: float = 1.0,
        quiet: float = 0.1,
    ) -> None:
        self._delay = delay
        self._at_most = at_most
        self._late = late
        self._quiet = quiet
        self._rest_per_cost = (1.0 - share) / share
        self._dirty_since: float | None = None
        self._touched_at = _NEVER
        self._behind = 0.0
        self._cost = 0.0
        self._rested_at = _NEVER

    @property
    def due_at(self) -> float | None:
        """Time of the next flush, None while nothing is dirty."""
        dirty_since = self._dirty_since
        if dirty_since is None:
            return None
        paused_at = self._touched_at + max(self._quiet, self._cost)
        rested_at = min(self._rested_at, dirty_since + self._at_most, paused_at)
        affordable_at = max(dirty_since + self._delay, rested_at)
        if self._rested_at == _NEVER:
            return affordable_at
        worth = self._behind if self._behind >= self._late else self._behind / 2
        worth_at = min(dirty_since + min(worth, self._at_most), self._touched_at + self._quiet)
        return max(affordable_at, worth_at)

    def touch(self, now: float, behind: float = 0.0) -> None:
        """Something changed, by a message that is so many seconds old."""
        if self._dirty_since is None:
            self._dirty_since = now
        self._touched_at = now
        self._behind = behind

    def is_due(self, now: float) -> bool:
        due_at = self.due_at
        return due_at is not None and now >= due_at

    def flushed(self, started: float, ended: float) -> None:
        """Everything was written, from `started` to `ended`."""
        self._dirty_since = None
        self._cost = ended - started
        self._rested_at = ended + self._cost * self._rest_per_cost
