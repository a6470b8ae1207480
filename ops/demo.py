"""The demonstration of `freshet up`: one user's list before and after a click, over HTTP only."""

import http
import json
import threading
import time
import urllib.error
import urllib.parse
import urllib.request
import uuid
from collections.abc import Callable, Collection
from dataclasses import dataclass
from typing import Any

from rich.console import Console
from rich.table import Table

from ops.http_client import authorization
from ops.stack.status import address
from state.settings import Settings

_LENGTH = 8
_CLICKED = 2
_CATALOGUE_S = 45.0
_CHANGE_S = 10.0
_TITLES_S = 5.0
"""At first, items may be in lists before the catalogue has them."""
_POLL_S = 0.02


class NothingToShowError(Exception):
    """There is no list to change, or no click changes it."""


@dataclass(frozen=True)
class Demonstration:
    """What a click did."""

    user_id: str
    clicked: str
    before: list[str]
    after: list[str]
    took_ms: float
    """From posting the click to the list that knows it."""


def show(settings: Settings, console: Console) -> None:
    """Click once as a new user and print the two lists side by side, or say why there is nothing to see."""
    api = _Api(address(settings))
    try:
        seen = demonstrate(api)
        titles = _titles(api, {*seen.before, *seen.after})
    except (NothingToShowError, OSError, ValueError) as error:
        console.print(f"[yellow]No demonstration:[/] {error}")
        return
    table = Table("", "before", f"after a click on [bold]{titles[seen.clicked]}[/]", box=None, pad_edge=False)
    for position, (before, after) in enumerate(zip(seen.before, seen.after, strict=False), 1):
        new = after not in seen.before
        table.add_row(str(position), titles[before], f"[green]{titles[after]}[/]" if new else titles[after])
    console.print(f"\nOne click, seen by user {seen.user_id}, {seen.took_ms:.0f} ms later:")
    console.print(table)


def demonstrate(api: "_Api") -> Demonstration:
    """Wait for a catalogue, click, wait for the list that knows it. Raise `NothingToShowError`."""
    user_id = f"demo-{uuid.uuid4().hex[:8]}"
    before = _await(lambda: _full(api.recommend(user_id)), _CATALOGUE_S, "no list yet: the catalogue is empty")
    clicked = before[_CLICKED]
    started = time.perf_counter()
    api.click(user_id, clicked)
    after = _await(
        # Other users change the list too; that this item is gone from it is this click's doing. A busy machine may
        # give a short list, or none.
        lambda: now if clicked not in (now := api.recommend(user_id)) and _full(now) else None,
        _CHANGE_S,
        f"the list did not change within {_CHANGE_S:.0f} s of the click; freshet status shows what lags",
    )
    return Demonstration(user_id, clicked, before, after, (time.perf_counter() - started) * 1000)


class _Api:
    """The few calls that are needed."""

    def __init__(self, base: str) -> None:
        self._base = base

    def recommend(self, user_id: str) -> list[str]:
        answer = self._call("GET", f"/v1/users/{urllib.parse.quote(user_id, safe='')}/recommendations?limit={_LENGTH}")
        return [item["item_id"] for item in answer["items"]]

    def click(self, user_id: str, item_id: str) -> None:
        event = {
            "event_id": str(uuid.uuid4()),
            "type": "click",
            "user_id": user_id,
            "item_id": item_id,
            "ts": int(time.time() * 1000),
        }
        self._call("POST", "/v1/events", {"events": [event]})

    def title(self, item_id: str) -> str | None:
        """Return None for an item that the catalogue does not have (yet)."""
        try:
            item = self._call("GET", f"/v1/items/{urllib.parse.quote(item_id, safe='')}")
        except urllib.error.HTTPError as error:
            if error.code != http.HTTPStatus.NOT_FOUND:
                raise
            return None
        return item.get("title") or item_id

    def _call(self, method: str, path: str, body: object = None) -> Any:
        request = urllib.request.Request(  # noqa: S310 - our own http address
            self._base + path,
            data=None if body is None else json.dumps(body).encode(),
            headers={"content-type": "application/json", **authorization()},
            method=method,
        )
        with urllib.request.urlopen(request, timeout=10) as answer:  # noqa: S310
            return json.load(answer)


def _titles(api: _Api, item_ids: Collection[str]) -> dict[str, str]:
    """Return the titles of items; ids in the place of those that are still not known after a while."""
    end = time.monotonic() + _TITLES_S
    pause = threading.Event()
    while None in (titles := {item_id: api.title(item_id) for item_id in item_ids}).values():
        if time.monotonic() > end:
            break
        pause.wait(_POLL_S)
    return {item_id: title or item_id for item_id, title in titles.items()}


def _full(items: list[str]) -> list[str] | None:
    return items if len(items) == _LENGTH else None


def _await(ask: Callable[[], list[str] | None], timeout_s: float, otherwise: str) -> list[str]:
    end = time.monotonic() + timeout_s
    pause = threading.Event()
    while (answer := ask()) is None:
        if time.monotonic() > end:
            raise NothingToShowError(otherwise)
        pause.wait(_POLL_S)
    return answer
