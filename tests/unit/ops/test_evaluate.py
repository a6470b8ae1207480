"""`freshet evaluate` on small files, and the engine behind JSON lines (R17)."""

import io
import json
from pathlib import Path

import numpy as np
import pytest
import typer
from typer.testing import CliRunner

from ops.evaluate import register
from ops.evaluation_models import NAMES
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


class Pipe(io.BytesIO):
    """Lines that are read one at a time, with what had been answered when each was taken."""

    def __init__(self, written: bytes, answers: io.BytesIO) -> None:
        super().__init__(written)
        self.answers = answers
        self.answered: list[int] = []

    def __next__(self) -> bytes:
        self.answered.append(self.answers.getvalue().count(b"\n"))
        return super().__next__()


def commands(n: int, seed: int, future: int) -> list[dict[str, object]]:
    """Events and questions; those from the `n`th on depend on `future`."""
    rng = np.random.default_rng(seed)
    found: list[dict[str, object]] = []
    for k in range(2 * n):
        if k == n:
            rng = np.random.default_rng(future)
        user = int(rng.integers(0, 15))
        found.append({"op": "observe", "user": user, "item": int(rng.integers(0, 40)), "positive": 1, "t": 60 * k})
        if k % 3 == 0:
            found.append({"op": "recommend", "user": user, "n": 10, "t": 60 * k + 1, "candidates": "unseen"})
    return found


def answered(*of: dict[str, object]) -> list[bytes]:
    answers = io.BytesIO()
    serve(lines(*of), answers)
    return answers.getvalue().splitlines()


def test_stdio_answers_before_it_reads_on() -> None:
    """R13: when the line after a question is taken, its answer has been written."""
    asked = commands(30, 0, 1)
    answers = io.BytesIO()
    pipe = Pipe(lines(*asked).getvalue(), answers)
    serve(pipe, answers)
    n_before = np.cumsum([0, *(command["op"] == "recommend" for command in asked)])
    assert pipe.answered == n_before.tolist()


def test_stdio_uses_nothing_that_comes_later() -> None:
    """R13: another future changes no answer before it; the events before it do count, whatever their `t`."""
    n = 90
    one, other = answered(*commands(n, 0, 1)), answered(*commands(n, 0, 2))
    assert one[: n // 3] == other[: n // 3]
    assert one[n // 3 :] != other[n // 3 :]
    asked = commands(n, 0, 1)
    last = max(k for k, command in enumerate(asked) if command["op"] == "recommend")
    until_last = answered(*asked[: last + 1])
    assert until_last == one


def test_stdio_names_the_bad_line() -> None:
    with pytest.raises(StdioError, match="line 1"):
        serve(lines({"op": "guess"}), io.BytesIO())
