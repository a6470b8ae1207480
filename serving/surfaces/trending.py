"""Surface `trending`: what is taken most at the moment."""

from serving.pipelines.filters import Excluded, HiddenByUser, Permitted, Seen, Servable, Wanted
from serving.pipelines.pipeline import Pipeline
from serving.pipelines.sources import Consumed, Pinned, Popular, Promoted, Trending
from serving.pipelines.stages import (
    Adjust,
    Boost,
    Drop,
    Rank,
    ReadShown,
    ReadUser,
    RememberShown,
    Rerank,
    Retrieve,
    ScoreBy,
    Select,
)
from serving.surfaces.parts import Parts


def trending(parts: Parts) -> Pipeline:
    """Most activity in the last 5 minutes, hour or day of stream time; popular items fill up a quiet window."""
    return Pipeline(
        "trending",
        ReadUser(parts.users),
        ReadShown(parts.rotation),
        Retrieve(Pinned(), Promoted(), Consumed(), Trending(), Popular()),
        Drop(HiddenByUser(), Permitted(), Servable(parts.withheld), Excluded(), Wanted(), Seen()),
        ScoreBy(Trending()),
        Adjust(),
        Boost(),
        Rank(),
        Rerank(),
        Select(),
        afterwards=(parts.impressions, RememberShown(parts.rotation)),
        observe=parts.observe,
    )
