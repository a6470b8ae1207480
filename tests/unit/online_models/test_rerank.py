"""The re-ranking kernel against a plain statement of what it does, and its promises."""

import math
from collections import Counter
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from online_models.reranking.rerank import LabelCap, Share, likeness, rerank


def plainly(  # noqa: C901 - one statement of everything
    scores: Any,
    n_wanted: int,
    caps: Any,
    shares: Any,
    pins: Any,
    diversity: float,
    duplicate: float,
    vectors: Any,
    labels: Any,
    like: list[int],
) -> tuple[list[int], list[int]]:
    """Say what `rerank` promises, one place after the other.

    With diversity, sums in another order may take either of two candidates with all but equal values: that of `like`.
    """
    n = len(scores)
    at = {place: candidate for candidate, place in pins if place < n_wanted}
    relaxed = [0] * (1 + len(caps) + len(shares))
    chosen: list[int] = []
    sets = [{label for label in row if label >= 0} for row in labels.tolist()]

    def broken(m: int) -> list[int]:
        place, found = len(chosen), []
        if any(vectors[m] @ vectors[o] >= duplicate for o in chosen):
            found.append(0)
        for c, cap in enumerate(caps):
            if cap.every or place < cap.among:
                first = place - place % cap.among if cap.every else 0
                counts = Counter(label for o in chosen[first:] for label in set(cap.labels[o].tolist()))
                if any(label >= 0 and counts[label] >= cap.at_most for label in set(cap.labels[m].tolist())):
                    found.append(1 + c)
        for s, share in enumerate(shares):
            given = sum(bool(share.members[o]) for o in chosen)
            is_due = place < share.among and given < math.floor(share.share * (place + 1) + 1e-9)
            if is_due and not share.members[m]:
                found.append(1 + len(caps) + s)
        return found

    def value(m: int) -> float:
        if diversity == 0.0:
            return 0.0
        alike = 0.0
        for o in chosen:
            union = sets[m] | sets[o]
            jaccard = len(sets[m] & sets[o]) / len(union) if union else 0.0
            alike = max(alike, 0.5 * max(float(vectors[m] @ vectors[o]), 0.0) + 0.5 * jaccard)
        relevance = 1.0 + math.log(max(scores[m] / scores[0], 1e-6)) / math.log(100.0)
        return (1.0 - diversity) * relevance - diversity * alike

    for place in range(min(n_wanted, n)):
        best = at.get(place)
        if best is None:
            free = [m for m in range(n) if m not in chosen and m not in at.values()]
            costs = {m: sum(2.0**-constraint for constraint in broken(m)) for m in free}
            level = [m for m in free if costs[m] == min(costs.values())]
            most = max(value(m) for m in level)
            best = next(m for m in level if value(m) >= most - 1e-5)
            if diversity > 0.0 and like[place] in level and value(like[place]) >= most - 1e-5:
                best = like[place]
            for constraint in broken(best):
                relaxed[constraint] += 1
        chosen.append(best)
    return chosen + [m for m in range(n) if m not in chosen], relaxed


@settings(max_examples=150, deadline=None)
@given(st.data())
def test_it_does_what_is_said_plainly(data: st.DataObject) -> None:
    """R9: caps, shares, pins, near duplicates and diversity together, in the stated order of importance."""
    rng = np.random.default_rng(data.draw(st.integers(0, 2**32)))
    n = data.draw(st.integers(1, 40))
    scores = np.sort(rng.random(n) + 0.01)[::-1].copy()
    labels = np.where(rng.random((n, 3)) < 0.6, np.arange(0, 9, 3) + rng.integers(0, 3, (n, 3)), -1).astype(np.int32)
    vectors = rng.normal(size=(n, 4)).astype(np.float32)
    vectors[rng.random(n) < 0.3] = vectors[0]
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    caps = [
        LabelCap(labels, data.draw(st.integers(1, 4)), data.draw(st.integers(1, 12)), data.draw(st.booleans()))
        for _ in range(data.draw(st.integers(0, 2)))
    ]
    shares = [
        Share(rng.random(n) < 0.3, data.draw(st.sampled_from([0.1, 0.25, 0.5, 1.0])), data.draw(st.integers(1, 20)))
        for _ in range(data.draw(st.integers(0, 2)))
    ]
    n_wanted = data.draw(st.integers(1, 25))
    n_pins = data.draw(st.integers(0, min(n, 2)))
    pins = list(
        zip(rng.permutation(n)[:n_pins].tolist(), rng.permutation(min(n, n_wanted))[:n_pins].tolist(), strict=False)
    )
    diversity = data.draw(st.sampled_from([0.0, 0.3, 1.0]))
    duplicate = data.draw(st.sampled_from([0.9999, 2.0]))
    asked: dict[str, Any] = {
        "caps": caps,
        "shares": shares,
        "pins": pins,
        "diversity": diversity,
        "duplicate": duplicate,
        "vectors": vectors,
        "labels": labels,
    }
    done = rerank(scores, n_wanted, **asked)
    assert sorted(done.order.tolist()) == list(range(n))
    order, relaxed = plainly(scores, n_wanted, **asked, like=done.order.tolist())
    assert (done.order.tolist(), done.relaxed.tolist()) == (order, relaxed)


@pytest.mark.parametrize("scores", [np.zeros(5), np.array([np.inf, 1.0, 0.5, 0.0, np.nan])])
@pytest.mark.parametrize("diversity", [0.0, 0.5])
def test_any_scores_make_an_order(scores: Any, diversity: float) -> None:
    done = rerank(scores, 5, diversity=diversity)
    assert sorted(done.order.tolist()) == [0, 1, 2, 3, 4]


def test_no_candidates_make_no_list() -> None:
    assert len(rerank(np.zeros(0), 10, diversity=0.5).order) == 0


def test_diversity_trades_score_for_variety_and_keeps_the_best_first() -> None:
    """R9"""
    scores = np.linspace(1.0, 0.5, 30)
    labels = np.repeat(np.arange(3, dtype=np.int32), 10)[:, None]
    kinds = []
    for diversity in (0.0, 0.3, 1.0):
        order = rerank(scores, 9, diversity=diversity, labels=labels).order[:9]
        assert order[0] == 0
        kinds.append(len(set(labels[order, 0].tolist())))
    assert kinds == [1, 3, 3]


def test_a_share_never_takes_the_first_place_and_is_spread_evenly() -> None:
    """R9"""
    members = np.zeros(50, np.bool_)
    members[40:] = True
    order = rerank(np.linspace(1, 0.1, 50), 20, shares=[Share(members, 0.2, 20)]).order[:20]
    assert np.flatnonzero(members[order]).tolist() == [4, 9, 14, 19]


def test_what_gives_way_first_is_the_share_then_the_last_cap_and_at_last_near_duplicates() -> None:
    """R9"""
    one = np.zeros((4, 1), np.int32)
    same = np.ones((4, 1), np.float32)
    done = rerank(
        np.array([4.0, 3.0, 2.0, 1.0]),
        4,
        caps=[LabelCap(one, 1, 4), LabelCap(one, 2, 4)],
        shares=[Share(np.array([False, False, False, True]), 0.5, 4)],
        duplicate=0.99,
        vectors=same,
    )
    # The first place breaks nothing. All others are duplicates over the caps, and the share has its item at the second.
    assert done.order.tolist() == [0, 3, 1, 2]
    assert done.relaxed.tolist() == [3, 3, 2, 1]


def test_likeness_is_to_the_most_similar_of_the_others() -> None:
    """R5: the mean of the cosine, not below 0, and the Jaccard index of the labels."""
    vectors = np.array([[1, 0], [0, 1], [0, 0], [-1, 0], [1, 0], [0.6, 0.8]], np.float32)
    labels = np.array([[1, 2], [3, -1], [1, -1], [-1, -1], [1, 2], [-1, -1]], np.int32)
    found = likeness(vectors, labels, 4)
    assert found == pytest.approx([1.0, 0.4, 0.25, 0.0])
    assert likeness(vectors[:2], labels[:2], 2).tolist() == [0.0, 0.0]
