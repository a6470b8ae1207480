"""The simulator's log as a data set of its own, for when there is no real one."""

import csv
from pathlib import Path

from ops.datasets.base import Dataset
from ops.datasets.tables import load_csv
from ops.traffic.simulator import World

_UNTIL_MS = 1_700_000_000_000


def simulated(folder: Path, n_events: int = 100_000, n_items: int = 5000, n_users: int = 10_000) -> Dataset:
    """Write a simulated history and its catalogue into an empty folder as CSV and load it."""
    world = World(n_items, n_users)
    target = folder / "simulated"
    target.mkdir()
    with (target / "items.csv").open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(["item_id", "title", "genres", "year"])
        writer.writerows([item.item_id, item.title, "|".join(item.genres), item.release_date] for item in world.items())
    with (target / "events.csv").open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(["user", "item", "timestamp", "type", "session"])
        writer.writerows(
            [event.user_id, event.item_id, event.ts, event.type, event.session_id]
            for event in world.history(n_events, _UNTIL_MS)
            if event.type != "rating"  # a rating line without its stars would be invalid
        )
    return load_csv(target)
