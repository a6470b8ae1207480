"""`freshet evaluate` on small files (R17)."""

import json
from pathlib import Path

import pytest
import typer
from typer.testing import CliRunner

from ops.evaluation.commands import register
from ops.evaluation.models import BASELINES, NAMES, _tuned, tuned_for


def app() -> typer.Typer:
    found = typer.Typer()
    register(found)
    found.command("other")(lambda: None)  # with one command only, typer has no sub-commands
    return found


@pytest.fixture
def ratings(tmp_path: Path) -> Path:
    lines = [f"{k % 9}::{(k * 7) % 30}::{5 + k % 6}::{1_400_000_000 + 60 * k}" for k in range(300)]
    (tmp_path / "ratings.dat").write_text("\n".join(lines) + "\n")
    return tmp_path


def test_report_as_json(ratings: Path, tmp_path: Path) -> None:
    picture = tmp_path / "out.png"
    arguments = ["--models", "engine,markov", "--baseline", "popularity", "--json", "--plot", str(picture)]
    result = CliRunner().invoke(app(), ["evaluate", "--data", str(ratings), *arguments])
    assert result.exit_code == 0, result.output
    report = json.loads(result.stdout)
    assert [model["name"] for model in report["models"]] == ["popularity", "engine", "markov"]
    assert report["models"][0]["paired"]["all"]["NDCG@10"]["mean"] == 0.0
    assert picture.read_bytes().startswith(b"\x89PNG")


def test_lists_are_judged_as_rules_would_rank_them(ratings: Path) -> None:
    """R9, R17: what a cap and diversity cost, on the same queries."""
    names = ["engine", "engine:genre-cap=1", "engine:diversity=0.5"]
    arguments = ["--models", ",".join(names), "--baseline", "engine", "--json"]
    result = CliRunner().invoke(app(), ["evaluate", "--data", str(ratings), *arguments])
    assert result.exit_code == 0, result.output
    report = json.loads(result.stdout)
    assert [model["name"] for model in report["models"]] == names
    assert len({model["paired"]["all"]["NDCG@10"]["n"] for model in report["models"]}) == 1


def test_the_engine_beside_itself_without_a_group(ratings: Path) -> None:
    """R13, R17: on the same queries, differences to the whole engine, all begun with random weights."""
    groups = ["inputs:popularity", "inputs:age"]
    arguments = ["--without", ", ".join(groups), "--json"]
    result = CliRunner().invoke(app(), ["evaluate", "--data", str(ratings), *arguments])
    assert result.exit_code == 0, result.output
    report = json.loads(result.stdout)
    assert report["baseline"] == "engine"
    whole, *others = report["models"]
    assert [model["name"] for model in others] == [f"without {group}" for group in groups]
    assert len({model["novelty"] for model in report["models"]}) == 3
    assert len({model["paired"]["all"]["NDCG@10"]["n"] for model in report["models"]}) == 1
    explicit = CliRunner().invoke(app(), ["evaluate", "--data", str(ratings), "--weights", "none", "--json"])
    assert json.loads(explicit.stdout)["models"][0]["novelty"] == whole["novelty"]


def test_tables(ratings: Path) -> None:
    result = CliRunner().invoke(app(), ["evaluate", "--data", str(ratings), "--models", "popularity"])
    assert result.exit_code == 0, result.output
    assert "popularity" in result.stdout


def test_leave_last_out_reads_pairs(tmp_path: Path) -> None:
    pairs = tmp_path / "pairs.txt"
    pairs.write_text("".join(f"u{u} i{(u + k) % 9}\n" for u in range(20) for k in range(5)))
    result = CliRunner().invoke(
        app(), ["evaluate", "--data", str(pairs), "--protocol", "leave-last-out", "--models", "markov", "--json"]
    )
    assert result.exit_code == 0, result.output
    assert json.loads(result.stdout)["models"][0]["views"]["all"]["all"]["HR@20"]["n"] == 20


def test_all_models_run_and_are_tuned(ratings: Path) -> None:
    arguments = ["--models", "all", "--baseline", "cooc", "--json"]
    result = CliRunner().invoke(app(), ["evaluate", "--data", str(ratings), *arguments])
    assert result.exit_code == 0, result.output
    report = json.loads(result.stdout)
    assert [model["name"] for model in report["models"]] == list(NAMES)
    tuned = CliRunner().invoke(
        app(), ["evaluate", "--data", str(ratings), "--models", "recent-popularity", "--tune", "--json"]
    )
    assert tuned.exit_code == 0, tuned.output
    (model,) = json.loads(tuned.stdout)["models"]
    assert set(model["constants"]) == {"popular_days"}


@pytest.mark.parametrize("protocol", ["drift", "new-items"])
def test_simulated_protocols_need_no_data(protocol: str, tmp_path: Path) -> None:
    picture = tmp_path / "out.png"
    arguments = [
        "--protocol",
        protocol,
        "--limit",
        "600",
        "--models",
        "recent-popularity,markov",
        "--plot",
        str(picture),
    ]
    result = CliRunner().invoke(app(), ["evaluate", *arguments], env={"FRESHET_DATA": ""})
    assert result.exit_code == 0, result.output
    assert "markov" in result.stdout
    assert picture.read_bytes().startswith(b"\x89PNG")


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        (["--models", "nonsense"], "nonsense"),
        (["--models", "engine:genre-cap=x"], "genre-cap"),
        (["--models", "engine:diversity=2"], "diversity=2"),
        (["--protocol", "guess"], "guess"),
        (["--without", "source:covisitation,inputs:moods"], "inputs:moods"),
    ],
)
def test_wrong_names_are_told(ratings: Path, arguments: list[str], named: str) -> None:
    result = CliRunner().invoke(app(), ["evaluate", "--data", str(ratings), *arguments])
    assert result.exit_code == 2
    assert named in result.output


def test_what_was_tuned_names_models_and_constants_that_exist() -> None:
    """And none for the engine: it has one configuration."""
    for of in _tuned().values():
        for name, constants in of.items():
            assert set(constants) <= set(BASELINES[name].CONSTANTS)
    assert tuned_for("ml-100k", "cooc")
    assert tuned_for("ml-100k", "engine") == tuned_for("elsewhere", "cooc") == {}
