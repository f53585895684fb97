"""Figures of personalization bias over the stages of training."""

import numpy as np
import pandas as pd
import seaborn as sns
from matplotlib.axes import Axes

from personagap.figures.style import PALETTE

__all__ = ["origin"]


def origin(bias: pd.DataFrame, ax: Axes, truth: pd.DataFrame | None = None) -> Axes:
    """PB of each stage of training, corrected for noise, one line per task and a heavy one for all together.

    Parameters
    ----------
    bias : ``effects.personalization_bias`` of each stage, with a leading ``condition``, in the order of training.
    ax : axes to draw on.
    truth : ``condition dimension true`` in points, where it is known (drawn for the joint PB).
    """
    stages = list(dict.fromkeys(bias["condition"]))
    dimensions = list(dict.fromkeys(bias["dimension"]))
    colours = dict(zip(dimensions, sns.color_palette("colorblind", len(dimensions)), strict=True))
    for number, (dimension, rows) in enumerate(bias.groupby("dimension", sort=False)):
        joint = dimension == "joint"
        points = rows[["debiased_pb2", "ci_low", "ci_high"]].clip(lower=0) ** 0.5
        x = np.arange(len(stages)) + 0.05 * (number - (len(dimensions) - 1) / 2)
        errors = [points["debiased_pb2"] - points["ci_low"], points["ci_high"] - points["debiased_pb2"]]
        style = {
            "color": PALETTE["data"] if joint else colours[dimension],
            "lw": 2.5 if joint else 1,
            "zorder": 2 + joint,
        }
        marker = "osv^Dp"[number % 6]
        ax.errorbar(x, points["debiased_pb2"], yerr=errors, marker=marker, label=dimension.replace("_", " "), **style)
        if joint:
            floor = {"color": PALETTE["noise"], "ls": "--", "label": "noise floor, joint: E[PB] if no effect"}
            ax.plot(x, rows["noise_floor"], **floor)
            uncorrected = {"color": PALETTE["data"], "mfc": "white", "ms": 8, "zorder": 4}
            ax.plot(x, rows["pb"], "o", label="joint PB uncorrected, to be held against the floor", **uncorrected)
            if truth is not None:
                true = truth[truth["dimension"] == "joint"].set_index("condition")["true"].reindex(stages)
                ax.plot(
                    x, true, "d", color=PALETTE["control"], ms=9, ls="", zorder=4, label="true joint PB of the demo"
                )
    ax.set_xticks(range(len(stages)), stages)
    ax.set(
        ylabel="PB (points); filled: corrected for noise, 95% interval",
        title="Personalization bias by stage of training",
    )
    ax.set_ylim(0, None)
    ax.legend(fontsize=9, loc="center left", bbox_to_anchor=(1, 0.5))
    return ax
