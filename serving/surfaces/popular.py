"""Surface `popular`: what most people take these days."""

from serving.pipelines.filters import Excluded, HiddenByUser, Seen, Servable, Wanted
from serving.pipelines.pipeline import Pipeline
from serving.pipelines.sources import Consumed, Popular
from serving.pipelines.stages import Drop, Rank, ReadUser, Retrieve, ScoreBy, Select
from serving.surfaces.parts import Parts


def popular(parts: Parts) -> Pipeline:
    """Decayed popularity, without a model."""
    return Pipeline(
        "popular",
        ReadUser(parts.users),
        Retrieve(Consumed(), Popular()),
        Drop(HiddenByUser(), Servable(parts.withheld), Excluded(), Wanted(), Seen()),
        ScoreBy(Popular()),
        Rank(),
        Select(),
        afterwards=(parts.impressions,),
        observe=parts.observe,
    )
