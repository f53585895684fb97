"""Take the pictures of ``figures/gallery``: every report of the default batch, the index, the
explorer and the tour.

Each at 1,440 and at 390 pixels, light and dark. ``make gallery``, after ``make report`` and ``make
real``; needs Debian's package chromium.
"""

import tempfile
from pathlib import Path

from explorer_helpers import chromium, run_all_cells
from PIL import Image
from playwright.sync_api import Page
from servers import jupyter_lab

from personagap.paths import FIGURES
from personagap.runs.index import runs

GALLERY = FIGURES / "gallery"
SIZES = {"": (1440, 900), "_narrow": (390, 844)}
SCHEMES = {"": "light", "_dark": "dark"}
COLOURS = 64


def take(page: Page, name: str, around: str = "body") -> None:
    """Save what a screen shows, around an element, in both sizes and both schemes."""
    for narrow, (width, height) in SIZES.items():
        page.set_viewport_size({"width": width, "height": height})
        for dark, scheme in SCHEMES.items():
            page.emulate_media(color_scheme=scheme)
            # Charts and themes come after, and JupyterLab scrolls to what was run last.
            for _ in range(2):
                page.locator(around).last.evaluate(
                    "shown => shown.scrollIntoView({ block: 'nearest' })"
                )
                page.wait_for_timeout(500)
            path = GALLERY / f"{name}{narrow}{dark}.png"
            page.screenshot(path=path)
            keep(path, path)


def keep(picture: Path, path: Path) -> None:
    """Save a picture in few colours, of which none is a mixture of two that mean something."""
    with Image.open(picture) as image:
        few = image.convert("RGB").quantize(
            COLOURS, Image.Quantize.MAXCOVERAGE, 2, dither=Image.Dither.NONE
        )
    few.save(path, optimize=True)


def reports(page: Page) -> None:
    """Take the index, and the last report of each notebook."""
    done = [facts for facts in reversed(runs(FIGURES)) if facts["status"] == "finished"]
    # Of `make real`, beside the demo's run of the same notebook; `performance` has no other.
    real = [
        facts["folder"]
        for facts in done
        if facts["parameters"].get("model") == "smollm2" and facts["paper"] == "safety_utility"
    ]
    found = {
        facts["folder"].parent.name: facts["folder"]
        for facts in done
        if facts["folder"] not in real
    }
    pages = {"index": FIGURES / "index.html"} | {
        name: folder / "report.html" for name, folder in found.items()
    }
    for name, path in pages.items():
        page.goto(path.as_uri())
        take(page, name)
    heads = {"personalization_bias": (found["1_personalization_bias"], "personalization_bias")}
    heads |= {f"findings_{name}": (found["findings"], name) for name in ("claims", "relevance")}
    heads |= {"real_model": (real[-1], "personalization_bias")} if real else {}  # of `make real`
    for name, (folder, figure) in heads.items():
        keep(folder / "figures" / f"{figure}.png", GALLERY / f"{name}.png")


def explorer(page: Page) -> None:
    """Take the explorer's forest plot, and the answers behind it."""
    page.get_by_label("notebook").select_option(label="1 personalization bias")
    page.wait_for_timeout(3000)
    page.get_by_label("identity").select_option(label="minor")
    take(page, "explorer", ".vega-embed")
    page.get_by_role("button", name="Items and answers").click()
    page.locator("h4").last.wait_for()
    take(page, "explorer_answers", "h4")


def tour(page: Page) -> None:
    """Take the tour of what was found, and its form with a parameter changed."""
    take(page, "start_here", ".jp-OutputArea-output table")
    page.get_by_label("runs", exact=True).fill("5")
    page.get_by_label("runs", exact=True).press("Enter")
    page.locator("pre", has_text="-p runs 5").wait_for()
    take(page, "form", ".jp-OutputArea-output pre")


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
            tour(page)


if __name__ == "__main__":
    main()
