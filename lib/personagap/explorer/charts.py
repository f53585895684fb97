"""The explorer's charts, in Vega-Lite's own words. What is picked in one part is marked in all.

Each takes rows with a column ``key``, which is what can be picked, and returns a specification with
its data inline. They are plain dictionaries: a library that builds them takes longer than all else
that a choice does in the kernel.
"""

from collections.abc import Iterable
from typing import Any

import numpy as np
import pandas as pd

from personagap.explorer.shapes import SHAPES
from personagap.palette import PALETTE, series
from personagap.readable import label
from personagap.spelling import words

Spec = dict[str, Any]
#: Colour and marker by name.
Styles = dict[str, tuple[str, str]]
#: What is picked, set from the kernel.
PICKED = "picked"
#: Names without underscores, on an axis and over a panel.
PLAIN = "replace(datum.label, /_/g, ' ')"
#: Pixels for all parts of a chart, beside the axis of names; with less, the browser makes do.
WIDTH = 690
#: Pixels for the longest name of a row.
LONGEST = 330
#: The page's own, light or dark.
INK = "currentColor"
#: What can be clicked; what only goes with it is neither clicked nor read aloud.
DOT: Spec = {"type": "point", "filled": True, "opacity": 1, "cursor": "pointer"}
RULE: Spec = {"type": "rule", "aria": False}


def linked(chart: Spec) -> tuple[Spec, dict[str, list[dict]]]:
    """The chart with a parameter for what is picked, and its data apart, by name.

    Where two charts differ in their data only, the browser draws these anew and nothing else.
    """
    data: dict[str, list[dict]] = {}

    def without_data(part: Any) -> Any:
        if isinstance(part, list):
            return [without_data(each) for each in part]
        if not isinstance(part, dict):
            return part
        rest = {name: without_data(value) for name, value in part.items() if name != "data"}
        if "data" in part:
            # Layers that share rows share them in the browser too: by identity, as comparing them
            # would take longer than drawing.
            rows = part["data"]["values"]
            same = (name for name, known in data.items() if known is rows)
            name = next(same, f"rows_{len(data)}")
            data[name], rest["data"] = rows, {"name": name}
        return rest

    spec = without_data(chart)
    return spec | {"params": [{"name": PICKED, "value": ""}]}, data


def together(*parts: Spec, columns: int = 2, alike: bool = True) -> Spec:
    """Several charts, side by side where there is room, or below each other (``columns`` 1); those
    that are ``alike`` share a legend.
    """
    chart = {"concat": list(parts), "columns": columns, "align": "each"}
    own = {"scale": {"color": "independent", "shape": "independent"}}
    return chart if alike else chart | {"resolve": own}


def values(rows: pd.DataFrame) -> Spec:
    """Rows as data, with null for what is missing or infinite."""
    # JSON has no word for either.
    known = rows.replace([np.inf, -np.inf], np.nan).astype(object)
    return {"values": known.where(known.notna(), None).to_dict("records")}


def _number(name: str, **how: Any) -> Spec:
    return {"field": name, "type": "quantitative"} | how


def _nominal(name: str, **how: Any) -> Spec:
    return {"field": name, "type": "nominal"} | how


def _names(name: str, rows: pd.DataFrame, **how: Any) -> Spec:
    """A channel of names, in the order of the rows."""
    domain = [str(value) for value in rows[name].unique()]
    return _nominal(name, title=None, scale={"domain": domain}) | how


def _panels(name: str, rows: pd.DataFrame) -> Spec:
    order = rows[name].unique().tolist()
    return _nominal(name, title=None, sort=order, header={"labelExpr": PLAIN})


def _is_picked(yes: float | str, no: float | str) -> Spec:
    """One value for what is picked and another for the rest."""
    return {"condition": {"test": f"datum.key == {PICKED}", "value": yes}, "value": no}


def _tooltips(rows: pd.DataFrame) -> list[Spec]:
    """Everything that is known of a row."""
    numbers = set(rows.select_dtypes("number"))
    return [
        (_number(name, format=".4~g") if name in numbers else _nominal(name))
        | {"title": label(name)}
        for name in rows.columns.drop(["key", "colour"], errors="ignore")
    ]


def _styles(rows: pd.DataFrame, known: Styles | None) -> tuple[Spec, Spec]:
    """The channels of colour and of shape: one style means one thing."""
    present = [str(name) for name in rows["colour"].unique()]
    known = known or series(present)
    colours, markers = zip(*(known[name] for name in present), strict=True)
    # One series needs no legend: the title says what it is.
    legend = {"labelExpr": PLAIN} if present != ["data"] else None
    same = _nominal("colour", title=None, legend=legend)
    # Black is the page's ink: it would not be seen on a dark one.
    inked = [INK if colour == "#000000" else colour for colour in colours]
    scales = [inked, [SHAPES[marker] for marker in markers]]
    colour, shape = (same | {"scale": {"domain": present, "range": range_}} for range_ in scales)
    return colour, shape


def intervals(
    rows: pd.DataFrame,
    unit: str,
    panel: str,
    *,
    lines: list[float] | None = None,
    width: int = WIDTH,
    shared: bool = True,
    known: Styles | None = None,
) -> Spec:
    """A dot with its interval for each row; the values of the column ``panel`` stand side by side.

    ``lines`` are values that are marked, ``shared`` says whether all panels have one scale,
    ``known`` the styles of more than these rows.
    """
    panels, crowded = rows[panel].nunique(), rows.duplicated(["key", panel]).any()
    # With more side by side, an interval is a few pixels.
    columns = min(panels, 5)
    # There is no room for more below a panel.
    unit = unit if columns < 3 else unit.rpartition("(")[2].strip(")")
    colour, shape = _styles(rows, known)
    names = {"labelExpr": PLAIN, "labelLimit": LONGEST}
    same = {"y": _names("key", rows, axis=names), "tooltip": _tooltips(rows), "color": colour}
    if crowded:
        # Several rows of one name stand below each other, by colour.
        same["yOffset"] = _nominal("colour", scale={"domain": colour["scale"]["domain"]})
    middle = {"x": _number("estimate"), "size": _is_picked(190, 55), "shape": shape}
    ends = {"x": _number("ci_low", title=unit), "x2": {"field": "ci_high"}}
    ends["strokeWidth"] = _is_picked(4, 1.3)
    # Dots first: an interval narrower than its dot is still seen on it.
    layers = _layers(same, [(DOT, middle), (RULE, ends)])
    if lines:
        drawn = RULE | {"strokeDash": [4, 3], "color": "#888"}
        at = {"values": [{"at": value} for value in lines]}
        layers.append({"data": at, "mark": drawn, "encoding": {"x": _number("at")}})
    across = width // columns - (14 if shared else 24)
    # Pixels for each name on an axis, however many there are.
    high = {"step": 12 if crowded or rows["key"].nunique() > 20 else 22}
    chart: Spec = {"data": values(rows), "facet": _panels(panel, rows), "columns": columns}
    chart |= {"spacing": 8, "spec": {"width": across, "height": high, "layer": layers}}
    return chart if shared else chart | {"resolve": {"scale": {"x": "independent"}}}


def _layers(same: Spec, parts: Iterable[tuple[Spec, Spec]]) -> list[Spec]:
    """A layer for each mark and its own channels, beside those that are the ``same`` in all."""
    return [{"mark": mark, "encoding": same | encoding} for mark, encoding in parts]


def trade_off(
    rows: pd.DataFrame, x: str, y: str, names: dict[str, str], known: Styles | None = None
) -> Spec:
    """One column against another, each with its interval; ``known`` as of `intervals`."""
    scale = {"zero": False}
    at_x, at_y = (_number(name, title=names[name], scale=scale) for name in (x, y))
    low_x, low_y = (_number(f"{name}_low", scale=scale, title=names[name]) for name in (x, y))
    width = {"strokeWidth": _is_picked(2.5, 0.4)}
    colour, shape = _styles(rows, known)
    at = {"x": at_x, "y": at_y}
    parts = [
        (RULE, {"x": low_x, "x2": {"field": f"{x}_high"}, "y": at_y} | width),
        (RULE, {"x": at_x, "y": low_y, "y2": {"field": f"{y}_high"}} | width),
        (DOT, at | {"size": _is_picked(260, 70), "shape": shape}),
        # The name of the picked one alone: of thirty they would cover one another.
        (_text(dy=-12), at | {"text": {"field": "said"}, "opacity": _is_picked(1, 0)}),
    ]
    layers = _layers({"color": colour, "tooltip": _tooltips(rows)}, parts)
    said = rows.assign(said=rows["key"].map(words))
    return {"data": values(said), "width": 330, "height": 330, "layer": layers}


def _text(**how: Any) -> Spec:
    return {"type": "text", "aria": False} | how


def matrix(rows: pd.DataFrame, x: str, y: str, value: str, title: str, *, diverging: bool) -> Spec:
    """A value for each pair, as colour and as number: around 0, or from 0 to 1."""
    # Never 0: a scale needs a width.
    limit = float(max(abs(rows[value]).max(), 1e-9)) if diverging else 1.0
    scheme, least = ("purpleorange", -limit) if diverging else ("blues", 0)
    scale = {"scheme": scheme, "domain": [least, limit]}
    # Above: of thirty rows the end is not on the screen.
    names = {"labelAngle": 30, "labelAlign": "right", "labelExpr": PLAIN, "orient": "top"}
    across = _names(x, rows, axis=names)
    same = {"x": across, "y": _names(y, rows, axis={"labelExpr": PLAIN})}
    cells = {
        "color": _number(value, title=title, scale=scale, legend=None),
        "stroke": _is_picked(INK, "transparent"), "strokeWidth": _is_picked(2, 0.5),
        "tooltip": _tooltips(rows),
    }  # fmt: skip
    # Letters must be read on the darkest cells as well.
    dark = {"test": f"abs(datum['{value}']) > {0.6 * limit}", "value": "white"}
    numbers = {
        "text": _number(value, format=".0f" if diverging else ".2f"),
        "color": {"value": "black", "condition": dark},
    }
    drawn, text = {"type": "rect", "cursor": "pointer"}, _text(fontSize=10, cursor="pointer")
    layers = _layers(same, [(drawn, cells), (text, numbers)])
    width = {"step": max(46, min(90, 420 // rows[x].nunique()))}
    return {"data": values(rows), "width": width, "height": {"step": 20}, "layer": layers}


def lines(rows: pd.DataFrame, x: str, unit: str, panel: str, known: Styles) -> Spec:
    """What changes along ``x``: a line for each key, a panel for each value of ``panel``."""
    columns = min(3, rows[panel].nunique())
    scale = {"zero": False}
    colour, shape = _styles(rows, known)
    same = {
        "x": _number(x, title=label(x), axis={"values": sorted(rows[x].unique().tolist())}),
        "color": colour, "detail": _nominal("key"), "tooltip": _tooltips(rows),
    }  # fmt: skip
    middle = {"y": _number("estimate", title=unit, scale=scale)}
    ends = {"y": _number("ci_low", title=unit, scale=scale), "y2": {"field": "ci_high"}}
    parts = [
        (DOT, middle | {"size": _is_picked(140, 45), "shape": shape}),
        (RULE, ends | {"strokeWidth": _is_picked(2.5, 0.7)}),
        ({"type": "line", "aria": False}, middle | {"strokeWidth": _is_picked(4, 1.2)}),
    ]
    chart = {"data": values(rows), "facet": _panels(panel, rows), "columns": columns}
    # No axis of names is beside these: its room is theirs, less that of numbers.
    each = {"width": (WIDTH + 120) // columns - 80, "height": 210, "layer": _layers(same, parts)}
    return chart | {"spec": each, "resolve": {"scale": {"y": "independent"}}}


def strip(rows: pd.DataFrame, means: pd.DataFrame) -> Spec:
    """A dot for each item, by task, and the mean with its interval."""
    unit = "difference from no system prompt (points)"
    task = _names("task", rows, axis={"labelExpr": PLAIN})
    each = {
        "x": _number("difference", title=unit), "y": task, "tooltip": _tooltips(rows),
        "opacity": _is_picked(1, 0.35),
        "size": _is_picked(260, 55), "color": _is_picked(PALETTE["control"], PALETTE["data"]),
    }  # fmt: skip
    rule = RULE | {"strokeWidth": 2, "color": INK}
    diamond = {"type": "point", "filled": True, "opacity": 1, "shape": "diamond"}
    diamond |= {"size": 90, "color": INK}
    ends = {"x": _number("ci_low"), "x2": {"field": "ci_high"}}
    parts = [(rule, ends), (diamond, {"x": _number("estimate")})]
    of_means = _layers({"y": task, "tooltip": _tooltips(means)}, parts)
    # Below the means, which hundreds of dots would hide.
    dots = {"data": values(rows), "mark": DOT | {"opacity": 0.35}, "encoding": each}
    layers = [dots, {"data": values(means), "layer": of_means}]
    return {"width": WIDTH, "height": {"step": 34}, "layer": layers}


def pairs(rows: pd.DataFrame, a: str, b: str, unit: str) -> Spec:
    """Two values of each row, joined: from ``a`` (open) to ``b`` (filled)."""
    same = {"y": _names("key", rows, axis={"labelLimit": LONGEST}), "tooltip": _tooltips(rows)}
    across = _number(a, title=f"{unit}: {label(a)} ○, {label(b)} ●")
    size = {"size": _is_picked(160, 55)}
    joined = {"x": across, "x2": {"field": b}, "strokeWidth": _is_picked(3, 1)}
    parts = [
        (RULE | {"color": "#888"}, joined),
        (DOT | {"filled": False, "color": PALETTE["published"]}, {"x": across} | size),
        (DOT | {"color": PALETTE["data"]}, {"x": _number(b)} | size),
    ]
    layers = _layers(same, parts)
    return {"data": values(rows), "width": WIDTH - 180, "height": {"step": 17}, "layer": layers}
