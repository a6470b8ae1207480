"""Learns a log by the code of the live learner, and judges the ranker on the log's last part before learning it."""

from collections.abc import Callable, Iterable, Mapping
from typing import Literal

import msgspec
import numpy as np
from msgspec import Struct
from numpy.typing import NDArray

from online_models.engine import inputs
from online_models.engine.defaults import default_weights
from online_models.engine.items import N_EVENTS
from online_models.engine.listwise import ListwiseRanker
from online_models.evaluation.held_out import HeldOut, JudgedList, chances_of
from online_models.learning import rows
from online_models.learning.budget import UNLIMITED
from online_models.learning.examples import values_of
from online_models.learning.learner import Learner
from online_models.users.outcomes import INTERACTIONS, is_positive
from online_models.versions.boosting import CollectedLists, TreeParameters, boost, nodes_of
from online_models.versions.ranking import Ranking
from online_models.versions.trees import TreeScorer
from ops.backfill.sources import Message, Where
from state.entries import CATALOGUE, LEARNER_USER
from state.memory_store import MemoryStore
from state.records import CleanEvent, Example, Item
from state.store import Changes
from state.validation import ERASE

_RUN = 1024
"""Events that are learned together, at most."""
_KEPT_MS = 3_600_000
"""Lists that were served so shortly before the held-out part may have their outcome in it."""


class Parameters(Struct, forbid_unknown_fields=True, frozen=True, kw_only=True, tag="ranker"):
    """What may be chosen of the learner. The defaults are those of the live one."""

    learning_rate: float = 0.0015
    decay: float = 0.01
    n_negatives: int = 40
    n_replayed: int = 3
    n_averaged: int = 2000
    seed: int = 0
    start: Literal["default", "none"] = "default"
    """The weights to begin with: those that ship, or none."""
    organic: bool = True
    """Whether positives that no request explains are learned, each from the list of its moment. The live learner has
    time for a share of them."""


_PARAMETERS: dict[str, type[Parameters] | type[TreeParameters]] = {"ranker": Parameters, "trees": TreeParameters}
MODELS = tuple(_PARAMETERS)
"""What can be learned: the ranker that is live, too, and boosted trees."""


class Plan(Struct, frozen=True, kw_only=True):
    """What is learned, and from when on it is judged first. Two runs of one plan learn the same."""

    source: Literal["lake", "kafka"]
    since_ms: int
    until_ms: int
    """Events before this."""
    held_out_ms: int
    """Stream time from which on lists are judged before they are learned."""
    ends: dict[str, int]
    """`<topic>/<partition>` -> the offset behind the last."""
    parameters: Parameters | TreeParameters
    code: str
    """See `online_models.versions.revision`."""


class Training:
    """One run."""

    def __init__(self, plan: Plan, live: Ranking, store: MemoryStore, n_max_users: int = 100_000) -> None:
        """`store`: with the catalogue, or what an earlier run of this plan has dumped."""
        chosen = plan.parameters
        self.plan = plan
        self._live = live
        self._store = store
        self._trees: TreeScorer | None = None
        self._boosted: bytes | None = None
        self.learner = Learner(
            max_users=n_max_users,
            organic_share=UNLIMITED if chosen.organic else 0.0,
            replay_share=UNLIMITED,
            seed=chosen.seed,
            ranker=_ranker(chosen),
        )
        rows.restore(self.learner, store)
        for item_id, item in store.scan_rows(CATALOGUE):
            if self.learner.items.get(item_id) is None:
                self.learner.learn_item(item_id, item)
        self.held_out = HeldOut()
        self.n_served_by_others = 0
        """Held-out lists of which it is not logged what the live model thought: its weights of now are asked."""
        self.stream_ts: dict[Where, int] = {}
        """Of what was taken, by topic and partition."""
        self._run: list[CleanEvent] = []
        self._served: dict[str, list[float]] = {}

    def take(self, message: Message) -> None:
        """Learn one message of the log; judge first, in the held-out part."""
        record = message.record
        self.stream_ts[message.where] = message.stream_ts
        if not self.plan.since_ms <= record.ts < self.plan.until_ms:
            return
        judging = message.stream_ts >= self.plan.held_out_ms
        if isinstance(record, CleanEvent):
            if judging:
                self.finish()
                self._judge_event(record)
            self._run.append(record)
            if judging or len(self._run) >= _RUN:
                self.finish()
        elif isinstance(record, Example):
            self.finish()
            if judging:
                self._judge_example(record)
            self.learner.learn_example(record)
        elif message.stream_ts >= self.plan.held_out_ms - _KEPT_MS:
            self._served[record.request_id] = record.scores

    def finish(self) -> None:
        """Learn what was put together."""
        if not self._run:
            return
        self._restore_users(event.user_id for event in self._run)
        self.learner.learn_events(self._run)
        self._run.clear()

    def may_pause(self, message: Message) -> bool:
        """Whether a run may go on from here: not once something is judged, which is done at one go."""
        return message.stream_ts < self.plan.held_out_ms - _KEPT_MS

    def dump(self) -> bytes:
        """Return the state from which a run of the same plan goes on."""
        self.finish()
        changes = Changes()
        rows.write(self.learner, changes)
        self._store.commit(changes)
        rows.written(self.learner)
        return self._store.dump()

    def weights(self) -> bytes:
        """Return what was learned: of trees, what was judged, without the held-out part.

        Trees raise `MissingLibraryError` or `TooFewListsError`.
        """
        self.finish()
        if isinstance(self.plan.parameters, TreeParameters):
            self._score()
            assert self._boosted is not None
            return self._boosted
        return self.learner.ranker.weights(inputs.NAMES)

    @property
    def n_lists(self) -> int:
        """Return how many lists were learned."""
        return self.learner.ranker.n_lists if self._trees is None else self._trees.n_lists

    def _score(self) -> Callable[[NDArray[np.float32], NDArray[np.float32] | None], NDArray[np.float32]]:
        """Return what scores lists by what was learned up to now; trees learn when they are first asked."""
        parameters, ranker = self.plan.parameters, self.learner.ranker
        if not isinstance(parameters, TreeParameters):
            return ranker.predict_many
        if self._trees is None:
            assert isinstance(ranker, CollectedLists)
            booster = boost(ranker, parameters)
            self._boosted = nodes_of(booster, inputs.NAMES, min(ranker.n_lists, parameters.max_lists))
            self._trees = TreeScorer(inputs.N_INPUTS).load(self._boosted, inputs.NAMES)
        return self._trees.predict_many

    def _restore_users(self, user_ids: Iterable[str]) -> None:
        missing = self.learner.missing_users(user_ids)
        if missing:
            rows = self._store.get_many(LEARNER_USER, missing)
            self.learner.restore_users(dict(zip(missing, rows, strict=True)))

    def _judge_event(self, event: CleanEvent) -> None:
        """Judge the list of the moment of a positive that no request explains."""
        if event.request_id is not None or event.item_id is None or event.type not in INTERACTIONS:
            return
        learner = self.learner
        slot = learner.items.get(event.item_id)
        if event.type == ERASE or slot is None or not is_positive(event.type, event.value, event.context):
            return
        self._restore_users([event.user_id])
        history = learner.users.of(event.user_id)
        slate = learner.slate(history, event.ts / 1000.0, learner.repeats)
        labels = slate.slots == slot
        if not labels.any() or len(labels) < 2:
            return  # it was no candidate: nothing ranks it
        judged = JudgedList(
            user=event.user_id,
            labels=labels,
            items=[str(learner.items.item_id(candidate)) for candidate in slate.slots.tolist()],
            served=False,
            user_events=int(history.n),
            item_events=int(learner.columns.items.counts[slot, N_EVENTS]),
        )
        challenger = self._score()(slate.inputs, None)
        self.held_out.add(judged, chances_of(challenger), chances_of(self._live.score(slate.inputs)))

    def _judge_example(self, example: Example) -> None:
        """Judge a list as it was served; the live model by the scores that were logged with it."""
        n = len(example.items)
        values = values_of(example)
        labels = np.array(example.labels) == 1
        if values is None or labels.all() or not labels.any():
            return
        learner = self.learner
        self._restore_users([example.user_id])
        slot = learner.items.get(example.items[int(np.argmax(labels))])
        history = learner.users.get(example.user_id)
        judged = JudgedList(
            user=example.user_id,
            labels=labels,
            items=example.items,
            served=True,
            user_events=0 if history is None else int(history.n),
            item_events=0 if slot is None else int(learner.columns.items.counts[slot, N_EVENTS]),
        )
        challenger = self._score()(values[:n], values[n])
        logged = self._served.get(example.request_id or "")
        if logged is not None and len(logged) == n and min(logged) > 0.0:
            chances = np.array(logged) / sum(logged)
        else:
            self.n_served_by_others += 1
            chances = chances_of(self._live.score(values[:n], values[n]))
        self.held_out.add(judged, chances_of(challenger), chances)


def _ranker(chosen: Parameters | TreeParameters) -> ListwiseRanker:
    """Return what a learner's lists go to."""
    if isinstance(chosen, TreeParameters):
        return CollectedLists(inputs.N_INPUTS, chosen)
    ranker = ListwiseRanker(
        inputs.N_INPUTS,
        n_negatives=chosen.n_negatives,
        n_replayed=chosen.n_replayed,
        learning_rate=chosen.learning_rate,
        decay=chosen.decay,
        n_averaged=chosen.n_averaged,
        seed=chosen.seed,
    )
    if chosen.start == "default":
        ranker.load(default_weights(), inputs.NAMES)
    return ranker


def store_of(catalogue: Mapping[str, Item]) -> MemoryStore:
    """Return a store to begin with."""
    changes = Changes()
    for item_id, item in catalogue.items():
        changes.upsert(CATALOGUE, item_id, item)
    store = MemoryStore()
    store.commit(changes)
    return store


def parsed(pairs: list[str], model: str = "ranker") -> Parameters | TreeParameters:
    """Return a model's parameters from `name=value`. Raise `ValueError` that names what is wrong."""
    given: dict[str, str] = {}
    for pair in pairs:
        name, sign, value = pair.partition("=")
        if not sign:
            raise ValueError(f"expected name=value, got {pair!r}")
        given[name] = value
    try:
        return msgspec.convert(given, _PARAMETERS[model], strict=False)
    except msgspec.ValidationError as error:
        names = ", ".join(_PARAMETERS[model].__struct_fields__)
        raise ValueError(f"{error}; there are: {names}") from None
