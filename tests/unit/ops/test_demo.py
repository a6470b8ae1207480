"""What the demonstration shows of a small API that answers over real HTTP."""

import io
import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest
from rich.console import Console

from ops import demo
from state.settings import Settings


class SmallApi(BaseHTTPRequestHandler):
    """Ranks 20 items, those that were clicked last."""

    clicked: set[str]
    n_items: int
    n_unknown: int = 3
    """How often the catalogue is asked for item i0 before it has it."""
    n_empty: int = 0
    """Lists after a click that have nothing, as on a machine that is too busy."""

    def do_GET(self) -> None:
        if self.path.startswith("/v1/items/"):
            item_id = self.path.rsplit("/", 1)[1]
            if type(self).n_unknown and item_id == "i0":
                type(self).n_unknown -= 1
                self._answer(404, {})
            else:
                self._answer(200, {"item_id": item_id, "title": f"Title of {item_id}"})
            return
        ranked = sorted((f"i{n}" for n in range(self.n_items)), key=lambda item: item in self.clicked)
        if self.clicked and self.n_empty:
            type(self).n_empty -= 1
            ranked = []
        self._answer(200, {"items": [{"item_id": item} for item in ranked[:8]]})

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["content-length"])))
        self.clicked.update(event["item_id"] for event in body["events"])
        self._answer(202, {"accepted": len(body["events"]), "rejected": []})

    def _answer(self, status: int, body: object) -> None:
        self.send_response(status)
        self.end_headers()
        self.wfile.write(json.dumps(body).encode())

    def log_message(self, *arguments: object) -> None: ...


@pytest.fixture
def api() -> Iterator[type[SmallApi]]:
    class Handler(SmallApi):
        clicked = set()
        n_items = 20

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    Handler.port = server.server_address[1]  # type: ignore[attr-defined]
    yield Handler
    server.shutdown()
    server.server_close()


def shown(api: type[SmallApi]) -> str:
    console = Console(record=True, width=120, file=io.StringIO())
    demo.show(Settings(port=api.port), console)  # type: ignore[attr-defined]
    return console.export_text()


def test_a_click_is_shown_with_the_lists_before_and_after(api: type[SmallApi]) -> None:
    """R7: one click, another list."""
    text = shown(api)
    assert "after a click on Title of i2" in text
    assert "Title of i8" in text, "what came in"
    assert "Title of i0" in text, "which the catalogue gets late"
    assert "ms later" in text
    assert api.clicked == {"i2"}


def test_an_empty_list_is_not_taken_for_a_change(api: type[SmallApi]) -> None:
    """R32: a degraded answer has not what was clicked either."""
    api.n_empty = 3
    assert "Title of i8" in shown(api)
    assert api.n_empty == 0


def test_without_a_catalogue_the_reason_is_said(api: type[SmallApi], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(demo, "_CATALOGUE_S", 0.1)
    api.n_items = 0
    assert "the catalogue is empty" in shown(api)
