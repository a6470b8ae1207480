"""The models that `freshet evaluate` knows by name."""

import tomllib
from collections.abc import Mapping
from functools import cache
from importlib.util import find_spec
from pathlib import Path

from online_models.engine.engine import Engine
from online_models.engine.inputs import N_INPUTS
from online_models.engine.inputs import NAMES as INPUT_NAMES
from online_models.engine.listwise import ListwiseRanker
from online_models.evaluation import baselines, live, nightly
from online_models.evaluation.protocols import Recommender
from online_models.evaluation.reranked import RerankedEngine, wishes_of

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
"""A model that is refitted is refitted after each hundredth of the stream, where nothing else is said."""


def runnable() -> list[str]:
    """Return the names of the models whose packages are installed."""
    return [name for name in NAMES if name != "ials" or find_spec("implicit") is not None]


@cache
def _tuned() -> dict[str, dict[str, dict[str, float]]]:
    return tomllib.loads(Path(__file__).with_name("tuned.toml").read_text())


def tuned_for(data: str, name: str) -> dict[str, float]:
    """Return the constants that were tuned for a data set; empty where none were, and for the engine always."""
    return _tuned().get(data, {}).get(name, {})


def weights_of(weights: str, seed: int) -> ListwiseRanker | None:
    """Return a ranker with weights of a file or with random ones (`none`); None for those that ship (`default`)."""
    if weights == "default":
        return None
    ranker = ListwiseRanker(N_INPUTS, seed=seed)
    return ranker if weights == "none" else ranker.load(Path(weights).read_bytes(), INPUT_NAMES)


def make(
    name: str,
    seed: int,
    n_events: int,
    constants: Mapping[str, float] | None = None,
    weights: str = "default",
    nights: int = NIGHTS,
) -> Recommender:
    """Return a model that knows nothing yet, for a stream of `n_events`.

    For baselines: `constants`, and `nights` of the stream, after each of which some are refitted.
    `weights`: what the engine's ranker begins with, see `weights_of`. Behind its name may stand how its lists are
    re-ranked, see `reranked.wishes_of`.
    """
    if name.partition(":")[0] == "engine":
        ranker, wishes = weights_of(weights, seed), wishes_of(name)
        return RerankedEngine(wishes, seed, ranker) if wishes else Engine(seed, ranker)
    return BASELINES[name](seed, max(n_events // nights, 1), constants)
