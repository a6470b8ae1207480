"""The engine under every surface: a list of stages, run in order over one slate.

A stage that fails or is late is skipped: its `fallback` holds instead, and the answer names it in `degraded`. Stages
change a slate only as their last act, so that a skipped one leaves it as it was.
"""

import asyncio
import logging
from collections.abc import Awaitable, Iterator, Mapping
from time import perf_counter
from typing import Protocol

from serving.contract.answers import StageReport
from serving.pipelines.ladder import BUDGET_MS, LEAST_WAIT_MS
from serving.pipelines.slate import Candidates, Slate
from state.store import StoreUnavailableError

OBSERVED_EVERY = 16
"""To note the times of every list's stages would take as long as all of them but for the models."""
_log = logging.getLogger("serving")


class Stage(Protocol):
    """One step. Either it computes, or it returns what it waits for."""

    @property
    def name(self) -> str: ...

    @property
    def deadline_ms(self) -> float:
        """How long it may wait, of a budget of `BUDGET_MS`. What only computes cannot be interrupted."""

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
    ) -> None:
        self.surface = surface
        self.stages = stages
        self._afterwards = afterwards
        self._observe = observe
        self._n_runs = 0

    async def run(self, slate: Slate) -> None:
        """Fill in the slate. Never fails because a stage does."""
        spent_at = slate.arrived + slate.budget_ms / 1000
        scale = slate.budget_ms / BUDGET_MS
        observed = self._n_runs % OBSERVED_EVERY == 0
        self._n_runs += 1
        for stage in self._left(slate):
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
                        left_s = max(LEAST_WAIT_MS / 1000, spent_at - perf_counter())
                        async with asyncio.timeout(min(scale * stage.deadline_ms / 1000, left_s)):
                            await waiting
                except Exception as error:
                    reason = self._reason(stage, error, scale)
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
        self._keep_back(slate)
        if slate.rung:
            slate.degraded["answer"] = slate.rung.told
        if self._afterwards and not slate.is_trial:
            asyncio.get_running_loop().call_soon(self._follow_up, slate)

    def _left(self, slate: Slate) -> Iterator[Stage]:
        """Yield the stages until nothing is left to do."""
        for stage in self.stages:
            if slate.repeated is not None:
                return
            yield stage

    def _keep_back(self, slate: Slate) -> None:
        """Whatever stages did or did not do: nothing that rules withhold leaves here; without knowing, nothing does."""
        try:
            withheld = slate.withheld()
            if withheld is not None and withheld[0][slate.candidates.slots].any():
                slate.candidates = slate.candidates.take(~withheld[0][slate.candidates.slots])
        except Exception as error:
            slate.fail("rules", error)
            slate.candidates = Candidates.none()

    def _reason(self, stage: Stage, error: Exception, scale: float) -> str:
        """Say why a stage did not do its part."""
        if isinstance(error, TimeoutError):
            return f"not done within {scale * stage.deadline_ms:.0f} ms"
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
