"""Streams with known truth, for tests of models."""

from dataclasses import dataclass, field

import numpy as np

from online_models.learning import rows
from online_models.learning.budget import UNLIMITED
from online_models.learning.learner import Learner
from online_models.replica import Replica
from online_models.users.profiles import apply_event
from state.memory_store import MemoryStore
from state.records import CleanEvent, Item, UserProfile
from state.store import Changes

GENRES = ("Action", "Comedy", "Drama", "Horror", "Romance", "SciFi", "War", "Western")
START_MS = 1_700_000_000_000


def catalogue(n_items: int = 400) -> list[Item]:
    """Return items of one genre each, in turns."""
    return [
        Item(item_id=f"m{k}", title=f"story {k}", genres=[GENRES[k % 8]], creator=f"c{k % 37}", price=1.0 + k % 50)
        for k in range(n_items)
    ]


def tastes(n_users: int = 60, n_events: int = 25, n_items: int = 400, seed: int = 2) -> list[CleanEvent]:
    """Return events of users who take one genre, `GENRES[user % 8]`, six times in seven."""
    rng = np.random.default_rng(seed)
    events = []
    for number, user in enumerate(rng.permutation(np.repeat(np.arange(n_users), n_events)).tolist()):
        genre = user % 8 if rng.random() < 0.85 else int(rng.integers(8))
        item = genre + 8 * min(int(rng.exponential(7.0)), n_items // 8 - 1)
        kind = str(rng.choice(["click", "view", "like"]))
        events.append(CleanEvent(f"e{number}", kind, f"u{user}", f"m{item}", START_MS + 1000 * number))
    return events


@dataclass
class System:
    """A learner that commits to a store, and the profiles beside it."""

    learner: Learner = field(default_factory=lambda: Learner(organic_share=UNLIMITED, replay_share=UNLIMITED))
    store: MemoryStore = field(default_factory=MemoryStore)
    profiles: dict[str, UserProfile] = field(default_factory=dict)
    now_ms: int = START_MS

    def learn(self, events: list[CleanEvent]) -> None:
        """Learn, and commit at the end."""
        missing = self.learner.missing_users(event.user_id for event in events)
        self.learner.restore_users(dict.fromkeys(missing))
        for event in events:
            self.learner.learn_event(event)
            apply_event(self.profiles.setdefault(event.user_id, UserProfile()), event, ())
            self.now_ms = max(self.now_ms, event.ts)
        self.commit()

    def commit(self) -> None:
        changes = Changes()
        rows.write(self.learner, changes)
        self.store.commit(changes)
        rows.written(self.learner)

    def rows(self) -> dict[str, dict[str, object]]:
        """Return all rows of the tables that serving follows."""
        return {table.name: dict(self.store.scan_rows(table)) for table in Replica.TABLES}

    def replica(self) -> Replica:
        replica = Replica()
        replica.apply({table: dict(self.store.scan_rows(table)) for table in Replica.TABLES}, complete=True)
        return replica
