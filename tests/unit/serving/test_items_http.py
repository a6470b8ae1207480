"""`/v1/items`: the catalogue over HTTP."""

from typing import Any

import msgspec

from online_models.learning import rows
from online_models.learning.learner import Learner
from state.entries import CATALOGUE, ITEM_ACTIVITY, activity_field
from state.records import Activity, Item, Watermark
from state.store import Changes
from state.topics import ITEMS
from tests.unit.serving.system import System


async def test_a_hidden_or_deleted_item_is_gone_from_lists_at_once(system: System) -> None:
    """R9"""
    await system.call("PATCH", "/v1/items/m2", {"status": "hidden"})
    await system.call("DELETE", "/v1/items/m3")
    await system.call("PUT", "/v1/items", {"item_id": "m4", "status": "hidden"})
    assert not {"m2", "m3", "m4"} & set(await system.ids("u1", limit=60))
    assert [(topic, key) for topic, key, _ in system.log.events.sent] == [(ITEMS, "m2"), (ITEMS, "m3"), (ITEMS, "m4")]
    assert system.log.events.sent[1][2] is None
    await system.call("PATCH", "/v1/items/m2", {"status": "active"})
    assert "m2" in await system.ids("u1", limit=60)


async def test_a_patch_changes_the_given_fields_only(system: System) -> None:
    await system.call("PATCH", "/v1/items/m1", {"price": 3.5, "title": None})
    item = msgspec.json.decode(system.log.events.sent[0][2] or b"", type=Item)
    assert item == Item(item_id="m1", genres=["Drama", "G1"], price=3.5)
    status, problem = await system.call("PATCH", "/v1/items/m1", {"price": "cheap"})
    assert (status, problem["field"]) == (400, "price")
    status, problem = await system.call("PATCH", "/v1/items/m1", {"item_id": "m2"})
    assert (status, problem["field"]) == (400, "item_id")


async def test_a_bad_item_does_not_lose_its_neighbours(system: System) -> None:
    items = [{"item_id": "a"}, {"item_id": "b", "price": -1}, {"item_id": "c", "genres": "War"}, {"item_id": "d"}]
    status, answer = await system.call("PUT", "/v1/items", {"items": items})
    assert (status, answer["accepted"], [r["index"] for r in answer["rejected"]]) == (202, 2, [1, 2])
    status, problem = await system.call("PUT", "/v1/items", {"title": "no id"})
    assert (status, problem["field"]) == (400, "item_id")
    status, item = await system.call("GET", "/v1/items/a")
    assert (status, item["status"], item["counts"]) == (200, "active", {})


async def test_an_item_tells_its_activity_over_all_partitions_at_stream_time(system: System) -> None:
    """R11"""
    from online_models.users import activity

    changes = Changes()
    stream_ts = 1_400_000_000_000
    for partition, age_ms in enumerate((1_000, 600_000)):
        part = Activity()
        activity.add(part, "click", stream_ts - age_ms, stream_ts)
        changes.upsert(ITEM_ACTIVITY, activity_field(partition, "m1"), part)
        changes.upsert(ITEM_ACTIVITY, activity_field(partition, "unlisted"), part)
    changes.advance("features", "clean", 0, Watermark(2, stream_ts))
    system.flows.commit(changes)
    for item_id in ("m1", "unlisted"):
        status, item = await system.call("GET", f"/v1/items/{item_id}")
        assert (status, item["counts"]) == (200, {"click": 2})
        assert item["windows"] == {"5m": {"click": 1}, "1h": {"click": 2}, "1d": {"click": 2}}


async def test_the_catalogue_is_gone_through_in_order(system: System) -> None:
    """R3: also while items come and go."""
    found: list[str] = []
    params: dict[str, Any] = {"limit": 7}
    while True:
        status, answer = await system.call("GET", "/v1/items", **params)
        assert status == 200
        found += [item["item_id"] for item in answer["items"]]
        if answer["next"] is None:
            break
        params["page"] = answer["next"]
        await system.call("DELETE", "/v1/items/m9")
    assert found == sorted(f"m{n}" for n in range(60) if n != 9)
    status, answer = await system.call("GET", "/v1/items", filter="genre=War", limit=1000)
    assert ([item["item_id"] for item in answer["items"]], answer["next"]) == (
        sorted(f"m{n}" for n in range(0, 60, 6)),
        None,
    )
    for params in ({"page": "x"}, {"page": "bTE"}, {"filter": "colour=1"}, {"limit": 1001}, {"after": "m1"}):
        status, problem = await system.call("GET", "/v1/items", **params)
        assert (status, problem["field"]) == (400, next(iter(params)))


async def test_many_items_are_changed_and_deleted_at_once(system: System) -> None:
    """R9"""
    patches = [
        {"item_id": "m1", "price": 2.5},
        {"item_id": "nope", "price": 1},
        {"item_id": "m2", "price": "dear"},
        {"price": 1},
        {"item_id": "m1", "status": "hidden"},
    ]
    status, answer = await system.call("PATCH", "/v1/items", {"items": patches})
    assert (status, answer["accepted"], [r["index"] for r in answer["rejected"]]) == (202, 2, [1, 2, 3])
    assert "m1" not in await system.ids("u1", limit=60)
    sent = [msgspec.json.decode(value or b"", type=Item) for _, _, value in system.log.events.sent]
    assert [(item.price, item.status) for item in sent] == [(2.5, "active"), (2.5, "hidden")]
    status, answer = await system.call("DELETE", "/v1/items", {"items": ["m3", "nope", "m4"]})
    assert (status, answer["accepted"], [r["index"] for r in answer["rejected"]]) == (202, 2, [1])
    assert not {"m3", "m4"} & set(await system.ids("u1", limit=60))
    assert [value for _, _, value in system.log.events.sent[2:]] == [None, None]
    for method, body in (("PATCH", {"item_id": "m5"}), ("DELETE", {"items": "m5"}), ("DELETE", {"ids": []})):
        status, problem = await system.call(method, "/v1/items", body)
        assert (status, problem["field"]) == (400, "ids" if "ids" in body else "items")


async def test_an_item_is_servable_once_lists_have_its_entry(system: System) -> None:
    """R3: not when the learner has met it, but filters do not know it yet."""
    item = Item(item_id="new", genres=["War"])
    await system.call("PUT", "/v1/items", {"items": [{"item_id": "new", "genres": ["War"]}]})
    learner, changes = Learner(), Changes()
    learner.learn_item("new", item)
    rows.write(learner, changes)
    system.flows.commit(changes)
    while "new" not in await system.ids("u1", limit=100):
        pass
    _, answer = await system.call("GET", "/v1/items/new")
    assert (answer["genres"], answer["servable"]) == (["War"], False)
    described = Changes()
    described.upsert(CATALOGUE, "new", item)
    system.flows.commit(described)
    while not (await system.call("GET", "/v1/items/new"))[1]["servable"]:
        pass
    assert "new" in await system.ids("u1", limit=100, genre="War")
