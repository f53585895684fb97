"""Trained judges beside those that were not trained."""

import pandas as pd
from matplotlib.axes import Axes

from personagap.figures.gaps import _dots
from personagap.figures.style import PALETTE

__all__ = ["classifiers"]


def classifiers(quality: pd.DataFrame, ax: Axes, metric: str = "f1") -> Axes:
    """One metric of every judge with its interval; a random split, which leaks, in grey.

    Parameters
    ----------
    quality : ``rater rater_kind`` and the metric with ``…_low …_high``; the row "select_all" becomes a line.
    ax : axes to draw on.
    metric : "f1", "kappa" or "auprc".
    """
    floor = quality.loc[quality["rater"] == "select_all", metric].iloc[0]
    table = quality[quality["rater_kind"] != "baseline"]
    leaks = table["rater"].str.endswith("(random split)")
    _dots(table, ax, metric, f"{metric}_low", f"{metric}_high", table["rater_kind"].mask(leaks, "baseline"), 1)
    ax.set_yticklabels(table["rater"].mask(leaks, table["rater"] + ", leaks"))
    ax.axvline(floor, color=PALETTE["noise"], ls="--")
    ax.annotate(
        "yes to everything", (floor, len(table) - 0.5), (4, 0), textcoords="offset points", fontsize=9, va="center"
    )
    names = {"f1": "F1", "kappa": "Cohen's κ", "auprc": "AUPRC"}
    ax.set(xlabel=f"{names[metric]}, 95% interval", xlim=(0, 0.9), ylim=(-0.6, len(table)))
    ax.set_title(f"{names[metric]} of models and of trained judges")
    return ax
