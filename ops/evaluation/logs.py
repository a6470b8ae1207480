"""Data sets as the logs that `online_models.evaluation` reads."""

from collections.abc import Iterable
from pathlib import Path

import numpy as np

from online_models.evaluation.protocols import Log
from online_models.users.outcomes import is_positive
from ops.datasets import Dataset, DatasetError
from state.records import Event


def log_of(dataset: Dataset, limit: int | None = None) -> Log:
    """Read a whole data set in time order."""
    return _log(dataset.events(0, limit), dataset)


def sessions_of(dataset: Dataset, limit: int | None = None) -> tuple[Log, Log]:
    """Read the two files of a session log, each in time order.

    Raises
    ------
    DatasetError
        If one of the two is missing.
    """
    parts: tuple[list[Event], list[Event]] = ([], [])
    for event in dataset.events():
        parts[event.event_id.startswith("click-test-")].append(event)
    if not all(parts):
        raise DatasetError(f"{dataset.folder}: expected train.tsv and test.tsv")
    return _log(parts[0], dataset), _log(parts[1][:limit], dataset)


def learnable(dataset: Dataset, first: float) -> Log:
    """Read what may be learned from without touching what is tested on: the first part, of sessions only `train`."""
    try:
        log = sessions_of(dataset)[0]
    except DatasetError:
        log = log_of(dataset)
    return log.head(max(1, int(first * len(log))))


def histories_of(dataset: Dataset, limit: int | None = None) -> dict[str, list[str]]:
    """Each user's items in order."""
    log = log_of(dataset, limit)
    found: dict[str, list[str]] = {}
    for user, item in zip(log.users, log.items, strict=True):
        found.setdefault(user, []).append(item)
    return found


def genres_of(log: Log) -> dict[str, frozenset[str]]:
    """Genres of the items that have any, for the diversity of lists."""
    return {item.item_id: frozenset(item.genres) for item in log.catalogue if item.genres}


def read_pairs(path: Path) -> dict[str, list[str]]:
    """Read a file of `user item` lines in each user's order, separated by blanks, tabs or commas.

    Raises
    ------
    DatasetError
        For a line with fewer than two fields.
    """
    found: dict[str, list[str]] = {}
    with path.open(encoding="utf-8") as file:
        for number, line in enumerate(file, 1):
            fields = line.replace(",", " ").split()
            if len(fields) < 2:
                raise DatasetError(f"{path}:{number}: expected `user item`, got {line.rstrip()!r}")
            found.setdefault(fields[0], []).append(fields[1])
    return found


def _log(events: Iterable[Event], dataset: Dataset) -> Log:
    users, items, ratings, positive, times = [], [], [], [], []
    for event in events:
        if event.item_id is None:
            continue
        users.append(event.user_id)
        items.append(event.item_id)
        ratings.append(float(event.value) if isinstance(event.value, float | int) else 1.0)
        positive.append(is_positive(event.type, event.value, event.context))
        times.append(event.ts / 1000.0)
    catalogue = [item for item in dataset.items() if item.genres or item.release_date]
    return Log(users, items, np.array(ratings), np.array(positive, np.bool_), np.array(times), catalogue)
