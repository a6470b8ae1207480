"""R21: what is said of a difference is true as often as it says, for those who look all the time."""

import numpy as np
import pytest
from scipy import stats

from online_models.experiments import sequences
from online_models.experiments.effects import Arm, compare, estimate, holm, sample_ratio
from online_models.experiments.guardrails import check
from state.experiments import Arm as Plan
from state.experiments import Experiment, Guardrail
from tests.unit.online_models.experiments.simulated import Visitors

ALPHA = 0.05


def test_an_a_a_test_read_after_each_batch_alarms_no_more_often_than_stated() -> None:
    """1 000 runs, 15 looks each, users who come back."""
    rng = np.random.default_rng(1)
    alarms = 0
    for _ in range(1000):
        arms = Visitors(rng), Visitors(rng)
        found = False
        for _ in range(15):
            for arm in arms:
                arm.arrive(60)
                arm.visit()
            effect = compare(arms[0].arm(), arms[1].arm(), ALPHA, planned_users=1000)
            found |= effect.is_significant
        alarms += found
    assert alarms <= stats.binom.ppf(0.999, 1000, ALPHA)


def test_a_true_lift_is_found_with_the_stated_power() -> None:
    """+5 %: with the users that the plan asks for, in at least the stated share of the runs."""
    rng = np.random.default_rng(2)
    pilot = Visitors(rng)
    pilot.arrive(20_000)
    for _ in range(4):
        pilot.visit(1.0)
    known = estimate(pilot.arm(with_history=False))
    power, n_runs = 0.8, 60
    user_sd = float(np.sqrt(known.variance * known.n_users))
    n_users = sequences.users_needed(user_sd, 0.05 * known.value, ALPHA, power)
    found = 0
    for _ in range(n_runs):
        arms = Visitors(rng), Visitors(rng, lift=0.05)
        for arm in arms:
            arm.arrive(n_users // 2)
            for _ in range(4):
                arm.visit(1.0)
        effect = compare(arms[0].arm(False), arms[1].arm(False), ALPHA, planned_users=n_users)
        found += effect.is_significant and effect.difference > 0
    assert found >= stats.binom.ppf(0.001, n_runs, power)


def test_what_was_known_before_narrows_the_interval_and_keeps_the_truth() -> None:
    """CUPED."""
    rng = np.random.default_rng(3)
    arms = Visitors(rng), Visitors(rng, lift=0.1)
    for arm in arms:
        arm.arrive(20_000)
        arm.visit(1.0)
    plain = compare(arms[0].arm(False), arms[1].arm(False))
    adjusted = compare(arms[0].arm(), arms[1].arm())
    truth = 0.1 * 0.2
    assert adjusted.variance_kept < 0.9
    assert adjusted.high - adjusted.low < plain.high - plain.low
    for effect in (plain, adjusted):
        assert effect.low < truth < effect.high


def test_too_few_users_say_nothing() -> None:
    arm = Arm(np.ones(50), np.full(50, 10.0))
    effect = compare(arm, Arm(np.zeros(50), np.full(50, 10.0)))
    assert (effect.low, effect.high, effect.p_value) == (-np.inf, np.inf, 1.0)
    with pytest.raises(ValueError, match="one length"):
        Arm(np.ones(2), np.ones(3))


def test_the_interval_and_the_p_value_say_the_same() -> None:
    """The p-value is the alpha at which the interval just excludes 0."""
    h = sequences.mixture_for(1000.0, ALPHA)
    for variance in (1e-4, 1e-3, 1e-2):
        at_the_border = float(sequences.radius(variance, h, ALPHA))
        assert float(sequences.p_value(at_the_border, variance, h)) == pytest.approx(ALPHA)
    tightest = sequences.radius(1e-3, h, ALPHA)
    for other in (0.3, 3.0):
        assert sequences.radius(1e-3, other * h, ALPHA) > tightest


def test_a_poisoned_arm_is_stopped_before_two_percent_of_the_users_saw_it() -> None:
    """Worse by half; 500 000 users come in batches, half of them to each arm."""
    rng = np.random.default_rng(4)
    experiment = Experiment(
        name="e", salt="s", arms=[Plan(name="old"), Plan(name="new")], guardrails=[Guardrail(metric="ctr")]
    )
    arms = {"old": Visitors(rng), "new": Visitors(rng, lift=-0.5)}
    stop = None
    while stop is None:
        for arm in arms.values():
            arm.arrive(500)
            arm.visit(1.0)
        stop = check(experiment, {"ctr": {name: estimate(arm.arm()) for name, arm in arms.items()}})
        assert len(arms["new"].rates) < 0.02 * 500_000
    assert stop.arm == "new"
    assert "ctr fell by" in stop.reason


def test_guardrails_leave_equal_arms_alone() -> None:
    """100 runs of 20 looks; an alpha of 1 % each."""
    rng = np.random.default_rng(5)
    experiment = Experiment(
        name="e", salt="s", arms=[Plan(name="a"), Plan(name="b")], guardrails=[Guardrail(metric="ctr", max_drop=0.0)]
    )
    stopped = 0
    for _ in range(100):
        arms = {"a": Visitors(rng), "b": Visitors(rng)}
        stop = None
        for _ in range(20):
            for arm in arms.values():
                arm.arrive(50)
                arm.visit()
            stop = stop or check(experiment, {"ctr": {name: estimate(arm.arm()) for name, arm in arms.items()}})
        stopped += stop is not None
    assert stopped <= stats.binom.ppf(0.999, 100, 0.01 + 0.001)


def test_a_sabotaged_splitter_raises_the_alarm_and_a_sound_one_does_not() -> None:
    """Sample ratio mismatch: 4 % of one arm's users are lost. 500 sound splits are looked at 20 times each."""
    assert sample_ratio([50_000, 48_000], [0.5, 0.5]).is_mismatch()
    assert not sample_ratio([50_000, 49_900], [0.5, 0.5]).is_mismatch()
    assert sample_ratio([50_000, 49_000], [0.5, 0.5]).p_value == pytest.approx(0.00148, rel=0.01)
    rng = np.random.default_rng(6)
    alarms = sum(
        any(
            sample_ratio([n, (k + 1) * 1000 - n], [0.5, 0.5]).is_mismatch(0.05)
            for k, n in enumerate(np.cumsum(rng.binomial(1000, 0.5, 20)).tolist())
        )
        for _ in range(500)
    )
    assert alarms <= stats.binom.ppf(0.999, 500, 0.05)
    with pytest.raises(ValueError, match="add up to 1"):
        sample_ratio([1, 2], [0.5, 0.6])


def test_many_metrics_share_one_alpha() -> None:
    assert holm({"a": 0.01, "b": 0.04, "c": 0.03}) == pytest.approx({"a": 0.03, "c": 0.06, "b": 0.06})
