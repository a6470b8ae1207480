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
from online_models.evaluation.ablation import ablated
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
"""A model that is refitted is refitted after each hundredth of the stream."""


def runnable() -> list[str]:
    """Return the names of the models whose packages are installed."""
    return [name for name in NAMES if name != "ials" or find_spec("implicit") is not None]


@cache
def _tuned() -> dict[str, dict[str, dict[str, float]]]:
    return tomllib.loads(Path(__file__).with_name("tuned.toml").read_text())


def tuned_for(data: str, name: str) -> dict[str, float]:
    """Return the constants that were tuned for a data set; empty where none were, and for the engine always."""
    return _tuned().get(data, {}).get(name, {})


def make(
    name: str,
    seed: int,
    n_events: int,
    constants: Mapping[str, float] | None = None,
    weights: str = "default",
    without: str | None = None,
) -> Recommender:
    """Return a model that knows nothing yet, for a stream of `n_events`; `constants` are for baselines.

    For the engine: `weights` that its ranker begins with (`default`, `none` or a file), and a group of `ablation` that
    it does without, which begins with random ones by default. Behind its name may stand how its lists are re-ranked,
    see `reranked.wishes_of`.
    """
    if name.partition(":")[0] == "engine":
        ranker = None
        if weights != "default":
            ranker = ListwiseRanker(N_INPUTS, seed=seed)
            if weights != "none":
                ranker.load(Path(weights).read_bytes(), INPUT_NAMES)
        if wishes := wishes_of(name):
            if without is not None:
                raise ValueError(f"{name}: lists are re-ranked of the whole engine only, not without {without}")
            return RerankedEngine(wishes, seed, ranker)
        return Engine(seed, ranker) if without is None else ablated(without, seed, ranker)
    return BASELINES[name](seed, max(n_events // NIGHTS, 1), constants)
