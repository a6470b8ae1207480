"""`freshet erase` with the API and without it, over a real Kafka and a real Redis."""

import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from http.server import BaseHTTPRequestHandler, HTTPServer

from typer.testing import CliRunner

from flows.common.kafka_log import KafkaLog
from ops.cli import app
from ops.stack.children import environment, wait_until
from state.entries import USER_PROFILE
from state.records import UserProfile
from state.redis_store import RedisStore
from state.settings import Settings
from state.store import Changes
from state.topics import EVENTS


def erase(settings: Settings, user: str) -> tuple[int, str]:
    result = CliRunner().invoke(app, ["erase", user, "--wait", "0"], env=environment(settings) | {"COLUMNS": "200"})
    return result.exit_code, result.output


@contextmanager
def api(settings: Settings, status: int, answer: object) -> Iterator[list[str]]:
    """Serve one answer to everything; yield the paths that were asked to be deleted."""
    asked: list[str] = []

    class Handler(BaseHTTPRequestHandler):
        def do_DELETE(self) -> None:
            asked.append(self.path)
            body = json.dumps(answer).encode()
            self.send_response(status)
            self.send_header("content-length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *args: object) -> None:
            """Say nothing."""

    with HTTPServer((settings.host, settings.port), Handler) as server:
        serving = threading.Thread(target=server.serve_forever)
        serving.start()
        try:
            yield asked
        finally:
            server.shutdown()
            serving.join()


def erased(settings: Settings) -> list[str]:
    with KafkaLog(settings, "test") as log:
        messages = [
            json.loads(message.value or b"{}")
            for partition in range(settings.partitions)
            for message in log.read(EVENTS, partition, *log.bounds(EVENTS, partition))
        ]
    return [message["user_id"] for message in messages if message["type"] == "erase"]


def test_without_the_api_the_log_is_told_and_what_is_left_is_said(settings: Settings) -> None:
    """R27"""
    code, output = erase(settings, "anna")
    assert code == 1
    assert "erase again when the API answers" in output
    assert wait_until(lambda: erased(settings) == ["anna"], timedelta(seconds=60))


def test_the_api_erases_and_places_are_looked_at(settings: Settings) -> None:
    """R27: exit code 1 as long as a place knows the user."""
    store = RedisStore(settings)
    changes = Changes()
    changes.put(USER_PROFILE, "anna/b", UserProfile())
    store.commit(changes)
    with api(settings, 202, {"degraded": None}) as asked:
        code, output = erase(settings, "anna/b")
        assert (code, asked) == (1, ["/v1/users/anna%2Fb"])
        assert "still knows the user" in output
        changes = Changes()
        changes.delete(USER_PROFILE, "anna/b")
        store.commit(changes)
        assert erase(settings, "anna/b")[0] == 0
    with api(settings, 403, {"detail": "this key may not"}):
        code, output = erase(settings, "anna/b")
    assert code == 1
    assert "this key may not" in output
