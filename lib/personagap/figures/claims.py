"""Figure of published claims with the intervals and detectable effects of their designs."""

from typing import Any

import pandas as pd
from matplotlib.axes import Axes

from personagap.claims import DEPENDS, NOISE, STANDS
from personagap.figures.style import PALETTE, errorbars

_MARKERS = {STANDS: ("o", "data"), DEPENDS: ("s", "accent"), NOISE: ("D", "noise")}


def claims(table: pd.DataFrame, ax: Axes, *, title: str, legend: bool = True) -> Axes:
    """Plot one row per claim: number or difference, its intervals, the smallest detectable effect.

    Parameters
    ----------
    table : rows of ``claims.claims`` for one paper.
    legend : whether to explain the marks on these axes.
    """
    # Grouped by verdict, whatever the order of the claims in their paper.
    by_verdict = [table[table["verdict"] == verdict] for verdict in _MARKERS]
    table = pd.concat(by_verdict, ignore_index=True)
    for verdict, (marker, role) in _MARKERS.items():
        part, colour = table[table["verdict"] == verdict], PALETTE[role]
        ax.hlines(part.index, part["best_low"], part["best_high"], lw=7, alpha=0.3, color=colour)
        errorbars(ax, part, part.index, fmt=marker, color=colour, label=verdict)
    style: dict[str, Any] = {"ls": "", "marker": "|", "ms": 16, "mew": 2}
    style |= {"color": PALETTE["control"], "label": "smallest effect found with 80 % power"}
    ax.plot(table["detectable"], table.index, **style)
    ax.axvline(0, color=PALETTE["noise"], ls="--")
    ax.set_yticks(table.index, table["claim"])
    ax.set(title=title, xlabel="points", ylim=(len(table) - 0.5, -0.5))
    if legend:
        ax.legend(loc="upper center", bbox_to_anchor=(0, -0.22), ncols=2, fontsize=9)
    return ax
