"""Messages that wait on disk while Kafka is away: first in, first out, bounded in bytes."""

import fcntl
import logging
import os
import sqlite3
from collections.abc import Sequence
from itertools import count
from pathlib import Path
from typing import NamedTuple

from state.settings import Settings

_OVERHEAD = 32
"""Bytes of a row beside its columns, about."""
_log = logging.getLogger("serving")


class Waiting(NamedTuple):
    """A message that no broker has yet."""

    topic: str
    """As Kafka calls it."""
    key: str
    value: bytes

    @property
    def n_bytes(self) -> int:
        return len(self.topic) + len(self.key) + len(self.value) + _OVERHEAD


class Spool:
    """One file of one process; any of its threads, one at a time.

    A message stays until it is forgotten, so that one that was on its way when the process died is sent again: once
    more is better than never, and readers know a request by its id.

    Raises
    ------
    sqlite3.Error
        From every method, when the disk is full or broken.
    """

    def __init__(self, path: Path, max_bytes: int) -> None:
        self._max_bytes = max_bytes
        self._database = sqlite3.connect(path, check_same_thread=False, isolation_level=None)
        self._database.execute("PRAGMA journal_mode=WAL")
        self._database.execute("PRAGMA synchronous=NORMAL")
        self._database.execute(
            "CREATE TABLE IF NOT EXISTS waiting "
            "(id INTEGER PRIMARY KEY, topic TEXT, key TEXT, value BLOB, bytes INTEGER)"
        )
        row = self._database.execute(
            "SELECT COUNT(*), COALESCE(SUM(bytes), 0), COALESCE(MIN(id), 1), COALESCE(MAX(id), 0) FROM waiting"
        ).fetchone()
        self.n_messages, self.n_bytes, self._first, self._last = (int(value) for value in row)

    @property
    def room(self) -> int:
        """Bytes that may still be added."""
        return self._max_bytes - self.n_bytes

    def append(self, messages: Sequence[Waiting]) -> int:
        """Add messages behind all others, as many as there is room for; return how many."""
        taken, room = 0, self.room
        for message in messages:
            if message.n_bytes > room:
                break
            room -= message.n_bytes
            taken += 1
        self._insert(self._last + 1, messages[:taken])
        self._last += taken
        return taken

    def prepend(self, messages: Sequence[Waiting]) -> None:
        """Add messages before all others, whether there is room or not: they were taken from elsewhere."""
        self._insert(self._first - len(messages), messages)
        self._first -= len(messages)

    def first(self, n: int) -> list[tuple[int, Waiting]]:
        """Return up to `n` messages with what to forget them by, oldest first."""
        rows = self._database.execute("SELECT id, topic, key, value FROM waiting ORDER BY id LIMIT ?", (n,))
        return [(row[0], Waiting(*row[1:])) for row in rows]

    def forget(self, up_to: int) -> None:
        """Delete this message and all older ones."""
        n, n_bytes = self._database.execute(
            "SELECT COUNT(*), COALESCE(SUM(bytes), 0) FROM waiting WHERE id <= ?", (up_to,)
        ).fetchone()
        self._database.execute("DELETE FROM waiting WHERE id <= ?", (up_to,))
        self.n_messages -= n
        self.n_bytes -= n_bytes
        self._first = max(self._first, up_to + 1)
        if not self.n_messages:
            self._first, self._last = 1, 0
            self._database.execute("PRAGMA wal_checkpoint(TRUNCATE)")

    def close(self) -> None:
        self._database.close()

    def _insert(self, first_id: int, messages: Sequence[Waiting]) -> None:
        if not messages:
            return
        self._database.execute("BEGIN")
        try:
            self._database.executemany(
                "INSERT INTO waiting VALUES (?, ?, ?, ?, ?)",
                [(first_id + n, *message, message.n_bytes) for n, message in enumerate(messages)],
            )
            self._database.execute("COMMIT")
        except BaseException:
            self._database.execute("ROLLBACK")
            raise
        self.n_messages += len(messages)
        self.n_bytes += sum(message.n_bytes for message in messages)


class Spools:
    """Which files are whose: each process has one that no other has, and takes over what dead ones left."""

    def __init__(self, settings: Settings, name: str) -> None:
        self._folder = settings.home / "spool"
        self._name = f"{settings.namespace or 'default'}-{name}"
        self._max_bytes = settings.spool_mib * 1024 * 1024
        self._locks: list[int] = []

    def own(self) -> Spool:
        """Return this process's spool, with what is in those of processes that are gone. Raise `OSError`."""
        self._folder.mkdir(parents=True, exist_ok=True)
        path = next(path for n in count() if self._lock(path := self._path(n)))
        spool = Spool(path, self._max_bytes)
        for other in sorted(self._folder.glob(f"{self._name}-*.sqlite")):
            if other != path and self._lock(other):
                self._take_over(spool, other)
        return spool

    def close(self) -> None:
        """Let others take the files."""
        for lock in self._locks:
            os.close(lock)
        self._locks = []

    def _take_over(self, spool: Spool, other: Path) -> None:
        left = Spool(other, self._max_bytes)
        if left.n_messages:
            taken = spool.append([message for _, message in left.first(left.n_messages)])
            _log.info("took over %d messages for Kafka, left out %d", taken, left.n_messages - taken)
        left.close()
        for suffix in ("", "-wal", "-shm"):
            other.with_name(other.name + suffix).unlink(missing_ok=True)
        os.close(self._locks.pop())

    def _path(self, n: int) -> Path:
        return self._folder / f"{self._name}-{n}.sqlite"

    def _lock(self, path: Path) -> bool:
        """Take a file for as long as this process lives; return False when another one has it."""
        lock = os.open(path.with_suffix(".lock"), os.O_RDWR | os.O_CREAT, 0o600)
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(lock)
            return False
        self._locks.append(lock)
        return True
