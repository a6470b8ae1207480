"""The documents of docs/experiments.md are taken, and its commands and those of the helps run."""

import json
import re
import shlex
from pathlib import Path
from typing import Any

import httpx
import pytest
from typer.testing import CliRunner

from online_models.experiments.arm_days import OneDay, figures_by_day
from ops.cli import app
from tests.unit.serving.system import System

ROOT = Path(__file__).parents[3]
TEXT = (ROOT / "docs" / "experiments.md").read_text()
DOCUMENTS = [json.loads(text) for text in re.findall(r"```json\n(.*?)```", TEXT, re.DOTALL)]
NAMES = ("create", "start", "ramp", "stop", "show", "list", "history", "rollback")


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda document: document["name"])
async def test_documented_experiments_are_taken(system: System, document: Any) -> None:
    """R21"""
    status, answer = await system.call("POST", "/v1/admin/experiments", document)
    assert status == 201, answer
    said = answer["experiment"]
    assert all(said.get(field, value) == value for field, value in document.items() if field != "arms")
    assert [arm["name"] for arm in said["arms"]] == [arm["name"] for arm in document["arms"]]
    assert (await system.call("POST", f"/v1/admin/experiments/{document['name']}/start", {}))[0] == 200


class Api:
    """Answers the commands as the application would, and remembers what it was asked."""

    def __init__(self) -> None:
        self.calls: list[tuple[str, str, Any]] = []
        arms = [{"name": "old"}, {"name": "new"}]
        self.experiment = {"name": "ranking", "arms": arms, "status": "running", "started_ms": 1, "share": 0.5}

        self.day = figures_by_day([OneDay("new", 20_000, {"users": 40, "active": 40, "lists": 50, "degraded": 5})])[0]

    def request(self, method: str, url: str, **kwargs: Any) -> httpx.Response:
        path = url.partition("/v1/admin/experiments")[2]
        self.calls.append((method, path, kwargs["json"] or kwargs["params"]))
        version: dict[str, Any] = {"version": 3, "author": "anna (k1)", "ts": 1, "note": "why", "restores": 2}
        if path == "/history":
            return httpx.Response(200, json={"versions": [version | {"changes": ["+ ranking"]}]})
        if path in ("", "/rollback") and (method, path) != ("POST", ""):
            return httpx.Response(200, json=version | {"experiments": [self.experiment]})
        sums = {"users": 400, "lists": 400, "labelled": 4000, "positives": 800, "lists*lists": 400}
        sums |= {"labelled*labelled": 40_000, "labelled*positives": 8000, "positives*positives": 2000}
        figures: dict[str, Any] = {"sums": {"old": sums, "new": sums}, "switched_users": 2}
        figures |= {"arms": {"new": {"latency_p95_ms": 7.25, "items_shown": 12}}, "days": [self.day]}
        told = figures if method == "GET" else {}
        return httpx.Response(200, json=version | {"experiment": self.experiment} | told)


def commands() -> list[str]:
    """Return the command lines of the page and of the help of every command."""
    found = re.findall(rf"^    (?:\$ )?(freshet experiments (?:{'|'.join(NAMES)}).*)$", TEXT, re.MULTILINE)
    for name in NAMES:
        helped = CliRunner().invoke(app, ["experiments", name, "--help"], env={"COLUMNS": "200", "TERM": "dumb"})
        assert helped.exit_code == 0
        of_name = re.findall(rf"freshet experiments {name}[^|\n]*", helped.stdout.partition("Examples")[2])
        assert of_name, helped.stdout
        found += of_name
    return [line.strip() for line in found]


@pytest.mark.parametrize("line", commands())
def test_documented_commands_run(line: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """R21"""
    api = Api()
    monkeypatch.setattr(httpx, "request", api.request)
    monkeypatch.chdir(tmp_path)
    Path("ranking.json").write_text(json.dumps(DOCUMENTS[0]))
    done = CliRunner().invoke(app, shlex.split(line)[1:], input=json.dumps(DOCUMENTS[0]))
    assert done.exit_code == 0, done.output
    assert api.calls
    assert done.stdout


def test_show_compares_the_arms_as_the_flow_has_counted_them(monkeypatch: pytest.MonkeyPatch) -> None:
    """R21"""
    monkeypatch.setattr(httpx, "request", Api().request)
    done = CliRunner().invoke(app, ["experiments", "show", "ranking"], env={"COLUMNS": "200"})
    assert done.exit_code == 0, done.output
    assert "users: old 400, new 400" in done.output
    assert "2 users were seen in several arms" in done.output
    (line,) = [line for line in done.output.splitlines() if line.strip().startswith("ctr")]
    assert "new  7.25             12" in done.output
    assert ["2024-10-04", "new", "40", "50"] in [line.split()[:4] for line in done.output.splitlines()]
    assert line.split()[:4] == ["ctr", "new", "0.2", "0.2"]


def test_a_problem_is_told_in_words(monkeypatch: pytest.MonkeyPatch) -> None:
    """R23"""

    def refuse(*_: Any, **__: Any) -> httpx.Response:
        problem = {"detail": "share: layer 'default' has 10.0% of its users left, 50.0% are wanted"}
        return httpx.Response(409, json=problem, headers={"content-type": "application/problem+json"})

    monkeypatch.setattr(httpx, "request", refuse)
    done = CliRunner().invoke(app, ["experiments", "ramp", "ranking", "0.5"])
    assert done.exit_code == 1
    assert "10.0% of its users left" in done.output
