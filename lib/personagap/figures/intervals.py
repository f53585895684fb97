"""Points with their intervals: the figure of most result tables."""

from typing import Any

import pandas as pd
from matplotlib.axes import Axes

from personagap import palette
from personagap.figures.style import PALETTE, dots, literal, percent
from personagap.readable import named

__all__ = ["intervals"]


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
    """Dots with their 95 % intervals, one line per value of ``rows``, side by side for each of
    ``series``.

    Parameters
    ----------
    table : of `results`, with the two columns; shares are told in percent.
    xlabel : what is measured, and its unit.
    null : the value that no difference would have, as a dashed line.
    ceiling : the most that each of ``rows`` could reach, another such table, as marks.
    legend : whether to explain the series on these axes; panels share one beside them.
    """
    names = list(dict.fromkeys(table[rows]))
    groups = [(None, table)] if series is None else list(table.groupby(series, sort=False))
    told: dict[Any, str] = {}
    if series is not None:
        told = dict(zip(table[series], named(table[series]).map(literal), strict=True))
    styles = palette.series(told or ["data"])
    for number, (name, part) in enumerate(groups):
        # Side by side about the line of the row: five series fill it without touching the next.
        places = part[rows].map(names.index) + 0.18 * (number - (len(groups) - 1) / 2)
        colour, marker = styles[name or "data"]
        dots(ax, part, places, fmt=marker, color=colour, label=told.get(name))
    ax.set_yticks(range(len(names)), named(pd.Series(names, name=rows)).map(literal))
    # Downwards, so that rows are read in the order of the table.
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
