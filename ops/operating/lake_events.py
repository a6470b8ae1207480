"""The lake's clean events as batches of the topic `clean`, for what Kafka no longer has."""

from collections.abc import Iterator, Mapping
from contextlib import ExitStack
from types import TracebackType
from typing import Any, Self

import msgspec

from flows.common.batches import KafkaBatch
from flows.lake.store import position, stored_table
from flows.lake.tables import TABLES
from ops.lake.query import opened
from ops.stack.errors import StackError
from state.records import CleanEvent
from state.settings import Settings
from state.topics import CLEAN

_AT_ONCE = 10_000
_TABLE = next(table for table in TABLES if table.topic == CLEAN)
_COLUMNS = """kafka_partition, kafka_offset, epoch_ms(arrived), event_id, type, user_id, item_id, epoch_ms(ts),
    session_id, request_id, position, coalesce(value::json, to_json(value_text)), context"""
_COVERAGE = "select kafka_partition, count(*), count(distinct kafka_offset), max(kafka_offset) from events group by 1"

_encode = msgspec.msgpack.Encoder().encode


class LakeEvents:
    """The table `events`, as it is when this is entered."""

    def __init__(self, settings: Settings, cluster_id: str) -> None:
        self._settings = settings
        self._cluster_id = cluster_id
        self._stack = ExitStack()

    def __enter__(self) -> Self:
        """Raise `StackError` when the lake is empty, or of several Kafkas, whose offsets mean different things."""
        stored = stored_table(self._settings.lake_root, _TABLE)
        if stored is None:
            raise StackError(
                f"There is no lake at {self._settings.lake_root}.", "FRESHET_LAKE says where it is; else --from kafka."
            )
        self._ends = {p: position(stored, _TABLE, self._cluster_id, p) or 0 for p in range(self._settings.partitions)}
        self._lake = self._stack.enter_context(opened(self._settings))
        for partition, n_rows, n_offsets, last in self._lake.ask(_COVERAGE).rows:
            if n_rows != n_offsets or last >= self._ends.get(partition, 0):
                self._stack.close()
                raise StackError(
                    f"The lake at {self._settings.lake_root} has events of another Kafka, or of other partitions.",
                    "Its offsets are not these. freshet rebuild --from kafka takes what Kafka has.",
                )
        return self

    def end(self, partition: int) -> int:
        """Return the offset behind what the lake has, 0 where it has nothing."""
        return self._ends[partition]

    def count(self, before: Mapping[int, int]) -> int:
        """Return the number of events before these offsets, by partition."""
        (n,) = next(self._lake.ask(f"select count(*) from events where {_until(before)}").rows)  # noqa: S608
        return int(n)

    def batches(self, before: Mapping[int, int]) -> Iterator[KafkaBatch]:
        """Yield the events before these offsets, partitions side by side; then, empty, those offsets."""
        query = (
            f"select {_COLUMNS} from events where {_until(before)} "  # noqa: S608
            "order by kafka_offset, kafka_partition"
        )
        rows = self._lake.ask(query).rows
        ended = False
        while not ended:
            found: dict[int, list[tuple[int, int, CleanEvent]]] = {}
            for _ in range(_AT_ONCE):
                row = next(rows, None)
                if row is None:
                    ended = True
                    break
                found.setdefault(row[0], []).append((row[1], row[2], _event(row[3:])))
            for partition, events in found.items():
                offsets, times, records = zip(*events, strict=True)
                keys: list[bytes | None] = [record.user_id.encode() for record in records]
                values: list[bytes | None] = [_encode(record) for record in records]
                yield KafkaBatch(CLEAN.name, partition, list(offsets), keys, values, list(times), offsets[-1] + 1)
        for partition, offset in before.items():
            if offset:
                yield KafkaBatch(CLEAN.name, partition, [], [], [], [], offset)

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._stack.close()


def _until(before: Mapping[int, int]) -> str:
    return " or ".join(f"(kafka_partition = {p} and kafka_offset < {offset})" for p, offset in before.items())


def _event(row: tuple[Any, ...]) -> CleanEvent:
    event_id, kind, user_id, item_id, ts, session_id, request_id, position, value, context = row
    return CleanEvent(
        event_id,
        kind,
        user_id,
        item_id,
        ts,
        session_id,
        request_id,
        position,
        None if value is None else msgspec.json.decode(value),
        None if context is None else msgspec.json.decode(context),
    )
