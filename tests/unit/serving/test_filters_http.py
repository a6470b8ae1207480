"""Filters as requests give them."""

from typing import Any

import pytest

from state.entries import CATALOGUE
from state.records import Item
from state.store import Changes
from tests.unit.serving.system import System


@pytest.fixture
async def shop(system: System) -> System:
    changes = Changes()
    for n in range(40):
        item = Item(
            item_id=f"s{n}",
            genres=["War"],
            category="series",
            price=float(n),
            creator=f"c{n % 4}",
            tags=["new"] if n == 3 else [],
            release_date=f"{1980 + n}",
            age_rating="16" if n < 2 else None,
            attributes={"colour": "red" if n < 5 else "blue"},
        )
        changes.upsert(CATALOGUE, item.item_id, item)
    system.flows.commit(changes)
    while len(await system.ids("u1", limit=100)) < 100:
        pass
    return system


@pytest.mark.parametrize(
    ("params", "expected"),
    [
        ({"category": "series", "price_max": 2}, [0, 1, 2]),
        ({"price_min": 38}, [38, 39]),
        ({"filter": "genre:any(Drama,War) and price<=3 and not creator=c1"}, [0, 2, 3]),
        ({"filter": "attributes.colour=red", "creator": "c1,c2"}, [1, 2]),
        ({"tag": "new"}, [3]),
        ({"age_rating": "16"}, [0, 1]),
        ({"released_after": "2018", "released_before": "2019"}, [38]),
        ({"filter": "price>1000"}, []),
    ],
)
async def test_exactly_the_matching_items_are_listed(shop: System, params: dict[str, Any], expected: list[int]) -> None:
    """R3"""
    ids = {f"s{n}" for n in expected}
    assert set(await shop.ids("u1", **params)) == ids
    for path in ("/v1/popular", "/v1/trending", "/v1/items/m1/similar"):
        status, answer = await shop.call("GET", path, **params)
        assert (status, {item["item_id"] for item in answer["items"]}) == (200, ids)


@pytest.mark.parametrize(
    ("params", "field", "allowed"),
    [
        ({"filter": "price<="}, "filter", "a name or a value"),
        ({"filter": "color=red"}, "filter", "attributes.colour"),
        ({"price_min": 3, "price_max": 2}, "price_min", "0..2.0"),
        ({"released_after": "2000", "released_before": "1999"}, "released_after", "before 1999"),
        ({"released_after": "soon"}, "released_after", None),
        ({"price_min": "NaN"}, "price_min", None),
    ],
)
async def test_a_filter_that_cannot_be_meant_is_refused(
    shop: System, params: dict[str, Any], field: str, allowed: str | None
) -> None:
    """R2, R3"""
    status, problem = await shop.call("GET", "/v1/popular", **params)
    assert (status, problem["field"]) == (400, field)
    assert allowed is None or allowed in problem["allowed"]
