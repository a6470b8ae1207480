"""R21: who is in which arm."""

from collections import Counter

import msgspec
import pytest
from scipy import stats

from online_models.experiments.assignment import (
    N_BUCKETS,
    Circumstances,
    LayerFullError,
    allocate,
    assign,
    bucket,
    draw,
)
from state.experiments import Arm, Experiment

N_USERS = 1_000_000
HOME = Circumstances("home", 0)
TWO_ARMS = [Arm(name="control"), Arm(name="treatment")]


def experiment(name: str = "e", **chosen: object) -> Experiment:
    fields: dict[str, object] = {"arms": TWO_ARMS, "salt": f"{name}-salt", "status": "running"} | chosen
    return Experiment(name=name, **fields)  # type: ignore[arg-type]


def test_a_million_users_fall_evenly_and_layers_are_independent() -> None:
    """R21: chi-square over buckets, over arms by their weights, and over pairs of layers."""
    weighted = experiment(arms=[Arm(name="a", weight=1.0), Arm(name="b", weight=3.0)])
    buckets = {layer: Counter[int]() for layer in ("home", "search")}
    pairs: Counter[tuple[int, int]] = Counter()
    arms: Counter[str] = Counter()
    for n in range(N_USERS):
        user = f"user-{n}"
        home, search = bucket("home", user), bucket("search", user)
        buckets["home"][home] += 1
        buckets["search"][search] += 1
        pairs[home % 10, search % 10] += 1
        arms[draw(weighted, user)] += 1
    for counts in buckets.values():
        assert len(counts) == N_BUCKETS
        assert stats.chisquare(list(counts.values())).pvalue > 1e-4
    table = [[pairs[row, column] for column in range(10)] for row in range(10)]
    assert stats.chi2_contingency(table).pvalue > 1e-4
    assert stats.chisquare([arms["a"], arms["b"]], [N_USERS / 4, 3 * N_USERS / 4]).pvalue > 1e-4


def test_a_layer_gives_a_user_to_one_experiment_only() -> None:
    first = experiment("first")
    first = msgspec.structs.replace(first, buckets=allocate(first, [], 0.6))
    second = experiment("second")
    second = msgspec.structs.replace(second, buckets=allocate(second, [first], 0.4))
    elsewhere = experiment("elsewhere", layer="search", buckets=list(range(N_BUCKETS)))
    found = Counter[tuple[str, ...]]()
    for n in range(5000):
        arms = assign([first, second, elsewhere], f"user-{n}", HOME)
        found[tuple(arms)] += 1
        assert arms == assign([first, second, elsewhere], f"user-{n}", Circumstances("home", 10**12))
    assert set(found) == {("first", "elsewhere"), ("second", "elsewhere")}
    with pytest.raises(LayerFullError, match=r"0\.0% of its users left"):
        allocate(experiment("third"), [first, second], 0.1)
    stopped = msgspec.structs.replace(first, status="stopped")
    assert len(allocate(experiment("third"), [stopped, second], 0.6)) == 600


def test_ramping_up_moves_nobody_to_another_arm() -> None:
    small = experiment()
    small = msgspec.structs.replace(small, buckets=allocate(small, [], 0.05))
    large = msgspec.structs.replace(small, buckets=allocate(small, [], 0.5))
    users = [f"user-{n}" for n in range(20_000)]
    before = {user: arms for user in users if (arms := assign([small], user, HOME))}
    after = {user: arms for user in users if (arms := assign([large], user, HOME))}
    assert 0.04 < len(before) / len(users) < 0.06
    assert 0.47 < len(after) / len(users) < 0.53
    assert {user: after[user] for user in before} == before
    assert allocate(large, [], 0.05) == small.buckets


def test_testers_choose_their_arm_and_nobody_takes_part_outside_its_time() -> None:
    tested = experiment(overrides={"me": "treatment"}, start_ms=100, end_ms=200)
    assert assign([tested], "me", Circumstances("home", 150)) == {"e": "treatment"}
    assert assign([tested], "you", Circumstances("home", 150)) == {}  # no buckets yet
    for now in (99, 200):
        assert assign([tested], "me", Circumstances("home", now)) == {}
    assert assign([msgspec.structs.replace(tested, surfaces=["search"])], "me", Circumstances("home", 150)) == {}
    assert assign([msgspec.structs.replace(tested, status="stopped")], "me", Circumstances("home", 150)) == {}


def test_only_requests_of_the_right_kind_take_part() -> None:
    """R21: eligibility by surface, device and region; a request that does not say is left alone."""
    chosen = experiment(surfaces=["home"], devices=["tv"], regions=["AT"], buckets=list(range(N_BUCKETS)))
    assert assign([chosen], "u", Circumstances("home", 0, "tv", "AT"))
    for other in (("popular", "tv", "AT"), ("home", "phone", "AT"), ("home", "tv", "DE"), ("home", None, "AT")):
        surface, device, region = other
        assert assign([chosen], "u", Circumstances(surface, 0, device, region)) == {}


def test_users_of_a_stopped_arm_take_part_no_more_and_the_others_stay() -> None:
    """R21"""
    whole = experiment(arms=[*TWO_ARMS, Arm(name="third")], buckets=list(range(N_BUCKETS)))
    less = msgspec.structs.replace(whole, stopped_arms={"treatment": "worse"})
    users = [f"user-{n}" for n in range(3000)]
    before = {user: assign([whole], user, HOME)["e"] for user in users}
    after = {user: assign([less], user, HOME).get("e") for user in users}
    assert after == {user: None if arm == "treatment" else arm for user, arm in before.items()}
