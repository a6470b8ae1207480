"""A simulated shop of films: its catalogue, its users' tastes, and the true probability of every click.

All of it follows from a seed. Items lie near the centre of their genres, users near those of a few genres; tastes turn
slowly and items come into fashion, so that what was learned goes stale. Ground truth:

    p(click | user, item, position, time) = examine(position) * relevance(user, item, time)
    relevance = sigmoid(a * taste(user, time) . item + c * device . item + appeal(item, time) + b)
    examine(p) = (1 + p) ** -0.6

`examine` is the position-bias model of Joachims et al., WSDM 2017, section 2.
"""

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from state.records import Event, EventType, Item, Scalar

GENRES = (
    "Action",
    "Animation",
    "Comedy",
    "Crime",
    "Documentary",
    "Drama",
    "Fantasy",
    "Horror",
    "Mystery",
    "Romance",
    "Sci-Fi",
    "War",
)
_OPENINGS = ("Last", "Silent", "Golden", "Broken", "Distant", "Hidden", "Midnight", "Paper", "Second", "Winter")
_MIDDLES = ("River", "Engine", "Garden", "Signal", "Harbour", "Letter", "Mountain", "Orchard", "Station", "Tide")
_ENDINGS = ("Returns", "in Red", "at Dawn", "Revisited", "of Glass", "Unbound", "for Two", "Below", "", "at Sea")

DEVICES = ("mobile", "desktop", "tv")
_DIMENSIONS = 16
_TASTE_WEIGHT = 5.0
_BIAS = -3.0
_POSITION_BIAS = 0.6
_DAY_MS = 86_400_000
_TASTE_PERIOD_MS = 60 * _DAY_MS
_FASHION_PERIOD_MS = 5 * _DAY_MS

Vector = NDArray[np.float64]


@dataclass(frozen=True)
class Outcome:
    """What a user does with an item that was shown or found."""

    type: EventType
    value: float | None = None


def turning(ts: int) -> float:
    """Return how far tastes have turned from each user's first one (0) to the second (1): slowly, to and fro."""
    return math.sin(2 * math.pi * ts / _TASTE_PERIOD_MS) ** 2


class World:
    """Items, users and the truth about them.

    Parameters
    ----------
    n_items, n_users
        Both at least 1.
    seed
        Equal seeds give equal worlds.
    turned
        How far tastes have turned from each user's first one (0) to the second (1), at a time in epoch ms.
    device_weight
        How much it matters on what people look; 0: not at all, and events do not say it.
    """

    def __init__(
        self,
        n_items: int = 2000,
        n_users: int = 1000,
        seed: int = 0,
        turned: Callable[[int], float] = turning,
        device_weight: float = 0.0,
    ) -> None:
        self.n_items, self.n_users, self.seed = n_items, n_users, seed
        self._turned = turned
        draw = np.random.default_rng(seed)
        centres = _unit(draw.normal(size=(len(GENRES), _DIMENSIONS)))
        self._genres = [draw.choice(len(GENRES), size=draw.integers(1, 4), replace=False) for _ in range(n_items)]
        mixed = np.stack([centres[own].mean(axis=0) for own in self._genres])
        self._items = _unit(mixed + 0.15 * draw.normal(size=(n_items, _DIMENSIONS)))
        self._appeal = 0.5 * draw.normal(size=n_items)
        self._fashion_phase = draw.uniform(0, 2 * math.pi, n_items)
        self._prices = np.round(draw.lognormal(2.2, 0.5, n_items), 2)
        self._years = draw.integers(1960, 2026, n_items)
        self._creators = draw.integers(0, max(1, n_items // 12), n_items)
        favourites = draw.dirichlet([0.1] * len(GENRES), size=(2, n_users))
        self._tastes = _unit(favourites @ centres)
        self._activity = 1 / (1 + draw.permutation(n_users)) ** 0.7
        self._activity /= self._activity.sum()
        self._device_weight = device_weight
        self._devices = dict(zip(DEVICES, centres, strict=False))
        """On each, items near the centre of one genre are liked more."""

    def items(self) -> Iterator[Item]:
        """Yield the catalogue; each item says that it is simulated."""
        for n in range(self.n_items):
            words = (_OPENINGS[n % 10], _MIDDLES[n // 10 % 10], _ENDINGS[n // 100 % 10])
            title = " ".join(word for word in words if word) + (f" {n // 1000 + 1}" if n >= 1000 else "")
            genres = [GENRES[genre] for genre in self._genres[n]]
            yield Item(
                item_id=item_id(n),
                title=title,
                genres=genres,
                category="series" if n % 3 == 0 else "movie",
                price=float(self._prices[n]),
                tags=[genre.lower() for genre in genres],
                creator=f"Studio {self._creators[n]}",
                release_date=str(self._years[n]),
                attributes={"simulated": True},
            )

    def relevance(self, user: int, ts: int, device: str | None = None) -> Vector:
        """Return the probability that a user likes what it looks at on a device, for each item, shape (n_items,)."""
        turned = self._turned(ts)
        taste = (1.0 - turned) * self._tastes[0, user] + turned * self._tastes[1, user]
        fashion = np.sin(2 * math.pi * (ts % _FASHION_PERIOD_MS) / _FASHION_PERIOD_MS + self._fashion_phase)
        logit = _TASTE_WEIGHT * (self._items @ taste) + self._appeal + 0.7 * fashion + _BIAS
        if device is not None and self._device_weight:
            logit += self._device_weight * (self._items @ self._devices[device])
        return np.asarray(1 / (1 + np.exp(-logit)), dtype=np.float64)

    def click_probability(self, user_id: str, item_id: str, position: int, ts: int) -> float:
        """Return the true probability of a click on an item shown at a position from 0, at a time in epoch ms."""
        return examination(position) * float(self.relevance(number(user_id), ts)[number(item_id)])

    def draw_user(self, draw: np.random.Generator) -> int:
        """Return a user; a few are much more active than the others."""
        return int(draw.choice(self.n_users, p=self._activity))

    def outcomes(self, relevance: float, draw: np.random.Generator) -> list[Outcome]:
        """Return what follows a click: pleasure shows in how long one watches, and sometimes is said or paid."""
        pleasure = float(np.clip(relevance + 0.2 * draw.normal(), 0, 1))
        found = [Outcome("click"), Outcome("watch", round(5400 * pleasure, 1))]
        told = draw.random()
        if told < 0.10:
            found.append(Outcome("like" if pleasure > 0.4 else "dislike"))
        elif told < 0.16:
            found.append(Outcome("rating", float(round(1 + 4 * pleasure))))
        elif told < 0.20 and pleasure > 0.5:
            found.append(Outcome("save"))
        elif told < 0.23 and pleasure > 0.6:
            found.append(Outcome("purchase"))
        elif told > 0.985 and pleasure < 0.3:
            found.append(Outcome("hide"))
        return found

    def history(self, n_events: int, until_ms: int, span_ms: int = 7 * _DAY_MS) -> Iterator[Event]:
        """Yield events of users who found items by themselves, in time order, the last at `until_ms` or before."""
        draw, draw_device = np.random.default_rng(self.seed + 1), np.random.default_rng((self.seed, 1))
        n_sent = 0
        start = float(until_ms - span_ms)
        while n_sent < n_events:
            user = self.draw_user(draw)
            # Sessions follow one another: those that overlap would need sorting, and a log is in time order.
            step_ms = (until_ms - start) / (n_events - n_sent)
            device = str(draw_device.choice(DEVICES))
            relevance = self.relevance(user, int(start), device)
            stated: dict[str, Scalar | list[str]] = {"device": device} if self._device_weight else {}
            session_id = f"sim-{self.seed}-h{n_sent}"
            for _ in range(int(draw.integers(1, 6))):
                looked_at = draw.integers(0, self.n_items, 40)
                item = int(looked_at[np.argmax(np.log(relevance[looked_at]) + draw.gumbel(size=40))])
                for outcome in self.outcomes(float(relevance[item]), draw):
                    if n_sent == n_events:
                        return
                    start += step_ms * draw.random() * 2 if n_sent + 1 < n_events else 0
                    n_sent += 1
                    yield Event(
                        event_id=f"sim-{self.seed}-h{n_sent}",
                        type=outcome.type,
                        user_id=user_id(user),
                        item_id=item_id(item),
                        ts=min(int(start), until_ms),
                        session_id=session_id,
                        value=outcome.value,
                        context=(stated | {"scale": 5} if outcome.type == "rating" else stated) or None,
                    )


def examination(position: int) -> float:
    """Return the probability that a user looks at a position, counted from 0."""
    return float((1 + position) ** -_POSITION_BIAS)


def user_id(n: int) -> str:
    """Return a user's id; it says that the user is simulated."""
    return f"sim-u{n}"


def item_id(n: int) -> str:
    """Return an item's id; it says that the item is simulated."""
    return f"sim-i{n}"


def number(entity_id: str) -> int:
    """Return the number behind a simulated user's or item's id. Raise `ValueError` for any other id."""
    return int(entity_id.removeprefix("sim-")[1:])


def _unit(vectors: Vector) -> Vector:
    return np.asarray(vectors / np.linalg.norm(vectors, axis=-1, keepdims=True), dtype=np.float64)
