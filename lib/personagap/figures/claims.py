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
    order = {verdict: place for place, verdict in enumerate(_STYLES)}
    table = table.sort_values(
        "verdict", key=lambda column: column.map(order), kind="stable"
    ).reset_index(drop=True)
    for verdict, (marker, role) in _STYLES.items():
        part = table[table["verdict"] == verdict]
        ax.hlines(
            part.index, part["best_low"], part["best_high"], lw=7, alpha=0.3, color=PALETTE[role]
        )
        dots(ax, part, part.index, fmt=marker, color=PALETTE[role], label=verdict)
    style: dict[str, Any] = {
        "ls": "",
        "marker": "|",
        "ms": 16,
        "mew": 2,
        "color": PALETTE["control"],
    }
    ax.plot(
        table["detectable"], table.index, label="smallest effect found with 80 % power", **style
    )
    ax.axvline(0, color=PALETTE["noise"], ls="--")
    ax.set_yticks(table.index, table["claim"])
    ax.set(title=title, xlabel="points", ylim=(len(table) - 0.5, -0.5))
    if legend:
        ax.legend(loc="upper center", bbox_to_anchor=(0, -0.22), ncols=2, fontsize=9)
    return ax
