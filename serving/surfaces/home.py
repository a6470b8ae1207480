"""Surface `home`: what this user would take next."""

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
    ReadShown,
    ReadUser,
    RememberAnswer,
    RememberShown,
    Repeat,
    Rerank,
    Retrieve,
    Score,
    Select,
)
from serving.surfaces.parts import Parts


def home(parts: Parts) -> Pipeline:
    """Candidates of every source, ranked by the online model."""
    protection = (HiddenByUser(), Permitted(), Servable(parts.withheld))
    return Pipeline(
        "home",
        ReadUser(parts.users, parts.lists),
        Repeat(parts.answers, Drop(*protection)),
        ReadShown(parts.rotation),
        Hydrate(),
        Retrieve(
            Pinned(),
            Promoted(),
            Consumed(),
            Liked(),
            Model(Covisited(k=150)),
            Model(Trending(k=100)),
            Model(Collaborative(k=100, k_sharp=60)),
            Model(Session(k=60)),
            Matching(),
            Model(Content(k=20)),
            Model(Exploration(k=20)),
            PopularHere(),
            Popular(k=PER_SOURCE),
            lists=parts.lists,
        ),
        Drop(*protection, Excluded(), Wanted(), Seen()),
        Score(parts.lists),
        InContext(),
        Dislikes(),
        Adjust(),
        Boost(),
        Rank(),
        Rerank(),
        Select(),
        afterwards=(parts.impressions, RememberShown(parts.rotation), RememberAnswer(parts.answers)),
        observe=parts.observe,
    )
