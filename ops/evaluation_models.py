"""The models that `freshet evaluate` knows by name."""

from collections.abc import Mapping
from importlib.util import find_spec

from online_models.engine.engine import Engine
from online_models.evaluation import baselines, live, nightly
from online_models.evaluation.protocols import Recommender

BASELINES: dict[str, type[baselines.Baseline]] = {
    "popularity": baselines.Popularity,
    "recent-popularity": baselines.RecentPopularity,
    "markov": live.Markov,
    "cooc": live.Cooccurrence,
    "vmis-knn": live.SessionNeighbours,
    "item-knn": nightly.ItemNeighbours,
    "ease": nightly.Ease,
    "ials": nightly.Ials,
}
NAMES = ("engine", *BASELINES)
NIGHTS = 100
"""A model that is refitted is refitted after each hundredth of the stream."""


def runnable() -> list[str]:
    """Return the names of the models whose packages are installed."""
    return [name for name in NAMES if name != "ials" or find_spec("implicit") is not None]


def make(name: str, seed: int, n_events: int, constants: Mapping[str, float] | None = None) -> Recommender:
    """Return a model that knows nothing yet, for a stream of `n_events`; `constants` are for baselines."""
    if name == "engine":
        return Engine(seed)
    return BASELINES[name](seed, max(n_events // NIGHTS, 1), constants)
