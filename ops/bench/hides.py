"""Hide an item, ask at once: it must never be in the list again."""

import time

from ops.bench.api import hide, recommended
from ops.bench.report import Figure, Report, percentiles
from ops.http_client import Client

_N_USERS = 50


async def measure(base_url: str, n_hides: int, run_id: str) -> Report:
    """Hide the first item of a user's list and ask again, `n_hides` times over 50 users.

    Raises
    ------
    BenchError
        If the API refuses, or a list is empty.
    """
    hidden: dict[str, set[str]] = {}
    n_stale = 0
    took: list[float] = []
    async with Client(base_url) as client:
        for n in range(n_hides):
            user_id = f"bench-{run_id}-{n % _N_USERS}"
            first = (await recommended(client, user_id))[0]
            gone = hidden.setdefault(user_id, set())
            gone.add(first)
            started = time.perf_counter()
            await hide(client, user_id, first)
            after = await recommended(client, user_id)
            took.append(time.perf_counter() - started)
            n_stale += bool(gone.intersection(after))
    figures = [
        Figure("lists with a hidden item", n_stale, f"of {n_hides:,}", target=0),
        *percentiles("hide and next list", took),
    ]
    return Report("Hides: read your own writes", figures)
