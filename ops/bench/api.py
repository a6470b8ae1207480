"""The few calls of the public API that benchmarks make."""

import time
import uuid
from typing import NamedTuple

import msgspec

from ops.http_client import Answer, Client
from state.records import Event, Item


class BenchError(Exception):
    """The system did not do what a benchmark needs of it."""


class _Listed(msgspec.Struct):
    item_id: str


class _List(msgspec.Struct):
    items: list[_Listed]
    degraded: dict[str, str] | None = None


class Listed(NamedTuple):
    """One answer."""

    item_ids: list[str]
    degraded: dict[str, str]
    """What was not to be had in time, and why; usually empty."""


class _User(msgspec.Struct):
    counts: dict[str, int] = {}


_encode = msgspec.json.Encoder().encode
_list_decoder = msgspec.json.Decoder(_List)
_user_decoder = msgspec.json.Decoder(_User)


async def recommended(client: Client, user_id: str) -> list[str]:
    """Return the ids of the user's list of 20. Raise `BenchError` when there is none."""
    return (await listed(client, user_id)).item_ids


async def listed(client: Client, user_id: str) -> Listed:
    """Return the user's list of 20. Raise `BenchError` when there is none."""
    return _listed(await client.get(f"/v1/users/{user_id}/recommendations?limit=20"), f"the list of {user_id}")


async def popular(client: Client, n_items: int) -> list[str]:
    """Return ids of popular items. Raise `BenchError` when there are none."""
    return _listed(await client.get(f"/v1/popular?limit={n_items}"), "/v1/popular").item_ids


async def shown(client: Client, path: str) -> list[str]:
    """Return the ids of the list at a path, none when it is empty. Raise `BenchError` when there is none."""
    answer = await client.get(path)
    if answer.status != 200:
        raise BenchError(f"{path}: {answer.status} {answer.body[:200]!r}")
    return [item.item_id for item in _list_decoder.decode(answer.body).items]


async def put_item(client: Client, item: Item) -> None:
    """Add or replace an item. Raise `BenchError` when it is not accepted."""
    _accepted(await client.put("/v1/items", _encode(item)), "PUT /v1/items")


async def counts(client: Client, user_id: str) -> dict[str, int]:
    """Return the user's events by type; empty while the user is not known."""
    answer = await client.get(f"/v1/users/{user_id}")
    return _user_decoder.decode(answer.body).counts if answer.status == 200 else {}


async def post_click(client: Client, user_id: str, item_id: str) -> None:
    """Post one click. Raise `BenchError` when it is not accepted."""
    now_ms = time.time_ns() // 1_000_000
    click = Event(event_id=uuid.uuid4().hex, type="click", user_id=user_id, item_id=item_id, ts=now_ms)
    _accepted(await client.post("/v1/events", _encode(click)), "POST /v1/events")


async def hide(client: Client, user_id: str, item_id: str) -> None:
    """Hide an item. Raise `BenchError` when it is not accepted."""
    await post_feedback(client, user_id, {"item_id": item_id, "type": "hide"})


async def post_feedback(client: Client, user_id: str, feedback: dict[str, object]) -> None:
    """Post feedback of a user. Raise `BenchError` when it is not accepted."""
    _accepted(await client.post(f"/v1/users/{user_id}/feedback", _encode(feedback)), f"feedback of {user_id}")


def _listed(answer: Answer, what: str) -> Listed:
    if answer.status != 200:
        raise BenchError(f"{what}: {answer.status} {answer.body[:200]!r}")
    found = _list_decoder.decode(answer.body)
    if not found.items:
        raise BenchError(f"{what} is empty: play traffic into the system first")
    return Listed([item.item_id for item in found.items], found.degraded or {})


def _accepted(answer: Answer, what: str) -> None:
    if answer.status != 202:
        raise BenchError(f"{what}: {answer.status} {answer.body[:200]!r}")
