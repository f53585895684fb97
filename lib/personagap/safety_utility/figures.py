"""Figures of the effects of defences and of training stages."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.lines import Line2D

from personagap.effects import pb_corrected
from personagap.figures.intervals import intervals
from personagap.figures.style import PALETTE, errorbars
from personagap.formatting import humanize
from personagap.palette import series_styles
from personagap.readable import display_names


def changes(
    change: pd.DataFrame, axes: Sequence[Axes], truth: pd.DataFrame | None = None
) -> Sequence[Axes]:
    """Plot PB before and after by condition, and the changes of the mean scores beside it.

    In the first panel an arrow leads from PB before (open) to PB after (both corrected for noise);
    the bar is the interval of the paired difference, added to PB before. Each further panel shows
    the change of one task's mean.

    Parameters
    ----------
    change : ``effects.paired_change`` with one reference.
    axes : one more than the number of tasks with a mean, sharing the y axis.
    truth : ``condition dimension true`` in points, if known; drawn for the joint PB.
    """
    joint = change[(change["task"] == "joint") & (change["metric"] == "pb_corrected")]
    # The interval of the paired difference: separate intervals before and after would overlap even
    # for changes that are clear on the same items.
    ends = ["estimate", "ci_low", "ci_high"]
    after = joint.assign(**joint[ends].add(joint["before"], axis=0))
    title = "Personalization bias"
    intervals(after, axes[0], "condition", xlabel="PB, all tasks (points)", title=title)
    arrow = {"arrowstyle": "->", "color": PALETTE["noise"], "lw": 1.2, "shrinkA": 5, "shrinkB": 5}
    for place, row in enumerate(joint.itertuples()):
        # Slightly above the dot, so that the arrow does not cover its interval.
        axes[0].annotate("", (row.after, place - 0.2), (row.before, place - 0.2), arrowprops=arrow)
    rows = np.arange(len(joint)) - 0.2
    axes[0].plot(joint["before"], rows, "o", ms=6, mfc="white", color=PALETTE["data"])
    axes[0].set_xlim(0, None)
    for ax, (task, part) in zip(
        axes[1:], change[change["metric"] == "mean"].groupby("task", sort=False), strict=True
    ):
        title = f"Mean {task.replace('_', ' ')}"
        intervals(part, ax, "condition", xlabel="change (points)", title=title, null=0)
    dot: dict[str, Any] = {"marker": "o", "color": PALETTE["data"]}
    styles = {"before": dot | {"ls": "", "mfc": "white"}}
    styles["after, or change, 95% interval of the paired difference"] = dot
    if truth is not None:
        style: dict[str, Any] = {"marker": "d", "ls": "", "color": PALETTE["accent"]}
        styles["true PB of the demo model"] = style
        true = _joint_truth(truth, joint["condition"])
        axes[0].plot(true, range(len(joint)), ms=6, zorder=4, **style)
    handles = [Line2D([], [], label=label, **style) for label, style in styles.items()]
    axes[0].figure.legend(handles=handles, loc="outside lower center", ncols=3, fontsize=9)
    return axes


def pooled(table: pd.DataFrame, axes: Sequence[Axes]) -> Sequence[Axes]:
    """Plot raw and shrunken identity effects (``effects.partial_pooling``), one task per axis."""
    for ax, (task, rows) in zip(axes, table.groupby("task", sort=False), strict=True):
        labels = {"xlabel": "points", "title": humanize(task)}
        intervals(rows, ax, "contrast", "metric", null=0, legend=False, **labels)
    handles, names = axes[0].get_legend_handles_labels()
    axes[0].figure.legend(handles, names, loc="outside lower center", ncols=2, fontsize=9)
    return axes


def origin(bias: pd.DataFrame, ax: Axes, truth: pd.DataFrame | None = None) -> Axes:
    """Plot PB by training stage, corrected for noise: a line per task and a heavy one for joint PB.

    ``bias`` has a leading ``condition``, the stages in the order of training; ``truth``,
    ``condition dimension true`` in points if known, is drawn for the joint PB.
    """
    stages = bias["condition"].unique()
    dimensions = bias["dimension"].unique()
    # The first three colours have a meaning of their own here, so tasks get others.
    tasks = [name for name in dimensions if name != "joint"]
    styles = series_styles(["data", "control", "baseline", *tasks])
    for number, (dimension, rows) in enumerate(bias.groupby("dimension", sort=False)):
        joint = dimension == "joint"
        x = np.arange(len(stages)) + 0.05 * (number - (len(dimensions) - 1) / 2)
        colour, marker = styles["data" if joint else dimension]
        style = {"color": colour, "lw": 2.5 if joint else 1, "zorder": 2 + joint, "ms": 6}
        style |= {"capsize": 0, "fmt": f"{marker}-", "label": humanize(dimension)}
        errorbars(ax, pb_corrected(rows), x, upright=True, **style)
        # Only for the joint PB: several noise floors or truths would be hard to tell apart.
        if not joint:
            continue
        label = "noise floor, joint: E[PB] if no effect"
        ax.plot(x, rows["noise_floor"], color=PALETTE["noise"], ls="--", label=label)
        # The noise floor is comparable only to the uncorrected PB, so that is drawn as well (S12).
        style = {"color": PALETTE["data"], "mfc": "white", "ms": 8, "zorder": 4}
        style["label"] = "joint PB uncorrected, to be held against the floor"
        ax.plot(x, rows["pb"], "o", **style)
        if truth is not None:
            style = {"color": PALETTE["control"], "ms": 9, "zorder": 4}
            style["label"] = "true joint PB of the demo"
            ax.plot(x, _joint_truth(truth, stages), "d", **style)
    ax.set_xticks(range(len(stages)), display_names(pd.Series(stages)))
    ax.set(ylabel="PB (points)\nfilled: corrected for noise, 95% interval", ylim=(0, None))
    ax.set_title("Personalization bias by stage of training")
    ax.legend(fontsize=9, loc="center left", bbox_to_anchor=(1, 0.5))
    return ax


def _joint_truth(truth: pd.DataFrame, conditions: Sequence[str]) -> pd.Series:
    joint = truth[truth["dimension"] == "joint"]
    return joint.set_index("condition")["true"].reindex(conditions)
