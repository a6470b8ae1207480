"""Hide an item, ask at once: it must never be in the list again, whether the flows run or not."""

import time

from ops.bench.api import hide, listed, recommended
from ops.bench.report import Figure, Report, percentiles
from ops.http_client import Client

_N_USERS = 50


async def measure(base_url: str, n_hides: int, run_id: str, what: str) -> list[Figure]:
    """Hide the first item of a user's list and ask again, `n_hides` times over 50 users of this run.

    Raises
    ------
    BenchError
        If the API refuses, or a list is empty.
    """
    hidden: dict[str, set[str]] = {}
    stale: list[str] = []
    took: list[float] = []
    async with Client(base_url) as client:
        for n in range(n_hides):
            user_id = f"bench-{run_id}-{n % _N_USERS}"
            first = (await recommended(client, user_id))[0]
            gone = hidden.setdefault(user_id, set())
            gone.add(first)
            started = time.perf_counter()
            await hide(client, user_id, first)
            after = await listed(client, user_id)
            took.append(time.perf_counter() - started)
            if gone.intersection(after.item_ids):
                stale.append(f"without {', '.join(after.degraded)}" if after.degraded else "complete")
    return [
        Figure(
            f"lists with a hidden item, {what}",
            len(stale),
            f"of {n_hides:,}",
            target=0,
            note="; ".join(sorted(set(stale))),
        ),
        *percentiles(f"hide and next list, {what}", took),
    ]


def report(running: list[Figure], stopped: list[Figure]) -> Report:
    """Return both measurements."""
    return Report("Hides: read your own writes", running + stopped)
