"""Take the pictures of ``figures/gallery``: the top of every report of the default batch, the index and the explorer.

``make gallery``, after ``make report`` and ``make real``; needs Debian's package chromium.
"""

import shutil
import tempfile
from pathlib import Path

from explored import chromium, run_all_cells
from PIL import Image
from playwright.sync_api import Locator, Page
from servers import jupyter_lab

from personagap.paths import FIGURES
from personagap.runs.index import runs

GALLERY = FIGURES / "gallery"


def take(shown: Page | Locator, name: str) -> None:
    """Save what is shown, in 64 colours."""
    shown.screenshot(path=GALLERY / f"{name}.png")
    with Image.open(GALLERY / f"{name}.png") as picture:
        picture.quantize(64).save(GALLERY / f"{name}.png", optimize=True)


def explore(page: Page) -> None:
    """Take the explorer's forest plot, and the answers behind it."""
    explorer = page.locator(".jp-OutputArea-output", has=page.locator(".vega-embed"))
    page.get_by_label("notebook").select_option(label="1 personalization bias")
    page.get_by_label("identity").select_option(label="minor")
    page.wait_for_timeout(3000)
    take(explorer, "explorer")
    page.get_by_role("button", name="Items and answers").click()
    page.wait_for_timeout(3000)
    take(explorer, "explorer_answers")


def main() -> None:
    with chromium() as browser, tempfile.TemporaryDirectory() as root:
        page = browser.new_page(viewport={"width": 1240, "height": 900})
        page.set_default_timeout(60_000)
        done = list(reversed(runs(FIGURES)))
        real = [facts["folder"] for facts in done if facts["parameters"].get("model") == "smollm2"]
        pages = {facts["folder"].parent.name: facts["folder"] for facts in done if facts["folder"] not in real}
        pages = {name: folder / "report.html" for name, folder in pages.items()}
        for name, path in ({"index": FIGURES / "index.html"} | pages).items():
            page.goto(path.as_uri())
            take(page, name)
        figures = pages["1_personalization_bias"].with_name("figures")
        shutil.copy(figures / "personalization_bias.png", GALLERY)
        for folder in real[-1:]:  # of `make real`
            shutil.copy(folder / "figures" / "personalization_bias.png", GALLERY / "real_model.png")
        with jupyter_lab(Path(root), FIGURES) as address:
            page.set_viewport_size({"width": 1280, "height": 1400})
            page.goto(address)
            page.get_by_role("button", name="No", exact=True).click()  # news of Jupyter
            run_all_cells(page)
            explore(page)


if __name__ == "__main__":
    main()
