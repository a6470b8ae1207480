"""The engine: order, deadlines, fallbacks and reports."""

import asyncio
from collections.abc import Awaitable, Callable

import numpy as np

from serving.contract.queries import ListQuery
from serving.pipelines.ladder import BUDGET_MS
from serving.pipelines.pipeline import Pipeline
from serving.pipelines.slate import Candidates, Slate
from state.store import StoreUnavailableError
from tests.unit.serving.fakes import FakeReplica, a_slate, all_candidates


class Step:
    def __init__(
        self,
        name: str,
        run: Callable[[Slate], Awaitable[None] | None],
        deadline_ms: float = 20.0,
        skippable: bool = True,
    ) -> None:
        self.name = name
        self.run = run
        self.deadline_ms = deadline_ms
        self.skippable = skippable

    def fallback(self, slate: Slate) -> None:
        slate.notes["fallback"] = self.name


def fill(slate: Slate) -> None:
    slate.candidates = all_candidates(slate.replica)  # type: ignore[arg-type]


def halve(slate: Slate) -> None:
    slate.candidates = slate.candidates.take(slice(len(slate.candidates) // 2))


def fail(slate: Slate) -> None:
    raise ZeroDivisionError


async def sleep_long(_: Slate) -> None:
    await asyncio.sleep(10)


async def lose_the_store(_: Slate) -> None:
    raise StoreUnavailableError("gone")


def pipeline(*steps: Step, **options: object) -> Pipeline:
    return Pipeline("home", *steps, observe=lambda *_: None, **options)  # type: ignore[arg-type]


def explained() -> Slate:
    return a_slate(FakeReplica([["A"]] * 8), query=ListQuery(explain=True))


async def test_stages_run_in_order_and_report_what_came_and_went() -> None:
    slate = explained()
    await pipeline(Step("fill", fill), Step("halve", halve)).run(slate)
    assert [(r.stage, r.n_in, r.n_out) for r in slate.reports] == [("fill", 0, 8), ("halve", 8, 4)]
    assert slate.degraded == {}
    assert set(slate.timing_ms) == {"fill", "halve"}


async def test_a_late_stage_is_cut_off_named_and_replaced_by_its_fallback() -> None:
    """R10"""
    slate = explained()
    slate.budget_ms = 100 * BUDGET_MS  # and with it each stage's time
    await pipeline(Step("fill", fill), Step("wait", sleep_long, deadline_ms=0.05), Step("halve", halve)).run(slate)
    assert slate.degraded == {"wait": "not done within 5 ms"}
    assert slate.reports[1].notes == {"fallback": "wait"}
    assert len(slate.candidates) == 4


async def test_a_failing_stage_is_named_and_leaves_the_slate_as_it_was() -> None:
    """R10"""
    slate = explained()
    await pipeline(Step("fill", fill), Step("break", fail)).run(slate)
    assert slate.degraded == {"break": "failed: ZeroDivisionError"}
    assert len(slate.candidates) == 8


async def test_a_lost_store_is_told_in_its_own_words() -> None:
    """R10"""
    slate = explained()
    await pipeline(Step("user", lose_the_store)).run(slate)
    assert slate.degraded == {"user": "gone"}


async def test_once_the_time_is_spent_only_stages_that_a_right_list_needs_still_run() -> None:
    """R10"""
    slate = explained()
    slate.budget_ms = 5
    steps = (Step("wait", sleep_long, 1000), Step("nice", fail), Step("needed", fill, skippable=False))
    await pipeline(*steps).run(slate)
    assert set(slate.degraded) == {"wait", "nice"}
    assert slate.degraded["nice"] == "the request's time was spent before it"
    assert len(slate.candidates) == 8


async def test_what_follows_comes_after_the_answer_and_cannot_fail_it() -> None:
    calls = []

    class Broken:
        def follow_up(self, slate: Slate) -> None:
            calls.append("broken")
            raise OSError

    class Working:
        def follow_up(self, slate: Slate) -> None:
            calls.append("working")

    await pipeline(Step("fill", fill), afterwards=(Broken(), Working())).run(explained())
    assert calls == []
    await asyncio.sleep(0)
    assert calls == ["broken", "working"]


async def test_every_stage_is_observed() -> None:
    seen = []
    engine = Pipeline(
        "home", Step("fill", fill), Step("break", fail), observe=lambda *args: seen.append((*args[:2], args[3]))
    )
    await engine.run(explained())
    assert seen == [("home", "fill", False), ("home", "break", True)]


def test_candidates_keep_their_columns_together() -> None:
    all_of_them = Candidates(
        np.arange(3, dtype=np.int32), np.ones(3, np.uint32), np.arange(3.0), np.eye(3, dtype=np.float32)
    )
    some = all_of_them.take(np.array([2, 0]))
    assert some.slots.tolist() == some.scores.tolist() == [2, 0]
    assert some.features is not None
    assert some.features.argmax(axis=1).tolist() == [2, 0]
