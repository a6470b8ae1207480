"""docs/serving.md: every example runs, and every parameter has one."""

import json
import re
from pathlib import Path
from urllib.parse import parse_qsl

import pytest

from serving.contract import openapi
from tests.unit.serving.system import System

DOCUMENT = (Path(__file__).parents[3] / "docs" / "serving.md").read_text()
EXAMPLES = re.findall(r"`((?:GET|POST|PUT|PATCH|DELETE) /v1/[^`{]*(?:\{[^`]*)?)`", DOCUMENT)
RUNNABLE = [
    example
    for example in EXAMPLES
    if "{" not in example.split(" ")[1].replace("{next}", "")  # a name of something, no example
    and not example.endswith("=")
    and (example[0] in "GD" or "{" in example)
]
LISTS = ("/recommendations", "/similar", "/v1/popular", "/v1/trending", "/v1/search")


def test_there_are_examples() -> None:
    assert len(RUNNABLE) > 35


@pytest.mark.parametrize("example", RUNNABLE)
async def test_the_example_runs(system: System, example: str) -> None:
    """R2, R3, R4"""
    method, address, body = re.fullmatch(r"(\S+) (\S+)(?: (\{.*\}))?", example).groups()  # type: ignore[union-attr]
    path, _, query = address.partition("?")
    params = dict(parse_qsl(query, keep_blank_values=True))
    if params.get("page") == "{next}":
        del params["page"]
        _, first = await system.call(method, path, **params)
        params["page"] = first["next"]
    status, answer = await system.call(method, path, None if body is None else json.loads(body), **params)
    assert status == (202 if (body is not None and "sessions" not in path) or method == "DELETE" else 200), answer
    if status == 202:
        assert answer["accepted"] >= 1
        assert not answer.get("rejected")


def test_every_parameter_of_a_list_is_in_the_table() -> None:
    """R2, R3, R4"""
    rows = re.findall(r"^\| ((?:`\w+`(?:, )?)+) \|.*`(?:GET|POST) [^`]*`", DOCUMENT, re.MULTILINE)
    told = {name for row in rows for name in re.findall(r"`(\w+)`", row)}
    declared = {
        parameter["name"]
        for path, operations in openapi.document()["paths"].items()
        if path.endswith(LISTS)
        for operation in operations.values()
        for parameter in operation["parameters"]
        if parameter["in"] == "query"
    }
    assert declared - told == set()
