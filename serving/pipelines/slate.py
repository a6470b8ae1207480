"""One request on its way through a pipeline: what it asked for, and its candidates so far."""

import logging
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from time import perf_counter
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from online_models.arrays import Slots
from online_models.catalogue.expressions import Boost, Expression
from online_models.contexts import Situation, situation_of
from online_models.engine.context import Context
from online_models.replica import Replica
from online_models.reranking.rules import NO_RULES, ActiveRules
from online_models.versions.ranking import Ranking
from serving.contract.answers import ListAnswer, RuleEffect, StageReport
from serving.contract.queries import ListQuery
from serving.memory.last_answers import Answered
from serving.memory.last_lists import LastList
from serving.memory.users import KnownUser
from serving.pipelines.ladder import BUDGET_MS, MAX_SCORED, Rung
from state.records import Impression, Shown

_NO_SLOTS = np.empty(0, np.int32)
_log = logging.getLogger("serving")


@dataclass(slots=True, eq=False)
class Candidates:
    """Items under consideration, column by column; best first once they are ranked. Never changed once made."""

    slots: NDArray[np.int32]
    """(n,) slots of the replica."""
    sources: NDArray[np.uint32]
    """(n,) bit i is set when source i of the pipeline brought the item."""
    scores: NDArray[np.float64]
    """(n,) NaN where nothing has scored the item."""
    scored: NDArray[np.float32] | None = None
    """(m, n_features), what the ranker scored them from, in its order."""
    rows: NDArray[np.intp] | None = None
    """(n,) their rows in `scored`; None where it is row by row."""

    propensities: NDArray[np.float64] | None = None
    """(n,) probability of the item to have its place, given those above it; None before places are given."""

    def __len__(self) -> int:
        return len(self.slots)

    @property
    def features(self) -> NDArray[np.float32] | None:
        """(n, n_features), once scored by the ranker."""
        return self.scored if self.scored is None or self.rows is None else self.scored[self.rows]

    def take(self, index: NDArray[np.intp] | NDArray[np.bool_] | slice) -> "Candidates":
        """Return some of them: by position, by mask or by range."""
        rows = self.rows
        if self.scored is not None:
            # Rows are looked up at the end: copying the matrix at every step would cost more than the steps.
            rows = (np.arange(len(self.scored)) if rows is None else rows)[index]
        propensities = None if self.propensities is None else self.propensities[index]
        return Candidates(self.slots[index], self.sources[index], self.scores[index], self.scored, rows, propensities)

    def first(self, n: int) -> "Candidates":
        """Return the first n."""
        return self if len(self) <= n else self.take(slice(n))

    @classmethod
    def none(cls) -> "Candidates":
        return cls(np.empty(0, np.int32), np.empty(0, np.uint32), np.empty(0, np.float64))


@dataclass(slots=True)
class Slate:
    """One request on its way through a pipeline."""

    request_id: str
    surface: str
    query: ListQuery
    replica: Replica
    """The same replica for the whole request, whatever is swapped meanwhile."""
    now_ms: int
    """Stream time."""
    wall_ms: int
    user_id: str | None = None
    is_trial: bool = False
    """Made to look at, and shown to nobody."""
    wanted: Expression | None = None
    """What items must fulfil."""
    boosts: tuple[Boost, ...] = ()
    """What multiplies scores."""
    rotated: Shown | None = None
    """What the user was shown lately, for a request that rotates."""
    anchor: int | None = None
    """Slot of the item that the list is about."""
    shown: NDArray[np.int32] = field(default_factory=lambda: np.empty(0, np.int32))
    """Slots of what earlier pages of the same request have shown."""
    has_more: bool = False
    """Whether candidates are left for another page."""
    window: str = "1h"
    text: str = ""
    """What a search is for."""
    relevance: NDArray[np.float64] | None = None
    """(n_slots,) how well items match the text, once they were looked for."""
    user: KnownUser | None = None
    context: Context | None = None
    rules: ActiveRules = NO_RULES
    """The same version for the whole request."""
    experiments: Mapping[str, str] = field(default_factory=dict)
    """Experiment -> the user's arm."""
    ranker: Literal["model", "popularity"] = "model"
    """What orders the candidates."""
    without: Collection[str] = ()
    """Candidate sources that are not asked."""
    ranking: Ranking | None = None
    """The ranker's version for all of this list; None, until it is scored: the online one as it is then."""
    reasons: list[str] = field(default_factory=list)
    """As shown."""
    ranks: dict[int, int] = field(default_factory=dict)
    """Slot -> place by score, for `explain`."""
    effects: dict[int, list[RuleEffect]] = field(default_factory=dict)
    """Slot -> what rules did to the item, for `explain`."""
    explored: frozenset[int] = frozenset()
    """Slots of the items that were tried out."""
    relaxed: dict[str, int] = field(default_factory=dict)
    """Rule -> places at which it had to give way."""
    source_names: tuple[str, ...] = ()
    candidates: Candidates = field(default_factory=Candidates.none)
    list_mean: NDArray[np.float32] | None = None
    """(n_features,) mean over all candidates that were scored together."""
    model: tuple[str, str] = ("", "")
    """Name and version of what scored."""
    rung: Rung = Rung.FULL
    """The lowest one of the ladder that the list has come to."""
    last: LastList | None = None
    """What stands for the candidates and their scores on rung `CACHED`."""
    repeated: Answered | None = None
    """What stands for the whole list, under load: nothing is left to do."""
    answer: ListAnswer | None = None
    """As given."""
    impression: Impression | None = None
    """As logged."""
    waited: float = 0.0
    """For its turn: share of the budget."""
    max_scored: int = MAX_SCORED
    """Candidates that may be scored: fewer under load."""
    budget_ms: float = BUDGET_MS
    arrived: float = field(default_factory=perf_counter)
    """When the request came, by `perf_counter`."""
    degraded: dict[str, str] = field(default_factory=dict)
    timing_ms: dict[str, float] = field(default_factory=dict)
    notes: dict[str, int | str] = field(default_factory=dict)
    """Of the running stage, for `explain`."""
    reports: list[StageReport] = field(default_factory=list)
    _names: dict[int, list[str]] = field(default_factory=dict)
    _resolved: dict[str, Slots] = field(default_factory=dict)

    @property
    def is_new_user(self) -> bool:
        """Whether nothing is known of what the user took."""
        return self.user is None or self.user.profile is None or not self.user.profile.recent

    @property
    def is_usual(self) -> bool:
        """Whether the request has no wishes of its own as to which items."""
        return self.wanted is None and self.query.seen == "hide" and not self.query.exclude and not len(self.shown)

    @property
    def lacks_nothing(self) -> bool:
        """Whether it was made from all that lists are made from; load and Kafka take nothing away from that."""
        return not self.degraded.keys() - {"load", "events"}

    @property
    def basis(self) -> tuple[object, ...]:
        """Return what makes a usual list another one, but for what other users did: two that are equal are alike."""
        profile = None if self.user is None else self.user.profile
        done = None if profile is None else (profile.last_ts, sum(profile.activity.counts.values()))
        chosen = None if self.ranking is None or self.ranking is self.replica.ranking else self.ranking.version
        return done, self.rules.version, self.experiments, chosen, self.query

    @property
    def situation(self) -> Situation:
        """Return on what, where and when the request is made."""
        return situation_of(self.now_ms, {"device": self.query.device, "region": self.query.region})

    def allowed(self) -> NDArray[np.bool_] | None:
        """Return a mask over all slots, None when all items may be in the list: what is wanted and not withheld."""
        wanted = None if self.wanted is None else self.replica.matching(self.wanted)
        withheld = self.withheld()
        if withheld is None:
            return wanted
        return ~withheld[0] if wanted is None else wanted & ~withheld[0]

    def withheld(self) -> tuple[NDArray[np.bool_], Slots] | None:
        """Return what the rules keep out of the list: a mask over all slots and the slots, None for nothing."""
        return self.rules.withheld(self.replica, self.surface, self.user_id, self.query.region)

    def consumed(self) -> Slots:
        """Return the slots of what the user has consumed."""
        profile = None if self.user is None else self.user.profile
        return self._slots("consumed", () if profile is None else profile.seen)

    def hidden(self) -> Slots:
        """Return the slots of what the user has hidden."""
        return self._slots("hidden", () if self.user is None else self.user.hidden)

    def disliked(self, n: int) -> Slots:
        """Return the slots of the n items that the user has disliked last."""
        return self._slots("disliked", () if self.user is None else self.user.disliked[:n])

    def excluded(self) -> Slots:
        """Return the slots of what the request excludes."""
        return self._slots("excluded", self.query.exclude)

    def _slots(self, what: str, item_ids: Collection[str]) -> Slots:
        """Look items up once for the sources and the filters."""
        if not item_ids:
            return _NO_SLOTS
        found = self._resolved.get(what)
        if found is None:
            found = self._resolved[what] = self.replica.slots(item_ids)
        return found

    def genres(self, slot: int) -> Sequence[str]:
        item = self.replica.item(slot)
        return () if item is None else item.genres

    def sources_of(self, bits: int) -> list[str]:
        names = self._names.get(bits)
        if names is None:
            names = self._names[bits] = [name for bit, name in enumerate(self.source_names) if bits >> bit & 1]
        return names

    def descend(self, rung: Rung) -> None:
        """Note that the list is at best what this rung says."""
        self.rung = max(self.rung, rung)

    def recall(self, last: LastList) -> None:
        """Let what was last ranked for the user stand for candidates and scores."""
        self.descend(Rung.CACHED)
        self.last = last
        self.source_names = last.source_names
        self.model = last.model
        self.candidates = Candidates(last.slots, last.sources, last.scores)

    def repeat(self, found: Answered) -> None:
        """Let the list that was answered a moment ago stand for this one."""
        self.descend(Rung.CACHED)
        self.degraded["load"] = f"ranked {found.age_ms} ms ago"
        self.repeated = found
        self.model = (found.impression.model, found.impression.model_version)
        n = len(found.slots)
        self.candidates = Candidates(found.slots, np.zeros(n, np.uint32), np.full(n, np.nan))

    def fail(self, part: str, error: Exception) -> None:
        """Go on without a part of a stage."""
        self.degraded[part] = f"failed: {type(error).__name__}"
        _log.error("%s: %s failed", self.surface, part, exc_info=error)
