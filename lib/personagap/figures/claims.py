"""Published claims beside what their designs could show."""

from typing import Any

import pandas as pd
from matplotlib.axes import Axes

from personagap.claims import DEPENDS, NOISE, STANDS
from personagap.figures.style import PALETTE, dots

__all__ = ["claims"]

_STYLES = {STANDS: ("o", "data"), DEPENDS: ("s", "accent"), NOISE: ("D", "noise")}


def claims(table: pd.DataFrame, ax: Axes, *, title: str, legend: bool = True) -> Axes:
    """One line per claim of a paper (``claims.claims``): number or difference, intervals, the
    smallest effect that its design finds. ``legend`` is for the panel that explains the marks.
    """
    # By verdict: what stands is together, whatever order claims have in their paper.
    parts = [table[table["verdict"] == verdict] for verdict in _STYLES]
    table = pd.concat(parts, ignore_index=True)
    for verdict, (marker, role) in _STYLES.items():
        part, colour = table[table["verdict"] == verdict], PALETTE[role]
        ax.hlines(part.index, part["best_low"], part["best_high"], lw=7, alpha=0.3, color=colour)
        dots(ax, part, part.index, fmt=marker, color=colour, label=verdict)
    style: dict[str, Any] = {"ls": "", "marker": "|", "ms": 16, "mew": 2}
    style |= {"color": PALETTE["control"], "label": "smallest effect found with 80 % power"}
    ax.plot(table["detectable"], table.index, **style)
    ax.axvline(0, color=PALETTE["noise"], ls="--")
    ax.set_yticks(table.index, table["claim"])
    ax.set(title=title, xlabel="points", ylim=(len(table) - 0.5, -0.5))
    if legend:
        ax.legend(loc="upper center", bbox_to_anchor=(0, -0.22), ncols=2, fontsize=9)
    return ax
