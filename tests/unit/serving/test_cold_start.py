"""Lists of new users and exposure of new items, against the simulator's truth."""

from collections import Counter
from collections.abc import AsyncIterator
from itertools import count
from pathlib import Path

import msgspec
import numpy as np
import pytest

from ops.traffic.simulator import DEVICES, examination, item_id, number, user_id
from serving.pipelines import lists
from state.entries import CATALOGUE
from state.store import Changes
from tests.unit.serving.shop import N_USERS, NOW_MS, opened, world
from tests.unit.serving.system import System

_PLACES = np.array([examination(position) for position in range(10)])


@pytest.fixture
async def shop(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[System]:
    ids = (f"request-{n}" for n in count())
    monkeypatch.setattr(lists, "new_request_id", lambda *_: next(ids))  # what is tried out depends on it
    async with opened(tmp_path) as system:
        yield system


async def _worth(shop: System, device: str, told: dict[str, str]) -> float:
    """Return the mean true click probability of a new user's first ten places on a device, over everybody's taste."""
    liked = np.mean([world().relevance(user, NOW_MS, device) for user in range(N_USERS)], axis=0)
    listed = await shop.ids(f"new-{device}", limit=10, filter="attributes.simulated=true", **told)
    assert len(listed) == 10
    return float(_PLACES @ liked[[number(i) for i in listed]])


async def test_a_new_users_list_is_better_by_what_others_take_on_that_device(shop: System) -> None:
    """R15, R1: contextual popularity, by the true click probabilities of who looks on that device."""
    gains = []
    for device in DEVICES:
        blind = await _worth(shop, device, {})
        gains.append(await _worth(shop, device, {"device": device}) / blind)
    assert min(gains) > 1.0
    assert np.mean(gains) > 1.15


async def test_new_items_are_shown_within_their_first_minute(shop: System) -> None:
    """R15, R16: each to several users, at two lists a second with a tenth of the places to try out."""
    originals = {f"new-{n}": number(item_id(7 * n)) for n in range(8)}
    entries = {item.item_id: item for item in world().items()}
    added = Changes()
    for new, original in originals.items():
        twin = msgspec.structs.replace(entries[item_id(original)], item_id=new)
        added.upsert(CATALOGUE, new, twin)
    shop.flows.commit(added)
    while (await shop.call("GET", "/v1/items/new-7"))[0] != 200:
        pass
    shown: Counter[str] = Counter()
    draw = np.random.default_rng(0)
    for _ in range(120):
        user = world().draw_user(draw)
        listed = await shop.ids(user_id(user), limit=20, exploration=0.1, filter="attributes.simulated=true")
        shown.update(i for i in listed if i in originals)
    assert set(shown) == set(originals)
    assert min(shown.values()) > 1
