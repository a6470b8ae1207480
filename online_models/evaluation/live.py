"""Models to compare with that know each event at once."""

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from online_models.evaluation.baselines import DAY, FOREVER, Blended, Constant
from online_models.evaluation.linked_log import NONE, add_cooccurrences, add_votes, doubled, nearest_users

_DISLIKE = Constant(1.0, (0.3, 1.0))
"""Weight of an event that is not positive."""


class Cooccurrence(Blended):
    """Windowed, asymmetric item-to-item co-occurrence with decay: see `add_cooccurrences`."""

    CONSTANTS = Blended.CONSTANTS | {
        "n_steps": Constant(20, (5, 10, 20, 50)),
        "fading": Constant(0.8, (0.6, 0.7, 0.8, 0.9, 0.95, 0.98)),
        "reach": Constant(15, (5, 15, 30, 60)),
        "distance": Constant(0.5, (0.0, 0.25, 0.5, 1.0)),
        "backward": Constant(0.5, (0.0, 0.25, 0.5, 0.75, 1.0)),
        "half_life_days": Constant(30.0, (2.0, 4.0, 8.0, 16.0, 30.0, 90.0, FOREVER)),
        "power": Constant(0.7, (0.0, 0.3, 0.5, 0.7, 1.0)),
        "item_power": Constant(0.3, (0.0, 0.15, 0.3, 0.5)),
        "n_occurrences": Constant(300, (100, 300, 1000)),
        "dislike": _DISLIKE,
    }

    def evidence(self, newest: int, t: float) -> NDArray[np.float64]:
        log, of = self.log, self.constants
        n = len(self.names)
        found = np.zeros(n)
        add_cooccurrences(
            found,
            log.items,
            log.users,
            log.times,
            log.positive,
            log.before,
            log.after,
            log.earlier,
            log.of_item,
            newest,
            t,
            int(of["n_steps"]),
            of["fading"],
            of["dislike"],
            int(of["n_occurrences"]),
            of["half_life_days"] * DAY,
            of["power"],
            np.arange(1.0, of["reach"] + 1.0) ** -of["distance"],
            of["backward"],
        )
        return found / (log.n_of_item[:n] + 1.0) ** of["item_power"]


class Markov(Cooccurrence):
    """What came next after the user's newest item, then recent popularity."""

    CONSTANTS = Cooccurrence.CONSTANTS | {
        "blend": Constant(0.001, (0.001, 0.03, 0.1, 0.3, 1.0)),
        "n_steps": Constant(1, ()),
        "fading": Constant(1.0, ()),
        "reach": Constant(1, ()),
        "distance": Constant(0.0, ()),
        "backward": Constant(0.0, ()),
        "power": Constant(0.0, ()),
        "item_power": Constant(0.0, (0.0, 0.15, 0.3)),
        "n_occurrences": Constant(3000, ()),
        "half_life_days": Constant(FOREVER, (2.0, 8.0, 30.0, FOREVER)),
    }


class SessionNeighbours(Blended):
    """VMIS-kNN: items of the sessions (users) that share the newest items.

    Kersbergen, Sprangers, Schelter (2022), Serenade: low-latency session-based recommendation in e-commerce at scale.
    """

    CONSTANTS = Blended.CONSTANTS | {
        "n_steps": Constant(10, (5, 10, 20, 30)),
        "fading": Constant(0.8, (0.5, 0.6, 0.7, 0.8, 0.9, 0.95)),
        "n_recent": Constant(500, (200, 500, 1000)),
        "n_neighbours": Constant(200, (50, 100, 200, 500, 1000)),
        "n_items": Constant(100, (20, 50, 100, 200)),
        "length_power": Constant(0.5, (0.0, 0.25, 0.5, 0.75)),
        "distance": Constant(1.0, (0.8, 0.9, 0.95, 1.0)),
        "rarity": Constant(1.0, (0.0, 0.5, 1.0, 1.5)),
        "dislike": _DISLIKE,
    }

    def __init__(self, seed: int = 0, every: int = 1000, constants: Mapping[str, float] | None = None) -> None:
        super().__init__(seed, every, constants)
        self._similarity = np.zeros(1024)
        self._counted = np.full(1024, NONE, np.int64)

    def evidence(self, newest: int, t: float) -> NDArray[np.float64]:
        log, of = self.log, self.constants
        n = len(self.names)
        while len(self._counted) < len(self.users):
            self._similarity, self._counted = doubled(self._similarity), doubled(self._counted)
        found = np.zeros(n)
        shared = np.full(int(of["n_steps"]), NONE, np.int64)
        neighbours = nearest_users(
            log.items,
            log.users,
            log.positive,
            log.before,
            log.earlier,
            log.of_user,
            log.of_item,
            log.n_of_user,
            self._similarity,
            self._counted,
            newest,
            shared,
            of["fading"],
            of["dislike"],
            int(of["n_recent"]),
            int(of["n_neighbours"]),
            of["length_power"],
        )
        add_votes(
            found,
            log.items,
            log.positive,
            log.before,
            log.of_user,
            neighbours,
            self._similarity,
            shared,
            int(of["n_items"]),
            of["dislike"],
            of["distance"],
        )
        found *= np.log1p(len(self.users) / log.n_of_item[:n]) ** of["rarity"]
        return found
