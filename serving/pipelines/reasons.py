"""One short sentence per item: why it is there."""

from collections.abc import Callable, Sequence

from serving.pipelines.slate import Slate
from state.records import Item

_BY_SOURCE = {
    "consumed": "You took it before",
    "covisitation": "Often taken by those who took what you took",
    "collaborative": "Liked by people with your taste",
    "content": "Like what you took before",
    "trending": "Trending now",
    "matching": "Popular in what you asked for",
    "context": "Popular where you are",
    "popular": "Popular now",
    "exploration": "New for you to try",
    "taste": "In a genre that you like",
    "text": "Matches your search",
}
_N_GENRES = 3


def reasons(slate: Slate) -> Callable[[Item, Sequence[str]], str]:
    """Return a function of an item and its sources: taste in genres explains it first, then the sources."""
    if slate.anchor is not None:
        anchor = slate.replica.item(slate.anchor)
        about = anchor.title if anchor is not None and anchor.title else slate.replica.item_id(slate.anchor)
        if slate.surface == "because":
            taken = dict.fromkeys(("covisitation", "collaborative", "content", "session"), f"Because you took {about}")
            return lambda _, sources: _first(_BY_SOURCE | taken, sources)
        by_source = _BY_SOURCE | {
            "covisitation": f"Often taken with {about}",
            "collaborative": f"Liked by those who like {about}",
            "content": f"Like {about}",
        }
        return lambda _, sources: _first(by_source, sources)
    favourites = _favourite_genres(slate)

    def reason(item: Item, sources: Sequence[str]) -> str:
        for genre in item.genres:
            if genre in favourites:
                return f"You like {genre}"
        return _first(_BY_SOURCE, sources)

    return reason


def _first(by_source: dict[str, str], sources: Sequence[str]) -> str:
    for name in sources:
        if name in by_source:
            return by_source[name]
    return "Picked for you"


def _favourite_genres(slate: Slate) -> frozenset[str]:
    if slate.surface not in ("home", "session") or slate.user is None or slate.user.profile is None:
        return frozenset()
    affinity = slate.user.profile.affinity
    best = sorted(affinity, key=affinity.__getitem__, reverse=True)[:_N_GENRES]
    return frozenset(genre for genre in best if affinity[genre] > 0)
