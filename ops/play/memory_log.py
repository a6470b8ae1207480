"""What Kafka is to one process that keeps nothing: topics as queues in memory, and serving's way into them."""

import asyncio
import time
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field

import msgspec

from flows.common.batches import KafkaBatch
from serving.kafka.event_log import Delivery, QueueFullError
from state.records import Impression
from state.topics import Topic

MAX_WAITING = 100_000
_MAX_LISTS = 5000
_decoder = msgspec.msgpack.Decoder(Impression)


@dataclass
class _Queue:
    """Messages of one topic that are not read yet: (key, value, epoch ms)."""

    waiting: deque[tuple[bytes, bytes | None, int]] = field(default_factory=deque)
    next_offset: int = 0


class MemoryLog:
    """Topics of one partition each. A message is forgotten once it was taken."""

    def __init__(self) -> None:
        self._queues: dict[str, _Queue] = {}
        self._arrived = asyncio.Event()

    @property
    def n_waiting(self) -> int:
        return sum(len(queue.waiting) for queue in self._queues.values())

    def append(self, topic: Topic, key: bytes, value: bytes | None) -> None:
        queue = self._queues.setdefault(topic.name, _Queue())
        queue.waiting.append((key, value, time.time_ns() // 1_000_000))
        self._arrived.set()

    def take(self, topic: Topic, at_most: int) -> KafkaBatch:
        """Return the next messages, in order; a batch without any says where the topic ends."""
        queue = self._queues.setdefault(topic.name, _Queue())
        taken = [queue.waiting.popleft() for _ in range(min(at_most, len(queue.waiting)))]
        first, queue.next_offset = queue.next_offset, queue.next_offset + len(taken)
        return KafkaBatch(
            topic=topic.name,
            partition=0,
            offsets=list(range(first, queue.next_offset)),
            keys=[key for key, _, _ in taken],
            values=[value for _, value, _ in taken],
            timestamps=[timestamp for _, _, timestamp in taken],
            next_offset=queue.next_offset,
            at_end=not queue.waiting,
        )

    async def wait(self, timeout_s: float) -> None:
        """Return when something waits to be read, at the latest after `timeout_s`."""
        if not self.n_waiting:
            self._arrived.clear()
            try:
                async with asyncio.timeout(timeout_s):  # `wait_for` of Python 3.11 can swallow a cancellation
                    await self._arrived.wait()
            except TimeoutError:
                return


class MemoryOutbox:
    """What `serving.kafka.event_log.Outbox` is over Kafka: everything is acknowledged at once."""

    stalled = False

    def __init__(self, log: MemoryLog) -> None:
        self._log = log

    @property
    def n_queued(self) -> int:
        """Nothing waits for a broker."""
        return 0

    def put(self, topic: Topic, key: str, value: bytes) -> bool:
        """Return False when there is no room."""
        if self._log.n_waiting >= MAX_WAITING:
            return False
        self._log.append(topic, key.encode(), value)
        return True

    async def deliver(self, topic: Topic, messages: Sequence[tuple[str, bytes | None]], wait_s: float) -> Delivery:
        """Raise `QueueFullError` when there is no room."""
        if self._log.n_waiting + len(messages) > MAX_WAITING:
            raise QueueFullError
        for key, value in messages:
            self._log.append(topic, key.encode(), value)
        return Delivery(len(messages), asyncio.get_running_loop(), n_acked=len(messages))


class MemoryLists(MemoryOutbox):
    """Impressions; the newest ones can be looked up."""

    def __init__(self, log: MemoryLog) -> None:
        super().__init__(log)
        self._newest: deque[bytes] = deque(maxlen=_MAX_LISTS)

    def put(self, topic: Topic, key: str, value: bytes) -> bool:
        self._newest.append(value)
        return super().put(topic, key, value)

    def find(self, request_id: str, ts: int, partition: int) -> Impression | None:
        """Return the list, None when it is not among the newest."""
        wanted = request_id.encode()
        found = next((value for value in tuple(self._newest) if wanted in value), None)
        return None if found is None else _decoder.decode(found)


class MemoryEventLog:
    """What `serving.kafka.event_log.EventLog` is over Kafka."""

    def __init__(self, log: MemoryLog) -> None:
        self.events = MemoryOutbox(log)
        self.impressions = self.lists = MemoryLists(log)

    def close(self) -> None:
        """Nothing is kept, so nothing is left to send."""
