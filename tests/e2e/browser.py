"""A browser and a `freshet play` to look at, for the tests of the page and for its pictures."""

import shutil
import sys
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path

from playwright.sync_api import Browser, sync_playwright

from ops.stack.children import Child, environment, free_ports
from state.settings import Settings

_NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
_START = timedelta(seconds=180)
"""A machine that runs everything else beside it."""


class NoBrowserError(Exception):
    """Chromium is not installed."""

    def __init__(self) -> None:
        super().__init__(
            "The tests of the page need Chromium: apt-get install -y chromium (Debian, Ubuntu), dnf install chromium "
            "(Fedora), or any Chrome on the PATH. Without it: make test ARGS=\"-m 'not browser'\""
        )


@contextmanager
def chromium() -> Iterator[Browser]:
    """Start the machine's own Chromium, without a window; Playwright's is not downloaded. Raise `NoBrowserError`."""
    found = next((path for name in _NAMES if (path := shutil.which(name))), None)
    if found is None:
        raise NoBrowserError
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=found, args=["--disable-dev-shm-usage"])
        yield browser
        browser.close()


@contextmanager
def playing(folder: Path, *arguments: str) -> Iterator[tuple[Child, str]]:
    """Run `freshet play` on a free port; yield the process and its address once it is ready."""
    (port,) = free_ports(1)
    address = f"http://127.0.0.1:{port}"
    settings = Settings(home=folder / "home", request_budget_ms=60_000)  # a busy machine is not to show as degraded
    argv = [sys.executable, "-m", "ops", "play", "--port", str(port), *arguments]
    with Child("play", argv, folder / "play.log", environment(settings)) as process:
        process.wait_until(lambda: _answers(address), _START)
        yield process, address


def _answers(address: str) -> bool:
    try:
        with urllib.request.urlopen(f"{address}/health/ready", timeout=5) as answer:
            return bool(answer.status == 200)
    except OSError:
        return False
