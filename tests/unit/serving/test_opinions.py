"""What a like and a dislike do to the very next list, in a shop whose models have learned its history."""

from collections.abc import AsyncIterator
from pathlib import Path

import numpy as np
import pytest

from ops.bench.opinions import risen
from ops.traffic.simulator import user_id
from tests.unit.serving.shop import opened
from tests.unit.serving.system import System

_USERS = [user_id(n) for n in range(100)]


@pytest.fixture
async def shop(tmp_path: Path) -> AsyncIterator[System]:
    async with opened(tmp_path) as system:
        yield system


async def _say(shop: System, user: str, kind: str, item: str, **fields: str) -> None:
    status, answer = await shop.call("POST", f"/v1/users/{user}/feedback", {"item_id": item, "type": kind} | fields)
    assert status == 202, answer


async def _moved(shop: System, user: str, kind: str) -> float:
    """Return by how much what is similar to one item of a user's list rises when the user says so of it."""
    before = await shop.ids(user, limit=100)
    item = before.pop(3)
    _, similar = await shop.call("GET", f"/v1/items/{item}/similar", limit=20)
    await _say(shop, user, kind, item)
    found = risen(before, await shop.ids(user, limit=100), [other["item_id"] for other in similar["items"]])
    assert found is not None
    return found


async def test_a_like_raises_similar_items_and_a_dislike_lowers_them(shop: System) -> None:
    """R5: with the weights that ship; with learned ones on real data, `freshet bench feedback` tells it."""
    liked = np.array([await _moved(shop, user, "like") for user in _USERS[::2]])
    disliked = np.array([await _moved(shop, user, "dislike") for user in _USERS[1::2]])
    assert np.mean(liked > 0.0) >= 0.9
    assert np.mean(disliked < 0.0) >= 0.9


async def test_a_dislike_is_told_and_taken_back(shop: System) -> None:
    """R1, R5"""
    user = "somebody"
    liked = (await shop.ids(user, limit=10))[0]
    await _say(shop, user, "like", liked)
    before = await shop.ids(user, limit=100)
    assert await _lowered(shop, user) == (0, False)
    await _say(shop, user, "dislike", before[0])
    n_lowered, is_told = await _lowered(shop, user)
    assert n_lowered > 0
    assert is_told
    await _say(shop, user, "undo", before[0], value="dislike")
    assert await _lowered(shop, user) == (0, False)


async def _lowered(shop: System, user: str) -> tuple[int, bool]:
    """Return how many candidates the user's dislikes lower, and whether a listed item tells of it."""
    _, answer = await shop.call("GET", f"/v1/users/{user}/recommendations", limit=20, explain="true")
    stage = next(stage for stage in answer["explain"] if stage["stage"] == "dislikes")
    told = {rule["rule"] for item in answer["items"] for rule in item["explanation"]["rules"]}
    return stage["notes"].get("lowered", 0), "dislikes" in told
