"""The examples of docs/rules.md and of the command's help hold."""

import json
import re
import shlex
from pathlib import Path
from typing import Any

import httpx
import pytest
from typer.testing import CliRunner

from ops.cli import app
from state.control import RULES
from tests.unit.serving.system import System

ROOT = Path(__file__).parents[3]
TEXT = (ROOT / "docs" / "rules.md").read_text()
DOCUMENTS = re.findall(r"```json\n(.*?)```", TEXT, re.DOTALL)
FIELDS = {"tags": ["sample"], "age_rating": "18", "creator": "Acme", "category": "fresh", "price": 1.0}


def test_there_are_examples() -> None:
    assert len(DOCUMENTS) == 2


@pytest.mark.parametrize("document", DOCUMENTS)
async def test_documented_rules_can_be_tried_and_applied(system: System, document: str) -> None:
    """R9"""
    rules = json.loads(document)
    status, answer = await system.call("POST", "/v1/admin/rules/dry-run", {"rules": rules, "users": ["anna"]})
    assert status == 200, answer
    status, answer = await system.call("PUT", "/v1/admin/rules", {"rules": rules, "version": 0})
    assert status == 200, answer
    assert RULES.parse(json.dumps(answer["rules"]).encode()) == RULES.parse(document.encode())


class Api:
    """Answers the command as the application would, and remembers what it was asked."""

    def __init__(self) -> None:
        self.calls: list[tuple[str, str, Any]] = []

    def request(self, method: str, url: str, **kwargs: Any) -> httpx.Response:
        path = url.partition("/v1/admin/rules")[2]
        self.calls.append((method, path, kwargs["json"] or kwargs["params"]))
        version = {"version": 3, "author": "anna (k1)", "ts": 1, "note": "why", "restores": None}
        if path == "/history":
            answer: dict[str, Any] = {"versions": [version | {"changes": ["+ blocks recall"]}]}
        elif path == "/dry-run":
            change = {"user_id": "anna", "before": ["a"], "after": ["b"], "gone": ["a"], "new": ["b"], "relaxed": {}}
            answer = {"version": 3, "changes": [], "n_users": 1, "n_changed": 1, "n_withheld": 1, "lists": [change]}
        else:
            answer = version | {"rules": {"caps": []}}
        return httpx.Response(200, json=answer)


def commands() -> list[str]:
    """Return the command lines of the help of every command, and of the page."""
    found = re.findall(r"^    (freshet rules .*?)(?:  #.*)?$", TEXT, re.MULTILINE)
    for name in ("show", "apply", "dry-run", "history", "rollback"):
        helped = CliRunner().invoke(app, ["rules", name, "--help"], env={"COLUMNS": "200", "TERM": "dumb"})
        assert helped.exit_code == 0
        of_name = re.findall(rf"freshet rules {name}[^|\n]*", helped.stdout.partition("Examples")[2])
        assert of_name, helped.stdout
        found += of_name
    return found


@pytest.mark.parametrize("line", commands())
def test_documented_commands_run(line: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """R9"""
    api = Api()
    monkeypatch.setattr(httpx, "request", api.request)
    monkeypatch.chdir(tmp_path)
    Path("rules.json").write_text(json.dumps({"blocks": [{"name": "recall", "items": ["m17"]}]}))
    words = shlex.split(line.partition(">")[0])
    done = CliRunner().invoke(app, words[1:], input="{}")
    assert done.exit_code == 0, done.output
    assert api.calls
    assert done.stdout


def test_a_problem_is_told_in_words(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: Any, **__: Any) -> httpx.Response:
        problem = {"detail": "version: 1 is not in force, but 2"}
        return httpx.Response(409, json=problem, headers={"content-type": "application/problem+json"})

    monkeypatch.setattr(httpx, "request", refuse)
    done = CliRunner().invoke(app, ["rules", "rollback"])
    assert done.exit_code == 1
    assert "version: 1 is not in force, but 2" in done.output
