"""What every loader has in common: a log of lines put in time order, and the items beside it."""

import mmap
from array import array
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from state.records import Event, EventType, Item

_MILLISECONDS_FROM = 100_000_000_000  # as seconds this is the year 5138, as milliseconds 1973


class DatasetError(ValueError):
    """A folder or a file is not what its format says: where, what was expected, what was found."""


class Interaction(NamedTuple):
    """One line of a log, before it becomes an event."""

    user_id: str
    item_id: str
    ts: int
    """Epoch milliseconds."""
    rating: float | None = None
    type: EventType | None = None
    """None: a `rating` when there is one, else a `click`."""
    session_id: str | None = None


@dataclass(frozen=True)
class LogFile:
    """One file with an interaction a line."""

    path: Path
    id_prefix: str
    """Event ids are `<prefix>-<line number>`, so that the same line is the same event in every run."""
    parse: Callable[[str], Interaction]
    """Raises `ValueError` with what is wrong with the line."""
    n_header_lines: int = 0


class Dataset:
    """A catalogue and a log of events in time order, ties in file order.

    Of a line only time, place and number are held in memory (24 bytes); it is read again when it is played.

    Raises
    ------
    DatasetError
        On construction, for a line that cannot be read: it names the file and the line.
    """

    def __init__(
        self,
        name: str,
        folder: Path,
        files: Sequence[LogFile],
        catalogue: Callable[[], Iterator[Item]] | None = None,
    ) -> None:
        self.name = name
        self.folder = folder
        self._files = files
        self._catalogue = catalogue
        times, offsets, numbers = array("q"), array("q"), array("q")
        self._first_of_file: list[int] = []
        self._logged_items: dict[str, None] = {}
        highest = 0.0
        for file in files:
            self._first_of_file.append(len(times))
            for number, offset, line in _lines(file):
                found = _parsed(file, number, line)
                times.append(found.ts)
                offsets.append(offset)
                numbers.append(number)
                self._logged_items[found.item_id] = None
                highest = max(highest, found.rating or 0.0)
        if not times:
            raise DatasetError(f"{', '.join(str(file.path) for file in files)}: no events")
        self.scale = 5 if highest <= 5 else 10 if highest <= 10 else 100
        self._times: NDArray[np.int64] = np.frombuffer(times, dtype=np.int64)
        self._offsets: NDArray[np.int64] = np.frombuffer(offsets, dtype=np.int64)
        self._numbers: NDArray[np.int64] = np.frombuffer(numbers, dtype=np.int64)
        self._order = np.argsort(self._times, kind="stable")

    @property
    def n_events(self) -> int:
        return len(self._times)

    @property
    def first_ts(self) -> int:
        """Time of the first event, epoch ms."""
        return int(self._times[self._order[0]])

    @property
    def last_ts(self) -> int:
        """Time of the last event, epoch ms."""
        return int(self._times[self._order[-1]])

    def ts_of(self, index: int) -> int:
        """Return the time of the event at this place of the time order, epoch ms."""
        return int(self._times[self._order[index]])

    @cached_property
    def n_items(self) -> int:
        return sum(1 for _ in self.items())

    def items(self) -> Iterator[Item]:
        """Yield the catalogue, then a bare item for each id that occurs in the log only."""
        known = set()
        if self._catalogue is not None:
            for item in self._catalogue():
                if item.item_id not in known:
                    known.add(item.item_id)
                    yield item
        for item_id in self._logged_items:
            if item_id not in known:
                yield Item(item_id=item_id)

    def events(self, start: int = 0, stop: int | None = None) -> Iterator[Event]:
        """Yield the log, or the part of it from place `start` to before `stop`, in time order, ties in file order."""
        order = self._order[start:stop]
        context: dict[str, str | float | int | bool | list[str] | None] = {"scale": self.scale}
        maps = [_mapped(file.path) for file in self._files]
        try:
            which = np.searchsorted(self._first_of_file, order, side="right") - 1
            for index, n_file in zip(order.tolist(), which.tolist(), strict=True):
                file, content = self._files[n_file], maps[n_file]
                content.seek(int(self._offsets[index]))
                number = int(self._numbers[index])
                found = _parsed(file, number, content.readline())
                yield Event(
                    event_id=f"{file.id_prefix}-{number}",
                    type=found.type or ("click" if found.rating is None else "rating"),
                    user_id=found.user_id,
                    item_id=found.item_id,
                    ts=found.ts,
                    session_id=found.session_id,
                    value=found.rating,
                    context=None if found.rating is None else context,
                )
        finally:
            for content in maps:
                content.close()


def milliseconds(text: str) -> int:
    """Return epoch milliseconds from epoch seconds (also fractional) or milliseconds. Raise `ValueError`."""
    seconds = float(text)
    if not 0 <= seconds < _MILLISECONDS_FROM * 1000:
        raise ValueError(f"expected a time in seconds or milliseconds since 1970, got {text!r}")
    return round(seconds) if seconds >= _MILLISECONDS_FROM else round(seconds * 1000)


def text_of(line: bytes) -> str:
    """Decode a line without its end: UTF-8, or Latin-1 as in the older MovieLens files."""
    try:
        return line.decode().rstrip("\r\n")
    except UnicodeDecodeError:
        return line.decode("latin-1").rstrip("\r\n")


def rows(path: Path, n_header_lines: int = 0) -> Iterator[tuple[int, str]]:
    """Yield (line number from 1, text) of a catalogue file, without empty lines."""
    with path.open("rb") as file:
        for number, line in enumerate(file, 1):
            text = text_of(line)
            if number > n_header_lines and text.strip():
                yield number, text


def _lines(file: LogFile) -> Iterator[tuple[int, int, bytes]]:
    """Yield (line number from 1, byte offset, line) without headers and empty lines."""
    offset = 0
    with file.path.open("rb") as content:
        for number, line in enumerate(content, 1):
            if number > file.n_header_lines and line.strip():
                yield number, offset, line
            offset += len(line)


def _parsed(file: LogFile, number: int, line: bytes) -> Interaction:
    text = text_of(line)
    try:
        found = file.parse(text)
        if not found.user_id or not found.item_id:
            raise ValueError("the user or the item is empty")
        if found.rating is not None and not 0 <= found.rating <= 100:
            raise ValueError(f"expected a rating from 0 to 100, got {found.rating}")
    except ValueError as error:
        raise DatasetError(f"{file.path}:{number}: {error} in {text[:120]!r}") from error
    return found


def _mapped(path: Path) -> mmap.mmap:
    with path.open("rb") as file:
        return mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
