"""The explorer's charts, as Vega-Lite specifications. A picked key is marked in all their parts.

Each function takes rows with a column ``key``, the name that can be picked, and returns a
specification with inline data. Specifications are plain dictionaries, because a library to build
them would take longer than everything else that the kernel does after a click.
"""

from collections.abc import Iterable
from typing import Any

import numpy as np
import pandas as pd

from personagap.explorer.shapes import SHAPES
from personagap.formatting import humanize
from personagap.palette import PALETTE, series_styles
from personagap.readable import label

Spec = dict[str, Any]
#: Colour and marker by name
Styles = dict[str, tuple[str, str]]
#: The parameter with the picked key, which the kernel sets
PICKED = "picked"
#: Expression for labels of axes and panels, without underscores
PLAIN = "replace(datum.label, /_/g, ' ')"
#: Width in pixels of all parts of a chart beside the axis of names; narrow browsers shrink it.
WIDTH = 690
#: Width in pixels of the longest name of a row
LONGEST = 330
#: The text colour of the page, whether its theme is light or dark
INK = "currentColor"
#: Dots can be clicked; other marks are neither clickable nor read aloud by screen readers.
DOT: Spec = {"type": "point", "filled": True, "opacity": 1, "cursor": "pointer"}
RULE: Spec = {"type": "rule", "aria": False}


def linked(chart: Spec) -> tuple[Spec, dict[str, list[dict]]]:
    """Return the chart with a parameter for the picked key, and its data separately, by name.

    If two charts only differ in their data, the browser redraws nothing but the data.
    """
    data: dict[str, list[dict]] = {}

    def without_data(part: Any) -> Any:
        if isinstance(part, list):
            return [without_data(element) for element in part]
        if not isinstance(part, dict):
            return part
        rest = {name: without_data(value) for name, value in part.items() if name != "data"}
        if "data" in part:
            # Layers that share rows share them in the browser too. Rows are compared by identity,
            # as comparing their values would take longer than drawing.
            rows = part["data"]["values"]
            same = (name for name, other in data.items() if other is rows)
            name = next(same, f"rows_{len(data)}")
            data[name], rest["data"] = rows, {"name": name}
        return rest

    spec = without_data(chart)
    return spec | {"params": [{"name": PICKED, "value": ""}]}, data


def together(*parts: Spec, columns: int = 2, shared_legend: bool = True) -> Spec:
    """Return several charts in one, side by side if they fit, or stacked (``columns=1``)."""
    chart = {"concat": list(parts), "columns": columns, "align": "each"}
    independent = {"scale": {"color": "independent", "shape": "independent"}}
    return chart if shared_legend else chart | {"resolve": independent}


def values(rows: pd.DataFrame) -> Spec:
    """Return rows as inline data, with null for missing or infinite values, which JSON lacks."""
    finite = rows.replace([np.inf, -np.inf], np.nan).astype(object)
    return {"values": finite.where(finite.notna(), None).to_dict("records")}


def _number(name: str, **how: Any) -> Spec:
    return {"field": name, "type": "quantitative"} | how


def _nominal(name: str, **how: Any) -> Spec:
    return {"field": name, "type": "nominal"} | how


def _names(name: str, rows: pd.DataFrame, **how: Any) -> Spec:
    """Return a channel of names, in the order of the rows."""
    domain = [str(value) for value in rows[name].unique()]
    return _nominal(name, title=None, scale={"domain": domain}) | how


def _panels(name: str, rows: pd.DataFrame) -> Spec:
    order = rows[name].unique().tolist()
    return _nominal(name, title=None, sort=order, header={"labelExpr": PLAIN})


def _is_picked(yes: float | str, no: float | str) -> Spec:
    """Return a channel with one value for the picked key and another for the rest."""
    return {"condition": {"test": f"datum.key == {PICKED}", "value": yes}, "value": no}


def _tooltips(rows: pd.DataFrame) -> list[Spec]:
    """Return tooltips with all columns of a row."""
    numbers = set(rows.select_dtypes("number"))
    return [
        (_number(name, format=".4~g") if name in numbers else _nominal(name))
        | {"title": label(name)}
        for name in rows.columns.drop(["key", "colour"], errors="ignore")
    ]


def _colour_and_shape(rows: pd.DataFrame, styles: Styles | None) -> tuple[Spec, Spec]:
    """Return the channels of colour and shape, with one style per value of ``colour``."""
    present = [str(name) for name in rows["colour"].unique()]
    styles = styles or series_styles(present)
    colours, markers = zip(*(styles[name] for name in present), strict=True)
    # A single series needs no legend, since the title describes it.
    legend = {"labelExpr": PLAIN} if present != ["data"] else None
    same = _nominal("colour", title=None, legend=legend)
    # Black becomes the text colour of the page, to be visible on a dark one.
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
    styles: Styles | None = None,
) -> Spec:
    """Draw a dot with its interval for each row, in one panel for each value of column ``panel``.

    Vertical ``lines`` mark values. ``shared`` says whether all panels have the same scale.
    ``styles`` may cover more names than these rows have.
    """
    panels, crowded = rows[panel].nunique(), rows.duplicated(["key", panel]).any()
    # With more panels in a row, an interval would be only a few pixels wide.
    columns = min(panels, 5)
    # Narrow panels only have room for the unit in parentheses.
    unit = unit if columns < 3 else unit.rpartition("(")[2].strip(")")
    colour, shape = _colour_and_shape(rows, styles)
    names = {"labelExpr": PLAIN, "labelLimit": LONGEST}
    same = {"y": _names("key", rows, axis=names), "tooltip": _tooltips(rows), "color": colour}
    if crowded:
        # Rows with the same key are offset vertically, by colour.
        same["yOffset"] = _nominal("colour", scale={"domain": colour["scale"]["domain"]})
    middle = {"x": _number("estimate"), "size": _is_picked(190, 55), "shape": shape}
    rows, (first, last) = _with_ends(rows, panel)
    ends = {"x": _number(first, title=unit), "x2": {"field": last}}
    ends["strokeWidth"] = _is_picked(4, 1.3)
    # Dots come first, so that an interval narrower than its dot is still visible on it.
    layers = _layers(same, [(DOT, middle), (RULE, ends)])
    if lines:
        dashed = RULE | {"strokeDash": [4, 3], "color": "#888"}
        data = {"values": [{"at": value} for value in lines]}
        layers.append({"data": data, "mark": dashed, "encoding": {"x": _number("at")}})
    across = width // columns - (14 if shared else 24)
    # Height in pixels for each name on the axis
    high = {"step": 12 if crowded or rows["key"].nunique() > 20 else 22}
    chart: Spec = {"data": values(rows), "facet": _panels(panel, rows), "columns": columns}
    chart |= {"spacing": 8, "spec": {"width": across, "height": high, "layer": layers}}
    return chart if shared else chart | {"resolve": {"scale": {"x": "independent"}}}


def _with_ends(rows: pd.DataFrame, panel: str) -> tuple[pd.DataFrame, list[str]]:
    """Return the rows with the ends to draw, and their columns; as null, ∞ would be drawn at 0."""
    ends = ["ci_low", "ci_high"]
    if not np.isinf(rows[ends].to_numpy(dtype=float)).any():
        return rows, ends
    # Beyond all that is finite in the panel
    finite = rows[["estimate", *ends]].replace([np.inf, -np.inf], np.nan).groupby(rows[panel])
    least, most = finite.transform("min").min(axis=1), finite.transform("max").max(axis=1)
    room = 0.1 * (most - least)
    low, high = rows["ci_low"].clip(lower=least - room), rows["ci_high"].clip(upper=most + room)
    return rows.assign(drawn_low=low, drawn_high=high), ["drawn_low", "drawn_high"]


def _layers(same: Spec, parts: Iterable[tuple[Spec, Spec]]) -> list[Spec]:
    """Return a layer for each mark with its own channels, added to those that are the ``same``."""
    return [{"mark": mark, "encoding": same | encoding} for mark, encoding in parts]


def trade_off(
    rows: pd.DataFrame, x: str, y: str, names: dict[str, str], styles: Styles | None = None
) -> Spec:
    """Draw one column against another, both with intervals; ``styles`` as in `intervals`."""
    scale = {"zero": False}
    at_x, at_y = (_number(name, title=names[name], scale=scale) for name in (x, y))
    low_x, low_y = (_number(f"{name}_low", scale=scale, title=names[name]) for name in (x, y))
    width = {"strokeWidth": _is_picked(2.5, 0.4)}
    colour, shape = _colour_and_shape(rows, styles)
    at = {"x": at_x, "y": at_y}
    parts = [
        (RULE, {"x": low_x, "x2": {"field": f"{x}_high"}, "y": at_y} | width),
        (RULE, {"x": at_x, "y": low_y, "y2": {"field": f"{y}_high"}} | width),
        (DOT, at | {"size": _is_picked(260, 70), "shape": shape}),
        # Only the picked name is visible, because thirty names would overlap.
        (_text(dy=-12), at | {"text": {"field": "label"}, "opacity": _is_picked(1, 0)}),
    ]
    layers = _layers({"color": colour, "tooltip": _tooltips(rows)}, parts)
    labelled = rows.assign(label=rows["key"].map(humanize))
    return {"data": values(labelled), "width": 330, "height": 330, "layer": layers}


def _text(**how: Any) -> Spec:
    return {"type": "text", "aria": False} | how


def matrix(rows: pd.DataFrame, x: str, y: str, value: str, title: str, *, diverging: bool) -> Spec:
    """Draw a value for each pair as colour and number, on a scale around 0 or from 0 to 1."""
    # At least a tiny limit, because a scale from 0 to 0 is invalid.
    limit = float(max(abs(rows[value]).max(), 1e-9)) if diverging else 1.0
    scheme, least = ("purpleorange", -limit) if diverging else ("blues", 0)
    scale = {"scheme": scheme, "domain": [least, limit]}
    # The axis is on top, because the lower end of thirty rows may be off the screen.
    names = {"labelAngle": 30, "labelAlign": "right", "labelExpr": PLAIN, "orient": "top"}
    across = _names(x, rows, axis=names)
    same = {"x": across, "y": _names(y, rows, axis={"labelExpr": PLAIN})}
    cells = {
        "color": _number(value, title=title, scale=scale, legend=None),
        "stroke": _is_picked(INK, "transparent"), "strokeWidth": _is_picked(2, 0.5),
        "tooltip": _tooltips(rows),
    }  # fmt: skip
    # White numbers stay readable on the darkest cells.
    dark = {"test": f"abs(datum['{value}']) > {0.6 * limit}", "value": "white"}
    numbers = {
        "text": _number(value, format=".0f" if diverging else ".2f"),
        "color": {"value": "black", "condition": dark},
    }
    rect, text = {"type": "rect", "cursor": "pointer"}, _text(fontSize=10, cursor="pointer")
    layers = _layers(same, [(rect, cells), (text, numbers)])
    width = {"step": max(46, min(90, 420 // rows[x].nunique()))}
    return {"data": values(rows), "width": width, "height": {"step": 20}, "layer": layers}


def lines(rows: pd.DataFrame, x: str, unit: str, panel: str, styles: Styles) -> Spec:
    """Draw estimates along ``x``: a line for each key, a panel for each value of ``panel``."""
    columns = min(3, rows[panel].nunique())
    scale = {"zero": False}
    colour, shape = _colour_and_shape(rows, styles)
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
    # Without an axis of names there is more width for the panels, minus that of their numbers.
    spec = {"width": (WIDTH + 120) // columns - 80, "height": 210, "layer": _layers(same, parts)}
    return chart | {"spec": spec, "resolve": {"scale": {"y": "independent"}}}


def strip(rows: pd.DataFrame, means: pd.DataFrame) -> Spec:
    """Draw a dot for each item, by task, and the mean with its interval."""
    unit = "difference from no system prompt (points)"
    task = _names("task", rows, axis={"labelExpr": PLAIN})
    encoding = {
        "x": _number("difference", title=unit), "y": task, "tooltip": _tooltips(rows),
        "opacity": _is_picked(1, 0.35),
        "size": _is_picked(260, 55), "color": _is_picked(PALETTE["control"], PALETTE["data"]),
    }  # fmt: skip
    rule = RULE | {"strokeWidth": 2, "color": INK}
    diamond = {"type": "point", "filled": True, "opacity": 1, "shape": "diamond"}
    diamond |= {"size": 90, "color": INK}
    ends = {"x": _number("ci_low"), "x2": {"field": "ci_high"}}
    parts = [(rule, ends), (diamond, {"x": _number("estimate")})]
    mean_layers = _layers({"y": task, "tooltip": _tooltips(means)}, parts)
    # Dots are drawn below the means, which hundreds of them would hide.
    dots = {"data": values(rows), "mark": DOT | {"opacity": 0.35}, "encoding": encoding}
    layers = [dots, {"data": values(means), "layer": mean_layers}]
    return {"width": WIDTH, "height": {"step": 34}, "layer": layers}


def pairs(rows: pd.DataFrame, a: str, b: str, unit: str) -> Spec:
    """Draw two values of each row, joined by a line from ``a`` (open dot) to ``b`` (filled)."""
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
