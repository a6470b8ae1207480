"""`freshet evaluate` on small files, and the engine behind JSON lines (R17)."""

import io
import json
from pathlib import Path

import pytest
import typer
from typer.testing import CliRunner

from ops.evaluate import register
from ops.evaluation_stdio import StdioError, serve


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


@pytest.mark.parametrize(
    ("arguments", "named"), [(["--models", "nonsense"], "nonsense"), (["--protocol", "guess"], "guess")]
)
def test_wrong_names_are_told(ratings: Path, arguments: list[str], named: str) -> None:
    result = CliRunner().invoke(app(), ["evaluate", "--data", str(ratings), *arguments])
    assert result.exit_code == 2
    assert named in result.output


def lines(*commands: dict[str, object]) -> io.BytesIO:
    return io.BytesIO(b"".join(json.dumps(command).encode() + b"\n" for command in commands))


def test_stdio_answers_recommend_only() -> None:
    answers = io.BytesIO()
    serve(
        lines(
            {"op": "item", "item": 7, "title": "x", "genres": ["drama"], "something": "else"},
            {"op": "observe", "user": "u", "item": 7, "positive": 1, "rating": 5, "t": 10},
            {"op": "recommend", "user": "v", "n": 5, "t": 11, "candidates": "unseen"},
            {"op": "recommend", "user": "u", "n": 5, "t": 11, "candidates": "unseen"},
            {"op": "recommend", "user": "u", "n": 5, "t": 11, "candidates": "all"},
        ),
        answers,
    )
    assert [json.loads(line) for line in answers.getvalue().splitlines()] == [
        {"items": ["7"]},
        {"items": []},
        {"items": ["7"]},
    ]


def test_stdio_names_the_bad_line() -> None:
    with pytest.raises(StdioError, match="line 1"):
        serve(lines({"op": "guess"}), io.BytesIO())
