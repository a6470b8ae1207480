"""Surface `popular`: what most people take these days."""

from serving.pipelines.filters import Excluded, HiddenByUser, Seen, Servable, Wanted
from serving.pipelines.pipeline import Pipeline
from serving.pipelines.sources import Consumed, Popular
from serving.pipelines.stages import Adjust, Drop, Rank, ReadShown, ReadUser, RememberShown, Retrieve, ScoreBy, Select
from serving.surfaces.parts import Parts


def popular(parts: Parts) -> Pipeline:
    """Decayed popularity, without a model."""
    return Pipeline(
        "popular",
        ReadUser(parts.users),
        ReadShown(parts.rotation),
        Retrieve(Consumed(), Popular()),
        Drop(HiddenByUser(), Servable(parts.withheld), Excluded(), Wanted(), Seen()),
        ScoreBy(Popular()),
        Adjust(),
        Rank(),
        Select(),
        afterwards=(parts.impressions, RememberShown(parts.rotation)),
        observe=parts.observe,
    )
