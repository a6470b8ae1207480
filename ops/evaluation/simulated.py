"""What only a simulator can tell, because it knows the truth: recovery from drift, and who should see a new item."""

from dataclasses import dataclass
from typing import Literal

import numpy as np
from msgspec import Struct
from numpy.typing import NDArray

from online_models.evaluation.protocols import Progress, Recommender
from ops.traffic.simulator import World, item_id, number, user_id
from state.records import Event

N_EVENTS = 30_000
_N_ITEMS, _N_USERS = 1000, 300
_START_MS = 1_750_000_000_000
N_DAYS = 10
"""That a stream takes: so many nights for a model that is refitted at night."""
_SPAN_MS = N_DAYS * 86_400_000
_LENGTH = 10
_ASK_EVERY = 2
"""Events between two lists that are judged."""
_WINDOW = 1000
"""Events over which a level is averaged."""
_RAMP = 0.2
"""Share of the stream that a gradual change takes."""
_RECOVERED = 0.95
_YOUNG = 10
"""Events of a new item after which it is no longer watched."""
_ASKED = 10
"""Lists asked for after each of its events, of either kind of users."""

Drift = Literal["abrupt", "gradual"]
DRIFTS: tuple[Drift, ...] = ("abrupt", "gradual")


class Recovery(Struct):
    """One model's way through a change of all users' tastes."""

    model: str
    drift: Drift
    before: float
    """Share of the attainable relevance that lists had in the tenth of the stream before the change."""
    lowest: float
    after: float
    """In the last tenth of the stream."""
    since: float
    """In all of the stream since the change began: what it cost."""
    events_to_recover: int | None
    """From the begin of the change to the end of the first window, after the lowest one, that is at 95 % of `before`.

    None: not in the stream."""
    stream: tuple[list[float], list[float]]
    """Events, and the mean of the window that ends there."""


class NewItems(Struct):
    """How often new items are listed, by how many events they had: to the right users and to any others."""

    model: str
    n_items: int
    events: list[int]
    right: list[float]
    """Share of lists, of the tenth of users with the highest true relevance of the item, that show it."""
    others: list[float]
    found_before_ten: float
    """Share of the new items that a right user's list showed before their tenth event."""


@dataclass(frozen=True)
class Stream:
    """First clicks of users on items, in time order, and the world that they came from."""

    world: World
    events: list[Event]
    change_at: int
    """Index of the first event after tastes begin to change."""


def stream_of(n_events: int, seed: int, drift: Drift | None = None) -> Stream:
    """Simulate users who find items by themselves; halfway their tastes become others."""
    middle = _START_MS + _SPAN_MS // 2
    length = 1 if drift == "abrupt" else int(_RAMP * _SPAN_MS)

    def turned(ts: int) -> float:
        return 0.0 if drift is None else min(max((ts - middle) / length, 0.0), 1.0)

    world = World(_N_ITEMS, _N_USERS, seed, turned)
    seen: set[tuple[str, str | None]] = set()
    events = []
    # A click is followed by other events on the same item; about every second event is a click.
    for event in world.history(3 * n_events, _START_MS + _SPAN_MS, _SPAN_MS):
        if event.type == "click" and (event.user_id, event.item_id) not in seen:
            seen.add((event.user_id, event.item_id))
            events.append(event)
    step = max(len(events) / n_events, 1.0)  # thinned, so that the change stays in the middle
    events = [events[int(k * step)] for k in range(min(n_events, len(events)))]
    change_at = next(k for k, event in enumerate(events) if event.ts >= middle)
    return Stream(world, events, change_at)


def attained(world: World, user: str, listed: list[str], seen: set[int], ts: int) -> float:
    """Return the true relevance of a list as a share of that of the best list of unseen items."""
    relevance = world.relevance(number(user), ts)
    got = float(relevance[[number(item) for item in listed]].sum())
    relevance[list(seen)] = 0.0
    return got / float(np.sort(relevance)[-_LENGTH:].sum())


def recover(name: str, model: Recommender, stream: Stream, drift: Drift, progress: Progress | None = None) -> Recovery:
    """Run a model along a stream whose tastes change, and measure how long it takes to be as good as before."""
    where, shares = [], []
    seen: dict[str, set[int]] = {}
    for item in stream.world.items():
        model.describe(item)
    for k, event in enumerate(stream.events):
        own = seen.setdefault(event.user_id, set())
        t = event.ts / 1000
        if k % _ASK_EVERY == 0:
            listed = model.recommend(event.user_id, _LENGTH, t, "unseen")
            where.append(k)
            shares.append(attained(stream.world, event.user_id, listed, own, event.ts))
        model.observe(event.user_id, str(event.item_id), True, 1.0, t)
        own.add(number(str(event.item_id)))
        if progress is not None and not k % 256:
            progress(k, len(stream.events))
    return _recovery(name, drift, np.array(where), np.array(shares), stream.change_at, len(stream.events))


def _recovery(
    name: str, drift: Drift, where: NDArray[np.int64], shares: NDArray[np.float64], change_at: int, n_events: int
) -> Recovery:
    n = min(_WINDOW, max(n_events // 20, _ASK_EVERY)) // _ASK_EVERY
    level = np.convolve(shares, np.full(n, 1 / n), "valid")
    ends = where[n - 1 :]
    tenth = n_events // 10
    before = float(shares[(where >= change_at - tenth) & (where < change_at)].mean())
    later = ends >= change_at + n * _ASK_EVERY  # windows without an event from before
    lowest = int(np.flatnonzero(later)[level[later].argmin()])
    good = np.flatnonzero(level[lowest:] >= _RECOVERED * before)
    every = max(len(ends) // 200, 1)
    return Recovery(
        name,
        drift,
        before,
        float(level[lowest]),
        float(shares[where >= n_events - tenth].mean()),
        float(shares[where >= change_at].mean()),
        int(ends[lowest + good[0]] - change_at) if len(good) else None,
        (ends[::every].astype(float).tolist(), level[::every].tolist()),
    )


class _Exposure:
    """Lists that were asked for new items, by the events that the item had, and how many showed it."""

    def __init__(self, model: Recommender, world: World, new: set[str], seed: int) -> None:
        self.model, self.world, self.draw = model, world, np.random.default_rng(seed)
        self.events = dict.fromkeys(sorted(new), 0)
        self.right, self.others = np.zeros((_YOUNG + 1, 2)), np.zeros((_YOUNG + 1, 2))  # shown, asked
        self.found: set[str] = set()
        self.users: set[int] = set()

    def ask(self, item: str, ts: int) -> None:
        """Ask for lists of the tenth of users with the highest true relevance of the item, and of others."""
        users = np.array(sorted(self.users))
        liking = np.array([self.world.relevance(int(user), ts)[number(item)] for user in users])
        best = users[np.argsort(-liking)[: max(len(users) // 10, 1)]]
        n = self.events[item]
        shown = self._shown(item, best, ts)
        self.right[n] += shown, _ASKED
        self.others[n] += self._shown(item, np.setdiff1d(users, best), ts), _ASKED
        if n < _YOUNG and shown:
            self.found.add(item)

    def _shown(self, item: str, users: NDArray[np.int64], ts: int) -> int:
        chosen = self.draw.choice(users, _ASKED)
        t = ts / 1000
        return sum(item in self.model.recommend(user_id(int(user)), 2 * _LENGTH, t, "unseen") for user in chosen)


def place_new_items(
    name: str, model: Recommender, stream: Stream, seed: int, progress: Progress | None = None, n_new: int = 50
) -> NewItems:
    """Release items halfway, and ask after each of their first events whose lists show them.

    Before, they have neither a catalogue entry nor events.
    """
    world = stream.world
    new = {item_id(int(n)) for n in np.random.default_rng(seed).choice(world.n_items, n_new, replace=False)}
    exposure = _Exposure(model, world, new, seed)
    entries = {entry.item_id: entry for entry in world.items()}
    for entry in entries.values():
        if entry.item_id not in new:
            model.describe(entry)
    for k, event in enumerate(stream.events):
        item = str(event.item_id)
        if k == stream.change_at:
            for added in exposure.events:
                model.describe(entries[added])
                exposure.ask(added, event.ts)
        if item in new and k < stream.change_at:
            continue
        model.observe(event.user_id, item, True, 1.0, event.ts / 1000)
        exposure.users.add(number(event.user_id))
        if item in new and exposure.events[item] < _YOUNG:
            exposure.events[item] += 1
            exposure.ask(item, event.ts + 1)
        if progress is not None and not k % 256:
            progress(k, len(stream.events))
    asked = np.flatnonzero(exposure.right[:, 1])
    right, others = exposure.right[asked], exposure.others[asked]
    return NewItems(
        name,
        n_new,
        asked.tolist(),
        (right[:, 0] / right[:, 1]).tolist(),
        (others[:, 0] / others[:, 1]).tolist(),
        len(exposure.found) / n_new,
    )
