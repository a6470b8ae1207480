"""Surface `search`: what a text finds, in the user's order."""

from serving.pipelines.filters import Excluded, HiddenByUser, Permitted, Seen, Servable, Wanted
from serving.pipelines.pipeline import Pipeline
from serving.pipelines.sources import TextMatch
from serving.pipelines.stages import (
    Adjust,
    BlendText,
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


def search(parts: Parts) -> Pipeline:
    """Items whose title, labels or description match, by relevance blended with what the ranker thinks of them."""
    return Pipeline(
        "search",
        ReadUser(parts.users),
        ReadShown(parts.rotation),
        Hydrate(),
        Retrieve(TextMatch(parts.text)),
        Drop(HiddenByUser(), Permitted(), Servable(parts.withheld), Excluded(), Wanted(), Seen()),
        Score(),
        BlendText(),
        Adjust(),
        Boost(),
        Rank(),
        Rerank(),
        Select(),
        afterwards=(parts.impressions, RememberShown(parts.rotation)),
        observe=parts.observe,
    )
