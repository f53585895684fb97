"""The explorer's charts. What is picked in one part of a chart is marked in all, before the kernel is asked.

Each takes rows with a column ``key``, which is what can be picked, and returns an `altair.Chart`.
"""

import itertools
from collections.abc import Iterator

import altair as alt
import pandas as pd
from altair.utils import schemapi

from personagap.palette import PALETTE, marks
from personagap.runs.readable import label

#: What is picked, set from the kernel; a click sets the selection of that name.
PICKED, CLICK = "picked", "click"
alt.data_transformers.disable_max_rows()
schemapi.disable_debug_mode()  # each part would be checked by itself
#: Names without underscores, on an axis and over a panel.
PLAIN = "replace(datum.label, /_/g, ' ')"
HEAD = alt.Header(labelExpr=PLAIN)
# A selection names the parts in which it can be made, so no two may share a name.
_numbers = itertools.count(1)
#: Pixels that all parts of a chart may take, beside the axis of names.
WIDTH = 690


def linked(chart: alt.TopLevelMixin, picked: str) -> dict:
    """The chart in Vega-Lite's words, with what is picked marked in all its parts, and a click in any of them.

    Parameters are put into the words, since altair copies the whole chart for each; and these are not held against the
    schema, which the tests do. Both take longer than all else.
    """
    spec = chart.to_dict(validate=False)
    click = {"name": CLICK, "select": {"type": "point", "fields": ["key"], "toggle": False}}
    spec["params"] = [{"name": PICKED, "value": picked}]
    spec["params"] += [click | {"views": views}] if (views := list(_clickable(spec))) else []
    spec["config"] |= {"axis": {"labelLimit": 220, "titleFontWeight": "normal"}}
    return spec


def _clickable(spec: dict) -> Iterator[str]:
    """The names of the parts that can be clicked."""
    if spec.get("name", "").startswith(CLICK):
        yield spec["name"]
    for name in ("spec", "layer", "hconcat", "vconcat"):
        parts = spec.get(name, [])
        for part in parts if isinstance(parts, list) else [parts]:
            yield from _clickable(part)


def _clicked(chart: alt.Chart) -> alt.Chart:
    return chart.properties(name=f"{CLICK}_{next(_numbers)}")


def _is_picked(channel: type, yes: float | str, no: float | str) -> alt.SchemaBase:
    """One value for what is picked and another for the rest; in the channel's own class, which spares a long search."""
    return channel(no, condition={"test": f"datum.key == {PICKED}", "value": yes})


def _tooltips(rows: pd.DataFrame) -> list[alt.Tooltip]:
    """Everything that is known of a row."""
    formats = {name: {"format": ".4~g"} for name in rows.select_dtypes("number")}
    return [
        alt.Tooltip(name, title=label(name), **formats.get(name, {}))
        for name in rows.columns.drop(["key", "colour"], errors="ignore")
    ]


def _colour(rows: pd.DataFrame, known: dict[str, str] | None) -> alt.Color:
    present = [str(name) for name in rows["colour"].unique()]
    known = known or {name: colour for name, (colour, _) in marks(present).items()} | PALETTE
    scale = alt.Scale(domain=present, range=[known[name] for name in present])
    return alt.Color("colour:N", scale=scale, title=None, legend=alt.Legend(orient="bottom", columns=6))


def intervals(
    rows: pd.DataFrame,
    unit: str,
    panel: str,
    *,
    lines: list[float] | None = None,
    width: int = WIDTH,
    shared: bool = True,
    known: dict[str, str] | None = None,
) -> alt.FacetChart:
    """A dot with its interval for each row; the values of the column ``panel`` stand side by side.

    ``lines`` are values that are marked, ``shared`` says whether all panels have one scale, ``known`` the colours of
    more than these rows.
    """
    panels, crowded = rows[panel].nunique(), rows.duplicated(["key", panel]).any()
    columns = min(panels, 5)
    each = width // columns - (14 if shared else 24)
    unit = unit if columns < 3 else unit.rpartition("(")[2].strip(")")  # there is no room for more below a panel
    height = alt.Step(12 if rows["key"].nunique() > 20 else 22)
    base = alt.Chart(rows, width=each, height=height)
    names = alt.Y("key:N", sort=None, title=None, axis=alt.Axis(labelExpr=PLAIN))
    offset = {"yOffset": alt.YOffset("colour:N", sort=None)} if crowded else {}
    base = base.encode(y=names, color=_colour(rows, known), tooltip=_tooltips(rows), **offset)
    ends = base.mark_rule(aria=False).encode(
        x=alt.X("ci_low:Q", title=unit),
        x2="ci_high:Q",
        strokeWidth=_is_picked(alt.StrokeWidthValue, 4, 1.3),
    )
    dots = base.mark_point(filled=True, opacity=1).encode(x="estimate:Q", size=_is_picked(alt.SizeValue, 190, 55))
    marks = [
        alt.Chart(rows).mark_rule(aria=False, strokeDash=[4, 3], color="#999").encode(x=alt.XDatum(at))
        for at in lines or []
    ]
    chart = alt.layer(_clicked(dots), ends, *marks)
    chart = chart.facet(alt.Facet(f"{panel}:N", sort=None, title=None, header=HEAD), columns=columns, spacing=8)
    return chart if shared else chart.resolve_scale(x="independent")


def trade_off(
    rows: pd.DataFrame, x: str, y: str, names: dict[str, str], known: dict[str, str] | None = None
) -> alt.LayerChart:
    """One column against another, each with its interval; ``known`` as of `intervals`."""
    base = alt.Chart(rows, width=330, height=330).encode(color=_colour(rows, known), tooltip=_tooltips(rows))
    scale = alt.Scale(zero=False)
    across = alt.X(f"{x}:Q", title=names[x], scale=scale), alt.Y(f"{y}:Q", title=names[y], scale=scale)
    dots = base.mark_point(filled=True, opacity=1).encode(*across, size=_is_picked(alt.SizeValue, 260, 70))
    width = _is_picked(alt.StrokeWidthValue, 2.5, 0.4)
    flat = base.mark_rule(aria=False).encode(alt.X(f"{x}_low:Q"), alt.X2(f"{x}_high:Q"), across[1], strokeWidth=width)
    upright = base.mark_rule(aria=False).encode(
        across[0], alt.Y(f"{y}_low:Q"), alt.Y2(f"{y}_high:Q"), strokeWidth=width
    )
    text = base.mark_text(aria=False, dy=-12).encode(*across, text="key:N", opacity=_is_picked(alt.OpacityValue, 1, 0))
    return alt.layer(flat, upright, _clicked(dots), text)


def matrix(rows: pd.DataFrame, x: str, y: str, value: str, title: str, *, diverging: bool) -> alt.LayerChart:
    """A value for each pair, as colour and as number."""
    limit = max(abs(rows[value]).max(), 1e-9)
    scale = alt.Scale(scheme="purpleorange", domain=[-limit, limit]) if diverging else alt.Scale(scheme="blues")
    size = {"width": alt.Step(max(46, min(90, 420 // rows[x].nunique()))), "height": alt.Step(20)}
    across = alt.X(f"{x}:N", sort=None, title=None, axis=alt.Axis(labelAngle=-30))
    base = alt.Chart(rows, **size).encode(x=across, y=alt.Y(f"{y}:N", sort=None, title=None))
    cells = base.mark_rect().encode(
        color=alt.Color(f"{value}:Q", title=title, scale=scale, legend=None), tooltip=_tooltips(rows),
        stroke=_is_picked(alt.StrokeValue, "black", "white"), strokeWidth=_is_picked(alt.StrokeWidthValue, 2, 0.5),
    )  # fmt: skip
    dark = {"test": f"abs(datum['{value}']) > {0.6 * limit}", "value": "white"}
    ink = alt.ColorValue("black", condition=dark)
    numbers = alt.Text(f"{value}:Q", format=".0f" if diverging else ".2f")
    return alt.layer(_clicked(cells), base.mark_text(aria=False, fontSize=10).encode(text=numbers, color=ink))


def lines(rows: pd.DataFrame, x: str, unit: str, panel: str) -> alt.FacetChart:
    """What changes along ``x``, one line for each key, one panel for each value of ``panel``."""
    columns = min(3, rows[panel].nunique())
    base = alt.Chart(rows, width=(WIDTH + 120) // columns - 80, height=210).encode(
        x=alt.X(f"{x}:Q", title=label(x), axis=alt.Axis(values=sorted(rows[x].unique()))),
        y=alt.Y("estimate:Q", title=unit, scale=alt.Scale(zero=False)), color=_colour(rows, None), detail="key:N",
        tooltip=_tooltips(rows),
    )  # fmt: skip
    ends = base.mark_rule(aria=False).encode(
        y="ci_low:Q", y2="ci_high:Q", strokeWidth=_is_picked(alt.StrokeWidthValue, 2.5, 0.7)
    )
    path = base.mark_line(aria=False).encode(strokeWidth=_is_picked(alt.StrokeWidthValue, 4, 1.2))
    dots = base.mark_point(filled=True, opacity=1).encode(size=_is_picked(alt.SizeValue, 140, 45))
    chart = alt.layer(_clicked(dots), ends, path).facet(alt.Facet(f"{panel}:N", sort=None, title=None), columns=columns)
    return chart.resolve_scale(y="independent")


def strip(rows: pd.DataFrame, means: pd.DataFrame) -> alt.LayerChart:
    """A dot for each item, by task, and the mean with its interval."""
    unit = "difference from no system prompt (points)"
    base = alt.Chart(rows, width=WIDTH, height=alt.Step(34)).encode(
        x=alt.X("difference:Q", title=unit), y=alt.Y("task:N", sort=None, title=None), tooltip=_tooltips(rows)
    )
    colour = _is_picked(alt.ColorValue, PALETTE["control"], PALETTE["data"])
    each = base.mark_point(filled=True).encode(
        opacity=_is_picked(alt.OpacityValue, 1, 0.35), size=_is_picked(alt.SizeValue, 260, 55), color=colour
    )
    mean = alt.Chart(means).encode(y=alt.Y("task:N", sort=None), tooltip=_tooltips(means))
    dot = mean.mark_point(filled=True, size=90, color="black", shape="diamond", opacity=1).encode(x="estimate:Q")
    return alt.layer(
        _clicked(each), mean.mark_rule(aria=False, strokeWidth=2).encode(x="ci_low:Q", x2="ci_high:Q"), dot
    )


def pairs(rows: pd.DataFrame, a: str, b: str, unit: str) -> alt.LayerChart:
    """Two values of each row, joined: from ``a`` (open) to ``b`` (filled)."""
    base = alt.Chart(rows, width=WIDTH - 180, height=alt.Step(17)).encode(
        y=alt.Y("key:N", sort=None, title=None, axis=alt.Axis(labelLimit=330)), tooltip=_tooltips(rows)
    )
    rule = base.mark_rule(aria=False, color="#888").encode(
        x=alt.X(f"{a}:Q", title=f"{unit}: {label(a)} ○, {label(b)} ●"),
        x2=f"{b}:Q",
        strokeWidth=_is_picked(alt.StrokeWidthValue, 3, 1),
    )
    size = _is_picked(alt.SizeValue, 160, 55)
    first = base.mark_point(filled=False, color=PALETTE["published"], opacity=1).encode(x=f"{a}:Q", size=size)
    second = base.mark_point(filled=True, color=PALETTE["data"], opacity=1).encode(x=f"{b}:Q", size=size)
    return alt.layer(rule, first, _clicked(second))
