"""Surface `trending`: what is taken most at the moment."""

from serving.pipelines.filters import Excluded, HiddenByUser, Seen, Servable, Wanted
from serving.pipelines.pipeline import Pipeline
from serving.pipelines.sources import Consumed, Popular, Trending
from serving.pipelines.stages import Adjust, Drop, Rank, ReadShown, ReadUser, RememberShown, Retrieve, ScoreBy, Select
from serving.surfaces.parts import Parts


def trending(parts: Parts) -> Pipeline:
    """Most activity in the last 5 minutes, hour or day of stream time; popular items fill up a quiet window."""
    return Pipeline(
        "trending",
        ReadUser(parts.users),
        ReadShown(parts.rotation),
        Retrieve(Consumed(), Trending(), Popular()),
        Drop(HiddenByUser(), Servable(parts.withheld), Excluded(), Wanted(), Seen()),
        ScoreBy(Trending()),
        Adjust(),
        Rank(),
        Select(),
        afterwards=(parts.impressions, RememberShown(parts.rotation)),
        observe=parts.observe,
    )
