"""SVG: written, and made part of a page."""

import base64
from html import escape
from pathlib import Path
from xml.etree import ElementTree

from personagap.runs.files import warned_if_damaged

#: What every name of an element begins with.
SVG = "{http://www.w3.org/2000/svg}"
#: Bytes of an SVG that a page shows; a larger one would make it slow.
LARGEST = 500_000
#: What an SVG says of itself, and a style that would hold for the
#: whole page: `JOINS` stands in for it.
NOT_DRAWN = ("metadata", "style", "script")
JOINS = "stroke-linejoin: round; stroke-linecap: butt"


def written(root: ElementTree.Element) -> str:
    """The text of a picture, its elements without a prefix, as pages need it."""
    ElementTree.register_namespace("", SVG[1:-1])
    ElementTree.register_namespace("xlink", "http://www.w3.org/1999/xlink")
    return ElementTree.tostring(root, encoding="unicode")


def inline(folder: Path, name: object, alt: str) -> str:
    """A figure that a run saved, as HTML: its SVG, to be pointed at,
    or its PNG; "" if it has none of that name.

    Where it was saved as wide as a column, too, both are there: the page shows the one that suits
    the screen.
    """
    path, html = folder / "figures" / f"{name}.svg", ""
    # A name with a folder in it would lead out of the run's figures.
    if not name or path.name != f"{name}.svg":
        return html
    with warned_if_damaged(path):
        column = path.with_name(f"{name}_column.svg")
        sizes = [path, column] if column.exists() and column.stat().st_size < LARGEST else [path]
        if path.stat().st_size < LARGEST:
            html = "".join(_part_of_a_page(each) for each in sizes)
            return f'<div class="drawn" role="img" aria-label="{escape(alt)}">{html}</div>'
        image = base64.b64encode(path.with_suffix(".png").read_bytes()).decode()
        html = f'<img src="data:image/png;base64,{image}" alt="{escape(alt)}">'
    return html


def _part_of_a_page(path: Path) -> str:
    """The picture with anchors of its own, as several figures share a page."""
    name, root = path.stem, ElementTree.fromstring(path.read_text(encoding="utf-8"))
    for element in root.iter():
        for child in [child for child in element if child.tag.rpartition("}")[2] in NOT_DRAWN]:
            element.remove(child)
        for attribute, value in element.items():
            if attribute == "id":
                element.set(attribute, f"{name}-{value}")
            elif attribute.endswith("href"):
                element.set(attribute, value.replace("#", f"#{name}-", 1))
            else:
                element.set(attribute, value.replace("url(#", f"url(#{name}-"))
    root.set("style", f"{JOINS}; --natural: {root.get('width', '0pt')}")
    return written(root)
