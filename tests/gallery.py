"""Take the pictures of ``figures/gallery``: every report of the default batch, the index, the explorer and the form.

Each at 1,440 and at 390 pixels, light and dark. ``make gallery``, after ``make report`` and ``make real``; needs
Debian's package chromium.
"""

import shutil
import tempfile
from pathlib import Path

from explored import chromium, run_all_cells
from PIL import Image
from playwright.sync_api import Page
from servers import jupyter_lab

from personagap.paths import FIGURES
from personagap.runs.index import runs

GALLERY = FIGURES / "gallery"
SIZES = {"": (1440, 900), "_narrow": (390, 844)}
SCHEMES = {"": "light", "_dark": "dark"}
#: Enough for letters, two colours of each mark and the shades between.
COLOURS = 32


def take(page: Page, name: str) -> None:
    """Save what a screen shows, in both sizes and both schemes."""
    for narrow, (width, height) in SIZES.items():
        page.set_viewport_size({"width": width, "height": height})
        for dark, scheme in SCHEMES.items():
            page.emulate_media(color_scheme=scheme)
            page.wait_for_timeout(1000)  # charts and themes come after
            path = GALLERY / f"{name}{narrow}{dark}.png"
            page.screenshot(path=path)
            with Image.open(path) as picture:
                picture.convert("RGB").quantize(COLOURS, dither=Image.Dither.NONE).save(path, optimize=True)


def reports(page: Page) -> None:
    """Take the index, and the last report of each notebook that is no real model's."""
    done = list(reversed(runs(FIGURES)))
    real = [facts["folder"] for facts in done if facts["parameters"].get("model") == "smollm2"]
    found = {facts["folder"].parent.name: facts["folder"] for facts in done if facts["folder"] not in real}
    for name, path in {"index": FIGURES / "index.html"} | {n: f / "report.html" for n, f in found.items()}.items():
        page.goto(path.as_uri())
        take(page, name)
    for name, folder in {
        "personalization_bias": found["1_personalization_bias"],
        "real_model": next(iter(real), None),
    }.items():
        if folder:  # of `make real`
            shutil.copy(folder / "figures" / "personalization_bias.png", GALLERY / f"{name}.png")


def explorer(page: Page) -> None:
    """Take the explorer's forest plot, and the answers behind it."""
    page.get_by_label("notebook").select_option(label="1 personalization bias")
    page.get_by_label("identity").select_option(label="minor")
    page.locator(".vega-embed svg").first.scroll_into_view_if_needed()
    take(page, "explorer")
    page.get_by_role("button", name="Items and answers").click()
    page.get_by_label("search").scroll_into_view_if_needed()
    take(page, "explorer_answers")


def form(page: Page) -> None:
    """Take the form with a parameter changed."""
    page.get_by_label("runs", exact=True).fill("5")
    page.get_by_label("runs", exact=True).press("Enter")
    page.get_by_role("heading", name="Ask for a run").scroll_into_view_if_needed()
    take(page, "form")


def main() -> None:
    with chromium() as browser, tempfile.TemporaryDirectory() as root:
        page = browser.new_page()
        page.set_default_timeout(120_000)
        reports(page)
        with jupyter_lab(Path(root), FIGURES) as address:
            page.set_viewport_size({"width": 1440, "height": 1400})
            page.goto(address)
            run_all_cells(page)
            explorer(page)
            page.goto(address.replace("explore.ipynb", "start_here.ipynb"))
            run_all_cells(page, until=[".jp-OutputArea-output pre"])
            form(page)


if __name__ == "__main__":
    main()
