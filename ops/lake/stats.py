"""What is in the lake: rows, files, bytes, dates, and how far it is behind the log."""

from collections.abc import Iterable

import msgspec

from flows.lake.files import LakeFile, to_compact
from flows.lake.store import files, stored_table
from flows.lake.tables import TABLES
from state.settings import Settings


class TableStats(msgspec.Struct):
    """One table."""

    name: str
    rows: int = 0
    files: int = 0
    bytes: int = 0
    first_date: str | None = None
    last_date: str | None = None
    written_ms: int | None = None
    """When the newest file was written, epoch ms."""
    to_compact: int = 0
    """Partitions of small files that `freshet lake compact --all` would put together."""


class LakeStats(msgspec.Struct):
    """The answer of `freshet lake stats --json`."""

    root: str
    tables: list[TableStats]
    lag: int | None
    """Messages that are not in the lake yet; None where Kafka does not answer."""


def stats(settings: Settings) -> LakeStats:
    """Look at every table's log; no file is opened."""
    tables = []
    for table in TABLES:
        stored = stored_table(settings.lake_root, table)
        found = [] if stored is None else files(stored)
        tables.append(_stats(table.name, found, table.partition_by))
    return LakeStats(settings.lake_root, tables, _lag(settings))


def _stats(name: str, found: list[LakeFile], partition_by: Iterable[str]) -> TableStats:
    dates = [file.values["date"] for file in found if "date" in file.values]
    return TableStats(
        name,
        rows=sum(file.n_rows for file in found),
        files=len(found),
        bytes=sum(file.n_bytes for file in found),
        first_date=min(dates, default=None),
        last_date=max(dates, default=None),
        written_ms=max((file.modified_ms for file in found), default=None),
        to_compact=len(to_compact(found, tuple(partition_by), all_of_it=True)),
    )


def _lag(settings: Settings) -> int | None:
    from confluent_kafka import KafkaException

    from ops.lag import NotCaughtUpError, behind
    from ops.stack import kafka
    from state.store import StoreUnavailableError

    if not kafka.answers(kafka.admin(settings.kafka_brokers)):
        return None
    try:
        return behind(settings)["lake"]
    except (KafkaException, NotCaughtUpError, StoreUnavailableError):
        return None
