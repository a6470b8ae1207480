"""Every query of docs/analysts.md answers, with the columns that the page shows (R26)."""

import json
import re
from pathlib import Path

import msgspec
import pytest
from typer.testing import CliRunner

from flows.lake.store import StoredTable, Stretch
from flows.lake.tables import TABLES
from ops.cli import app
from state.records import CleanEvent, Item
from state.settings import Settings
from tests.unit.flows.lake_input import START, batch, event, example, impression

PAGE = Path(__file__).parents[3] / "docs" / "analysts.md"
QUESTIONS = re.findall(r"```sql\n(.*?)```\n\n```text\n(.*?)\n```", PAGE.read_text(), flags=re.DOTALL)
DAY = 86_400_000


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> str:
    """A small lake with something for each question."""
    folder = str(tmp_path_factory.mktemp("lake"))
    clicked = [
        CleanEvent(f"c{n}", kind, "u1", "i1", START + n, "s", f"r{n}", 1, value, None)
        for n in range(3)
        for kind, value in (("click", None), ("watch", 900.0), ("save", None))
    ]
    found = [event(n, ts=START - n * 20 * DAY, user=f"u{n % 3}") for n in range(9)]
    items = [msgspec.json.encode(Item(item_id=f"i{n}", genres=["War", "Drama"])) for n in range(3)]
    rows = {
        "events": [*clicked, *found],
        "impressions": [impression(n, user=f"u{n}") for n in range(3)],
        "examples": [example(0, [0, 1]), example(1, [0, 1]), example(2, [0, 0])],
        "items": items,
        "rejected": [b"?"],
    }
    for table in TABLES:
        messages = batch(rows[table.name], table.topic.name)
        StoredTable(folder, table, "c").append([table.rows(messages).rows], {0: Stretch(0, 1)})
    return folder


def test_the_page_has_ten_questions() -> None:
    assert len(QUESTIONS) >= 10


@pytest.mark.parametrize(("query", "answer"), QUESTIONS, ids=[query.split("\n")[0] for query, _ in QUESTIONS])
def test_a_question_is_answered(query: str, answer: str, root: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FRESHET_LAKE", root)
    assert Settings().lake_root == root
    result = CliRunner().invoke(app, ["lake", "sql", "-", "--json"], input=query)
    assert result.exit_code == 0, result.output
    rows = json.loads(result.stdout)
    assert rows
    assert list(rows[0]) == answer.split("\n")[0].split()
