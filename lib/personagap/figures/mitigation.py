"""Figures of what a defence, or a training stage, changes."""

from collections.abc import Sequence

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.lines import Line2D

from personagap.figures.style import PALETTE

__all__ = ["changes"]


def changes(change: pd.DataFrame, axes: Sequence[Axes], truth: pd.DataFrame | None = None) -> Sequence[Axes]:
    """PB before and after by condition, and beside it what happens to the mean score of everybody.

    In the first panel an arrow leads from PB before (open) to PB after, corrected for noise; its bar is the interval
    of the paired difference, put at PB before. Each further panel is the change of one dimension's mean. A mean that
    falls has another colour and shape.

    Parameters
    ----------
    change : ``effects.paired_change`` with one reference.
    axes : one more than there are dimensions with a mean, sharing their y axis.
    truth : ``condition dimension true`` in points, where it is known (drawn for the joint PB).
    """
    names = list(change["condition"].unique())[::-1]
    rows = change.assign(row=change["condition"].map(names.index))
    joint = rows[(rows["dimension"] == "joint") & (rows["measure"] == "pb_corrected")]
    means = [part for _, part in rows[rows["measure"] == "mean"].groupby("dimension", sort=False)]
    before = joint["before"].to_numpy()
    _intervals(axes[0], joint.assign(estimate=joint["after"]), joint[["ci_low", "ci_high"]].add(before, axis=0))
    for row in joint.itertuples():
        style = {"arrowstyle": "->", "color": PALETTE["noise"], "lw": 1.2, "shrinkA": 5, "shrinkB": 5}
        axes[0].annotate("", (row.after, row.row + 0.2), (row.before, row.row + 0.2), arrowprops=style)
    axes[0].plot(before, joint["row"] + 0.2, "o", ms=6, mfc="white", color=PALETTE["data"])
    axes[0].set(xlabel="PB, all tasks (points)", title="Personalization bias", xlim=(0, None))
    for ax, part in zip(axes[1:], means, strict=True):
        _intervals(ax, part, part[["ci_low", "ci_high"]])
        ax.axvline(0, color=PALETTE["noise"], lw=1)
        ax.set(xlabel="change (points)", title=f"Mean {part['dimension'].iloc[0].replace('_', ' ')}")
    if truth is not None:
        true = truth[truth["dimension"] == "joint"].set_index("condition")["true"].reindex(names)
        axes[0].plot(true, range(len(names)), "d", ms=6, color=PALETTE["accent"], zorder=4)
    axes[0].set_yticks(range(len(names)), [name.replace("_", " ") for name in names])
    axes[0].set_ylim(-0.6, len(names) - 0.3)
    _legend(axes[0].figure, truth is not None)
    return axes


def _intervals(ax: Axes, rows: pd.DataFrame, ends: pd.DataFrame) -> None:
    worse = (rows["measure"] == "mean") & (rows["ci_high"] < 0)
    for chosen, marker, colour in ((~worse, "o", PALETTE["data"]), (worse, "v", PALETTE["control"])):
        centre = rows["estimate"][chosen]
        low, high = ends["ci_low"][chosen], ends["ci_high"][chosen]
        errors = np.maximum([centre - low, high - centre], 0)
        ax.errorbar(centre, rows["row"][chosen], xerr=errors, fmt=marker, ms=7, color=colour, capsize=3)
    ax.grid(axis="y", visible=False)


def _legend(figure, true: bool) -> None:
    handles = [
        Line2D([], [], ls="", marker="o", color=PALETTE["data"], mfc="white", label="before"),
        Line2D(
            [], [], marker="o", color=PALETTE["data"], label="after, or change, 95% interval of the paired difference"
        ),
        Line2D([], [], marker="v", color=PALETTE["control"], label="mean falls: everybody is served worse"),
    ]
    if true:
        handles.append(Line2D([], [], ls="", marker="d", color=PALETTE["accent"], label="true PB of the demo model"))
    figure.legend(handles=handles, loc="outside lower center", ncols=2, fontsize=9)
