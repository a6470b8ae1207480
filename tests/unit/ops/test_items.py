"""The catalogue from files."""

import gzip
import io
import json
from pathlib import Path
from typing import Any

import msgspec
import pytest
from typer.testing import CliRunner

from ops import items
from ops.catalogue_files import CatalogueFileError, format_of, open_file, read_items
from ops.cli import app
from ops.http_client import Answer
from ops.items import Loaded, LoadError, send_items
from ops.stack.errors import StackError
from state.records import Item
from state.validation import InvalidInputError


def parsed(content: str, kind: Any) -> dict[int, Item | str]:
    return {
        number: str(item) if isinstance(item, InvalidInputError) else msgspec.json.decode(item, type=Item)
        for number, item in read_items(io.BytesIO(content.encode()), kind)
    }


def test_json_lines_are_read_with_their_line_numbers() -> None:
    found = parsed('{"item_id":"a","price":1}\n\n{"item_id":\n {"item_id":"b"} \n{"title":"x"}\n', "jsonl")
    assert found[1] == Item(item_id="a", price=1.0)
    assert found[4] == Item(item_id="b")
    assert sorted(found) == [1, 3, 4, 5]
    assert "not JSON" in str(found[3])
    assert "item_id" in str(found[5])


def test_csv_has_a_column_for_each_field() -> None:
    found = parsed(
        "item_id,title,genres,price,release_date,attributes.year,attributes.colour,attributes.new\n"
        'a,"One, two",War|Drama,2.50,1999,1999,red|blue,true\n'
        "b,,,,,,,\n"
        "c,x,,cheap,,,,\n"
        "d,x\n",
        "csv",
    )
    assert found[2] == Item(
        item_id="a",
        title="One, two",
        genres=["War", "Drama"],
        price=2.5,
        release_date="1999",
        attributes={"year": 1999, "colour": ["red", "blue"], "new": True},
    )
    assert found[3] == Item(item_id="b")
    assert "price" in str(found[4])
    assert "2 cells under 8 columns" in str(found[5])


@pytest.mark.parametrize(
    ("header", "told"), [("item_id,colour", "'colour'"), ("title,price", "item_id"), ("", "item_id")]
)
def test_a_wrong_header_is_refused_with_the_columns(header: str, told: str) -> None:
    with pytest.raises(CatalogueFileError, match=told):
        list(read_items(io.BytesIO(header.encode()), "csv"))


def test_the_format_is_told_by_the_name_and_gzip_is_read(tmp_path: Path) -> None:
    assert [format_of(Path(name)) for name in ("a.jsonl", "b.ndjson.gz", "c.csv")] == ["jsonl", "jsonl", "csv"]
    with pytest.raises(CatalogueFileError, match="expected one of"):
        format_of(Path("a.xls"))
    path = tmp_path / "a.jsonl.gz"
    path.write_bytes(gzip.compress(b'{"item_id":"a"}\n'))
    content, _ = open_file(path)
    with content:
        assert [item for _, item in read_items(content, "jsonl")] == [b'{"item_id":"a"}']


class FakeClient:
    """Refuses items that are called `bad`; says three times that Kafka is behind."""

    taken: list[str] = []
    behind = 3

    def __init__(self, url: str) -> None: ...

    async def __aenter__(self) -> Any:
        return self

    async def __aexit__(self, *_: object) -> None: ...

    async def put(self, path: str, body: bytes) -> Answer:
        cls = type(self)
        if cls.behind:
            cls.behind -= 1
            return Answer(429, b'{"detail":"behind"}')
        ids = [item["item_id"] for item in json.loads(body)["items"]]
        if "fatal" in ids:
            return Answer(401, b'{"detail":"a key is needed"}')
        cls.taken += [i for i in ids if i != "bad"]
        rejected = [{"index": n, "error": "bad"} for n, i in enumerate(ids) if i == "bad"]
        return Answer(202, json.dumps({"accepted": len(ids) - len(rejected), "rejected": rejected}).encode())


@pytest.fixture
def client(monkeypatch: Any) -> type[FakeClient]:
    class Client(FakeClient):
        taken = []

    monkeypatch.setattr("ops.http_client.Client", Client)
    monkeypatch.setattr(items, "_PAUSE_S", 0)
    monkeypatch.setattr(items, "_BATCH", 10)
    return Client


async def test_every_line_is_loaded_once_or_told_with_its_number(client: type[FakeClient]) -> None:
    lines = [(n, f'{{"item_id":"{"bad" if n == 25 else f"i{n}"}"}}'.encode()) for n in range(1, 54)]
    given = [*lines[:7], (1000, InvalidInputError("title", "no text")), *lines[7:]]
    loaded = Loaded()
    await send_items(iter(given), "http://x", loaded, lambda: None)
    assert loaded.n_items == 52
    assert sorted(client.taken) == sorted(f"i{n}" for n in range(1, 54) if n != 25)
    assert set(loaded.active) == set(client.taken)
    assert sorted(loaded.refused) == [(25, "bad"), (1000, "title: no text")]


async def test_what_serving_refuses_as_a_whole_ends_the_load(client: type[FakeClient]) -> None:
    with pytest.raises(LoadError, match="401 a key is needed"):
        await send_items(iter([(1, b'{"item_id":"fatal"}')]), "http://x", Loaded(), lambda: None)


def test_the_local_stack_is_where_items_go(tmp_path: Path) -> None:
    """R32: as with every command: its port need not be said again, and what to do is told."""
    file = tmp_path / "items.jsonl"
    file.write_text('{"item_id":"a"}\n')
    environment = {"FRESHET_HOME": str(tmp_path), "FRESHET_PORT": "1"}
    with pytest.raises(StackError, match=r"http://127\.0\.0\.1:1: ") as raised:
        CliRunner().invoke(app, ["items", "load", str(file)], env=environment, catch_exceptions=False)
    assert "freshet status" in raised.value.remedy
