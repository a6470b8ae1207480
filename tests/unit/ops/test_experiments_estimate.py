"""`freshet experiments estimate`: another share of exploration, from the lake's propensities (R21)."""

import json
from pathlib import Path

import numpy as np
import pytest
from scipy import stats
from typer.testing import CliRunner

from flows.lake.store import StoredTable, Stretch
from flows.lake.tables import TABLES
from ops.cli import app
from ops.experiments.estimating import Places, estimate
from state.records import Example, Impression
from tests.unit.flows.lake_input import START, batch

N_PLACES = 6
SHARE = 0.2
BEST = np.array([0.0, 0.30, 0.25, 0.22, 0.20, 0.18])
TRIED = np.array([0.0, 0.10, 0.10, 0.08, 0.08, 0.05])
DRAWN = np.array([0.5, 0.3, 0.2])
"""Of three items that may be tried out. The last one is the best by score at place 3, too."""


def truth(share: float) -> float:
    best = np.full(N_PLACES, 1.0 - share)
    best[3] += share * DRAWN[2]
    return float((best * BEST + (1.0 - best) * TRIED)[1:].mean())


def a_log(rng: np.random.Generator, n_lists: int) -> tuple[np.ndarray, np.ndarray]:
    """Return propensities and labels of lists, shape (n_lists, N_PLACES)."""
    explores = rng.random((n_lists, N_PLACES)) < SHARE
    arm = rng.choice(3, (n_lists, N_PLACES), p=DRAWN)
    places = np.arange(N_PLACES)
    tried = explores & (places > 0) & ~((places == 3) & (arm == 2))
    best = np.where(places == 0, 1.0, 1.0 - SHARE) + np.where(places == 3, SHARE * DRAWN[2], 0.0)
    propensities = np.where(tried, SHARE * DRAWN[arm], best)
    labels = rng.random((n_lists, N_PLACES)) < np.where(tried, TRIED, BEST)
    return propensities, labels.astype(int)


def places_of(propensities: np.ndarray, labels: np.ndarray) -> Places:
    n = len(labels)
    users = np.repeat(np.arange(n) // 3, N_PLACES - 1)
    positions = np.tile(np.arange(1, N_PLACES), n)
    shares = np.full(len(users), SHARE)
    return Places(users, positions, propensities[:, 1:].ravel(), shares, labels[:, 1:].ravel().astype(np.float64))


@pytest.mark.parametrize("share", [0.0, 0.05, 0.5])
def test_intervals_cover_the_truth_at_the_stated_rate(share: float) -> None:
    """R21: of a simulated log, whose truth is known."""
    rng, n_runs = np.random.default_rng(0), 150
    covered = dict.fromkeys(("ips", "snips", "dr"), 0)
    for _ in range(n_runs):
        found = estimate(places_of(*a_log(rng, 600)), share)
        for name in covered:
            value = getattr(found, name)
            covered[name] += value.low <= truth(share) <= value.high
    for name, n in covered.items():
        assert n >= stats.binom.ppf(0.001, n_runs, 0.95), name


def test_the_share_that_was_logged_has_what_was_seen() -> None:
    """R21"""
    found = places_of(*a_log(np.random.default_rng(1), 500))
    for value in estimate(found, SHARE)[1:3]:
        assert value.value == pytest.approx(found.rewards.mean())


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> object:
    def asked(*arguments: str) -> tuple[int, str]:
        monkeypatch.setenv("FRESHET_LAKE", str(tmp_path))
        result = CliRunner().invoke(app, ["experiments", "estimate", *arguments])
        return result.exit_code, result.output

    return asked


def test_it_reads_the_lake(tmp_path: Path, run: object) -> None:
    """R21: shares of exploration are found from the propensities, and lists without any are left out."""
    assert callable(run)
    assert run("--exploration", "0")[0] == 1  # nothing was tried out yet
    propensities, labels = a_log(np.random.default_rng(2), 400)
    propensities[:40] = 1.0
    impressions: list[object] = []
    examples: list[object] = []
    for k, (chances, told) in enumerate(zip(propensities.tolist(), labels.tolist(), strict=True)):
        items = [f"i{n}" for n in range(N_PLACES)]
        common = {"request_id": f"r{k}", "user_id": f"u{k // 3}", "ts": START, "surface": "home", "items": items}
        common |= {"propensities": chances, "features": b"", "feature_set": "f", "model_version": "1"}
        impressions.append(Impression(**common, scores=[0.0] * N_PLACES, sources=[["p"]] * N_PLACES, model="m"))
        outcomes = ["click" if label else None for label in told]
        examples.append(Example(**common, example_id=f"x{k}", labels=told, outcomes=outcomes))
    for table in TABLES:
        rows = {"impressions": impressions, "examples": examples}.get(table.name)
        if rows:
            stored = StoredTable(str(tmp_path), table, "c")
            stored.append([table.rows(batch(rows, table.topic.name)).rows], {0: Stretch(0, 1)})
    code, output = run("--exploration", "0", "--exploration", "0.2", "--json")
    assert code == 0, output
    told = json.loads(output)
    expected = estimate(places_of(propensities[40:], labels[40:]), 0.0)
    # Users are others than `places_of` has it: the values are the same, the intervals nearly.
    assert told["places"] == 360 * (N_PLACES - 1)
    assert told["estimates"][0]["dr"]["value"] == pytest.approx(expected.dr.value, rel=1e-6)
    assert told["estimates"][1]["ips"]["value"] == pytest.approx(told["seen"], rel=1e-6)
    code, output = run("--exploration", "0")
    assert (code, "SNIPS" in output) == (0, True)
    assert run("--exploration", "0", "--surface", "similar")[0] == 1
    assert run("--exploration", "2")[0] == 2
