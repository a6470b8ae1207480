"""The models that `freshet evaluate` knows by name."""

from collections.abc import Callable

from online_models.engine.engine import Engine
from online_models.evaluation import baselines
from online_models.evaluation.protocols import Recommender

MODELS: dict[str, Callable[[int], Recommender]] = {
    "engine": Engine,
    "popularity": baselines.Popularity,
    "recent-popularity": baselines.RecentPopularity,
    "markov": baselines.Markov,
    "covisitation": baselines.Covisitation,
    "vmis-knn": baselines.SessionNeighbours,
}
