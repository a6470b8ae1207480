"""`freshet models diff`: how two models of any kind order the lists that were served (R18)."""

import json
from pathlib import Path

import httpx
import numpy as np
import pytest
from typer.testing import CliRunner

from flows.lake.store import StoredTable, Stretch
from flows.lake.tables import TABLES
from online_models.engine import inputs
from online_models.evaluation.agreement import kendall
from online_models.versions.ranking import Ranking
from ops.cli import app
from state.artifacts import Artifact
from state.records import Example
from state.registry import Registry
from tests.unit.flows.lake_input import START, batch
from tests.unit.online_models.artifacts import an_artifact
from tests.unit.online_models.boosted import a_tree_artifact, needs_lightgbm

N_LISTS, N_ITEMS = 30, 15


@pytest.fixture
def lists(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[np.ndarray]:
    """Put lists of other inputs, and some whose outcomes came one after the other, into a lake; return their inputs."""
    monkeypatch.setenv("FRESHET_HOME", str(tmp_path))
    rng = np.random.default_rng(0)
    made, examples = [], []
    for n in range(N_LISTS):
        values = rng.normal(size=(N_ITEMS + 1, inputs.N_INPUTS)).astype("<f4")
        made.append(values)
        for part in (0, 1):
            labels = [-1] * N_ITEMS
            labels[part] = 1 - part
            examples.append(an_example(f"r{n}", START + n + part, labels, values, inputs.FEATURE_SET))
    examples.append(an_example("other", START, [1] + [0] * (N_ITEMS - 1), np.ones((N_ITEMS + 1, 3), "<f4"), "other"))
    (table,) = (table for table in TABLES if table.name == "examples")
    stored = StoredTable(str(tmp_path / "lake"), table, "c")
    stored.append([table.rows(batch(examples, table.topic.name)).rows], {0: Stretch(0, 1)})
    return made


def an_example(request: str, ts: int, labels: list[int], values: np.ndarray, feature_set: str) -> Example:
    items, no_events = [f"i{k}" for k in range(N_ITEMS)], [None] * N_ITEMS
    features, ones = values.tobytes(), [1.0] * N_ITEMS
    name = f"{request}:{ts}"
    return Example(name, request, "u", ts, "home", items, labels, list(no_events), ones, features, feature_set, "1")


def diff(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, *artifacts: Artifact, as_json: bool = True) -> str:
    registry = Registry(str(tmp_path / "models"))
    for artifact in artifacts:
        registry.put(artifact)
    answer = {"manifest": ["model ranker -> trees"], "metrics": {}, "weights_distance": None, "inputs": []}
    monkeypatch.setattr(httpx, "request", lambda *_, **__: httpx.Response(200, json=answer))
    names = [artifact.manifest.name for artifact in artifacts]
    done = CliRunner().invoke(app, ["models", "diff", *names, *(["--json"] if as_json else [])])
    assert done.exit_code == 0, done.output
    return done.output


def test_models_of_two_kinds_are_compared_on_served_lists(
    lists: list[np.ndarray], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """R18: each list once, whatever was told of it in parts; lists of other inputs are left out."""
    needs_lightgbm()
    ranker, trees = an_artifact(1), a_tree_artifact()
    found = json.loads(diff(monkeypatch, tmp_path, ranker, trees))["agreement"]
    one, other = (Ranking.of(artifact) for artifact in (ranker, trees))
    scores = [
        [model.score(values[:N_ITEMS], values[N_ITEMS]).astype(np.float64) for model in (one, other)]
        for values in lists
    ]
    assert (found["lists"], found["taken_lists"]) == (N_LISTS, N_LISTS)
    assert found["kendall"] == pytest.approx(np.mean([kendall(a, b) for a, b in scores]), abs=1e-6)
    assert found["first"]["AUC"] == pytest.approx(np.mean([(a[0] > a[1:]).mean() for a, _ in scores]), abs=1e-6)
    said = diff(monkeypatch, tmp_path, ranker, trees, as_json=False)
    assert "trees have none" in said
    assert f"on the newest {N_LISTS} served lists" in " ".join(said.split())


def test_without_lists_it_says_so(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """R18"""
    monkeypatch.setenv("FRESHET_HOME", str(tmp_path))
    said = diff(monkeypatch, tmp_path, an_artifact(1), an_artifact(2), as_json=False)
    assert "the lake has no list that both can score" in " ".join(said.split())
