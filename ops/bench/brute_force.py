"""What retrieval is compared with: every item that a filter holds for, scored, and the best of them."""

import time
from typing import TYPE_CHECKING, cast

import numpy as np
from numpy.typing import NDArray

from online_models.arrays import Slots
from online_models.catalogue.expressions import Expression
from online_models.catalogue.text_index import TextIndex
from online_models.engine.factors import SMOOTH
from online_models.replica import Replica
from online_models.sources import Nearest
from online_models.users.view import UserView
from online_models.vector_index import unit
from serving.contract.queries import ListQuery
from serving.memory.last_answers import LastAnswers
from serving.memory.last_lists import LastLists
from serving.memory.rotation import Rotation
from serving.memory.users import KnownUser, Users
from serving.pipelines.impressions import ImpressionLog
from serving.pipelines.slate import Slate
from serving.surfaces.home import home
from serving.surfaces.parts import Parts
from state.memory_store import AsyncMemoryStore, MemoryStore
from state.records import UserProfile
from state.redis_store import RedisStore
from state.settings import Settings

if TYPE_CHECKING:
    from serving.kafka.event_log import Outbox

_INDEXING_S = 5.0


def replica_of(settings: Settings) -> tuple[Replica, int]:
    """Return what a serving process holds in memory, read from the state, and the stream time (epoch ms)."""
    store = RedisStore(settings)
    replica = Replica()
    replica.apply({table: dict(store.scan_rows(table)) for table in Replica.TABLES}, complete=True)
    replica.maintain(_INDEXING_S)
    marks = store.watermarks("features").values()
    return replica, max((mark.stream_ts for mark in marks), default=int(time.time() * 1000))


class Retrieval:
    """The stages of `home` that find the candidates which the ranker gets, over one replica."""

    _STAGES = ("hydrate", "retrieve", "filter", "score")

    def __init__(self, replica: Replica, now_ms: int) -> None:
        users = Users(AsyncMemoryStore(MemoryStore()), lambda _: ())
        nowhere = cast("Outbox", None)  # nobody is shown these lists
        parts = Parts(
            users=users,
            withheld=tuple,
            text=TextIndex(),
            lists=LastLists(),
            answers=LastAnswers(),
            rotation=Rotation(AsyncMemoryStore(MemoryStore()), users.breaker),
            impressions=ImpressionLog(nowhere),
            observe=lambda surface, stage, seconds, skipped: None,
        )
        self._stages = [stage for stage in home(parts).stages if stage.name in self._STAGES]
        self._replica, self._now_ms = replica, now_ms

    def candidates(self, profile: UserProfile, expression: Expression) -> list[str]:
        """Return the candidates of a filtered list of a user."""
        user = KnownUser("", profile, frozenset())
        slate = Slate(
            "bench", "home", ListQuery(), self._replica, self._now_ms, self._now_ms, user=user, wanted=expression
        )
        for stage in self._stages:
            stage.run(slate)
        return [self._replica.item_id(slot) for slot in slate.candidates.slots.tolist()]


def best_by_ranker(replica: Replica, profile: UserProfile, expression: Expression, now_ms: int, k: int) -> list[str]:
    """Return the k items with the highest scores of all that the filter holds for and the user has not consumed."""
    allowed = replica.matching(expression) & replica.servable(np.arange(replica.n_slots, dtype=np.int32))
    allowed[replica.slots(profile.seen)] = False
    slots = np.flatnonzero(allowed).astype(np.int32)
    context = replica.context(UserView.of(profile, now_ms))
    scores = replica.ranking.score(replica.features(context, slots))
    return [replica.item_id(slot) for slot in slots[np.argsort(-scores, kind="stable")[:k]].tolist()]


def nearest(replica: Replica, item_id: str, allowed: NDArray[np.bool_], now_ms: int, k: int) -> tuple[Slots, Slots]:
    """Return the allowed items nearest to an item by vector: as a source finds them, and of all that are allowed.

    Only items whose cosine is positive count: the others are no neighbours.
    """
    context = replica.context(UserView.of_items((item_id,), now_ms))
    context.bar_all_but(allowed)
    found = Nearest(k).retrieve(context)
    slots = np.flatnonzero(allowed & replica.servable(np.arange(replica.n_slots, dtype=np.int32))).astype(np.int32)
    vectors = replica.columns.factors.items[SMOOTH]
    cosines = unit(vectors[slots]) @ unit(vectors[context.steps.items[-1]])
    slots, cosines = slots[cosines > 0.0], cosines[cosines > 0.0]
    best = slots[np.argsort(-cosines, kind="stable")[:k]]
    return np.empty(0, np.int32) if found is None else found[:k], best


def recall(found: list[str] | list[int], best: list[str] | list[int]) -> float:
    """Return the share of the best that was found; 1 where there are none."""
    return len(set(found) & set(best)) / len(best) if best else 1.0
