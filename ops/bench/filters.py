"""Lists over 100 000 items: how complete filters leave them, how fast they are, and how soon a catalogue is in them."""

import asyncio
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from urllib.parse import quote

import msgspec
import numpy as np
from rich.console import Console

from online_models.catalogue.expressions import parse
from ops.bench import brute_force
from ops.bench.api import BenchError, put_item, shown
from ops.bench.report import Figure, Report, percentiles
from ops.http_client import Client
from ops.lag import wait_until_caught_up
from ops.stack.status import address
from ops.traffic.replay import now_ms
from ops.traffic.sending import KafkaSender
from ops.traffic.simulator import World
from state.entries import USER_PROFILE
from state.records import Event, Item
from state.redis_store import RedisStore
from state.settings import Settings

SHARES = (0.5, 0.1, 0.01, 0.001, 0.0001)
"""Of the catalogue, that the filters keep."""
_N_RECALLED = 100
_LEAST_RECALL = 0.95
_N_USERS = 30
_N_LISTS = 60
"""Asked for of each surface and filter."""
_LIST_MS = 50.0
_LOAD_S = 60.0
_SERVABLE_MS = 2000.0
_N_CHANGED = 20
_CATCH_UP_S = 300.0
_SHOWN_S = 60.0
_POLL_S = 0.01

_encode = msgspec.json.Encoder().encode


def measure(settings: Settings, n_items: int, n_events: int, console: Console) -> list[Report]:
    """Load a simulated catalogue into an empty system, play a history over it, and measure its lists.

    Raise `BenchError`, or what sending and waiting raise.
    """
    world = World(n_items, max(200, n_items // 50))
    url = address(settings)
    with console.status(f"{n_items:,} items"):
        loaded = _load(world, url)
    with console.status(f"{n_events:,} events"):
        events = list(world.history(n_events, now_ms()))
        with KafkaSender(settings) as sender:
            for event in events:
                sender.event(event)
        wait_until_caught_up(settings, _CATCH_UP_S)
    people = _regulars(events)
    with console.status("recall"):
        complete = asyncio.run(_completeness(settings, url, people))
    with console.status("latency"):
        latency = asyncio.run(_latencies(url, people, events[-1].item_id or ""))
    with console.status("changes"):
        changed = asyncio.run(_changes(url))
    size = f"at {n_items:,} items"
    return [
        Report(f"Catalogue, {size}", [loaded, *changed]),
        Report(f"Filters, {size}: recall@{_N_RECALLED} of retrieval, against all that match, scored alike", complete),
        Report(f"Filters, {size}: latency of lists of 20, one client", latency),
    ]


def labelled(world: World) -> Iterator[Item]:
    """Yield the catalogue with a tag for each of `SHARES`, at random and each within the one before."""
    place = np.random.default_rng(world.seed).permutation(world.n_items)
    for n, item in enumerate(world.items()):
        tags = [tag_of(share) for share in SHARES if place[n] < share * world.n_items]
        yield msgspec.structs.replace(item, tags=[*item.tags, *tags])


def tag_of(share: float) -> str:
    """Return what items of a share are tagged with: `keeps-1%` for 0.01."""
    return f"keeps-{100 * share:g}%"


def filter_of(share: float) -> str:
    """Return the filter that keeps a share of the catalogue."""
    return f"tag={tag_of(share)}"


def _load(world: World, url: str) -> Figure:
    """Load the catalogue as people do, and look at a list that must have the last item."""
    last = ""
    with tempfile.TemporaryDirectory(prefix="freshet-bench-") as folder:
        path = Path(folder) / "items.jsonl"
        with path.open("wb") as file:
            for item in labelled(world):
                file.write(_encode(item) + b"\n")
                last = item.item_id
        began = time.perf_counter()
        done = subprocess.run(
            [sys.executable, "-m", "ops", "items", "load", str(path), "--url", url, "--wait", "300"],
            capture_output=True,
            text=True,
        )
    if done.returncode:
        raise BenchError(f"freshet items load: {(done.stderr or done.stdout).strip()[-300:]}")
    asyncio.run(_until_shown(url, last, f"creator={quote(item.creator or '')}"))
    seconds = time.perf_counter() - began
    return Figure(f"load {world.n_items:,} items, until a list has the last one", seconds, "s", target=_LOAD_S)


async def _until_shown(url: str, item_id: str, wanted: str) -> None:
    """Wait until a list of the popular items that match has an item. Raise `BenchError` when it has not in time."""
    async with Client(url) as client:
        try:
            async with asyncio.timeout(_SHOWN_S):
                while item_id not in await shown(client, f"/v1/popular?limit=100&{wanted}"):
                    await asyncio.sleep(_POLL_S)
        except TimeoutError as error:
            raise BenchError(f"{item_id} is in no list of those with {wanted} after {_SHOWN_S:.0f} s") from error


async def _changes(url: str) -> list[Figure]:
    """Put new items, and change each: until a list by what is new of it has it."""
    new: list[float] = []
    changed: list[float] = []
    async with Client(url) as client:
        for n in range(_N_CHANGED):
            item_id = f"bench-new-{n}"
            for tag, took in ((f"bench-put-{n}", new), (f"bench-changed-{n}", changed)):
                began = time.perf_counter()
                await put_item(client, Item(item_id=item_id, title="Bench", tags=[tag]))
                await _until_shown(url, item_id, f"tag={tag}")
                took.append(time.perf_counter() - began)
    targets = {100: _SERVABLE_MS}
    return [
        *percentiles("a new item, until a list has it:", new, targets, shares=(50, 100)),
        *percentiles("a changed item, until a list by the change has it:", changed, targets, shares=(50, 100)),
    ]


def _regulars(events: Sequence[Event]) -> list[str]:
    """Return the users with the most events."""
    users, counts = np.unique([event.user_id for event in events], return_counts=True)
    return [str(user) for user in users[np.argsort(-counts, kind="stable")[:_N_USERS]]]


async def _completeness(settings: Settings, url: str, people: Sequence[str]) -> list[Figure]:
    """Compare what is retrieved with all that match, and the lists that are served with what is to be had."""
    replica, now = brute_force.replica_of(settings)
    retrieval = brute_force.Retrieval(replica, now)
    stored = RedisStore(settings).get_many(USER_PROFILE, people)
    profiles = {user_id: profile for user_id, profile in zip(people, stored, strict=True) if profile is not None}
    figures = []
    async with Client(url) as client:
        for share in SHARES:
            expression = parse(filter_of(share))
            mask = replica.matching(expression)
            n_short, ranked, vectors = 0, [], []
            for user_id, profile in profiles.items():
                best = brute_force.best_by_ranker(replica, profile, expression, now, _N_RECALLED)
                ranked.append(brute_force.recall(retrieval.candidates(profile, expression), best))
                near, nearest = brute_force.nearest(replica, profile.recent[-1].item_id, mask, now, _N_RECALLED)
                vectors.append(brute_force.recall(near.tolist(), nearest.tolist()))
                path = f"/v1/users/{user_id}/recommendations?limit={_N_RECALLED}&filter={quote(filter_of(share))}"
                n_short += len(await shown(client, path)) < len(best)
            name = f"{100 * share:g} % match ({int(mask.sum()):,})"
            figures += [
                Figure(f"{name}: home", float(np.mean(ranked)), "", target=_LEAST_RECALL, at_most=False),
                Figure(f"{name}: nearest by vector", float(np.mean(vectors)), "", target=_LEAST_RECALL, at_most=False),
                Figure(f"{name}: lists that lack items that match", n_short, f"of {len(profiles)}", target=0),
            ]
    return figures


async def _latencies(url: str, people: Sequence[str], item_id: str) -> list[Figure]:
    figures = []
    steps = _encode({"events": [{"item_id": item_id}]})
    for surface, path in _SURFACES.items():
        for share in (None, *SHARES):
            took = []
            async with Client(url) as client:
                for n in range(_N_LISTS):
                    # Another filter each time: nothing of an earlier list can be used again.
                    wanted = "" if share is None else f"&filter={quote(f'{filter_of(share)} and price>=0.000{n:03}')}"
                    full = path(people[n % len(people)], item_id) + wanted
                    began = time.perf_counter()
                    answer = await (client.post(full, steps) if surface == "session" else client.get(full))
                    took.append(time.perf_counter() - began)
                    if answer.status != 200:
                        raise BenchError(f"{full}: {answer.status} {answer.body[:200]!r}")
            name = f"{surface}, {'no filter' if share is None else f'{100 * share:g} % match'}"
            figures += percentiles(name, took, {95: _LIST_MS}, shares=(50, 95))
    return figures


def _of_user(surface: str) -> Callable[[str, str], str]:
    return lambda user_id, item_id: f"/v1/users/{user_id}/recommendations?surface={surface}"


_SURFACES: dict[str, Callable[[str, str], str]] = {
    "home": _of_user("home"),
    "because": _of_user("because"),
    "similar": lambda user_id, item_id: f"/v1/items/{item_id}/similar?user_id={user_id}",
    "popular": _of_user("popular"),
    "trending": lambda user_id, item_id: f"/v1/trending?window=1d&user_id={user_id}",
    "search": lambda user_id, item_id: f"/v1/search?q=river&user_id={user_id}",
    "session": lambda user_id, item_id: "/v1/sessions/recommendations?limit=20",
}
