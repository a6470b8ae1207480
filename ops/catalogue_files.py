"""Files of catalogue items: JSON lines as the API takes them, or CSV with a column for each field."""

import csv
import gzip
import io
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Literal

import msgspec

from state.records import Item
from state.validation import InvalidInputError, parse_item

Format = Literal["jsonl", "csv"]

SEPARATOR = "|"
"""Between the labels in one cell."""
_LISTS = ("genres", "tags")
_ATTRIBUTES = "attributes."
_COLUMNS = (*Item.__struct_fields__[:-2], "status")
_SUFFIXES: dict[str, Format] = {".jsonl": "jsonl", ".ndjson": "jsonl", ".json": "jsonl", ".csv": "csv"}
_encode = msgspec.json.Encoder().encode


class CatalogueFileError(ValueError):
    """A file that cannot be read at all: which one, and why."""


def format_of(path: Path) -> Format:
    """Return what a file's name says of it; `.gz` may follow. Raise `CatalogueFileError`."""
    suffixes = [suffix for suffix in path.suffixes if suffix != ".gz"]
    kind = _SUFFIXES.get(suffixes[-1]) if suffixes else None
    if kind is None:
        raise CatalogueFileError(f"{path.name}: expected one of {', '.join(_SUFFIXES)}, or --format")
    return kind


def open_file(path: Path) -> tuple[IO[bytes], IO[bytes]]:
    """Return the content, and the file itself, whose position tells how far reading has come."""
    raw = path.open("rb")
    return (gzip.open(raw) if path.suffix == ".gz" else raw), raw  # type: ignore[return-value]


def read_items(content: IO[bytes], kind: Format) -> Iterator[tuple[int, bytes | InvalidInputError]]:
    """Yield (line number from 1, item as JSON) or why there is none. Raise `CatalogueFileError` for a wrong header."""
    rows = _csv_rows(content) if kind == "csv" else ((n, line) for n, line in enumerate(content, 1) if line.strip())
    for number, row in rows:
        if isinstance(row, InvalidInputError):
            yield number, row
            continue
        try:
            parse_item(row)
        except InvalidInputError as error:
            yield number, error
        else:
            yield number, row.strip()


def _csv_rows(content: IO[bytes]) -> Iterator[tuple[int, bytes | InvalidInputError]]:
    text = io.TextIOWrapper(content, encoding="utf-8-sig", newline="")
    reader = csv.reader(text)
    header = next(reader, [])
    unknown = [name for name in header if name not in _COLUMNS and not name.startswith(_ATTRIBUTES)]
    if unknown or "item_id" not in header:
        what = f"unknown column {unknown[0]!r}" if unknown else "no column 'item_id'"
        raise CatalogueFileError(f"{what}; expected {', '.join(_COLUMNS)}, {_ATTRIBUTES}<name>")
    for cells in reader:
        if len(cells) != len(header):
            yield reader.line_num, InvalidInputError("", f"{len(cells)} cells under {len(header)} columns")
        else:
            yield reader.line_num, _encode(_fields(header, cells))


def _fields(header: list[str], cells: list[str]) -> dict[str, object]:
    """Return the item's fields; an empty cell says nothing."""
    fields: dict[str, object] = {}
    attributes: dict[str, object] = {}
    for name, cell in zip(header, cells, strict=True):
        if cell == "":
            continue
        if name in _LISTS:
            fields[name] = [label for label in cell.split(SEPARATOR) if label]
        elif name == "price":
            fields[name] = _value(cell)
        elif name.startswith(_ATTRIBUTES):
            value = cell.split(SEPARATOR) if SEPARATOR in cell else _value(cell)
            attributes[name.removeprefix(_ATTRIBUTES)] = value
        else:
            fields[name] = cell
    return fields | ({"attributes": attributes} if attributes else {})


def _value(cell: str) -> object:
    """Return a number, true or false where the cell is one, else its text."""
    try:
        value = msgspec.json.decode(cell)
    except msgspec.DecodeError:
        return cell
    return value if isinstance(value, int | float | bool) else cell
