"""The page at `/dashboard`, in a real Chromium, over a server with two hours of made-up traffic."""

import json
import re
import time
import urllib.request
from collections.abc import Iterator
from typing import Any

import pytest
from playwright.sync_api import Browser, Page, expect

from tests.e2e.browser import chromium
from tests.e2e.dashboard_data import MINUTE, Traffic, serving

pytestmark = pytest.mark.browser

_PATIENCE_MS = 90_000
SIZES = ((1280, 900), (390, 844))


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Traffic, str]]:
    with serving(tmp_path_factory.mktemp("home")) as running:
        yield running


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    expect.set_options(timeout=_PATIENCE_MS)
    with chromium() as started:
        yield started


@pytest.fixture
def page(browser: Browser, served: tuple[Traffic, str]) -> Iterator[Page]:
    errors: list[str] = []
    context = browser.new_context(viewport={"width": 1280, "height": 900})
    page = context.new_page()
    page.set_default_timeout(_PATIENCE_MS)
    page.on(
        "console",
        lambda m: errors.append(m.text) if m.type in ("error", "warning") and "Failed to load" not in m.text else None,
    )
    page.on("pageerror", lambda error: errors.append(str(error)))
    page.goto(f"{served[1]}/dashboard")
    expect(page.locator("#chart-ctr canvas")).to_be_visible()
    yield page
    context.close()
    assert errors == []


def asked(address: str, query: str = "") -> Any:
    with urllib.request.urlopen(f"{address}/v1/metrics{query}", timeout=30) as answer:
        return json.load(answer)


def test_the_page_shows_what_the_api_says(page: Page, served: tuple[Traffic, str]) -> None:
    """R28"""
    answer = asked(served[1])
    names = {part["name"] for part in answer["parts"]}
    assert names == {"home", "similar", "popular"}
    expect(page.locator("#chart-ctr .key li")).to_have_count(3)
    assert {text.split()[0] for text in page.locator("#chart-ctr .key li").all_inner_texts()} == names
    page.locator("#chart-ctr summary").click()
    rows = page.locator("#chart-ctr tbody tr")
    expect(rows).to_have_count(12)
    shown = re.findall(r"([\d.]+) %", rows.nth(8).inner_text())
    at = len(answer["starts"]) - 10  # the newest has no row yet
    values = {part["name"]: part["values"]["ctr"] for part in answer["parts"]}
    expected = [values[name] for name in page.locator("#chart-ctr th.n").all_inner_texts()]
    assert [float(one) for one in shown] in (
        [pytest.approx(100 * series[at + moved], rel=0.01) for series in expected] for moved in (0, 1)
    )


def test_more_traffic_shows_without_a_reload(page: Page, served: tuple[Traffic, str]) -> None:
    """R12, R28: within two polls."""
    tile = page.locator("#tiles .tile", has_text="Lists shown").locator("strong")
    before = tile.inner_text()
    now = int(time.time() * 1000)
    newest = now - now % MINUTE
    served[0].play(newest - MINUTE, newest, lists_a_minute=3000)
    expect(tile).not_to_have_text(before)


def test_range_surface_and_comparison_are_chosen_and_kept_in_the_address(page: Page) -> None:
    page.locator("#by").select_option("arm")
    expect(page.locator("#chart-ctr .key")).to_contain_text("ranker:b")
    page.locator("#surface").select_option("home")
    expect(page.locator("#by option[value=device]")).to_be_disabled()
    page.get_by_label("6 h").check()
    expect(page.locator("#status")).to_contain_text("five minutes")
    assert "range=6h" in page.url
    assert "surface=home" in page.url
    page.reload()
    expect(page.locator("#chart-ctr .key")).to_contain_text("ranker:a")
    assert page.locator("#surface").input_value() == "home"


def test_it_is_used_by_keyboard_and_read_aloud(page: Page) -> None:
    page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.className") == "skip"
    page.locator("input[name=range][value='1h']").focus()
    page.keyboard.press("ArrowRight")
    expect(page.locator("#status")).to_contain_text("five minutes")
    expect(page.locator("#chart-ctr [role=img]")).to_have_attribute(
        "aria-label", re.compile(r"^Click-through rate, [^:]+:\d\d: .*home [\d.]+ %")
    )
    page.locator("#pause").focus()
    page.keyboard.press("Enter")
    expect(page.locator("#pause")).to_have_attribute("aria-pressed", "true")


def test_a_server_that_is_away_is_told_and_found_again(page: Page) -> None:
    """R31"""
    page.route("**/v1/metrics*", lambda route: route.abort())
    expect(page.locator("#lost")).to_contain_text("Trying again")
    page.unroute("**/v1/metrics*")
    expect(page.locator("#lost")).to_be_hidden()


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("size", SIZES)
def test_nothing_is_wider_than_the_window(
    browser: Browser, served: tuple[Traffic, str], scheme: Any, size: tuple[int, int]
) -> None:
    context = browser.new_context(viewport={"width": size[0], "height": size[1]}, color_scheme=scheme)
    page = context.new_page()
    page.goto(f"{served[1]}/dashboard")
    expect(page.locator("#chart-degraded canvas")).to_be_attached()
    assert page.evaluate("document.documentElement.scrollWidth <= document.documentElement.clientWidth")
    context.close()
