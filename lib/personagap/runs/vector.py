"""SVG figures: serialisation, and inclusion in an HTML page."""

import base64
import re
from html import escape
from pathlib import Path
from xml.etree import ElementTree

from personagap.runs.files import warned_if_damaged

#: The XML namespace, as in the names of elements.
SVG = "{http://www.w3.org/2000/svg}"
#: Pages include SVGs of up to this many bytes; larger ones would make them slow.
MAX_BYTES = 500_000
#: Elements that are removed. The style sheet would apply to the whole page, so `LINE_STYLE`
#: replaces it.
NOT_DRAWN = ("metadata", "style", "script")
LINE_STYLE = "stroke-linejoin: round; stroke-linecap: butt"
#: Colours of `figures.style` that change on a dark page, and the variables of the page's style
#: sheet that replace them. Black and white text keeps its colour, since it stands on colours that
#: do not change.
INK = "#262626"
VARIABLES = {
    INK: "text",
    "#000000": "text",
    "#ffffff": "page",
    "#e5e5e5": "grid",
    "#cccccc": "line",
    "#414487": "violet",
}
_COLOUR, _FONTS = re.compile("|".join(VARIABLES)), re.compile(r"font-family: [^;]*; ")
#: Numbers with more digits than a screen or a print can show; hundredths of a point suffice.
_LONG_NUMBER = re.compile(r"\d+\.\d{3,}")


def serialize(root: ElementTree.Element) -> str:
    """Return the text of an SVG whose elements have no namespace prefix, as HTML requires."""
    ElementTree.register_namespace("", SVG[1:-1])
    ElementTree.register_namespace("xlink", "http://www.w3.org/1999/xlink")
    return ElementTree.tostring(root, encoding="unicode")


def inline(folder: Path, name: object, alt: str) -> str:
    """Return a run's figure as HTML: its SVG, which has tooltips, or its PNG if the SVG is too
    large; "" if there is no figure of that name.

    If the figure was also saved in the width of a column, the HTML contains both SVGs, and the page
    shows the one that fits the screen.
    """
    path, html = folder / "figures" / f"{name}.svg", ""
    # A name with a slash could point outside the run's figures.
    if not name or path.name != f"{name}.svg":
        return html
    with warned_if_damaged(path):
        column = path.with_name(f"{name}_column.svg")
        paths = [path, column] if column.exists() and column.stat().st_size < MAX_BYTES else [path]
        if path.stat().st_size < MAX_BYTES:
            html = "".join(map(_adapt_to_page, paths))
            return f'<div class="drawn" role="img" aria-label="{escape(alt)}">{html}</div>'
        image = base64.b64encode(path.with_suffix(".png").read_bytes()).decode()
        html = f'<img src="data:image/png;base64,{image}" alt="{escape(alt)}">'
    return html


def _adapt_to_page(path: Path) -> str:
    """Return an SVG with ids that are unique among a page's figures, and in the page's colours."""
    text = path.read_text(encoding="utf-8")
    name, root, fonts = path.stem, ElementTree.fromstring(text), ""
    anchors = set(re.findall(r"#([\w-]+)[\")]", text))
    for element in root.iter():
        for child in [child for child in element if child.tag.rpartition("}")[2] in NOT_DRAWN]:
            element.remove(child)
        is_text = element.tag in (f"{SVG}text", f"{SVG}tspan")
        # White space matters only in texts.
        if not is_text:
            element.text = (element.text or "").strip()
            for child in element:
                child.tail = None
        for attribute, value in element.items():
            if attribute == "id":
                value = f"{name}-{value}" if value in anchors else ""
            elif attribute.endswith("href"):
                value = value.replace("#", f"#{name}-", 1)
            elif attribute == "style":
                # Nearly all texts of a figure have the same font, which the root then sets for all.
                fonts = fonts or "".join(_FONTS.findall(value)[:1])
                value = _use_page_colours(value.replace(fonts, ""), is_text)
            else:
                value = _LONG_NUMBER.sub(lambda match: f"{float(match[0]):.2f}", value)
            element.set(attribute, value.replace("url(#", f"url(#{name}-"))
        if not element.get("id"):
            element.attrib.pop("id", None)
    root.set("style", f"{LINE_STYLE}; {fonts}--natural: {root.get('width', '0pt')}")
    return serialize(root)


def _use_page_colours(style: str, is_text: bool) -> str:
    def replace(match: re.Match) -> str:
        colour = match[0]
        if is_text and colour != INK:
            return colour
        # The second colour is for notebooks, which do not define these variables.
        return f"var(--{VARIABLES[colour]}, {colour})"

    return _COLOUR.sub(replace, style)
