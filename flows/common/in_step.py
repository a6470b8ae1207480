"""Reading topics side by side, so that what is read of the one does not pile up waiting for the other."""

from datetime import timedelta

Where = tuple[str, int]
"""(topic, partition)."""

_UNREAD = -1


class InStep:
    """Decides whose reading must wait: a topic's that is further than `span` ahead of another one with messages left.

    Ahead is told by the messages' timestamps (epoch ms): when they were written, not what they are about.
    """

    def __init__(self, where: set[Where], span: timedelta) -> None:
        self._span = span // timedelta(milliseconds=1)
        self._reached = dict.fromkeys(where, _UNREAD)
        self._at_end: set[Where] = set()

    def read(self, where: Where, timestamp: int | None, at_end: bool) -> None:
        """A stretch was read up to a message of that time (None: it was empty)."""
        if timestamp is not None:
            self._reached[where] = max(self._reached[where], timestamp)
        if at_end:
            self._at_end.add(where)
        else:
            self._at_end.discard(where)

    def waiting(self) -> set[Where]:
        """Return those that must not be read now."""
        slowest: dict[int, int] = {}
        for (topic, partition), reached in self._reached.items():
            if (topic, partition) not in self._at_end:
                slowest[partition] = min(reached, slowest.get(partition, reached))
        return {
            (topic, partition)
            for (topic, partition), reached in self._reached.items()
            if partition in slowest and reached - slowest[partition] > self._span
        }
