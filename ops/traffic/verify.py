"""`freshet verify`: the counts that Freshet answers beside those of the file, user by user and item by item."""

import asyncio
from dataclasses import dataclass, field
from itertools import islice
from urllib.parse import quote

import msgspec
from rich.progress import Progress

from ops.datasets import Dataset
from ops.http_client import Client

_N_CONNECTIONS = 8
_N_EXAMPLES = 5
_N_TRIES = 10
_PAUSE_S = 0.1

Counts = dict[str, dict[str, int]]
"""User or item id -> event type -> number of events."""


class _Counted(msgspec.Struct):
    counts: dict[str, int] = {}
    degraded: dict[str, str] | None = None


_decoder = msgspec.json.Decoder(_Counted)


@dataclass
class Difference:
    """An entity whose counts are not those of the file."""

    entity: str
    expected: dict[str, int]
    got: dict[str, int] | None
    """None: the API does not know it."""


@dataclass
class Verdict:
    """What was compared, and what differs."""

    n_users: int = 0
    n_items: int = 0
    n_different: int = 0
    examples: list[Difference] = field(default_factory=list)

    def add(self, difference: Difference) -> None:
        self.n_different += 1
        if len(self.examples) < _N_EXAMPLES:
            self.examples.append(difference)


def expected_counts(dataset: Dataset, limit: int | None = None) -> tuple[Counts, Counts]:
    """Return the counts (by user, by item) of a log's first `limit` events: one event a line."""
    users: Counts = {}
    items: Counts = {}
    for event in islice(dataset.events(), limit):
        for counts, entity in ((users, event.user_id), (items, event.item_id)):
            if entity is not None:
                of_entity = counts.setdefault(entity, {})
                of_entity[event.type] = of_entity.get(event.type, 0) + 1
    return users, items


async def compare(base_url: str, users: Counts, items: Counts, bar: Progress | None = None) -> Verdict:
    """Ask for every user and item. Only event types that occur in the log are compared: others may have clicked since.

    Raises
    ------
    ConnectionFailedError
        If the API cannot be reached.
    """
    types = {event_type for counts in (*users.values(), *items.values()) for event_type in counts}
    verdict = Verdict(n_users=len(users), n_items=len(items))
    work = iter([("/v1/users/", users, user) for user in users] + [("/v1/items/", items, item) for item in items])
    task = bar.add_task("verify", total=len(users) + len(items), rate="") if bar else None

    async def ask_in_turn() -> None:
        async with Client(base_url) as client:
            for path, counts, entity in work:
                got = await _counts(client, path + quote(entity, safe=""), types)
                if got != counts[entity]:
                    verdict.add(Difference(path + entity, counts[entity], got))
                if bar is not None and task is not None:
                    bar.advance(task)

    await asyncio.gather(*(ask_in_turn() for _ in range(_N_CONNECTIONS)))
    return verdict


async def _counts(client: Client, path: str, types: set[str]) -> dict[str, int] | None:
    for _ in range(_N_TRIES):
        answer = await client.get(path)
        found = _decoder.decode(answer.body) if answer.status == 200 else None
        if answer.status < 500 and (found is None or not found.degraded):
            break
        await asyncio.sleep(_PAUSE_S)  # Redis was too late on a busy machine: what is from memory is no count
    return None if found is None else {name: n for name, n in found.counts.items() if name in types and n}
