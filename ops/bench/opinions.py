"""What a like and a dislike do to the very next list: similar items rise, similar items fall."""

import random
from collections.abc import Sequence
from math import log

import numpy as np
from numpy.typing import NDArray

from ops.bench.api import post_feedback, shown
from ops.bench.report import Figure
from ops.http_client import Client

_N_LISTED = 100
_N_SIMILAR = 20
_AMONG = 20
"""First places of a list, one of which is judged."""


def risen(before: Sequence[str], after: Sequence[str], similar: Sequence[str]) -> float | None:
    """Return by how much similar items rose: the mean of ln(1 + place) before, less that after.

    Of those that are in either list, as behind the end of the other where it lacks them; None when there is none.
    """
    then = {item: place for place, item in enumerate(before)}
    now = {item: place for place, item in enumerate(after)}
    listed = [item for item in similar if item in then or item in now]
    if not listed:
        return None
    last = max(len(before), len(after))
    return float(np.mean([log(1 + then.get(item, last)) - log(1 + now.get(item, last)) for item in listed]))


async def measure(base_url: str, users: Sequence[str]) -> list[Figure]:
    """Let every other user like, or dislike, an item of the list. Raise `BenchError` when the API refuses."""
    chance = random.Random(0)  # noqa: S311 - no secret
    moves: dict[str, list[float]] = {"like": [], "dislike": []}
    async with Client(base_url) as client:
        for n, user_id in enumerate(users):
            kind = "dislike" if n % 2 else "like"
            path = f"/v1/users/{user_id}/recommendations?limit={_N_LISTED}"
            before = await shown(client, path)
            item_id = chance.choice(before[:_AMONG])
            similar = await shown(client, f"/v1/items/{item_id}/similar?limit={_N_SIMILAR}")
            await post_feedback(client, user_id, {"item_id": item_id, "type": kind})
            after = await shown(client, path)
            before.remove(item_id)
            found = risen(before, after, similar)
            if found is not None:
                moves[kind].append(found)
    return [
        figure
        for kind, does, sign in (("like", "raises", 1.0), ("dislike", "lowers", -1.0))
        for figure in _figures(f"a {kind} {does} similar items", sign * np.array(moves[kind]))
    ]


def _figures(what: str, moved: NDArray[np.float64]) -> list[Figure]:
    half = 1.96 * float(np.std(moved)) / max(len(moved), 1) ** 0.5
    note = f"± {half:.2g} (95 %), {len(moved)} lists"
    return [
        Figure(f"{what}, in ln(1 + place)", float(np.mean(moved)), "", target=half, at_most=False, note=note),
        Figure(f"{what}, share of lists", float(np.mean(moved > 0)), ""),
    ]
