"""The engine under every surface: a list of stages, run in order over one slate.

A stage that fails or is late is skipped: its `fallback` holds instead, and the answer names it in `degraded`. Stages
change a slate only as their last act, so that a skipped one leaves it as it was.
"""

import asyncio
import logging
from collections.abc import Awaitable, Mapping, Sequence
from dataclasses import dataclass, field
from time import perf_counter
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from online_models.engine.context import Context
from online_models.expressions import Expression
from online_models.replica import Replica
from serving.answers import StageReport
from serving.queries import ListQuery
from serving.users import KnownUser
from state.store import StoreUnavailableError

BUDGET_MS = 80.0
"""Of one request, over all stages."""
OBSERVED_EVERY = 16
"""To note the times of every list's stages would take as long as all of them but for the models."""
_log = logging.getLogger("serving")


@dataclass(frozen=True, slots=True)
class Candidates:
    """Items under consideration, column by column; best first once they are ranked."""

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
        return Candidates(self.slots[index], self.sources[index], self.scores[index], self.scored, rows)

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
    wanted: Expression | None = None
    """What items must fulfil."""
    anchor: int | None = None
    """Slot of the item that the list is about."""
    window: str = "1h"
    user: KnownUser | None = None
    context: Context | None = None
    source_names: tuple[str, ...] = ()
    candidates: Candidates = field(default_factory=Candidates.none)
    list_mean: NDArray[np.float32] | None = None
    """(n_features,) mean over all candidates that were scored together."""
    model: tuple[str, str] = ("", "")
    """Name and version of what scored."""
    degraded: dict[str, str] = field(default_factory=dict)
    timing_ms: dict[str, float] = field(default_factory=dict)
    notes: dict[str, int | str] = field(default_factory=dict)
    """Of the running stage, for `explain`."""
    reports: list[StageReport] = field(default_factory=list)
    _names: dict[int, list[str]] = field(default_factory=dict)

    def allowed(self) -> NDArray[np.bool_] | None:
        """Return a mask over all slots, None when all items may be in the list."""
        return None if self.wanted is None else self.replica.matching(self.wanted)

    def genres(self, slot: int) -> Sequence[str]:
        item = self.replica.item(slot)
        return () if item is None else item.genres

    def sources_of(self, bits: int) -> list[str]:
        names = self._names.get(bits)
        if names is None:
            names = self._names[bits] = [name for bit, name in enumerate(self.source_names) if bits >> bit & 1]
        return names

    def fail(self, part: str, error: Exception) -> None:
        """Go on without a part of a stage."""
        self.degraded[part] = f"failed: {type(error).__name__}"
        _log.error("%s: %s failed", self.surface, part, exc_info=error)


class Stage(Protocol):
    """One step. Either it computes, or it returns what it waits for."""

    @property
    def name(self) -> str: ...

    @property
    def deadline_ms(self) -> float:
        """How long it may wait. What only computes cannot be interrupted."""

    @property
    def skippable(self) -> bool:
        """True where the list is still right without it, so that it is left out once the request's time is spent."""

    def run(self, slate: Slate) -> Awaitable[None] | None: ...

    def fallback(self, slate: Slate) -> None:
        """Make do without `run`; must not fail and must not wait."""


class Afterwards(Protocol):
    """What follows an answer and must not delay it."""

    def follow_up(self, slate: Slate) -> None: ...


class StageObserver(Protocol):
    """Told how long each stage of every `OBSERVED_EVERY`-th list took, and of each one that was skipped."""

    def __call__(self, surface: str, stage: str, seconds: float, skipped: bool) -> None: ...


class Pipeline:
    """A surface: its stages in order, and what happens after the answer."""

    def __init__(
        self,
        surface: str,
        *stages: Stage,
        afterwards: tuple[Afterwards, ...] = (),
        observe: StageObserver,
        budget_ms: float = BUDGET_MS,
    ) -> None:
        self.surface = surface
        self.stages = stages
        self._afterwards = afterwards
        self._observe = observe
        self._budget_s = budget_ms / 1000
        self._n_runs = 0

    async def run(self, slate: Slate) -> None:
        """Fill in the slate. Never fails because a stage does."""
        spent_at = perf_counter() + self._budget_s
        observed = self._n_runs % OBSERVED_EVERY == 0
        self._n_runs += 1
        for stage in self.stages:
            n_in = len(slate.candidates)
            slate.notes = {}
            started = perf_counter()
            reason = None
            if stage.skippable and started > spent_at:
                reason = "the request's time was spent before it"
            else:
                try:
                    waiting = stage.run(slate)
                    if waiting is not None:
                        async with asyncio.timeout(stage.deadline_ms / 1000):
                            await waiting
                except Exception as error:
                    reason = self._reason(stage, error)
            if reason is not None:
                slate.degraded[stage.name] = reason
                stage.fallback(slate)
            seconds = perf_counter() - started
            slate.timing_ms[stage.name] = round(seconds * 1000, 3)
            if observed or reason is not None:
                self._observe(self.surface, stage.name, seconds, reason is not None)
            if slate.query.explain:
                slate.reports.append(
                    StageReport(stage.name, n_in, len(slate.candidates), slate.timing_ms[stage.name], slate.notes)
                )
        if self._afterwards:
            asyncio.get_running_loop().call_soon(self._follow_up, slate)

    def _reason(self, stage: Stage, error: Exception) -> str:
        """Say why a stage did not do its part."""
        if isinstance(error, TimeoutError):
            return f"not done within {stage.deadline_ms:.0f} ms"
        if isinstance(error, StoreUnavailableError):
            return str(error)
        _log.error("%s: stage %s failed", self.surface, stage.name, exc_info=error)
        return f"failed: {type(error).__name__}"

    def _follow_up(self, slate: Slate) -> None:
        for step in self._afterwards:
            try:
                step.follow_up(slate)
            except Exception:
                _log.exception("%s: %s after the answer failed", slate.surface, type(step).__name__)


Surfaces = Mapping[str, Pipeline]
