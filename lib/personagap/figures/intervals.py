"""Figure of estimates with their intervals, for most result tables."""

from typing import Any

import pandas as pd
from matplotlib.axes import Axes

from personagap import palette
from personagap.figures.style import PALETTE, errorbars, literal, percent
from personagap.readable import display_names


def intervals(
    table: pd.DataFrame,
    ax: Axes,
    rows: str,
    series: str | None = None,
    *,
    xlabel: str,
    title: str,
    null: float | None = None,
    ceiling: pd.DataFrame | None = None,
    legend: bool = True,
) -> Axes:
    """Plot dots with their 95 % intervals, one row per value of ``rows``, side by side by series.

    Parameters
    ----------
    table : `results` table with the columns ``rows`` and ``series``; shares are shown in percent.
    rows, series : columns of the rows and of the series (None: a single series).
    xlabel : quantity and its unit.
    null : value without a difference, drawn as a dashed line.
    ceiling : table of the maximum that each of ``rows`` could reach, drawn as marks.
    legend : whether to draw the legend on these axes; panels share one.
    """
    names = list(dict.fromkeys(table[rows]))
    groups = [(None, table)] if series is None else list(table.groupby(series, sort=False))
    labels: dict[Any, str] = {}
    if series is not None:
        labels = dict(zip(table[series], display_names(table[series]).map(literal), strict=True))
    styles = palette.series_styles(labels or ["data"])
    for number, (name, part) in enumerate(groups):
        # Centred on the row; five series fill its height without touching the next row.
        places = part[rows].map(names.index) + 0.18 * (number - (len(groups) - 1) / 2)
        colour, marker = styles[name or "data"]
        errorbars(ax, part, places, fmt=marker, color=colour, label=labels.get(name))
    ax.set_yticks(range(len(names)), display_names(pd.Series(names, name=rows)).map(literal))
    # Downwards, so that rows appear in the order of the table.
    ax.set(xlabel=xlabel, title=title, ylim=(len(names) - 0.5, -0.5))
    if "unit" in table and (table["unit"] == "share").all():
        percent(ax.xaxis)
    if series is not None and legend:
        ax.legend(fontsize=9)
    if null is not None:
        ax.axvline(null, color=PALETTE["noise"], ls="--")
    if ceiling is not None:
        places, colour = ceiling[rows].map(names.index), PALETTE["accent"]
        ax.plot(ceiling["estimate"], places, "|", ms=18, mew=2, color=colour)
    return ax
