"""Pictures of the page: `.venv/bin/python -m tests.e2e.screenshots [FOLDER]`; the README shows one of them."""

import argparse
import sys
import tempfile
from pathlib import Path

from PIL import Image
from playwright.sync_api import Browser, Page

from tests.e2e.browser import chromium, playing

SIZES = ((1280, 900), (390, 844))
SCHEMES = ("light", "dark")
_SETTLED_MS = 1200
_N_COLOURS = 256


def take(browser: Browser, address: str, folder: Path) -> list[Path]:
    """Visit the page as new visitors who click, like and hide; return one picture per size and scheme."""
    folder.mkdir(parents=True, exist_ok=True)
    pictures = []
    visitors = iter(("anna", "ben", "cleo", "dana"))
    for scheme in SCHEMES:
        for width, height in SIZES:
            context = browser.new_context(viewport={"width": width, "height": height}, color_scheme=scheme)
            page = context.new_page()
            page.set_default_timeout(60_000)
            _visit(page, f"{address}/?user={next(visitors)}")
            picture = folder / f"storefront-{scheme}-{width}.png"
            page.screenshot(path=picture)
            with Image.open(picture) as full:
                colours = full.convert("RGB")
                palette = colours.quantize(_N_COLOURS)
                colours.quantize(palette=palette, dither=Image.Dither.FLOYDSTEINBERG).save(picture, optimize=True)
            pictures.append(picture)
            context.close()
    return pictures


def _visit(page: Page, address: str) -> None:
    page.goto(address)
    page.locator("#popular .card").first.wait_for()
    for control, place in (("click", 1), ("like", 2), ("hide", 4), ("click", 3)):
        with page.expect_response("**/v1/popular?*"):
            page.locator(f"#home .card [data-control={control}]").nth(place).click()
        page.wait_for_timeout(_SETTLED_MS)
    page.mouse.move(0, 0)
    page.evaluate("document.activeElement.blur()")
    page.wait_for_timeout(_SETTLED_MS)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path, nargs="?", default=Path("docs/images"))
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch, playing(Path(scratch)) as (_, address), chromium() as browser:
        for picture in take(browser, address, arguments.folder):
            sys.stdout.write(f"{picture}: {picture.stat().st_size // 1024} KB\n")


if __name__ == "__main__":
    main()
