"""Points with their intervals: the figure of most result tables."""

import numpy as np
import pandas as pd
from matplotlib.axes import Axes

from personagap import palette
from personagap.figures.style import PALETTE, dots, percent
from personagap.readable import named

__all__ = ["dumbbell", "intervals"]


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
    """Dots with their 95 % intervals, one line per value of
    ``rows``, side by side for each of ``series``.

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
    told = {} if series is None else dict(zip(table[series], named(table[series]), strict=True))
    styles = palette.series(told or ["data"])
    for number, (name, part) in enumerate(groups):
        places = part[rows].map(names.index) + 0.18 * (number - (len(groups) - 1) / 2)
        colour, marker = styles[name or "data"]
        dots(ax, part, places, fmt=marker, color=colour, label=told.get(name))
    ax.set_yticks(range(len(names)), named(pd.Series(names, name=rows)))
    ax.set(xlabel=xlabel, title=title, ylim=(len(names) - 0.5, -0.5))
    if "unit" in table and (table["unit"] == "share").all():
        percent(ax.xaxis)
    if series is not None and legend:
        ax.legend(fontsize=9)
    if null is not None:
        ax.axvline(null, color=PALETTE["noise"], ls="--")
    if ceiling is not None:
        ax.plot(
            ceiling["estimate"],
            ceiling[rows].map(names.index),
            "|",
            ms=18,
            mew=2,
            color=PALETTE["accent"],
        )
    return ax


def dumbbell(table: pd.DataFrame, ax: Axes, a: str, b: str, *, unit: str) -> Axes:
    """Two values per row, joined: published and measured, or human and model.

    The first column of ``table`` is the row's name; ``a`` and ``b`` name the two others, whose
    ends, where known, are in ``{a}_low {a}_high`` ….
    """
    rows = np.arange(len(table))[::-1]
    ax.hlines(
        rows,
        table[[a, b]].min(axis=1),
        table[[a, b]].max(axis=1),
        color=PALETTE["noise"],
        lw=3,
        alpha=0.5,
    )
    for name, role, marker, shift in ((a, "human", "o", 0.07), (b, "model", "s", -0.07)):
        if f"{name}_low" in table:
            ax.hlines(
                rows + shift,
                table[f"{name}_low"],
                table[f"{name}_high"],
                color=PALETTE[role],
                lw=1.2,
            )
        ax.plot(table[name], rows, marker, ms=9, color=PALETTE[role], label=name.replace("_", " "))
    ax.set_yticks(rows, named(table.iloc[:, 0]))
    ax.set(ylim=(-0.6, len(table) - 0.4), xlabel=unit)
    ax.grid(axis="y", visible=False)
    ax.legend(fontsize=9)
    return ax
