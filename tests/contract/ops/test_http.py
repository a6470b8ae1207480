"""What talks HTTP for measuring and checking, against a small server on a real socket."""

import asyncio
import threading
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import msgspec
import pytest

from ops.bench import freshness, hides
from ops.bench.api import BenchError
from ops.bench.loadgen import Load, LoadError, generate, run
from ops.datasets import detect
from ops.http_client import Client, ConnectionFailedError
from ops.traffic.simulator import World, item_id
from ops.traffic.verify import compare, expected_counts
from ops.traffic.visits import Tally, Visitors
from state.records import Event

Respond = Callable[[str, str, bytes], tuple[int, bytes]]
"""(method, path, body) -> (status, body)."""


@asynccontextmanager
async def serve(respond: Respond) -> AsyncIterator[str]:
    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while head := (await reader.readuntil(b"\r\n\r\n")).decode():
                method, path, _ = head.split(" ", 2)
                lengths = [line for line in head.splitlines() if line.lower().startswith("content-length")]
                body = await reader.readexactly(int(lengths[0].split(":")[1])) if lengths else b""
                status, content = respond(method, path, body)
                # In two pieces, as a network may deliver it.
                writer.write(f"HTTP/1.1 {status} X\r\ncontent-length: {len(content)}\r\n\r\n".encode())
                await writer.drain()
                writer.write(content)
        except asyncio.IncompleteReadError:
            writer.close()

    server = await asyncio.start_server(answer, "127.0.0.1", 0)
    async with server:
        yield f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"


async def test_the_client_keeps_its_connection_and_tells_status_and_body() -> None:
    async with serve(lambda m, p, b: (202 if m == "POST" else 200, p.encode() + b)) as url, Client(url) as client:
        answers = [await client.get("/a"), await client.post("/b", b"{}"), await client.put("/c", b"x" * 100_000)]
    assert [(a.status, a.body[:4]) for a in answers] == [(200, b"/a"), (202, b"/b{}"), (200, b"/cxx")]
    assert len(answers[2].body) == 100_002


async def test_a_server_that_is_not_there_is_named() -> None:
    async with Client("http://127.0.0.1:1") as client:
        with pytest.raises(ConnectionFailedError, match=r"127\.0\.0\.1:1"):
            await client.get("/")


async def test_the_load_generator_counts_requests_errors_and_its_own_cpu() -> None:
    asked: list[str] = []

    def respond(method: str, path: str, body: bytes) -> tuple[int, bytes]:
        asked.append(path)
        return (500 if path == "/b" else 200), b"whole" if path == "/a" else b"half"

    async with serve(respond) as url:
        result = await run(Load(url, ["/a", "/b"], n_clients=5, seconds=0.3, warm_up_s=0.1, kinds={"whole": "whole"}))
    assert result.n_requests == len(result.latencies_s) > 20
    assert result.n_errors == pytest.approx(result.n_requests / 2, abs=5)
    assert len(result.of_kind_s["whole"]) == result.n_requests - result.n_errors
    assert result.per_second == pytest.approx(result.n_requests / 0.3, rel=0.5)
    assert set(asked) == {"/a", "/b"}
    assert result.cpu_share > 0


async def test_the_load_generator_runs_in_a_process_of_its_own() -> None:
    async with serve(lambda m, p, b: (200, b"ok")) as url:
        load = Load(url, ["/"], n_clients=2, seconds=0.2, warm_up_s=0.0)
        result = await asyncio.to_thread(generate, load)
    assert result.n_requests > 10
    assert result.n_errors == 0


def test_a_load_on_nothing_fails_with_the_reason() -> None:
    with pytest.raises(LoadError, match=r"127\.0\.0\.1:1"):
        generate(Load("http://127.0.0.1:1", ["/"], 1, 0.1, 0.0))


async def test_verify_finds_what_differs_from_the_file(tmp_path: Path) -> None:
    """R23: counts per user and item are those of the file."""
    (tmp_path / "ratings.dat").write_text("1::a/b::7::1365029107\n1::c::8::1365029108\n2::c::1::1365029109\n")
    users, items = expected_counts(detect(tmp_path))
    assert users == {"1": {"rating": 2}, "2": {"rating": 1}}
    assert items == {"a/b": {"rating": 1}, "c": {"rating": 2}}
    answers = {
        "/v1/users/1": {"counts": {"rating": 2, "click": 9}},
        "/v1/users/2": {"counts": {"rating": 1}},
        "/v1/items/a%2Fb": {"counts": {"rating": 1}},
        "/v1/items/c": {"counts": {"rating": 2}, "windows": {}},
    }

    def respond(method: str, path: str, body: bytes) -> tuple[int, bytes]:
        return (200, msgspec.json.encode(answers[path])) if path in answers else (404, b"{}")

    async with serve(respond) as url:
        assert (await compare(url, users, items)).n_different == 0
        answers["/v1/items/c"] = {"counts": {"rating": 3}}
        del answers["/v1/users/2"]
        verdict = await compare(url, users, items)
    assert verdict.n_different == 2
    assert {(d.entity, d.got["rating"] if d.got else None) for d in verdict.examples} == {
        ("/v1/users/2", None),
        ("/v1/items/c", 3),
    }


async def test_simulated_users_click_good_lists_more_and_tell_what_they_clicked() -> None:
    world = World(n_items=200, n_users=20, seed=1)
    posted: list[Event] = []
    good = True

    def respond(method: str, path: str, body: bytes) -> tuple[int, bytes]:
        if method == "POST":
            posted.extend(
                msgspec.json.decode(msgspec.json.decode(body, type=dict[str, msgspec.Raw])["events"], type=list[Event])
            )
            return 202, b'{"accepted":1,"rejected":[]}'
        user = int(path.split("/")[3].removeprefix("sim-u"))
        relevance = world.relevance(user, 0)
        best = sorted(range(200), key=lambda n: -relevance[n] if good else relevance[n])
        items = [{"item_id": item_id(n), "score": 1.0} for n in best[:20]]
        return 200, msgspec.json.encode({"request_id": "r1", "items": items, "degraded": None})

    tallies = []
    async with serve(respond) as url:
        for good in (True, False):  # noqa: B007 - read by the server
            visitors = Visitors(world, url, Tally(), seed=1, think_s=0.0)
            tallies.append(visitors.tally)
            async with Client(url) as client:
                for user in range(20):
                    await visitors.visit(client, user)
    assert tallies[0].click_rate > 3 * tallies[1].click_rate
    assert tallies[0].shown == 20 * tallies[0].lists
    assert {event.request_id for event in posted} == {"r1"}
    assert all(event.position is not None and event.session_id for event in posted)
    assert len({event.event_id for event in posted}) == len(posted)


async def test_visits_go_on_when_the_api_is_away_and_stop_when_asked() -> None:
    tally = Tally()
    visitors = Visitors(World(10, 10), "http://127.0.0.1:1", tally)
    stop = threading.Event()
    playing = asyncio.create_task(visitors.play(50.0, stop))
    while tally.failures < 3:
        await asyncio.sleep(0.01)
    stop.set()
    await asyncio.wait_for(playing, 60)
    assert tally.lists == 0


def answering(lists: Callable[[str], list[str]], seen: Callable[[bytes], None] = lambda body: None) -> Respond:
    """Respond as the API does; clicks and hides go to `seen`."""

    def respond(method: str, path: str, body: bytes) -> tuple[int, bytes]:
        if method == "POST":
            seen(body)
            return 202, b'{"accepted":1}'
        if path.endswith("limit=20") or path.startswith("/v1/popular"):
            return 200, msgspec.json.encode({"items": [{"item_id": item} for item in lists(path)]})
        return 200, b'{"counts":{"click":1}}'

    return respond


async def test_a_stale_list_after_a_hide_is_found() -> None:
    """R5."""
    async with serve(answering(lambda path: ["a", "b"])) as url:
        figures = await hides.measure(url, 4, "x", "with flows")
    assert figures[0].value == 4
    assert not hides.report(figures, []).met


async def test_hides_that_work_are_not_stale() -> None:
    """R5."""
    hidden: set[str] = set()
    respond = answering(
        lambda path: [item for item in "abcdefgh" if item not in hidden],
        lambda body: hidden.add(msgspec.json.decode(body)["item_id"]),
    )
    async with serve(respond) as url:
        figures = await hides.measure(url, 4, "x", "with flows")
    assert hides.report(figures, figures).met


async def test_freshness_is_the_time_until_the_list_is_another() -> None:
    """R12."""
    clicked: set[str] = set()
    respond = answering(
        lambda path: [*"uvwxyz"] if path.split("/")[3:4] and path.split("/")[3] in clicked else [*"abcdef"],
        lambda body: clicked.add(msgspec.json.decode(body)["user_id"]),
    )
    async with serve(respond) as url:
        samples = await freshness.measure(url, 5, load_per_s=50)
    assert (len(samples.features), len(samples.lists), samples.lost) == (5, 5, 0)
    assert all(0 < seconds < 1 for seconds in samples.lists)


async def test_an_empty_system_is_a_clear_failure_of_a_benchmark() -> None:
    async with serve(answering(lambda path: [])) as url:
        with pytest.raises(BenchError, match="play traffic into the system first"):
            await freshness.measure(url, 1, 0)
