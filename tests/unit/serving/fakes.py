"""A replica of a few items whose scores are given, and slates over it."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from online_models.catalogue.attributes import Attributes
from online_models.catalogue.content import Catalogue
from online_models.catalogue.expressions import Expression
from online_models.engine.retrieval import Workspace
from serving.contract.queries import ListQuery
from serving.contract.wanted import wanted
from serving.pipelines.slate import Candidates, Slate
from state.records import Activity, Item

Scored = tuple[Any, Any]


class FakeContext:
    """Remembers which items it was asked to keep out."""

    def __init__(self, n_items: int) -> None:
        self.n_items = n_items
        self.barred: set[int] = set()

    def bar(self, slots: Any) -> None:
        self.barred.update(slots.tolist())

    def bar_all_but(self, allowed: Any) -> None:
        self.barred.update(np.flatnonzero(~allowed).tolist())

    def allowed(self) -> Any:
        return np.array([slot for slot in range(self.n_items) if slot not in self.barred], np.int32)


class FakeColumns:
    def __init__(self, genres: Sequence[Sequence[str]], hidden: set[int]) -> None:
        self.hidden = hidden
        self.n_events = 1000 * len(genres)
        self.workspace = Workspace()
        self.workspace.reserve(len(genres))
        self.catalogue = Catalogue()
        self.catalogue.reserve(len(genres))
        for slot, of_item in enumerate(genres):
            self.catalogue.put(slot, Item(item_id=f"i{slot}", genres=list(of_item)))

    def servable(self, slots: Any) -> Any:
        return np.array([slot not in self.hidden for slot in slots.tolist()], np.bool_)


class FakeRanking:
    name = "fake"
    version = "7"

    def score(self, features: Any, mean: Any = None) -> Any:
        return features[:, 1].astype(np.float64)


class FakeReplica:
    """Item k is called `i<k>`, has genre `genres[k]`, popularity `n - k` and the ranker's score `scores[k]`."""

    ranking: Any = FakeRanking()
    repeats = False

    def __init__(self, genres: Sequence[Sequence[str]], scores: Sequence[float] = (), hidden: set[int] | None = None):
        self.genres = genres
        self.n_items = len(genres)
        self.scores = np.array(scores or np.linspace(1, 0, len(genres)))
        self.columns = FakeColumns(genres, hidden or set())
        self.attributes = Attributes()
        for slot in range(self.n_items):
            self.attributes.replace(slot, None, self.item(slot))
        self.n_events = np.full(self.n_items, 1000.0)
        self.shown = np.full(self.n_items, 1000.0)
        self.taken = np.zeros(self.n_items)
        self.broken: set[str] = set()
        self.unit_vectors = np.zeros((self.n_items, 2), np.float32)

    def slot(self, item_id: str) -> int | None:
        number = item_id.removeprefix("i")
        return int(number) if number.isdigit() and int(number) < self.n_items else None

    @property
    def n_slots(self) -> int:
        return self.n_items

    def slots(self, item_ids: Any) -> Any:
        return np.array([slot for i in item_ids if (slot := self.slot(i)) is not None], np.int32)

    def item_id(self, slot: int) -> str:
        return f"i{slot}"

    def item_ids(self, slots: Any) -> list[str]:
        return [f"i{slot}" for slot in slots.tolist()]

    def item(self, slot: int) -> Item:
        return Item(item_id=f"i{slot}", title=f"Title {slot}", genres=list(self.genres[slot]))

    def activity(self, slot: int) -> Activity:
        return Activity({"click": self.n_items - slot})

    def servable(self, slots: Any) -> Any:
        return self.columns.servable(slots)

    def matching(self, expression: Expression) -> Any:
        return self.attributes.mask(expression, self.n_items)

    def context(self, view: Any, repeats: bool = False) -> Any:
        self._fail("context")
        return FakeContext(self.n_items)

    def popular(self, k: int, now_ms: int, half_life: str = "8d", where: Any = None) -> Scored:
        slots = np.arange(self.n_items, dtype=np.int32)
        slots = slots if where is None else slots[where]
        return slots[:k], (self.n_items - slots[:k]).astype(np.float32)

    def popular_slots(self, k: int, now_ms: int, half_life: str = "8d", where: Any = None) -> Any:
        return self.popular(k, now_ms, half_life, where)[0]

    def trending(self, k: int, window: str, now_ms: int, where: Any = None) -> Scored:
        slots, counts = self.popular(min(k, 3), now_ms, where=where)
        return slots[::-1].copy(), counts

    def features(self, context: Any, slots: Any) -> Any:
        self._fail("features")
        return np.stack([slots, self.scores[slots]], axis=1).astype(np.float32)

    def vectors(self, slots: Any) -> Any:
        return self.unit_vectors[slots]

    def exposure(self, slots: Any) -> Any:
        return self.n_events[slots], self.shown[slots], self.taken[slots]

    def _fail(self, what: str) -> None:
        if what in self.broken:
            raise ArithmeticError(what)


class FakeSource:
    def __init__(self, name: str, slots: Sequence[int]) -> None:
        self.name = name
        self._slots = np.array(slots, np.int32)

    def retrieve(self, slate: Any) -> Any:
        return self._slots


class BrokenSource(FakeSource):
    def retrieve(self, context: Any) -> Any:
        raise ArithmeticError(self.name)


def a_slate(replica: FakeReplica, **fields: Any) -> Slate:
    query = fields.pop("query", ListQuery())
    defaults = {"wanted": wanted(query), "request_id": "r", "surface": "home", "now_ms": 10**12, "wall_ms": 10**12}
    defaults["budget_ms"] = 60_000  # a busy machine is not to show as degraded
    return Slate(query=query, replica=replica, **defaults | fields)


def all_candidates(replica: FakeReplica) -> Candidates:
    n = replica.n_items
    return Candidates(np.arange(n, dtype=np.int32), np.ones(n, np.uint32), np.array(replica.scores, np.float64))


def item_ids(slate: Slate) -> list[str]:
    return [slate.replica.item_id(slot) for slot in slate.candidates.slots.tolist()]
