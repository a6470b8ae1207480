"""Surface `popular`: what most people take these days."""

from serving.pipelines.filters import Excluded, HiddenByUser, Permitted, Seen, Servable, Wanted
from serving.pipelines.pipeline import Pipeline
from serving.pipelines.sources import Consumed, Pinned, Popular, Promoted
from serving.pipelines.stages import (
    Adjust,
    Boost,
    Drop,
    InContext,
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


def popular(parts: Parts) -> Pipeline:
    """Decayed popularity where, on what and when it is asked for, without a model."""
    return Pipeline(
        "popular",
        ReadUser(parts.users),
        ReadShown(parts.rotation),
        Retrieve(Pinned(), Promoted(), Consumed(), Popular()),
        Drop(HiddenByUser(), Permitted(), Servable(parts.withheld), Excluded(), Wanted(), Seen()),
        ScoreBy(Popular()),
        InContext(everybody=True),
        Adjust(),
        Boost(),
        Rank(),
        Rerank(),
        Select(),
        afterwards=(parts.impressions, RememberShown(parts.rotation)),
        observe=parts.observe,
    )
