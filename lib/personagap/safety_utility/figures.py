"""Figures of what a defence, or a training stage, changes."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd
import seaborn as sns
from matplotlib.axes import Axes
from matplotlib.lines import Line2D

from personagap.figures.style import PALETTE, debiased, dots, named


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
    names = change["condition"].drop_duplicates()[::-1].tolist()
    rows = change.assign(row=change["condition"].map(names.index))
    joint = rows[(rows["dimension"] == "joint") & (rows["measure"] == "pb_corrected")]
    after = joint.assign(ci_low=joint["ci_low"] + joint["before"], ci_high=joint["ci_high"] + joint["before"])
    dots(axes[0], after, after["row"], "after")
    arrow = {"arrowstyle": "->", "color": PALETTE["noise"], "lw": 1.2, "shrinkA": 5, "shrinkB": 5}
    for row in joint.itertuples():
        axes[0].annotate("", (row.after, row.row + 0.2), (row.before, row.row + 0.2), arrowprops=arrow)
    axes[0].plot(joint["before"], joint["row"] + 0.2, "o", ms=6, mfc="white", color=PALETTE["data"])
    axes[0].set(xlabel="PB, all tasks (points)", title="Personalization bias", xlim=(0, None))
    means = rows[rows["measure"] == "mean"].groupby("dimension", sort=False)
    for ax, (dimension, part) in zip(axes[1:], means, strict=True):
        falls = part["ci_high"] < 0
        dots(ax, part[~falls], part["row"][~falls])
        dots(ax, part[falls], part["row"][falls], fmt="v", color=PALETTE["control"])
        ax.axvline(0, color=PALETTE["noise"], lw=1)
        ax.set(xlabel="change (points)", title=f"Mean {dimension.replace('_', ' ')}")
    if truth is not None:
        true = truth[truth["dimension"] == "joint"].set_index("condition")["true"].reindex(names)
        axes[0].plot(true, range(len(names)), "d", ms=6, color=PALETTE["accent"], zorder=4)
    axes[0].set_yticks(range(len(names)), named(pd.Series(names)))
    axes[0].set_ylim(-0.6, len(names) - 0.3)
    _legend(axes[0], truth is not None)
    return axes


def _legend(ax: Axes, true: bool) -> None:
    signs: dict[str, dict[str, Any]] = {
        "before": {"ls": "", "marker": "o", "color": PALETTE["data"], "mfc": "white"},
        "after, or change, 95% interval of the paired difference": {"marker": "o", "color": PALETTE["data"]},
        "mean falls: everybody is served worse": {"marker": "v", "color": PALETTE["control"]},
        "true PB of the demo model": {"ls": "", "marker": "d", "color": PALETTE["accent"]},
    }
    handles = [Line2D([], [], label=label, **style) for label, style in signs.items()]
    ax.figure.legend(handles=handles if true else handles[:-1], loc="outside lower center", ncols=2, fontsize=9)


def origin(bias: pd.DataFrame, ax: Axes, truth: pd.DataFrame | None = None) -> Axes:
    """PB of each stage of training, corrected for noise, one line per task and a heavy one for all together.

    Parameters
    ----------
    bias : ``effects.personalization_bias`` of each stage, with a leading ``condition``, in the order of training.
    truth : ``condition dimension true`` in points, where it is known (drawn for the joint PB).
    """
    stages = bias["condition"].unique()
    dimensions = bias["dimension"].unique()
    colours = dict(zip(dimensions, sns.color_palette("colorblind", len(dimensions) + 1)[1:], strict=True))
    colours["joint"] = PALETTE["data"]  # also the first of that palette
    for number, (dimension, rows) in enumerate(bias.groupby("dimension", sort=False)):
        joint = dimension == "joint"
        x = np.arange(len(stages)) + 0.05 * (number - (len(dimensions) - 1) / 2)
        style = {"color": colours[dimension], "lw": 2.5 if joint else 1, "zorder": 2 + joint, "ms": 6, "capsize": 0}
        style |= {"fmt": "osv^Dp"[number % 6] + "-", "label": dimension.replace("_", " ")}
        dots(ax, debiased(rows), x, "debiased_pb2", upright=True, **style)
        if not joint:
            continue
        label = "noise floor, joint: E[PB] if no effect"
        ax.plot(x, rows["noise_floor"], color=PALETTE["noise"], ls="--", label=label)
        style = {"color": PALETTE["data"], "mfc": "white", "ms": 8, "zorder": 4}
        ax.plot(x, rows["pb"], "o", label="joint PB uncorrected, to be held against the floor", **style)
        if truth is not None:
            true = truth[truth["dimension"] == "joint"].set_index("condition")["true"].reindex(stages)
            style = {"color": PALETTE["control"], "ms": 9, "zorder": 4, "label": "true joint PB of the demo"}
            ax.plot(x, true, "d", **style)
    ax.set_xticks(range(len(stages)), stages)
    ax.set(ylabel="PB (points); filled: corrected for noise, 95% interval", ylim=(0, None))
    ax.set_title("Personalization bias by stage of training")
    ax.legend(fontsize=9, loc="center left", bbox_to_anchor=(1, 0.5))
    return ax
