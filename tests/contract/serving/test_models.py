"""Promotion in all workers while requests flow, and across a kill: with a real Kafka and a real Redis."""

import threading
from collections.abc import Callable
from contextlib import AbstractContextManager, ExitStack
from datetime import timedelta
from typing import Any

import httpx
import psutil

from ops.stack.children import Child, wait_until
from state.control import MODELS
from state.entries import CATALOGUE, CONTROL
from state.records import Item
from state.redis_store import RedisStore
from state.registry import Registry
from state.settings import Settings
from state.store import Changes
from tests.unit.online_models.artifacts import an_artifact

RunProcess = Callable[..., AbstractContextManager[Child]]
MakeSettings = Callable[..., Settings]

N_CONNECTIONS = 16
"""Each is some worker's."""
URL = "/v1/admin/models"
_START = timedelta(seconds=60)
_SOON = timedelta(seconds=60)


def client_of(settings: Settings) -> httpx.Client:
    return httpx.Client(base_url=f"http://{settings.host}:{settings.port}", timeout=60)


def is_ready(settings: Settings) -> bool:
    try:
        return httpx.get(f"http://{settings.host}:{settings.port}/health/ready").status_code == 200
    except httpx.TransportError:
        return False


def version(client: httpx.Client) -> str:
    answer = client.get("/v1/users/u1/recommendations", params={"limit": 5})
    assert answer.status_code == 200, answer.text
    return str(answer.json()["model"]["version"])


class Asking:
    """Asks for lists all the time, and keeps what ranked them and what failed."""

    def __init__(self, settings: Settings) -> None:
        self.versions: set[str] = set()
        self.failed: list[str] = []
        self.n_answers = 0
        self._settings = settings
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._ask)

    def _ask(self) -> None:
        with client_of(self._settings) as client:
            while not self._stopping.is_set():
                answer = client.get("/v1/users/u2/recommendations", params={"limit": 5})
                if answer.status_code == 200:
                    self.versions.add(answer.json()["model"]["version"])
                else:
                    self.failed.append(answer.text)
                self.n_answers += 1

    def __enter__(self) -> "Asking":
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stopping.set()
        self._thread.join()


def test_promotion_under_requests_and_across_a_kill(make_settings: MakeSettings, run_process: RunProcess) -> None:
    """R18: no request fails, all workers follow; killed in the middle of one, a whole version is live."""
    settings = make_settings(workers=2)
    changes = Changes()
    for n in range(120):
        changes.upsert(CATALOGUE, f"m{n}", Item(item_id=f"m{n}", genres=[f"G{n % 8}"]))
    RedisStore(settings).commit(changes)
    registry = Registry(settings.models_root)
    artifacts = [an_artifact(seed) for seed in (1, 2)]
    for artifact in artifacts:
        registry.put(artifact)
    one, two = (artifact.manifest.name for artifact in artifacts)

    with run_process("serving", settings) as process, ExitStack() as stack:
        process.wait_until(lambda: is_ready(settings), _START)
        clients = [stack.enter_context(client_of(settings)) for _ in range(N_CONNECTIONS)]
        online = version(clients[0])
        with Asking(settings) as asking:
            for step, body, expected in (
                (f"/{one}/promote", {}, one),
                (f"/{two}/promote", {}, two),
                ("/rollback", {}, one),
                ("/rollback", {"to": 0}, online),
                (f"/{one}/promote", {}, one),
            ):
                assert clients[0].post(URL + step, json=body).status_code == 200
                assert wait_until(lambda wanted={expected}: {version(client) for client in clients} == wanted, _SOON)
        assert (asking.failed, asking.versions) == ([], {online, one, two})

        promoting = threading.Thread(target=_promote, args=(settings, two))
        promoting.start()
        workers = psutil.Process(process.pid).children()
        process.kill()
        for worker in workers:
            worker.kill()
        promoting.join()

    with run_process("serving", settings) as process, client_of(settings) as client:
        process.wait_until(lambda: is_ready(settings), _START)
        assert version(client) in (one, two)
        document = RedisStore(settings).get_rows(CONTROL, ["models"])["models"]
        assert wait_until(lambda: version(client) == MODELS.parse(document.body).ranker, _SOON)


def _promote(settings: Settings, name: str) -> Any:
    try:
        with client_of(settings) as client:
            return client.post(f"{URL}/{name}/promote", json={})
    except httpx.TransportError:
        return None  # killed in the middle of it
