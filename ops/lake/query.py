"""Reads the lake with DuckDB: views over the files that count now, and nothing else within reach."""

import re
import tempfile
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, NamedTuple

import duckdb

from flows.lake.store import files, stored_table, uri
from flows.lake.tables import TABLES, LakeTable
from ops.lake.views import DESCRIPTIONS, base_view, derived_views
from state.settings import Settings

_EXPLAIN = re.compile(r"^\s*explain(\s+analyze)?\b(\s*\([^)]*\))?", re.IGNORECASE)
_POLL_S = 0.1


class LakeError(Exception):
    """A question that the lake cannot answer, in words for the one who asked."""


class Answer(NamedTuple):
    """Rows of a query."""

    columns: list[str]
    rows: Iterator[tuple[Any, ...]]


class Lake:
    """A connection that reads the lake as it is at this moment; open it with `opened`."""

    def __init__(self, connection: duckdb.DuckDBPyConnection) -> None:
        self._connection = connection

    def ask(self, sql: str, report: Callable[[float], None] = lambda percent: None) -> Answer:
        """Run one query; `report` gets percent done, -1 where that is not known. Raise `LakeError`."""
        try:
            _check(self._connection, sql)
            self._run(sql, report)
            columns = [column[0] for column in self._connection.description or ()]
        except duckdb.Error as error:
            raise LakeError(_explained(error)) from error
        return Answer(columns, self._rows())

    def _run(self, sql: str, report: Callable[[float], None]) -> None:
        """Wait for the query in this thread, so that it can be interrupted and its progress be shown."""
        failed: list[BaseException] = []

        def run() -> None:
            try:
                self._connection.execute(sql)
            except BaseException as error:  # raised again below, by the thread that waits
                failed.append(error)

        thread = threading.Thread(target=run)
        thread.start()
        try:
            while thread.is_alive():
                thread.join(_POLL_S)
                report(self._connection.query_progress())
        except KeyboardInterrupt:
            self._connection.interrupt()
            thread.join()
            raise
        if failed:
            raise failed[0]

    def _rows(self) -> Iterator[tuple[Any, ...]]:
        try:
            while rows := self._connection.fetchmany(1000):
                yield from rows
        except duckdb.Error as error:
            raise LakeError(_explained(error)) from error


@contextmanager
def opened(settings: Settings, since: str | None = None, until: str | None = None) -> Iterator[Lake]:
    """Open the lake, all dates or those from `since` to `until` (ISO, inclusive)."""
    root = settings.lake_root
    with tempfile.TemporaryDirectory(prefix="freshet-lake-") as spill, duckdb.connect() as connection:
        if "://" in root:
            _reach(connection, root)
        for table in TABLES:
            connection.execute(base_view(table, _paths(root, table, since, until)))
        for view in derived_views():
            connection.execute(view)
        for setting in (
            "TimeZone = 'UTC'",
            f"temp_directory = '{spill}'",
            "parquet_metadata_cache = true",
            "python_enable_replacements = false",
            "autoload_known_extensions = false",
            "autoinstall_known_extensions = false",
            f"allowed_directories = ['{_quoted(root)}/']",
            "enable_external_access = false",
            "lock_configuration = true",
        ):
            connection.execute(f"set {setting}")
        yield Lake(connection)


def _reach(connection: duckdb.DuckDBPyConnection, root: str) -> None:
    """Let DuckDB read an object store, by the settings in the environment that the writer uses too."""
    from obstore.fsspec import FsspecStore

    connection.register_filesystem(FsspecStore(root.split("://")[0]))  # type: ignore[call-overload]


def _paths(root: str, table: LakeTable, since: str | None, until: str | None) -> list[str]:
    stored = stored_table(root, table)
    if stored is None:
        return []
    return [
        f"{uri(root, table)}/{file.path}"
        for file in files(stored)
        if (since or "") <= file.values.get("date", "9") and (until is None or file.values.get("date", "") <= until)
    ]


def _check(connection: duckdb.DuckDBPyConnection, sql: str) -> None:
    """Let only one query pass: files in reach could be written to, the lake's own."""
    statements = connection.extract_statements(sql)
    if len(statements) != 1:
        raise LakeError(f"expected one query, got {len(statements)}")
    kind = statements[0].type
    if kind == duckdb.StatementType.EXPLAIN:
        return _check(connection, _EXPLAIN.sub("", sql, count=1))
    if kind != duckdb.StatementType.SELECT:
        raise LakeError(f"only queries (select, from, with, describe, summarize, show) can be run, not {kind.name}")
    return None


def _explained(error: duckdb.Error) -> str:
    text = str(error)
    if isinstance(error, duckdb.CatalogException) and "Table with name" in text:
        text += f"\nThere are: {', '.join(DESCRIPTIONS)}. See: freshet lake sql 'describe events'"
    if "HTTP" in text or "No files found" in text:
        text += "\nFiles were replaced while they were read (compaction, erasure), perhaps: ask again."
    return text


def _quoted(text: str) -> str:
    return text.replace("'", "''")
