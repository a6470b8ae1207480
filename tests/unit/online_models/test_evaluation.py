"""Protocols and metrics say what they mean (R17)."""

import math

import numpy as np
import pytest

from online_models.evaluation import metrics
from online_models.evaluation.protocols import Candidates, Log, leave_last_out, prequential, sessions
from online_models.evaluation.report import report_of
from state.records import Item


class Recording:
    """Lists all known items in order of arrival, and keeps the calls it got."""

    def __init__(self) -> None:
        self.calls: list[tuple[str, str, str]] = []
        self.items: list[str] = []
        self.seen: set[tuple[str, str]] = set()

    def describe(self, item: Item) -> None:
        self.calls.append(("item", item.item_id, ""))

    def observe(self, user: str, item: str, positive: bool, rating: float, t: float) -> None:
        self.calls.append(("observe", user, item))
        self.seen.add((user, item))
        if item not in self.items:
            self.items.append(item)

    def recommend(self, user: str, n: int, t: float, candidates: Candidates) -> list[str]:
        self.calls.append(("recommend", user, candidates))
        return [i for i in self.items if candidates == "all" or (user, i) not in self.seen][:n]


def log(*events: tuple[str, str, int]) -> Log:
    n = len(events)
    return Log(
        [user for user, _, _ in events],
        [item for _, item, _ in events],
        np.ones(n),
        np.array([bool(positive) for _, _, positive in events]),
        np.arange(n, dtype=float),
    )


def test_prequential_asks_before_it_shows_and_only_for_positives() -> None:
    model = Recording()
    outcome = prequential(model, log(("u", "a", 1), ("v", "b", 1), ("u", "b", 1), ("v", "a", 0), ("w", "c", 1)), 0.4)
    assert model.calls[2:] == [
        ("recommend", "u", "unseen"),
        ("observe", "u", "b"),
        ("observe", "v", "a"),
        ("recommend", "w", "unseen"),
        ("observe", "w", "c"),
    ]
    assert outcome.ranks == [1, 0]
    assert outcome.earlier_events == [1, 0]
    assert outcome.item_events == [1, 0]
    assert outcome.positions == [2, 4]


def test_sessions_ask_from_the_second_event_and_have_a_view_without_the_current_item() -> None:
    outcome = sessions(Recording(), log(("s", "a", 1), ("s", "b", 1)), log(("t", "a", 1), ("t", "a", 1), ("t", "b", 1)))
    assert outcome.ranks == [1, 2]
    assert outcome.new_ranks == [-1, 1]


def test_leave_last_out_feeds_by_relative_position_and_hides_the_last() -> None:
    model = Recording()
    outcome = leave_last_out(model, {"u": ["a", "b", "c"], "v": ["c", "x"]})
    assert model.calls[:3] == [("observe", "u", "a"), ("observe", "v", "c"), ("observe", "u", "b")]
    assert outcome.ranks == [1, 0]


def test_metrics_of_a_rank() -> None:
    ranks = np.array([1, 3, 11, 0])
    assert metrics.hits(ranks, 10).tolist() == [1, 1, 0, 0]
    assert metrics.ndcg(ranks).tolist() == pytest.approx([1, 0.5, 0, 0])
    assert metrics.reciprocal_rank(ranks).tolist() == pytest.approx([1, 1 / 3, 1 / 11, 0])


def test_errors_are_clustered() -> None:
    values = np.array([1.0, 1.0, 0.0, 0.0])
    alone = metrics.clustered(values, ["a", "b", "c", "d"])
    together = metrics.clustered(values, ["a", "a", "b", "b"])
    assert alone.mean == together.mean == 0.5
    assert alone.error == pytest.approx(np.std(values, ddof=1) / 2)
    assert together.error == pytest.approx(0.5)


def test_paired_refuses_other_queries() -> None:
    one = prequential(Recording(), log(("u", "a", 1), ("v", "a", 1)), 0.0)
    other = prequential(Recording(), log(("u", "a", 1), ("w", "a", 1)), 0.0)
    assert metrics.paired(one, one, "NDCG@10").mean == 0.0
    with pytest.raises(ValueError, match="not the same"):
        metrics.paired(one, other, "NDCG@10")


def test_list_metrics() -> None:
    lists = [["a", "b"], ["a", "c"]]
    assert metrics.coverage(lists, 6) == 0.5
    assert metrics.gini([["a"], ["b"]], 2) == 0.0
    assert metrics.gini([["a"]], 4) == 0.75
    assert metrics.diversity(lists, {"a": frozenset("x"), "b": frozenset("y"), "c": frozenset("x")}) == 0.5
    assert math.isnan(metrics.diversity(lists, {}))


def test_stream_curve_keeps_the_mean() -> None:
    where, mean = metrics.over_stream(np.arange(8.0), list(range(8)), 4)
    assert where.tolist() == [0.5, 2.5, 4.5, 6.5]
    assert mean.tolist() == where.tolist()


def test_classes_by_age() -> None:
    assert metrics.classes((0, 1, 2, 5)) == ["0", "1", "2-4", "5+"]
    values, clusters = np.array([1.0, 0.0, 1.0, 0.0, 1.0]), ["a", "b", "a", "b", "c"]
    found = metrics.by_age(values, [0, 1, 1, 4, 50], clusters, (0, 1, 2, 5))
    assert [(estimate.n, estimate.mean) for estimate in found[:3]] == [(1, 1.0), (2, 0.5), (1, 0.0)]
    assert (found[3].n, found[3].mean) == (1, 1.0)


def test_novelty_is_self_information_of_what_was_listed() -> None:
    """Before the query: a twice, b once; with one more for each item and one for all that may come, 3/6 and 2/6."""
    outcome = prequential(Recording(), log(("u", "a", 1), ("v", "a", 1), ("v", "b", 1), ("w", "c", 1)), 0.75)
    assert outcome.lists == [["a", "b"]]
    assert outcome.novelty == pytest.approx([(-math.log2(3 / 6) - math.log2(2 / 6)) / 2])


def test_splits_by_the_age_of_user_and_item() -> None:
    """R15."""
    events = [("u", "a", 1)] * 5 + [("u", "b", 1), ("v", "a", 1), ("v", "z", 1)]
    outcome = prequential(Recording(), log(*events), 0.625)
    assert outcome.earlier_events == [5, 0, 1]
    assert outcome.item_events == [0, 5, 0]
    found = {name: chosen.tolist() for name, chosen in metrics.splits(outcome).items()}
    assert found == {
        "all": [True, True, True],
        "known": [False, False, False],
        "cold": [False, True, True],
        "young item": [False, True, False],
    }


def test_only_every_nth_event_is_asked_for() -> None:
    outcome = prequential(Recording(), log(*[(f"u{k}", "a", 1) for k in range(10)]), 0.5, ask_every=3)
    assert outcome.positions == [6, 9]


def test_report_has_all_views() -> None:
    one = sessions(Recording(), log(("s", "a", 1), ("s", "b", 1)), log(("t", "a", 1), ("t", "a", 1), ("t", "b", 1)))
    report = report_of("x", "sessions", {"a": one, "b": one}, "a", 2, {})
    assert report.headline == "MRR@20"
    assert set(report.models[1].views) == {"all", "new"}
    assert report.models[1].paired["new"]["MRR@20"].mean == 0.0
