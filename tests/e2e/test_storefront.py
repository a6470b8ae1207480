"""The page at `/`, in a real Chromium, over `freshet play`."""

import json
import urllib.request
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Browser, Locator, Page, Route, expect

from tests.e2e.browser import chromium, playing
from tests.e2e.screenshots import SCHEMES, SIZES

pytestmark = pytest.mark.browser

_PATIENCE_MS = 90_000
"""The machine may be busy with everything else."""


@pytest.fixture(scope="module")
def address(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    with playing(tmp_path_factory.mktemp("play"), "--events", "5000") as (_, address):
        yield address


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    expect.set_options(timeout=_PATIENCE_MS)
    with chromium() as started:
        yield started


class Visit:
    """One visitor with a window of their own. Errors in its console are collected."""

    def __init__(self, browser: Browser, address: str, **chosen: Any) -> None:
        self.user = f"visitor-{uuid.uuid4().hex[:8]}"
        self.address = address
        self.errors: list[str] = []
        self.context = browser.new_context(**{"viewport": {"width": 1280, "height": 900}} | chosen)
        self.page: Page = self.context.new_page()
        self.page.set_default_timeout(_PATIENCE_MS)
        self.page.on("console", lambda m: self.errors.append(m.text) if m.type in ("error", "warning") else None)
        self.page.on("pageerror", lambda error: self.errors.append(str(error)))

    def open(self, path: str = "") -> None:
        self.page.goto(f"{self.address}/{path or f'?user={self.user}'}")
        self.idle()

    def idle(self) -> None:
        """Wait until nothing is under way."""
        expect(self.page.locator("#popular .card").first).to_be_visible()
        expect(self.page.locator("body:not(.busy)")).to_be_attached()

    def cards(self, row: str) -> Locator:
        return self.page.locator(f"#{row} .card")

    def ids(self, row: str) -> list[str]:
        found: list[str] = self.page.eval_on_selector_all(f"#{row} .card", "cards => cards.map(c => c.dataset.id)")
        return found

    def use(self, card: Locator, control: str, said: str) -> None:
        """Use a card's button and wait until the page says so and shows what follows."""
        title = card.locator("h3").inner_text()
        card.locator(f"[data-control={control}]").click()
        expect(self.page.locator("#said")).to_contain_text(f"{said} {title}.")
        self.idle()

    def known(self) -> Any:
        with urllib.request.urlopen(f"{self.address}/v1/users/{self.user}", timeout=30) as answer:
            return json.load(answer)


@pytest.fixture
def visit(browser: Browser, address: str) -> Iterator[Visit]:
    visiting = Visit(browser, address)
    yield visiting
    visiting.context.close()
    assert visiting.errors == []


def test_a_visitor_sees_every_list_with_its_reasons(visit: Visit) -> None:
    """R29"""
    visit.open()
    for row, n_cards in (("home", 10), ("trending", 12), ("popular", 12)):
        expect(visit.cards(row)).to_have_count(n_cards)
    first = visit.cards("home").first
    assert first.locator(".because").inner_text()
    assert first.locator(".sources span").count() > 0
    assert first.locator(".facts").inner_text()[:4].isdigit()
    assert first.locator("svg .initials").text_content()
    expect(visit.page.locator("#genres button")).not_to_have_count(0)
    expect(visit.page.locator("#profile")).to_contain_text("Nothing yet")
    assert visit.page.locator("a[href='/docs']").count() > 0


def test_a_click_changes_the_list_and_is_attributed(visit: Visit) -> None:
    """R5, R29: the event names the list and the place that it was shown at."""
    visit.open()
    before, clicked = visit.ids("home"), visit.cards("home").nth(2)
    title = clicked.locator("h3").inner_text()
    with visit.page.expect_request("**/v1/events") as sent:
        clicked.locator(".open").click()
    (event,) = json.loads(sent.value.post_data or "")["events"]
    assert (event["type"], event["item_id"], event["position"]) == ("click", before[2], 2)
    assert len(event["request_id"]) == 32
    expect(visit.page.locator("#said")).to_contain_text(f"You clicked {title}. For you:")
    visit.idle()
    after = visit.ids("home")
    assert before[2] not in after
    assert len(after) == 10
    assert int(visit.page.locator("#took-ms").inner_text()) > 0
    expect(visit.page.locator("#profile")).to_contain_text(title)
    expect(visit.page.locator("#profile .taste li")).not_to_have_count(0)
    expect(visit.page.locator("#because")).to_contain_text(f"Because you chose {title}")
    expect(visit.page.locator("#similar")).to_contain_text(f"Like {title}")
    assert visit.cards("home").locator(".mark.new").count() > 0
    (step,) = visit.known()["recent"]
    assert (step["item_id"], step["type"]) == (before[2], "click")


def test_what_is_hidden_never_comes_back(visit: Visit) -> None:
    """R5, R29"""
    visit.open()
    hidden = [visit.ids("home")[0], visit.ids("popular")[0]]
    visit.use(visit.cards("home").first, "hide", "You hid")
    if hidden[1] != hidden[0]:
        visit.use(visit.cards("popular").first, "hide", "You hid")
    for n in range(3):
        visit.use(visit.cards("home").nth(n), "click", "You clicked")
        for row in ("home", "because", "similar", "trending", "popular"):
            assert not set(hidden) & set(visit.ids(row))
    visit.open()
    visit.page.get_by_label("Keep what I have seen").check()
    expect(visit.page.locator("#said")).to_contain_text("stay in the lists")
    visit.idle()
    assert not set(hidden) & set(visit.ids("home") + visit.ids("popular"))


def test_everything_said_can_be_taken_back(visit: Visit) -> None:
    """R5, R29"""
    visit.open()
    first = visit.ids("popular")[0]
    visit.use(visit.cards("popular").first, "hide", "You hid")
    assert visit.known()["hidden"] == [first]
    visit.page.locator("#undo").click()
    expect(visit.page.locator("#said")).to_contain_text("You took back the hiding")
    visit.idle()
    assert visit.known()["hidden"] == []
    assert visit.ids("popular")[0] == first
    for control, said, field in (("like", "You like", "liked"), ("save", "You saved", "saved")):
        visit.use(visit.cards("home").first, control, said)
        assert len(visit.known()[field]) == 1
        visit.page.locator(f"#profile [data-undo^='{control} ']").click()
        expect(visit.page.locator("#said")).to_contain_text("You took back")
        visit.idle()
        assert visit.known()[field] == []


def test_the_keyboard_alone_is_enough(visit: Visit) -> None:
    """R29: the focus stays where the work is, also when cards move."""
    visit.open()
    visit.page.locator("#new-visitor").focus()
    for _ in range(60):
        visit.page.keyboard.press("Tab")
        if visit.page.evaluate("document.activeElement.dataset.control") == "like":
            break
    title = visit.page.evaluate("document.activeElement.closest('.card').querySelector('h3').textContent")
    visit.page.keyboard.press("Enter")
    expect(visit.page.locator("#said")).to_contain_text(f"You like {title}.")
    visit.idle()
    # The liked card has left the list: the one in its place has the focus, on the same button.
    assert visit.page.evaluate("document.activeElement.dataset.control") == "like"
    assert visit.page.evaluate("document.activeElement.closest('.card').dataset.id") == visit.ids("home")[0]
    visit.page.get_by_label("Keep what I have seen").check()
    visit.idle()
    card = visit.cards("home").nth(3)
    item_id = card.get_attribute("data-id")
    card.locator("[data-control=save]").focus()
    visit.page.keyboard.press("Space")
    expect(visit.page.locator(f"#home .card[data-id='{item_id}'] [data-control=save]")).to_have_attribute(
        "aria-pressed", "true"
    )
    visit.idle()
    assert visit.page.evaluate("document.activeElement.closest('.card').dataset.id") == item_id
    unnamed = "nodes => nodes.filter(n => !(n.getAttribute('aria-label') || n.textContent.trim())).length"
    assert visit.page.eval_on_selector_all("button", unnamed) == 0


def test_genres_and_visitors_are_in_the_address(visit: Visit) -> None:
    """R8, R29"""
    visit.open()
    visit.page.get_by_role("button", name="Horror", exact=True).click()
    expect(visit.page.locator("#said")).to_contain_text("Only Horror.")
    visit.idle()
    for row in ("home", "trending", "popular"):
        assert all("Horror" in facts for facts in visit.cards(row).locator(".facts").all_inner_texts())
    assert "genre=Horror" in visit.page.url
    visit.page.reload()
    visit.idle()
    assert all("Horror" in facts for facts in visit.cards("home").locator(".facts").all_inner_texts())
    visit.page.locator("#new-visitor").click()
    expect(visit.page.locator("#user")).not_to_have_value(visit.user)
    visit.idle()
    assert visit.user not in visit.page.url
    visit.page.go_back()
    expect(visit.page.locator("#user")).to_have_value(visit.user)
    visit.idle()


def test_search_finds_what_is_misspelt(visit: Visit) -> None:
    """R2, R29"""
    visit.open()
    title = visit.cards("popular").first.locator("h3").inner_text()
    first = title.split()[1]
    visit.page.get_by_label("Search").fill(first[:2] + first[3:] if len(first) > 4 else first)
    visit.page.keyboard.press("Enter")
    expect(visit.cards("found").first).to_be_visible()
    visit.idle()
    assert any(first in found for found in visit.cards("found").locator("h3").all_inner_texts())


def test_filters_hold_in_every_row_and_say_what_they_do_not_understand(visit: Visit) -> None:
    """R3, R29"""
    visit.open()
    visit.page.locator("#narrow summary").click()
    visit.page.get_by_label("Since").fill("2005")
    visit.page.get_by_label("Expression").fill("genre:any(Drama,War)")
    visit.page.get_by_role("button", name="Apply").click()
    expect(visit.page.locator("#said")).to_contain_text("Only what passes these filters.")
    visit.idle()
    for row in ("home", "trending", "popular"):
        for facts in visit.cards(row).locator(".facts").all_inner_texts():
            assert int(facts[:4]) >= 2005
            assert "Drama" in facts or "War" in facts
    visit.page.get_by_label("Expression").fill("genre===")
    visit.page.get_by_role("button", name="Apply").click()
    expect(visit.page.locator("#said")).to_contain_text("Refused: filter: not understood at position 6")
    visit.page.get_by_role("button", name="Clear").click()
    expect(visit.page.locator("#said")).to_contain_text("All items.")
    visit.idle()
    assert all("400 (Bad Request)" in error for error in visit.errors)  # the browser's own words about the refusal
    visit.errors.clear()


def test_what_is_done_elsewhere_comes_by_itself(visit: Visit) -> None:
    """R6, R29: without a click, a reload or a timer."""
    visit.open()
    hidden = visit.ids("home")[0]
    body = {"item_id": hidden, "type": "hide"}
    posted = visit.context.request.post(f"{visit.address}/v1/users/{visit.user}/feedback", data=body)
    assert posted.status == 202
    expect(visit.page.locator(f"#home .card[data-id='{hidden}']")).to_have_count(0)
    expect(visit.page.locator("#said")).to_contain_text("changed by itself")


@pytest.mark.parametrize("scheme", SCHEMES)
@pytest.mark.parametrize(("width", "height"), SIZES)
def test_nothing_is_wider_than_the_window(
    browser: Browser, address: str, tmp_path: Path, scheme: Any, width: int, height: int
) -> None:
    """R29: at phone width and on a desk, light and dark, with motion reduced."""
    visit = Visit(
        browser, address, viewport={"width": width, "height": height}, color_scheme=scheme, reduced_motion="reduce"
    )
    visit.open()
    overflow = "document.documentElement.scrollWidth - document.documentElement.clientWidth"
    assert visit.page.evaluate(overflow) == 0
    visit.use(visit.cards("home").nth(1), "click", "You clicked")
    visit.use(visit.cards("home").nth(1), "save", "You saved")
    assert visit.page.evaluate(overflow) == 0
    assert visit.page.evaluate("document.getAnimations().length") == 0
    picture = tmp_path / "page.png"
    visit.page.screenshot(path=picture)
    assert picture.stat().st_size > 20_000
    visit.context.close()
    assert visit.errors == []


def test_texts_of_the_catalogue_are_texts(visit: Visit) -> None:
    """R16: nothing that an item says becomes markup."""
    title = "<img src=x onerror=\"document.title='taken'\"><script>document.title='taken'</script>"
    item = {"item_id": f"evil-{visit.user}", "title": title, "genres": ["<b>bold</b>"], "release_date": "1999"}
    api = visit.context.request
    assert api.put(f"{visit.address}/v1/items", data={"items": [item]}).status == 202
    saved = {"item_id": item["item_id"], "type": "save"}
    assert api.post(f"{visit.address}/v1/users/{visit.user}/feedback", data=saved).status == 202
    visit.open()
    expect(visit.page.locator("#profile")).to_contain_text(title)
    assert visit.page.locator("#profile img").count() == 0
    assert visit.page.title() == "Freshet"


def test_degraded_answers_are_shown(visit: Visit) -> None:
    """R10, R29"""

    def degrade(route: Route) -> None:
        answer = route.fetch()
        route.fulfill(response=answer, json=answer.json() | {"degraded": {"user": "Redis does not answer"}})

    visit.page.route("**/recommendations?*", degrade)
    visit.open()
    expect(visit.page.locator("#degraded")).to_contain_text("user: Redis does not answer")
    visit.page.unroute("**/recommendations?*")
    visit.use(visit.cards("home").first, "click", "You clicked")
    expect(visit.page.locator("#degraded")).to_be_hidden()


def test_a_lost_server_is_shown_until_it_is_back(browser: Browser, address: str) -> None:
    """R29"""
    visit = Visit(browser, address)
    visit.open()
    visit.page.route("**/v1/**", lambda route: route.abort())
    visit.page.route("**/health/**", lambda route: route.abort())
    visit.cards("home").first.locator(".open").click()
    expect(visit.page.locator("#lost")).to_contain_text("The server is lost")
    visit.page.unroute_all()
    expect(visit.page.locator("#lost")).to_be_hidden()
    expect(visit.page.locator("#said")).to_contain_text("The server is back")
    visit.use(visit.cards("home").first, "click", "You clicked")
    visit.context.close()
