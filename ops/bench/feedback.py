"""Post feedback, read at once: it must be in the list, whether the flows run, lag or are stopped."""

import asyncio
import random
import time

import msgspec

from ops.bench.api import BenchError
from ops.bench.report import Figure, Report, percentiles
from ops.http_client import Client

_N_USERS = 200
_N_CLIENTS = 4
_KINDS = ("like", "dislike", "save", "hide", "rating", "undo")
_GONE = frozenset(("hide", "dislike"))


class _Listed(msgspec.Struct):
    item_id: str


class _State(msgspec.Struct):
    user: str
    user_ts: int | None


class _List(msgspec.Struct):
    items: list[_Listed]
    state: _State
    degraded: dict[str, str] | None = None


async def measure(base_url: str, n_pairs: int, run_id: str, what: str) -> list[Figure]:
    """Post feedback and read the user's list, so many times, over 200 users of this run.

    A list is stale when the newest event that it says to know of the user is older than the feedback, or when it has an
    item that is hidden or disliked. Raise `BenchError` if the API refuses.
    """
    stale: list[str] = []
    took: list[float] = []
    share = n_pairs // _N_CLIENTS
    await asyncio.gather(*(_pairs(base_url, share, f"{run_id}-{n}", stale, took) for n in range(_N_CLIENTS)))
    return [
        Figure(
            f"stale lists, flows {what}",
            len(stale),
            f"of {len(took):,}",
            target=0,
            note="; ".join(sorted(set(stale))[:3]),
        ),
        *percentiles(f"feedback and next list, flows {what}", took, shares=(50, 99)),
    ]


async def _pairs(base_url: str, n_pairs: int, run_id: str, stale: list[str], took: list[float]) -> None:
    chance = random.Random(run_id)  # noqa: S311 - no secret
    said: dict[str, dict[str, str]] = {}  # user -> item -> like, dislike, save, hide or rating
    shown: dict[str, list[str]] = {}
    async with Client(base_url) as client:
        for _ in range(n_pairs):
            user_id = f"bench-{run_id}-{chance.randrange(_N_USERS // _N_CLIENTS)}"
            if not shown.get(user_id):
                shown[user_id] = [item.item_id for item in (await _read(client, user_id)).items]
            given = said.setdefault(user_id, {})
            kind = chance.choice(_KINDS)
            if kind == "undo" and given:
                item_id = chance.choice(sorted(given))
                body: dict[str, object] = {"type": "undo", "value": given.pop(item_id)}
            else:
                kind = "like" if kind == "undo" else kind
                item_id = chance.choice(shown[user_id])
                if item_id in given:
                    continue  # one at a time, so that it is known what stands
                given[item_id] = kind
                body = {"type": kind} | ({"value": chance.randint(1, 5)} if kind == "rating" else {})
            before_ms = time.time_ns() // 1_000_000
            started = time.perf_counter()
            answer = await client.post(
                f"/v1/users/{user_id}/feedback", msgspec.json.encode(body | {"item_id": item_id})
            )
            if answer.status != 202:
                raise BenchError(f"feedback of {user_id}: {answer.status} {answer.body[:200]!r}")
            found = await _read(client, user_id)
            took.append(time.perf_counter() - started)
            items = [item.item_id for item in found.items]
            gone = {item for item, kind in given.items() if kind in _GONE}
            if (found.state.user_ts or 0) < before_ms:
                stale.append(f"{kind} is not known, the user's state being from {found.state.user}")
            elif gone.intersection(items):
                stale.append(f"after {kind} an item that is gone is shown")
            shown[user_id] = items


async def _read(client: Client, user_id: str) -> _List:
    answer = await client.get(f"/v1/users/{user_id}/recommendations?limit=20")
    if answer.status != 200:
        raise BenchError(f"the list of {user_id}: {answer.status} {answer.body[:200]!r}")
    return msgspec.json.decode(answer.body, type=_List)


def report(*measured: list[Figure]) -> Report:
    """Return all measurements."""
    return Report("Feedback: in the very next list", [figure for figures in measured for figure in figures])
