"""The stages that surfaces are declared from, in the order in which a pipeline has them."""

from serving.pipelines.ladder import MAX_SCORED
from serving.pipelines.stages.adjusting import Adjust, Dislikes, InContext
from serving.pipelines.stages.candidates import Hydrate, HydrateUser, Retrieve
from serving.pipelines.stages.dropping import Drop
from serving.pipelines.stages.ranking import Boost, Rank, Rerank, Select
from serving.pipelines.stages.reading import NewestTaken, ReadShown, ReadUser, RememberShown
from serving.pipelines.stages.repeating import RememberAnswer, Repeat
from serving.pipelines.stages.scoring import BlendText, Score, ScoreBy

__all__ = [
    "MAX_SCORED",
    "Adjust",
    "BlendText",
    "Boost",
    "Dislikes",
    "Drop",
    "Hydrate",
    "HydrateUser",
    "InContext",
    "NewestTaken",
    "Rank",
    "ReadShown",
    "ReadUser",
    "RememberAnswer",
    "RememberShown",
    "Repeat",
    "Rerank",
    "Retrieve",
    "Score",
    "ScoreBy",
    "Select",
]
