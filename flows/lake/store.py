"""Tables of the lake as Delta tables: Parquet files that count from the moment at which a commit of the log names them.

A commit names the files of its rows together with the Kafka offsets behind them, in one put that fails if the log has
moved: rows are there whole, once, with the position to go on from, or not at all. What two writers of one partition
would write twice, the log refuses.
"""

import hashlib
import logging
import secrets
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from arro3.core import RecordBatch, Table
from deltalake import CommitProperties, DeltaTable, QueryBuilder, Transaction, WriterProperties, write_deltalake
from deltalake.exceptions import CommitFailedError, TableNotFoundError
from deltalake.schema import Schema as DeltaSchema

from flows.lake.files import TARGET_BYTES, LakeFile, Partition, to_compact
from flows.lake.tables import LakeTable
from state.validation import ERASE

log = logging.getLogger(__name__)

KEPT = timedelta(hours=1)
"""Files that were replaced stay so long, for those who are reading them."""

_CONFIGURATION = {
    # Only columns by which files are found, and none that tells who was there: the log outlives an erasure.
    "delta.dataSkippingStatsColumns": "kafka_partition,kafka_offset",
    "delta.checkpointInterval": "50",
    "delta.logRetentionDuration": "interval 1 days",
    "delta.deletedFileRetentionDuration": f"interval {KEPT // timedelta(hours=1)} hours",
}
_WRITER = WriterProperties(compression="ZSTD", compression_level=3)
_TRIES = 5
_ERASURES = "select user_id, ts from events where type = 'erase'"


class LakeConflictError(Exception):
    """Another process has written the same Kafka partition."""


class LakeSchemaError(Exception):
    """The stored table has a column of another type than the code."""


@dataclass(frozen=True)
class Stretch:
    """Which offsets of a Kafka partition a commit is of: from `start` to before `end`."""

    start: int
    end: int


class StoredTable:
    """One table, for its writer. `cluster` tells one Kafka's offsets from another's."""

    def __init__(self, root: str, table: LakeTable, cluster: str) -> None:
        """Open the table, create it, or add the columns that it does not have yet. Raise `LakeSchemaError`."""
        self.table = table
        self._cluster = cluster
        self.delta = DeltaTable.create(
            uri(root, table),
            table.schema,
            mode="ignore",
            partition_by=list(table.partition_by),
            name=table.name,
            configuration=_CONFIGURATION,
        )
        self._add_columns()

    def position(self, partition: int) -> int | None:
        """Return the offset to go on from, None when no row of the Kafka partition is here."""
        self.delta.update_incremental()
        return position(self.delta, self.table, self._cluster, partition)

    def append(self, rows: Sequence[RecordBatch], stretches: Mapping[int, Stretch]) -> None:
        """Write rows and the end of each Kafka partition's stretch. Raise `LakeConflictError`."""
        for partition, stretch in stretches.items():
            found = position(self.delta, self.table, self._cluster, partition)
            if found is not None and found > stretch.start:
                raise LakeConflictError(
                    f"{self.table.name}: partition {partition} is at {found}, not at {stretch.start}"
                )
        ends = [
            Transaction(_writer(self.table, self._cluster, partition), stretch.end)
            for partition, stretch in stretches.items()
        ]
        try:
            write_deltalake(
                self.delta,
                Table.from_batches(rows, schema=self.table.schema),
                mode="append",
                schema_mode="merge",  # newer code may have added columns already
                writer_properties=_WRITER,
                target_file_size=TARGET_BYTES,
                commit_properties=CommitProperties(app_transactions=ends),
            )
        except CommitFailedError as error:
            raise LakeConflictError(f"{self.table.name}: {error}") from error

    def _add_columns(self) -> None:
        stored = {field.name: field for field in self.delta.schema().fields}
        wanted = DeltaSchema.from_arrow(self.table.schema).fields
        for field in wanted:
            found = stored.get(field.name)
            if found is not None and found.type != field.type:
                where = f"{self.table.name}.{field.name} in {self.delta.table_uri}"
                raise LakeSchemaError(f"{where}: expected {field.type}, got {found.type}")
        missing = [field for field in wanted if field.name not in stored]
        if missing:
            log.info("%s: new columns %s", self.table.name, ", ".join(field.name for field in missing))
            self.delta.alter.add_columns(missing)


def position(stored: DeltaTable, table: LakeTable, cluster: str, partition: int) -> int | None:
    """Return the offset behind what is here of a partition of that Kafka, None when there is nothing of it."""
    version: int | None = stored.transaction_version(_writer(table, cluster, partition))
    return version


def _writer(table: LakeTable, cluster: str, partition: int) -> str:
    return f"{cluster}/{table.topic.name}/{partition}"


def uri(root: str, table: LakeTable) -> str:
    """Return where a table is."""
    return f"{root}/{table.name}"


def stored_table(root: str, table: LakeTable) -> DeltaTable | None:
    """Return a table as it is now, None when nothing was ever written."""
    try:
        return DeltaTable(uri(root, table))
    except TableNotFoundError:
        return None


def files(stored: DeltaTable) -> list[LakeFile]:
    """Return the files that count now; paths begin at the table's folder."""
    found: dict[str, Any] = {}
    actions = Table.from_arrow(stored.get_add_actions(flatten=True))
    for name in actions.column_names:
        found[name] = actions[name].to_pylist()
    return [
        LakeFile(
            path=path,
            n_bytes=found["size_bytes"][at],
            n_rows=found["num_records"][at] or 0,
            modified_ms=int(found["modification_time"][at]),
            values={
                name.removeprefix("partition."): str(values[at])
                for name, values in found.items()
                if name.startswith("partition.")
            },
        )
        for at, path in enumerate(found["path"])
    ]


def worth_compacting(
    stored: DeltaTable, table: LakeTable, closed_before: str, now_ms: int, *, all_of_it: bool = False
) -> list[Partition]:
    """Return partitions of small files; dates before `closed_before` (ISO) count as closed, see `to_compact`."""
    return to_compact(files(stored), table.partition_by, closed_before, now_ms, all_of_it=all_of_it)


def compact(stored: DeltaTable, partition: Partition) -> bool:
    """Put the small files of a partition together, in one commit: a reader sees the ones or the other.

    Return False when somebody else compacts or erases just there.
    """
    try:
        stored.optimize.compact(
            partition_filters=[(name, "=", value) for name, value in partition],
            target_size=TARGET_BYTES,
            writer_properties=_WRITER,
        )
    except CommitFailedError as error:
        log.warning("%s %s: not compacted now: %s", stored.table_uri, dict(partition), error)
        stored.update_incremental()
        return False
    return True


def drop_replaced(stored: DeltaTable, kept: timedelta) -> int:
    """Delete files that the log names as replaced for longer than `kept`; return how many."""
    hours = int(kept / timedelta(hours=1))
    return len(stored.vacuum(retention_hours=hours, dry_run=False, enforce_retention_duration=False))


def to_erase(root: str, table: LakeTable, before: datetime) -> list[str]:
    """Return the users whose erasure stands in the table of events, of before that time."""
    stored = stored_table(root, table)
    if stored is None or not any(file.values.get("type") == ERASE for file in files(stored)):
        return []
    found = QueryBuilder().register("events", stored).execute(_ERASURES).read_all()
    at = zip(found["user_id"].to_pylist(), found["ts"].to_pylist(), strict=True)
    return sorted({str(user_id) for user_id, ts in at if ts < before})


def count_of_user(root: str, table: LakeTable, user_id: str) -> int:
    """Return how many rows of the table are a user's."""
    stored = stored_table(root, table)
    if stored is None or not files(stored):
        return 0
    batches = QueryBuilder().register("rows", stored).execute("select user_id from rows")
    return sum(list(batch["user_id"].to_pylist()).count(user_id) for batch in batches)


def erase(root: str, table: LakeTable, user_id: str) -> int:
    """Remove a user's rows and the files that they were in; return how many rows. Raise `LakeConflictError`.

    A query that is reading these files fails. Rows that wait in the flow, or in Kafka, come later: erase there first.
    """
    stored = stored_table(root, table)
    if stored is None or not table.of_user:
        return 0
    # The log keeps the condition for a day, so it must not name the user.
    salt = secrets.token_hex(16)
    digest = hashlib.md5((salt + user_id).encode(), usedforsecurity=False).hexdigest()
    condition = f"md5(concat('{salt}', user_id)) = '{digest}'"
    for tries_left in reversed(range(_TRIES)):
        try:
            n_rows = int(stored.delete(condition, writer_properties=_WRITER)["num_deleted_rows"])
        except CommitFailedError as error:
            if not tries_left:
                raise LakeConflictError(f"{table.name}: {error}") from error
            stored.update_incremental()
            continue
        break
    if n_rows:
        drop_replaced(stored, timedelta())
    return n_rows
