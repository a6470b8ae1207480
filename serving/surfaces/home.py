"""Surface `home`: what this user would take next."""

from serving.filters import Excluded, HiddenByUser, InGenre, Seen, Servable
from serving.pipeline import Pipeline
from serving.sources import PER_SOURCE, Consumed, Matching, Model, Popular
from serving.stages import Drop, GenreCap, Hydrate, Rank, ReadUser, Retrieve, Score, Select
from serving.surfaces.parts import Parts


def home(parts: Parts) -> Pipeline:
    """Candidates of every source, ranked by the online model."""
    return Pipeline(
        "home",
        ReadUser(parts.users),
        Hydrate(),
        Retrieve(
            Consumed(),
            Matching(),
            Model("covisitation"),
            Model("collaborative"),
            Model("content"),
            Model("trending"),
            Popular(k=PER_SOURCE),
            Model("exploration", k=20),
        ),
        Drop(HiddenByUser(), Servable(parts.withheld), Excluded(), InGenre(), Seen()),
        Score(),
        Rank(),
        GenreCap(at_most=3, among=10),
        Select(),
        afterwards=(parts.impressions,),
        observe=parts.observe,
    )
