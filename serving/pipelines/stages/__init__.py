"""The stages that surfaces are declared from, in the order in which a pipeline has them."""

from serving.pipelines.stages.candidates import Hydrate, Retrieve
from serving.pipelines.stages.dropping import Drop
from serving.pipelines.stages.ranking import Boost, Rank, Rerank, Select
from serving.pipelines.stages.reading import ReadUser
from serving.pipelines.stages.scoring import MAX_SCORED, Score, ScoreBy

__all__ = [
    "MAX_SCORED",
    "Boost",
    "Drop",
    "Hydrate",
    "Rank",
    "ReadUser",
    "Rerank",
    "Retrieve",
    "Score",
    "ScoreBy",
    "Select",
]
