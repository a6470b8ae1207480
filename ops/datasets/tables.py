"""Files with a header line: RecBole's `*.inter` and `*.item`, and plain CSV (also MovieLens' `ratings.csv`)."""

import csv
from collections.abc import Callable, Iterator, Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import cast

from ops.datasets.base import Dataset, DatasetError, Interaction, LogFile, milliseconds, rows, text_of
from ops.datasets.movies import genres_of, movie
from state.records import EVENT_TYPES, EventType, Item

_INTERACTION_COLUMNS: Mapping[str, Sequence[str]] = {
    "user": ("user", "user_id", "userid", "visitorid", "uid"),
    "item": ("item", "item_id", "itemid", "movieid", "iid"),
    "timestamp": ("timestamp", "time", "ts"),
    "rating": ("rating",),
    "type": ("type", "event_type", "event"),
    "session": ("session_id", "sessionid", "session"),
}
_ITEM_COLUMNS: Mapping[str, Sequence[str]] = {
    "item": ("item", "item_id", "itemid", "movieid", "iid"),
    "title": ("title", "movie_title", "name"),
    "year": ("release_year", "year"),
    "genres": ("genres", "genre", "class", "categories"),
}
_TYPES = {"addtocart": "save", "cart": "save", "transaction": "purchase", "buy": "purchase"}
_CATALOGUES = ("movies.csv", "items.csv")


def load_recbole(folder: Path) -> Dataset:
    """RecBole's atomic files: tab-separated, each column named `name:type`. User attributes are not used."""
    inter = min(folder.glob("*.inter"))
    items = min(folder.glob("*.item"), default=None)
    return _load(folder, inter, items)


def load_csv(folder: Path) -> Dataset:
    """`user,item,timestamp[,rating][,type]` under these or their usual other names, and `movies.csv` or `items.csv`."""
    logs = sorted(path for path in folder.glob("*.csv") if path.name not in _CATALOGUES and _is_log(path))
    if not logs:
        raise DatasetError(f"{folder}: no CSV file has the columns user, item and timestamp")
    preferred = folder / "ratings.csv"
    items = next((folder / name for name in _CATALOGUES if (folder / name).exists()), None)
    return _load(folder, preferred if preferred in logs else logs[0], items)


def _load(folder: Path, log: Path, items: Path | None) -> Dataset:
    separator, header = _header(log)
    columns = _columns(log, header, _INTERACTION_COLUMNS, required=("user", "item", "timestamp"))
    prefix = "".join(letter if letter.isalnum() else "-" for letter in log.stem)[:64]
    file = LogFile(log, prefix, _interaction_of(separator, columns, len(header)), 1)
    return Dataset(folder.name, folder, [file], None if items is None else lambda: _items(items))


def _is_log(path: Path) -> bool:
    _, header = _header(path)
    return all(set(_INTERACTION_COLUMNS[name]) & set(header) for name in ("user", "item", "timestamp"))


def _header(path: Path) -> tuple[str, list[str]]:
    """Return the separator and the column names, lower-case and without RecBole's types."""
    with path.open("rb") as file:
        line = text_of(file.readline()).removeprefix("\ufeff")
    separator = max("\t,;|", key=line.count)
    return separator, [name.split(":")[0].strip().lower() for name in _split(line, separator)]


def _columns(
    path: Path, header: Sequence[str], names: Mapping[str, Sequence[str]], required: Sequence[str]
) -> dict[str, int]:
    found = {
        meaning: header.index(name) for meaning, known in names.items() if (name := _first(known, header)) is not None
    }
    for meaning in required:
        if meaning not in found:
            raise DatasetError(f"{path}:1: expected a column {meaning}, got {', '.join(header)}")
    return found


def _first(known: Sequence[str], header: Sequence[str]) -> str | None:
    return next((name for name in known if name in header), None)


def _split(line: str, separator: str) -> list[str]:
    """Quoted fields are understood as long as they stay on one line."""
    return next(csv.reader([line], delimiter=separator)) if '"' in line else line.split(separator)


def _interaction_of(separator: str, columns: Mapping[str, int], n_columns: int) -> Callable[[str], Interaction]:
    user, item, timestamp = columns["user"], columns["item"], columns["timestamp"]
    rating, kind, session = columns.get("rating"), columns.get("type"), columns.get("session")

    def parse(line: str) -> Interaction:
        fields = _split(line, separator)
        if len(fields) != n_columns:
            raise ValueError(f"expected {n_columns} fields, got {len(fields)}")
        return Interaction(
            fields[user],
            fields[item],
            _time(fields[timestamp]),
            float(fields[rating]) if rating is not None and fields[rating] else None,
            _event_type(fields[kind]) if kind is not None else None,
            fields[session] or None if session is not None else None,
        )

    return parse


def _time(text: str) -> int:
    try:
        return milliseconds(text)
    except ValueError:
        time = datetime.fromisoformat(text)
    return round((time if time.tzinfo else time.replace(tzinfo=UTC)).timestamp() * 1000)


def _event_type(text: str) -> EventType:
    known = _TYPES.get(text.lower(), text.lower())
    if known not in EVENT_TYPES:
        raise ValueError(f"expected one of {', '.join(EVENT_TYPES)} as the type, got {text!r}")
    return cast(EventType, known)


def _items(path: Path) -> Iterator[Item]:
    separator, header = _header(path)
    columns = _columns(path, header, _ITEM_COLUMNS, required=("item",))
    between = " " if path.suffix == ".item" else "|"
    for number, line in rows(path, n_header_lines=1):
        fields = _split(line, separator)
        if len(fields) != len(header):
            raise DatasetError(f"{path}:{number}: expected {len(header)} fields, got {len(fields)} in {line[:120]!r}")
        value = {meaning: fields[column] for meaning, column in columns.items()}
        year = value.get("year", "").removesuffix(".0")
        yield movie(
            value["item"],
            value.get("title", ""),
            genres_of(value.get("genres", ""), between),
            year if len(year) == 4 and year.isdigit() else None,
        )
