"""`ratings.dat` and `movies.dat` (MovieTweetings, MovieLens 1M and 10M), and the older `u.data` and `u.item`."""

import re
from collections.abc import Callable, Iterator
from pathlib import Path

from ops.datasets.base import Dataset, DatasetError, Interaction, LogFile, milliseconds, rows
from state.records import Item

_TITLE_AND_YEAR = re.compile(r"^(.*?)\s*\((\d{4})\)\s*$")
_N_GENRES = 19


def load_dat(folder: Path) -> Dataset:
    """`user::item::rating::seconds` and `item::Title (year)::Genre|Genre`."""
    prefix = "ml" if folder.name.startswith("ml-") else "mt"
    log = LogFile(folder / "ratings.dat", prefix, _rating_of("::"))
    movies = folder / "movies.dat"
    return Dataset(folder.name, folder, [log], (lambda: _movies_dat(movies)) if movies.exists() else None)


def load_u_data(folder: Path) -> Dataset:
    """Tab-separated `user item rating seconds`, `u.item` with genre flags and `u.genre` with their names."""
    log = LogFile(folder / "u.data", "ml", _rating_of("\t"))
    items = folder / "u.item"
    return Dataset(folder.name, folder, [log], (lambda: _u_item(items, _u_genre(folder))) if items.exists() else None)


def movie(item_id: str, title: str, genres: list[str], year: str | None = None) -> Item:
    """Return a film; a year in brackets behind its title becomes the release date."""
    found = _TITLE_AND_YEAR.match(title)
    if found and found[1]:
        title, year = found[1], year or found[2]
    return Item(
        item_id=item_id,
        title=title[:1024],
        genres=list(dict.fromkeys(genre[:256] for genre in genres if genre))[:64],
        category="movie",
        release_date=year,
    )


def genres_of(text: str, separator: str) -> list[str]:
    """Split a genre field; placeholders for "none" give an empty list."""
    return [genre for genre in text.split(separator) if genre and genre not in ("unknown", "(no genres listed)")]


def _rating_of(separator: str) -> Callable[[str], Interaction]:
    def parse(line: str) -> Interaction:
        fields = line.split(separator)
        if len(fields) != 4:
            raise ValueError(f"expected user{separator}item{separator}rating{separator}time, got {len(fields)} fields")
        user_id, item_id, rating, ts = fields
        return Interaction(user_id, item_id, milliseconds(ts), float(rating))

    return parse


def _movies_dat(path: Path) -> Iterator[Item]:
    for number, line in rows(path):
        fields = line.split("::")
        if len(fields) != 3:
            raise DatasetError(
                f"{path}:{number}: expected item::title::genres, got {len(fields)} fields in {line[:120]!r}"
            )
        yield movie(fields[0], fields[1], genres_of(fields[2], "|"))


def _u_genre(folder: Path) -> list[str]:
    path = folder / "u.genre"
    names = [line.split("|")[0] for _, line in rows(path)] if path.exists() else []
    return names or [""] * _N_GENRES


def _u_item(path: Path, genres: list[str]) -> Iterator[Item]:
    for number, line in rows(path):
        fields = line.split("|")
        if len(fields) < 5:
            raise DatasetError(f"{path}:{number}: expected item|title|date|date|url|flags, got {len(fields)} fields")
        flags = fields[5:]
        named = [genre for genre, flag in zip(genres, flags, strict=False) if flag == "1" and genre != "unknown"]
        yield movie(fields[0], fields[1], named)
