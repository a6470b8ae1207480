"""Surface `similar`: more like this item."""

from online_models.sources import Alike, Covisited, Nearest, Session
from serving.pipelines.filters import Excluded, HiddenByUser, Permitted, Seen, Servable, Wanted
from serving.pipelines.pipeline import Pipeline
from serving.pipelines.sources import Matching, Model, Pinned, Popular, Promoted
from serving.pipelines.stages import (
    Adjust,
    Boost,
    Drop,
    Hydrate,
    Rank,
    ReadShown,
    ReadUser,
    RememberShown,
    Rerank,
    Retrieve,
    Score,
    Select,
)
from serving.surfaces.parts import Parts


def similar(parts: Parts) -> Pipeline:
    """What somebody who has just taken the item would take next; popular items when little is known of it."""
    return Pipeline(
        "similar",
        ReadUser(parts.users),
        ReadShown(parts.rotation),
        Hydrate(),
        Retrieve(
            Pinned(),
            Promoted(),
            Model(Covisited()),
            Model(Session()),
            Model(Nearest()),
            Model(Alike()),
            Matching(),
            Popular(k=100),
        ),
        Drop(HiddenByUser(), Permitted(), Servable(parts.withheld), Excluded(), Wanted(), Seen()),
        Score(),
        Adjust(),
        Boost(),
        Rank(),
        Rerank(),
        Select(),
        afterwards=(parts.impressions, RememberShown(parts.rotation)),
        observe=parts.observe,
    )
