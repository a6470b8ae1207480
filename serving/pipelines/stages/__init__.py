"""The stages that surfaces are declared from, in the order in which a pipeline has them."""

from serving.pipelines.ladder import MAX_SCORED
from serving.pipelines.stages.candidates import Hydrate, Retrieve
from serving.pipelines.stages.dropping import Drop
from serving.pipelines.stages.ranking import GenreCap, Rank, Select
from serving.pipelines.stages.reading import ReadUser
from serving.pipelines.stages.scoring import Score, ScoreBy

__all__ = ["MAX_SCORED", "Drop", "GenreCap", "Hydrate", "Rank", "ReadUser", "Retrieve", "Score", "ScoreBy", "Select"]
