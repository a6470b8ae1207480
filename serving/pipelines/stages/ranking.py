"""From scores to the order that is shown."""

import zlib
from collections.abc import Iterator
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from online_models.arrays import descending
from online_models.reranking.exploration import MAX_ARMS, Arms
from online_models.reranking.rerank import NEVER_DUPLICATE, Exploration, LabelCap, Reranked, Share, rerank
from serving.contract.answers import RuleEffect
from serving.pipelines.slate import Slate

NEAR_DUPLICATES = "near_duplicates"
"""What answers call this constraint beside the names of rules."""
EXPOSED_FROM, SHOWN_FROM = 30, 300
"""Events, and impressions, of an item from either of which it is known well enough: it is not tried out any more."""
_FIRST = 64
"""Candidates that are looked at first, and for near duplicates: hardly ever is one behind these shown."""


class Rank:
    """Best score first; what has no finite score sinks. Equal scores keep the order of retrieval."""

    name = "rank"
    deadline_ms = 5.0
    skippable = False

    def run(self, slate: Slate) -> None:
        scores = slate.candidates.scores
        if not np.isfinite(scores).all():
            scores = np.where(np.isfinite(scores), scores, -np.inf)
        slate.candidates = slate.candidates.take(descending(scores))

    def fallback(self, slate: Slate) -> None:
        """The order of retrieval stands."""


class Boost:
    """Multiplies scores by the factors of the rules."""

    name = "boost"
    deadline_ms = 5.0
    skippable = False

    def run(self, slate: Slate) -> None:
        boosts = slate.rules.boosts(slate.surface)
        if not boosts:
            return
        candidates = slate.candidates
        scores = candidates.scores.copy()
        for boost in boosts:
            matching = slate.rules.mask(boost.name, slate.replica)[candidates.slots]
            scores[matching] *= boost.factor
            slate.notes[boost.name] = int(np.count_nonzero(matching))
            if slate.query.explain:
                effect = RuleEffect(boost.name, f"score multiplied by {boost.factor:g}")
                for slot in candidates.slots[matching].tolist():
                    slate.effects.setdefault(slot, []).append(effect)
        slate.candidates = replace(candidates, scores=scores)

    def fallback(self, slate: Slate) -> None:
        """The scores stand as they are."""


class Rerank:
    """Pins, promotions, caps, near duplicates and the diversity that the request asks for; see `rerank`."""

    name = "rerank"
    deadline_ms = 10.0
    skippable = False

    def run(self, slate: Slate) -> None:
        if not len(slate.candidates):
            return
        n = len(slate.candidates)
        wanted = constraints_of(slate, n if _needs_all(slate) else _n_first(slate))
        done = wanted.rerank(slate.candidates.scores)
        if len(done.order) < n and done.relaxed.any():  # one behind them may break nothing
            wanted = constraints_of(slate, n)
            done = wanted.rerank(slate.candidates.scores)
        slate.relaxed = {name: n for name, n in zip(wanted.names, done.relaxed.tolist(), strict=True) if n}
        if slate.query.explain:
            slate.notes |= {f"{name} relaxed": n for name, n in slate.relaxed.items()}
            slate.notes["moved"] = int(np.count_nonzero(done.order != np.arange(len(done.order))))
            slate.ranks = {slot: rank for rank, slot in enumerate(slate.candidates.slots.tolist())}
            _note_effects(slate, wanted, done.order)
        slate.candidates = slate.candidates.take(np.append(done.order, np.arange(len(done.order), n)))
        if wanted.exploration is not None:
            # Behind those that were chosen nobody is shown; as certain as without exploration.
            propensities = np.ones(len(done.order))
            propensities[: done.n_chosen] = done.propensities
            slate.candidates = replace(slate.candidates, propensities=propensities)
            slate.explored = frozenset(slate.candidates.slots[: done.n_chosen][done.explored].tolist())
            slate.notes["tried_out"] = len(slate.explored)

    def fallback(self, slate: Slate) -> None:
        """The ranker's order stands."""


def _note_effects(slate: Slate, wanted: "Constraints", order: NDArray[np.intp]) -> None:
    """Say what each rule did: where the item would be without this rule alone."""
    slots, scores = slate.candidates.slots, slate.candidates.scores
    places = {int(candidate): place for place, candidate in enumerate(order[: wanted.n_wanted].tolist())}
    for name, others in wanted.each_left_out():
        without = {int(candidate): place for place, candidate in enumerate(others.rerank(scores).order.tolist())}
        for candidate, place in places.items():
            if without[candidate] != place:
                effect = RuleEffect(name, f"moved from {without[candidate]} to {place}")
                slate.effects.setdefault(int(slots[candidate]), []).append(effect)


@dataclass(frozen=True)
class Constraints:
    """What the order of some candidates must respect."""

    names: list[str]
    """Of the rules in the order of `Reranked.relaxed`: near duplicates, caps, promotions."""
    n_wanted: int
    caps: list[LabelCap]
    shares: list[Share]
    pins: dict[str, tuple[int, int]]
    """Rule -> candidate and place."""
    diversity: float
    duplicate: float
    vectors: NDArray[np.float32]
    labels: NDArray[np.int32]
    exploration: Exploration | None

    def each_left_out(self) -> Iterator[tuple[str, "Constraints"]]:
        """Yield each constraint's name and all the others."""
        if self.duplicate < NEVER_DUPLICATE:
            yield NEAR_DUPLICATES, replace(self, duplicate=NEVER_DUPLICATE)
        for k in range(len(self.caps)):
            yield self.names[1 + k], replace(self, caps=self.caps[:k] + self.caps[k + 1 :])
        for k in range(len(self.shares)):
            yield self.names[1 + len(self.caps) + k], replace(self, shares=self.shares[:k] + self.shares[k + 1 :])
        for name in self.pins:
            yield name, replace(self, pins={pin: where for pin, where in self.pins.items() if pin != name})
        if self.diversity > 0.0:
            yield "diversity", replace(self, diversity=0.0)
        if self.exploration is not None:
            yield "exploration", replace(self, exploration=None)

    def rerank(self, scores: NDArray[np.float64]) -> Reranked:
        return rerank(
            scores[: len(self.labels)],
            self.n_wanted,
            caps=self.caps,
            shares=self.shares,
            pins=list(self.pins.values()),
            diversity=self.diversity,
            duplicate=self.duplicate,
            vectors=self.vectors,
            labels=self.labels,
            exploration=self.exploration,
        )


def _n_first(slate: Slate) -> int:
    return min(len(slate.candidates), max(_FIRST, 2 * slate.query.limit))


def _needs_all(slate: Slate) -> bool:
    """Return whether a candidate far behind may be shown although nothing before it breaks a constraint.

    Otherwise each place has the first candidate that breaks none, whatever is behind it.
    """
    query = slate.query
    chosen_otherwise = query.diversity > 0.0 or query.exploration > 0.0
    return chosen_otherwise or query.explain or bool(slate.rules.pins(slate.surface, slate.user_id))


def constraints_of(slate: Slate, n: int) -> Constraints:
    """Return what the rules and the request ask of the order of a slate's first n candidates, sorted by score."""
    slots, rules, replica = slate.candidates.slots[:n], slate.rules, slate.replica
    diversity = slate.query.diversity
    n_wanted = min(slate.query.limit, n)
    catalogue = replica.columns.catalogue
    genres = catalogue.genres[slots]
    columns = {"genre": genres, "category": catalogue.categories, "creator": catalogue.creators}
    caps = rules.caps(slate.surface)
    promotions = rules.promotions(slate.surface)
    duplicate = rules.document.near_duplicates
    vectors = np.zeros((n, 0), np.float32)
    if duplicate is not None or diversity > 0.0:
        n_compared = n if diversity > 0.0 else _n_first(slate)
        of_first = replica.vectors(slots[:n_compared])
        vectors = np.zeros((n, of_first.shape[1]), np.float32)
        vectors[:n_compared] = of_first
    return Constraints(
        names=[NEAR_DUPLICATES, *(cap.name for cap in caps), *(promotion.name for promotion in promotions)],
        n_wanted=n_wanted,
        caps=[
            LabelCap(
                genres if cap.attribute == "genre" else columns[cap.attribute][slots][:, None],
                cap.at_most,
                cap.among,
                cap.every,
            )
            for cap in caps
        ],
        shares=[Share(rules.mask(p.name, replica)[slots], p.share, p.among) for p in promotions],
        pins=_places(slate, n_wanted),
        diversity=diversity,
        duplicate=NEVER_DUPLICATE if duplicate is None else duplicate,
        vectors=vectors,
        labels=genres,
        exploration=_exploration(slate, n_wanted) if slate.query.exploration > 0.0 else None,
    )


def _exploration(slate: Slate, n_wanted: int) -> Exploration:
    """Return the candidates of little exposure, the least exposed ones if they are many, in the order of their scores;
    and random numbers that the request's id alone says.
    """
    slots = slate.candidates.slots
    n_events, shown, taken = slate.replica.exposure(slots)
    arms = np.flatnonzero((n_events < EXPOSED_FROM) & (shown < SHOWN_FROM)).astype(np.int32)
    least = np.argsort(n_events[arms] + shown[arms], kind="stable")[:MAX_ARMS]
    arms = np.sort(arms[least])
    seed = zlib.crc32(slate.request_id.encode())
    return Exploration(
        slate.query.exploration,
        Arms.of(arms, taken[arms], shown[arms], slate.query.explore_by),
        np.random.default_rng(seed).random((n_wanted, 2)),
    )


def _places(slate: Slate, n_wanted: int) -> dict[str, tuple[int, int]]:
    """Return rule -> (candidate, place) of the pins whose items are candidates; later pages have none."""
    if len(slate.shown):
        return {}
    places: dict[str, tuple[int, int]] = {}
    pinned: set[int] = set()
    for pin in slate.rules.pins(slate.surface, slate.user_id):
        slot = slate.replica.slot(pin.item)
        found = [] if slot is None else np.flatnonzero(slate.candidates.slots == slot).tolist()
        if found and found[0] not in pinned and pin.position < n_wanted:
            places[pin.name] = (found[0], pin.position)
            pinned.add(found[0])
    return places


class Select:
    """Takes as many as were asked for."""

    name = "select"
    deadline_ms = 5.0
    skippable = False

    def run(self, slate: Slate) -> None:
        # What is far behind the best is not listed; the rest would be far behind another best.
        slate.has_more |= len(slate.candidates) > slate.query.limit
        slate.has_more &= not slate.query.min_relevance
        slate.candidates = slate.candidates.take(slice(slate.query.limit))

    fallback = run
