"""How an `Attribution` goes on after a restart: from its snapshot, the impressions' log and what it said since.

A snapshot names the slates that are pending; their messages are read again. The log of examples tells what was said
after the snapshot, so that every example is in it once. When the recovery store is lost, the committed offsets of the
consumer group and the same two logs bring back all but the outcomes that waited in that second.
"""

import logging
from collections.abc import Iterable, Iterator
from datetime import timedelta

import msgspec

from flows.attribution.attributing import Attribution, Rules
from flows.attribution.snapshot import Snapshot
from flows.common.kafka_log import KafkaLog
from state.records import Example
from state.topics import CLEAN, EXAMPLES, IMPRESSIONS

log = logging.getLogger(__name__)

_OVERLAP_MS = 10_000  # clocks of producers and of this process differ
_STEP_BACK_MS = 60_000  # what may have been committed before it was worked on
_MAX_SAID = 200_000

_decode_example = msgspec.msgpack.Decoder(Example).decode


class Recovery:
    """Brings an `Attribution` per partition to where it was."""

    def __init__(self, kafka: KafkaLog, rules: Rules, partitions: Iterable[int]) -> None:
        self._kafka = kafka
        self._rules = rules
        self.start = {position: offset for partition in partitions for position, offset in self._start_of(partition)}
        """(topic, partition) -> where to begin without a recovery store; the begin of the log where there is none."""

    def resume(self, partition: int, snapshot: bytes) -> Attribution:
        """Return the logic as of the snapshot, knowing what it has said since."""
        state = Snapshot.decode(snapshot)
        logic = Attribution(self._rules)
        self._tell_what_was_said(logic, partition, state.as_of - _OVERLAP_MS)
        found = self._kafka.read(IMPRESSIONS, partition, state.first_impression, state.next_impression)
        logic.restore(state, ((message.offset, message.value) for message in found))
        log.info("partition %d goes on with %d pending slates", partition, len(state.slates))
        return logic

    def begin(self, partition: int) -> Attribution:
        """Return the logic for a partition without a snapshot, to be fed from `start` on."""
        logic = Attribution(self._rules)
        last = self._last_said(partition)
        if last is None:
            return logic
        start = self.start.get((IMPRESSIONS.name, partition), 0)
        since = last - self._rules.window // timedelta(milliseconds=1)
        log.warning("partition %d has examples, but no recovery state: slates are read again from %d", partition, since)
        self._tell_what_was_said(logic, partition, since if start else 0)
        found = self._kafka.read(IMPRESSIONS, partition, self._kafka.offset_at(IMPRESSIONS, partition, since), start)
        logic.read_back((message.offset, message.value) for message in found)
        return logic

    def _start_of(self, partition: int) -> Iterator[tuple[tuple[str, int], int]]:
        last = self._last_said(partition)
        for topic in (IMPRESSIONS, CLEAN):
            committed = self._kafka.committed(topic, partition)
            if committed is not None and last is not None:
                back = self._kafka.offset_at(topic, partition, last - _STEP_BACK_MS)
                yield (topic.name, partition), min(committed, back)

    def _tell_what_was_said(self, logic: Attribution, partition: int, since: int) -> None:
        first, end = self._kafka.offset_at(EXAMPLES, partition, since), self._kafka.bounds(EXAMPLES, partition)[1]
        if end - first > _MAX_SAID:
            log.warning("partition %d: of %d examples only the last %d are known", partition, end - first, _MAX_SAID)
            first = end - _MAX_SAID
        logic.said(
            (
                _decode_example(m.value)
                for m in self._kafka.read(EXAMPLES, partition, first, end)
                if m.value is not None
            ),
            since,
            {topic.name: self._kafka.bounds(topic, partition)[1] for topic in (IMPRESSIONS, CLEAN)},
        )

    def _last_said(self, partition: int) -> int | None:
        """Return when the newest example was written, epoch ms."""
        first, end = self._kafka.bounds(EXAMPLES, partition)
        newest = list(self._kafka.read(EXAMPLES, partition, max(first, end - 1), end))
        return newest[-1].timestamp if newest else None
