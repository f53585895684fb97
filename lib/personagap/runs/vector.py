"""SVG: written, and made part of a page."""

import base64
import re
from html import escape
from pathlib import Path
from xml.etree import ElementTree

from personagap.runs.files import warned_if_damaged

#: What every name of an element begins with.
SVG = "{http://www.w3.org/2000/svg}"
#: Bytes of an SVG that a page shows; a larger one would make it slow.
LARGEST = 500_000
#: What an SVG says of itself, and a style that would hold for the whole page: `JOINS` stands in for
#: it.
NOT_DRAWN = ("metadata", "style", "script")
JOINS = "stroke-linejoin: round; stroke-linecap: butt"
#: Colours of `figures.style` that a dark page needs otherwise: of shapes the variable of the page's
#: style sheet. Black and white text stands on colours, which stay.
INK = "#262626"
OF_THE_PAGE = {
    INK: "text",
    "#000000": "text",
    "#ffffff": "page",
    "#e5e5e5": "grid",
    "#cccccc": "line",
    "#414487": "violet",
}
_COLOUR, _FONTS = re.compile("|".join(OF_THE_PAGE)), re.compile(r"font-family: [^;]*; ")
#: More digits than a screen or a print can show: hundredths of a point are left.
_DIGITS = re.compile(r"\d+\.\d{3,}")


def written(root: ElementTree.Element) -> str:
    """The text of a picture, its elements without a prefix, as pages need it."""
    ElementTree.register_namespace("", SVG[1:-1])
    ElementTree.register_namespace("xlink", "http://www.w3.org/1999/xlink")
    return ElementTree.tostring(root, encoding="unicode")


def inline(folder: Path, name: object, alt: str) -> str:
    """A figure that a run saved, as HTML: its SVG, to be pointed at, or its PNG; "" if it has none
    of that name.

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
    """The picture with anchors of its own, as several figures share a page, and in its colours."""
    text = path.read_text(encoding="utf-8")
    name, root, fonts = path.stem, ElementTree.fromstring(text), ""
    anchors = set(re.findall(r"#([\w-]+)[\")]", text))
    for element in root.iter():
        for child in [child for child in element if child.tag.rpartition("}")[2] in NOT_DRAWN]:
            element.remove(child)
        is_text = element.tag in (f"{SVG}text", f"{SVG}tspan")
        if not is_text:  # whose blanks are read
            element.text = (element.text or "").strip()
            for child in element:
                child.tail = None
        for attribute, value in element.items():
            if attribute == "id":
                value = f"{name}-{value}" if value in anchors else ""
            elif attribute.endswith("href"):
                value = value.replace("#", f"#{name}-", 1)
            elif attribute == "style":
                # Nearly all texts of a figure name the same fonts: said once, for all of it.
                fonts = fonts or "".join(_FONTS.findall(value)[:1])
                value = _in_colours_of_the_page(value.replace(fonts, ""), is_text)
            else:
                value = _DIGITS.sub(lambda found: f"{float(found[0]):.2f}", value)
            element.set(attribute, value.replace("url(#", f"url(#{name}-"))
        if not element.get("id"):
            element.attrib.pop("id", None)
    root.set("style", f"{JOINS}; {fonts}--natural: {root.get('width', '0pt')}")
    return written(root)


def _in_colours_of_the_page(style: str, is_text: bool) -> str:
    def variable(found: re.Match) -> str:
        colour = found[0]
        if is_text and colour != INK:
            return colour
        return f"var(--{OF_THE_PAGE[colour]}, {colour})"  # a notebook has no such variables

    return _COLOUR.sub(variable, style)
