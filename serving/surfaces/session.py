"""Surface `session`: for somebody of whom nothing may be stored, by the events that the request brings."""

from online_models.sources import Collaborative, Content, Covisited, Exploration, Session, Trending
from serving.pipelines.filters import Excluded, HiddenByUser, Permitted, Seen, Servable, Wanted
from serving.pipelines.pipeline import Pipeline
from serving.pipelines.sources import (
    PER_SOURCE,
    Consumed,
    Liked,
    Matching,
    Model,
    Pinned,
    Popular,
    PopularHere,
    Promoted,
)
from serving.pipelines.stages import (
    Adjust,
    Boost,
    Dislikes,
    Drop,
    Hydrate,
    InContext,
    Rank,
    Rerank,
    Retrieve,
    Score,
    Select,
)
from serving.surfaces.parts import Parts


def session(parts: Parts) -> Pipeline:
    """The candidates and the ranker of `home`; no user is read, no impression is logged."""
    return Pipeline(
        "session",
        Hydrate(),
        Retrieve(
            Pinned(),
            Promoted(),
            Consumed(),
            Liked(),
            Model(Covisited(k=150)),
            Model(Trending(k=100)),
            Model(Session(k=60)),
            Model(Collaborative(k=100, k_sharp=60)),
            Matching(),
            Model(Content(k=20)),
            Model(Exploration(k=20)),
            PopularHere(),
            Popular(k=PER_SOURCE),
        ),
        Drop(HiddenByUser(), Permitted(), Servable(parts.withheld), Excluded(), Wanted(), Seen()),
        Score(),
        InContext(),
        Dislikes(),
        Adjust(),
        Boost(),
        Rank(),
        Rerank(),
        Select(),
        observe=parts.observe,
    )
