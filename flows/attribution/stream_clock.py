"""Event time of a partition that two topics share, moved by messages, or by the wall clock when both are read."""

from collections.abc import Iterable

from msgspec import Struct

_UNKNOWN = -1


class TopicTime(Struct, array_like=True):
    """How far one topic has come."""

    stream_ts: int = _UNKNOWN
    """Highest event time read, epoch ms."""
    read_at: int = 0
    """Wall clock of the last message, epoch ms."""
    at_end: bool = False
    """Nothing was left to read when it was read last."""


class StreamClock:
    """The watermark: no event older than it is expected. It never goes back.

    While a topic has messages left to read, its own stream time holds the watermark: a backlog of one topic cannot
    make the other one's messages late. When all topics are read to their ends, the furthest stream time counts, and
    moves on with the wall clock; so time passes on an idle partition. An event of the future (client clocks) moves
    nothing beyond the wall clock.
    """

    def __init__(self, topics: Iterable[str], watermark: int = 0, times: dict[str, TopicTime] | None = None) -> None:
        """Without a report of this process no topic is at its end, whatever `times` of an earlier one say."""
        before = times or {}
        known = {name: before.get(name, TopicTime()) for name in topics}
        self.topics = {name: TopicTime(time.stream_ts, time.read_at) for name, time in known.items()}
        self._watermark = watermark

    def read(self, topic: str, stream_ts: int | None, at_end: bool, now: int) -> None:
        """A stretch of `topic` was read: highest event time in it (None: it was empty)."""
        time = self.topics[topic]
        time.at_end = at_end
        if stream_ts is not None:
            time.stream_ts = max(time.stream_ts, stream_ts)
            time.read_at = now

    @property
    def is_idle(self) -> bool:
        """All topics are read to their ends: only the wall clock moves time."""
        return all(time.at_end for time in self.topics.values())

    def watermark(self, now: int) -> int:
        """Return event time as of the wall clock `now`, both epoch ms; 0 before anything is known."""
        if self.is_idle:
            reached = max(
                (t.stream_ts + now - t.read_at for t in self.topics.values() if t.stream_ts != _UNKNOWN), default=0
            )
        else:
            reached = min(time.stream_ts for time in self.topics.values() if not time.at_end)
        self._watermark = max(self._watermark, min(reached, now))
        return self._watermark
