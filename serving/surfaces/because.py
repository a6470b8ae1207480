"""Surface `because`: because you took this item."""

from online_models.sources import Alike, Covisited, Nearest, Session
from serving.pipelines.filters import Excluded, HiddenByUser, Permitted, Seen, Servable, Wanted
from serving.pipelines.pipeline import Pipeline
from serving.pipelines.sources import Matching, Model, Pinned, Popular, Promoted
from serving.pipelines.stages import (
    Adjust,
    Boost,
    Dislikes,
    Drop,
    Hydrate,
    HydrateUser,
    NewestTaken,
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


def because(parts: Parts) -> Pipeline:
    """What goes with one item that the user took, by default the newest, in the order of the user's whole taste."""
    return Pipeline(
        "because",
        ReadUser(parts.users),
        ReadShown(parts.rotation),
        NewestTaken(),
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
        HydrateUser(),
        Score(),
        Dislikes(),
        Adjust(),
        Boost(),
        Rank(),
        Rerank(),
        Select(),
        afterwards=(parts.impressions, RememberShown(parts.rotation)),
        observe=parts.observe,
    )
