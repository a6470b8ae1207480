"""R29: keys, scopes, rates, headers, and what is in no log."""

import json
import logging
import re
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import falcon
import msgspec
import pytest
from falcon import testing
from typer.testing import CliRunner

from ops import cli
from serving.access import keys, rates
from serving.access.guard import Guard, page_policy
from serving.app import create_app
from serving.contract import openapi
from serving.contract.scopes import SCOPES, Scope, scope_of
from state.settings import Settings
from state.store import StoreUnavailableError
from tests.unit.serving.system import System, an_event

LIST = "/v1/users/u1/recommendations"


def given(key: str) -> dict[str, str]:
    return {"authorization": f"Bearer {key}"}


@pytest.fixture
def made(tmp_path: Path) -> dict[str, str]:
    """One key of each scope, in a file."""
    made = {scope: keys.make(f"the {scope} key", [scope], None) for scope in SCOPES}
    keys.write(tmp_path / "keys.json", [entry for _, entry in made.values()])
    return {scope: key for scope, (key, _) in made.items()}


@asynccontextmanager
async def running(tmp_path: Path, **settings: Any) -> AsyncIterator[System]:
    system = System(tmp_path)
    system.settings = Settings(home=tmp_path, **settings)
    system.app = create_app(system.settings, system.store, system.log)  # type: ignore[arg-type]
    async with testing.ASGIConductor(system.app) as system.client:
        while (await system.client.simulate_get("/health/ready")).status_code != 200:
            pass
        yield system


async def test_each_call_needs_a_key_with_its_scope(tmp_path: Path, made: dict[str, str]) -> None:
    """R29"""
    calls: list[tuple[str, str, Any, Scope]] = [
        ("GET", LIST, None, "read"),
        ("GET", "/metrics", None, "read"),
        ("POST", "/v1/events", an_event(), "ingest"),
        ("DELETE", "/v1/items/m1", None, "ingest"),
    ]
    async with running(tmp_path, api_keys=tmp_path / "keys.json") as system:
        for method, path, body, needed in calls:
            raw = None if body is None else json.dumps(body)
            for scope in SCOPES:
                answer = await system.client.simulate_request(method, path, body=raw, headers=given(made[scope]))
                assert (answer.status_code < 300) == (scope == needed), (method, path, scope)
                if scope != needed:
                    assert answer.status_code == 403
                    assert repr(needed) in answer.json["detail"]
            answer = await system.client.simulate_request(method, path, body=raw)
            assert (answer.status_code, answer.headers["content-type"]) == (401, "application/problem+json")
            assert answer.headers["www-authenticate"].startswith("Bearer")
        for path in ("/", "/docs", "/openapi.json", "/health/live", "/health/ready"):
            assert (await system.client.simulate_get(path)).status_code == 200


@pytest.mark.parametrize("scheme", ["Bearer ", "bearer ", "Basic ", ""])
async def test_wrong_keys_are_refused(tmp_path: Path, made: dict[str, str], scheme: str) -> None:
    """R29"""
    right = made["read"]
    wrong = [right[:-1], right + "x", right.replace("fr_", "xx_"), right.upper(), "fr__", "", "é", "fr_" + "0" * 5000]
    async with running(tmp_path, api_keys=tmp_path / "keys.json") as system:
        for key in wrong:
            answer = await system.client.simulate_get(LIST, headers={"authorization": scheme + key})
            assert answer.status_code == 401, key
        answer = await system.client.simulate_get(LIST, headers={"authorization": scheme + right})
        assert answer.status_code == (200 if scheme.lower() == "bearer " else 401)


async def test_a_revoked_key_is_refused_and_a_new_one_taken_without_a_restart(
    tmp_path: Path, made: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """R29"""
    path = tmp_path / "keys.json"
    clock = 1e6
    monkeypatch.setattr("time.monotonic", lambda: clock)
    ring = keys.KeyRing(path)
    assert ring.holder(made["read"]) is not None
    new, entry = keys.make("new", ["read"], None)
    before = keys.read(path)
    keys.write(path, [*(msgspec.structs.replace(old, revoked=keys.now()) for old in before), entry])
    assert ring.holder(new) is None
    clock += 2
    assert ring.holder(made["read"]) is None
    assert ring.holder(new) == (3, entry)
    path.write_text("{")
    clock += 2
    assert ring.holder(new) is not None
    path.unlink()
    clock += 2
    assert ring.holder(new) is not None


def test_keys_are_stored_as_hashes_and_for_the_owner_only(tmp_path: Path, made: dict[str, str]) -> None:
    """R29"""
    path = tmp_path / "keys.json"
    text = path.read_text()
    assert path.stat().st_mode & 0o077 == 0
    for key in made.values():
        assert key not in text
        assert key.split("_", 2)[2] not in text


async def test_a_rate_is_kept_and_says_when_to_come_back(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """R29"""
    slow, slow_entry = keys.make("slow", ["read"], 2)
    other, other_entry = keys.make("other", ["read"], None)
    keys.write(tmp_path / "keys.json", [slow_entry, other_entry])
    clock = 1e6
    monkeypatch.setattr(rates.time, "monotonic", lambda: clock)
    guard = Guard(keys.KeyRing(tmp_path / "keys.json"), rates.Rates(tmp_path / "rates"), 5)
    app: Any = falcon.asgi.App(middleware=[guard])
    from serving.contract import problems

    class Answer:
        async def on_get(self, req: Any, resp: Any) -> None: ...

    problems.install(app)
    app.add_route("/v1/popular", Answer())
    async with testing.ASGIConductor(app) as client:

        async def ask(key: str) -> Any:
            return await client.simulate_get("/v1/popular", headers=given(key))

        assert [(await ask(slow)).status_code for _ in range(3)] == [200, 200, 429]
        assert (await ask(slow)).headers["retry-after"] == "1"
        assert [(await ask(other)).status_code for _ in range(6)] == [200] * 5 + [429]
        clock += 0.5
        assert [(await ask(slow)).status_code for _ in range(2)] == [200, 429]


def test_all_workers_count_together_and_a_reboot_forgets(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """R29"""
    clock = 1e6
    monkeypatch.setattr(rates.time, "monotonic", lambda: clock)
    workers = [rates.Rates(tmp_path / "rates") for _ in range(2)]
    assert [workers[n % 2].wait_s(7, 4.0) for n in range(4)] == [0.0] * 4
    assert workers[0].wait_s(7, 4.0) == pytest.approx(0.25)
    assert workers[1].wait_s(8, 4.0) == 0.0
    assert workers[1].wait_s(9, 0.1) == 0.0
    assert workers[0].wait_s(9, 0.1) == pytest.approx(10.0)
    clock = 5.0
    assert workers[0].wait_s(7, 4.0) == 0.0


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "10.1.2.3", "freshet.example"])
def test_listening_elsewhere_without_keys_is_refused(tmp_path: Path, host: str) -> None:
    """R29"""
    with pytest.raises(keys.NotProtectedError, match="freshet keys create"):
        keys.ring(Settings(host=host))
    keys.write(tmp_path / "keys.json", [])
    with pytest.raises(keys.KeyFileError, match="holds no key"):
        keys.ring(Settings(host=host, api_keys=tmp_path / "keys.json"))
    keys.write(tmp_path / "keys.json", [keys.make("one", ["read"], None)[1]])
    assert keys.ring(Settings(host=host, api_keys=tmp_path / "keys.json")) is not None


@pytest.mark.parametrize("host", ["127.0.0.1", "127.1.2.3", "::1", "localhost"])
def test_this_machine_alone_needs_none(host: str) -> None:
    """R29"""
    assert keys.ring(Settings(host=host)) is None
    assert Settings().host == "127.0.0.1"


async def test_every_answer_has_the_headers_and_pages_their_own(system: System) -> None:
    """R29"""
    for path in (LIST, "/v1/nothing", "/v1/users/u1/recommendations?limit=x", "/health/live", "/openapi.json"):
        headers = (await system.client.simulate_get(path)).headers
        assert headers["x-content-type-options"] == "nosniff"
        assert headers["content-security-policy"].startswith("default-src 'none'")
        assert headers["cache-control"] == "no-store"
    page = (await system.client.simulate_get("/")).headers
    assert (page["cache-control"], page["x-content-type-options"]) == ("no-cache", "nosniff")
    docs = await system.client.simulate_get("/docs")
    assert docs.headers["content-security-policy"] == page_policy(docs.content)
    assert re.search(r"script-src 'sha256-.{44}'", docs.headers["content-security-policy"])


async def test_only_configured_origins_may_call_from_a_browser(tmp_path: Path) -> None:
    """R29"""
    ours, other = {"origin": "https://shop.example"}, {"origin": "https://else.example"}
    wish = {"access-control-request-method": "GET", "access-control-request-headers": "authorization"}
    key, entry = keys.make("shop", ["read"], None)
    keys.write(tmp_path / "keys.json", [entry])
    async with running(tmp_path, cors_origins="https://shop.example", api_keys=tmp_path / "keys.json") as system:
        preflight = await system.client.simulate_options(LIST, headers=ours | wish)
        assert preflight.headers["access-control-allow-origin"] == "https://shop.example"
        assert "authorization" in preflight.headers["access-control-allow-headers"]
        answer = await system.client.simulate_get(LIST, headers=ours | given(key))
        assert answer.headers["access-control-allow-origin"] == "https://shop.example"
        assert "access-control-allow-origin" not in (await system.client.simulate_get(LIST, headers=other)).headers
    async with running(tmp_path) as system:
        assert "access-control-allow-origin" not in (await system.client.simulate_get(LIST, headers=ours)).headers


async def test_neither_keys_nor_people_are_in_the_log(
    tmp_path: Path, made: dict[str, str], caplog: pytest.LogCaptureFixture
) -> None:
    """R29: also where something goes wrong."""
    caplog.set_level(logging.DEBUG)
    async with running(tmp_path, api_keys=tmp_path / "keys.json") as system:
        person = "anna.smith@example.org"
        calls = [
            ("GET", f"/v1/users/{person}/recommendations", None, "read"),
            ("GET", f"/v1/users/{person}/recommendations?limit=x", None, "read"),
            ("GET", f"/v1/users/{person}", None, "read"),
            ("POST", f"/v1/users/{person}/feedback", {"item_id": "m1", "type": "hide"}, "ingest"),
            ("POST", "/v1/events", an_event(user_id=person), "ingest"),
            ("POST", "/v1/events", an_event(user_id=person, type="nothing"), "ingest"),
        ]

        async def broken(*_: Any, **__: Any) -> Any:
            raise StoreUnavailableError("Redis does not answer")

        async def damaged(*_: Any, **__: Any) -> Any:
            system.flows._entries[f"v1:user:{person}:profile"] = b"\xc1"
            return await type(system.store).user_state(system.store, *_, **__)

        for read in (None, broken, damaged):
            if read is not None:
                system.store.user_state = read  # type: ignore[method-assign]
            for method, path, body, scope in calls:
                raw = None if body is None else json.dumps(body)
                for key in (made[scope], made[scope] + "x", made["admin"]):
                    answer = await system.client.simulate_request(method, path, body=raw, headers=given(key))
                    assert answer.status_code < 500
    written = "".join(logging.Formatter().format(record) for record in caplog.records)
    assert "cannot be read" in written
    assert person not in written
    for key in made.values():
        assert key not in written
        assert key.split("_", 2)[-1] not in written


def test_the_document_tells_scopes_and_what_refuses() -> None:
    """R29"""
    for operation in openapi.OPERATIONS:
        described = openapi.document()["paths"][operation.path][operation.method]
        scope = scope_of(operation.method.upper(), operation.path)
        assert described.get("security") == (None if scope is None else [{"key": [scope]}])
        assert ({"401", "403", "429"} <= set(described["responses"])) == (scope is not None)
    assert scope_of("GET", "/v1/admin/models") == scope_of("DELETE", "/v1/users/{user_id}") == "admin"
    assert scope_of("POST", "/v1/something/new") == "ingest"


def test_the_command_makes_lists_and_revokes_keys(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """R29"""
    path = tmp_path / "keys" / "keys.json"
    monkeypatch.setenv("FRESHET_API_KEYS", str(path))

    def run(*arguments: str) -> Any:
        return CliRunner().invoke(cli.app, ["keys", *arguments])

    made = run("create", "shop", "--scope", "read", "--scope", "ingest", "--rate", "50")
    assert made.exit_code == 0, made.output
    ring = keys.KeyRing(path)
    found = ring.holder(made.stdout.strip())
    assert found is not None
    assert (found[1].scopes, found[1].rate) == (["read", "ingest"], 50)
    assert run("create", "other", "--scope", "write").exit_code == 2
    out = tmp_path / "first-key"
    assert run("create", "other", "--scope", "admin", "--unless-any", "--out", str(out)).exit_code == 0
    assert not out.exists()
    assert run("create", "other", "--scope", "admin", "--out", str(out)).exit_code == 0
    assert keys.KeyRing(path).holder(out.read_text().strip()) is not None
    assert out.stat().st_mode & 0o077 == 0
    listed = run("list").stdout
    assert "shop" in listed
    assert made.stdout.strip() not in listed
    assert run("revoke", found[1].id).exit_code == 0
    assert keys.KeyRing(path).holder(made.stdout.strip()) is None
    assert run("revoke", "nobody").exit_code != 0
    assert [*path.parent.iterdir()] == [path]
