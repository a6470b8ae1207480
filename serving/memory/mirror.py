"""The models and the catalogue in this process's memory, kept up with Redis and survived by a copy on disk."""

import asyncio
import gc
import logging
import time
from collections import OrderedDict
from collections.abc import Collection, Mapping, Sequence
from itertools import islice
from pathlib import Path
from typing import Any

from online_models.catalogue.expressions import Expression
from online_models.catalogue.sorted_ids import SortedIds
from online_models.catalogue.text_index import TextIndex
from online_models.replica import Replica
from serving.memory import replica_file
from serving.memory.replica_file import ReplicaFileError
from serving.memory.tasks import lasting, stop
from state.entries import CATALOGUE, StateDecodeError, Table
from state.records import Item
from state.settings import Settings
from state.store import AsyncStore, StoreUnavailableError, TableChanges

_SLICE_S = 0.003
_FIRST_SLICE_ROWS = 64
_MOST_SLICE_ROWS = 4096
_RETRY_S = 0.25
_CLOCK_EVERY_S = 0.25
_TOLERATED_LATE_CLOCKS = 3
"""In a row. To follow anew is to load everything, which under load makes the next answer late, too."""
_REBUILD_PATIENCE_S = 600.0
_SAVE_EVERY_S = 30.0
_SAVE_SHARE = 0.01
"""Of the time at most goes into saving: a replica that takes long to save is saved more rarely."""
_INDEX_SHARE = 0.1
"""Of the time goes into the index of vectors, as long as there is something to do for it."""
_INDEX_EVERY_S = 0.25
_TEXTS_EVERY_S = 0.1
_TEXTS_AT_ONCE = 5000
_MAX_WRITTEN = 10_000
_MAX_WITHHELD = 100_000
_log = logging.getLogger("serving")


class Mirror:
    """Follows the tables. Changes are applied in slices of a few milliseconds between requests; a full load builds a
    new replica beside the old one and swaps it in. Without Redis the last replica stays, at first the one on disk.
    """

    def __init__(self, settings: Settings, store: AsyncStore) -> None:
        self._store = store
        self._path = settings.home / f"replica-{settings.namespace or 'default'}.bin"
        self.current = Replica()
        self._changing = asyncio.Lock()
        self.origin = ""
        """`redis` or `disk`: where the current replica came from; empty before there is one."""
        self.degraded: str | None = "nothing is loaded yet"
        self._stream_ms = 0
        self._confirmed_at = time.monotonic()
        self._clock_read_at = float("-inf")
        self._n_late_clocks = 0
        self._rebuilding_since: float | None = None
        self._unsaved = False
        self._written: OrderedDict[str, Item] = OrderedDict()
        self._withheld: OrderedDict[str, Item | None] = OrderedDict()
        self.text = TextIndex()
        """Of the catalogue's texts; a moment behind the replica."""
        self._texts_changed = asyncio.Event()
        self._ids = SortedIds()
        self._tasks: list[asyncio.Task[None]] = []

    @property
    def ready(self) -> bool:
        return bool(self.origin)

    @property
    def age_ms(self) -> int:
        """Return for how long the replica has not been known to be what Redis holds."""
        return int((time.monotonic() - self._confirmed_at) * 1000)

    @property
    def stream_ms(self) -> int | None:
        """Stream time when last read, None before there was an event."""
        return self._stream_ms or None

    @property
    def now_ms(self) -> int:
        """Stream time; the wall clock's before there was an event."""
        return self._stream_ms or int(time.time() * 1000)

    async def start(self) -> None:
        """Take the copy on disk, if there is one, and follow the store in the background."""
        await self._load_from_disk()
        self._tasks = [
            asyncio.create_task(lasting(run))
            for run in (self._follow, self._save_now_and_then, self._index_texts, self._index_vectors)
        ]

    async def aclose(self) -> None:
        await stop(*self._tasks)
        if self._unsaved:
            await self.save()

    # Catalogue writes of this process, until the replica has them.

    def wrote(self, item_id: str, item: Item | None) -> None:
        """Remember a catalogue write of this process: a hidden or deleted item is gone from its lists at once."""
        self._written.pop(item_id, None)
        self._withheld.pop(item_id, None)
        if item is None or item.status == "hidden":
            self._withheld[item_id] = item
        else:
            self._written[item_id] = item
        if len(self._written) > _MAX_WRITTEN:
            self._written.popitem(last=False)
        if len(self._withheld) > _MAX_WITHHELD:
            self._withheld.popitem(last=False)

    @property
    def withheld(self) -> Collection[str]:
        """Items that this process hid or deleted and that the replica may still hold."""
        return self._withheld

    def item(self, item_id: str) -> Item | None:
        """Return the catalogue entry as far as this process knows it."""
        if item_id in self._withheld:
            return self._withheld[item_id]
        if item_id in self._written:
            return self._written[item_id]
        slot = self.current.slot(item_id)
        return None if slot is None else self.current.item(slot)

    def items_after(self, item_id: str, n: int, wanted: Expression | None) -> list[Item]:
        """Return the first n catalogue entries behind an id, in the order of ids; `wanted`: only such ones."""
        mask = None if wanted is None else self.current.matching(wanted)

        def is_wanted(candidate: str) -> bool:
            slot = self.current.slot(candidate)
            if slot is None or self.current.item(slot) is None or self.item(candidate) is None:
                return False
            return mask is None or bool(mask[slot])

        return [item for i in self._ids.after(item_id, n, is_wanted) if (item := self.item(i)) is not None]

    def genres(self, item_id: str | None) -> Sequence[str]:
        """Return the item's genres, none when it is not known."""
        item = None if item_id is None else self.item(item_id)
        return [] if item is None else item.genres

    def _confirm(self, rows: Mapping[str, Item | None]) -> None:
        """Forget writes that have come back from the store."""
        for written in (self._written, self._withheld):
            for item_id in [i for i in written if i in rows and rows[i] == written[i]]:
                del written[item_id]

    # Following the store.

    async def _follow(self) -> None:
        while True:
            try:
                async for changes in self._store.follow(Replica.TABLES):
                    await self._take(changes)
                    await self._read_clock()
            except (StoreUnavailableError, StateDecodeError) as error:
                trouble = f"not up to date: {error}"
                if trouble != self.degraded:
                    _log.warning("going on with what is in memory: %s", error)
                self.degraded = trouble
            except Exception:
                # A bug here must not leave the process with a copy that silently grows old.
                _log.exception("following the store failed")
                self.degraded = "not up to date: unexpected error"
            await asyncio.sleep(_RETRY_S)

    async def _take(self, changes: TableChanges) -> None:
        if changes.complete:
            replica = Replica()
            await _apply_in_slices(replica, changes.rows)
            self._refuse_half_built(replica)
            self.current = replica
            gc.freeze()  # the replica lives long: collections that walk it would stop all requests
            self.origin = "redis"
            _log.info("loaded %d items", replica.n_items)
        elif changes.rows:
            async with self._changing:
                await _apply_in_slices(self.current, changes.rows)
        self._confirm(changes.rows.get(CATALOGUE, {}))
        if CATALOGUE in changes.rows:
            self._change_texts(changes.rows[CATALOGUE], changes.complete)
        self._unsaved |= bool(changes.rows)
        self._confirmed_at = time.monotonic()
        self.degraded = None

    def _change_texts(self, rows: Mapping[str, Item | None], complete: bool) -> None:
        self._ids.add(item_id for item_id, item in rows.items() if item is not None)
        self.text.put(rows, complete)
        self._texts_changed.set()

    async def _index_texts(self) -> None:
        """Make new texts findable, soon and many at once."""
        while True:
            await self._texts_changed.wait()
            self._texts_changed.clear()
            await asyncio.sleep(_TEXTS_EVERY_S)
            while self.text.n_pending:
                await asyncio.to_thread(self.text.flush, _TEXTS_AT_ONCE)

    async def _index_vectors(self) -> None:
        """Let the index follow the vectors, also while these never stand still."""
        while True:
            left = self.current.maintain(_SLICE_S)
            await asyncio.sleep(_SLICE_S / _INDEX_SHARE if left else _INDEX_EVERY_S)

    def _refuse_half_built(self, replica: Replica) -> None:
        """Keep what is in memory while an emptied Redis is rebuilt from the log. Raise `StoreUnavailableError`."""
        if 2 * replica.n_items >= self.current.n_items:
            self._rebuilding_since = None
            return
        now = time.monotonic()
        self._rebuilding_since = self._rebuilding_since or now
        if now - self._rebuilding_since < _REBUILD_PATIENCE_S:
            raise StoreUnavailableError(
                f"Redis is being rebuilt: {replica.n_items} of {self.current.n_items} items so far"
            )

    async def _read_clock(self) -> None:
        now = time.monotonic()
        if now - self._clock_read_at >= _CLOCK_EVERY_S:
            try:
                marks = await self._store.watermarks("features")
            except StoreUnavailableError:
                self._n_late_clocks += 1
                if self._n_late_clocks > _TOLERATED_LATE_CLOCKS:
                    raise
                return
            self._n_late_clocks = 0
            self._stream_ms = max((mark.stream_ts for mark in marks.values()), default=0)
            self._clock_read_at = now

    # The copy on disk.

    async def _load_from_disk(self) -> None:
        try:
            saved_at = self._path.stat().st_mtime
            self._stream_ms, replica = await asyncio.to_thread(replica_file.read, self._path)
        except FileNotFoundError:
            return
        except (OSError, ReplicaFileError) as error:
            _log.warning("%s is not used: %s", self._path.name, error)
            return
        self.current = replica
        self._change_texts(replica.catalogue_rows(), complete=True)
        self._confirmed_at = time.monotonic() - (time.time() - saved_at)
        self.origin = "disk"
        self.degraded = "from the copy on disk"

    async def _save_now_and_then(self) -> None:
        pause_s = _SAVE_EVERY_S
        while True:
            await asyncio.sleep(pause_s)
            if self._unsaved and not _saved_lately(self._path):
                started = time.monotonic()
                await self.save()
                pause_s = max(_SAVE_EVERY_S, (time.monotonic() - started) / _SAVE_SHARE)

    async def save(self) -> None:
        """Write the copy on disk; a failure is logged."""
        try:
            async with self._changing:
                self._unsaved = False
                written = await asyncio.to_thread(replica_file.write, self._path, self._stream_ms, self.current)
            await asyncio.to_thread(replica_file.complete, written, self._path)
        except OSError as error:
            _log.warning("%s is not saved: %s", self._path.name, error)


async def _apply_in_slices(replica: Replica, rows: Mapping[Table[Any], Mapping[str, Any]]) -> None:
    """Apply a few rows at a time, as many as take about `_SLICE_S`, and let requests run in between."""
    n_rows = _FIRST_SLICE_ROWS
    for table, changed in rows.items():
        left = iter(changed.items())
        while some := dict(islice(left, n_rows)):
            started = time.perf_counter()
            replica.apply({table: some})
            took_s = time.perf_counter() - started
            if took_s > _SLICE_S:
                n_rows = max(1, n_rows // 2)
            elif took_s < _SLICE_S / 3:
                n_rows = min(_MOST_SLICE_ROWS, 2 * n_rows)
            await asyncio.sleep(0)


def _saved_lately(path: Path) -> bool:
    """Tell whether another worker of this machine has just saved."""
    try:
        return time.time() - path.stat().st_mtime < _SAVE_EVERY_S / 2
    except FileNotFoundError:
        return False
