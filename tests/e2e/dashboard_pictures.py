"""Pictures of the dashboard: `.venv/bin/python -m tests.e2e.dashboard_pictures [FOLDER]`; the docs show one of them."""

import argparse
import sys
import tempfile
from pathlib import Path

from PIL import Image
from playwright.sync_api import expect

from tests.e2e.browser import chromium
from tests.e2e.dashboard_data import serving

SIZES = ((1360, 1000), (390, 844))
_N_COLOURS = 128


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path, nargs="?", default=Path("docs/images"))
    parser.add_argument("--whole", action="store_true", help="the whole page, not only a window of it")
    arguments = parser.parse_args()
    arguments.folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as scratch, serving(Path(scratch)) as (_, address), chromium() as browser:
        for scheme in ("light", "dark"):
            for width, height in SIZES:
                context = browser.new_context(viewport={"width": width, "height": height}, color_scheme=scheme)  # type: ignore[arg-type]
                page = context.new_page()
                page.set_default_timeout(60_000)
                for user in ("anna", "ben", "cleo"):
                    for surface in (f"users/{user}/recommendations", "popular"):
                        page.request.get(f"{address}/v1/{surface}")
                page.goto(f"{address}/dashboard")
                expect(page.locator("#chart-degraded canvas")).to_be_attached(timeout=60_000)
                expect(page.locator("#timings tbody tr").first).to_be_attached(timeout=60_000)
                picture = arguments.folder / f"dashboard-{scheme}-{width}.png"
                page.screenshot(path=picture, full_page=arguments.whole)
                with Image.open(picture) as full:
                    colours = full.convert("RGB")
                    colours.quantize(_N_COLOURS).save(picture, optimize=True)
                sys.stdout.write(f"{picture}: {picture.stat().st_size // 1024} KB\n")
                context.close()


if __name__ == "__main__":
    main()
