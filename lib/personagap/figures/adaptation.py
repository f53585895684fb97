"""Figures of personalization by examples, and of the authors' logged runs."""

from collections.abc import Sequence

import numpy as np
import pandas as pd
from matplotlib.axes import Axes

from personagap.figures.stages import COLOURS, intervals
from personagap.figures.style import PALETTE, dots

__all__ = ["forking_paths", "retrieval", "shots"]

RATE = "win_rate_against_gpt4o"


def shots(means: pd.DataFrame, ax: Axes, unit: str = "z units") -> Axes:
    """Mean reward against the number of the user's own examples, by strategy, beside what needs no model.

    Parameters
    ----------
    means : rows of ``adaptation.summarise`` of one metric: control "own" and zero-shot of one template, and the arms
        of ``adaptation.references``.
    ax : axes to draw on.
    unit : of rewards.
    """
    zero = means[means["strategy"] == "zero_shot"]
    for number, (strategy, rows) in enumerate(means[means["shots"] > 0].groupby("strategy", sort=False)):
        line = pd.concat([zero, rows]).sort_values("shots")
        style = {"color": PALETTE[("data", "accent", "human", "control")[number]], "label": strategy, "ms": 6}
        places = line["shots"] + 0.06 * (number - 1.5)
        dots(ax, line, places, "value", upright=True, fmt="ovs^"[number] + "-", **style)
    for row in means[means["template"] == "none"].itertuples():
        ax.axhline(row.value, color=PALETTE["noise"], ls=":", lw=1.2)
        ax.annotate(f" {row.strategy}", (1, row.value), xycoords=("axes fraction", "data"), va="center", fontsize=9)
    ax.margins(y=0.08)
    ax.set(xlabel="examples shown", ylabel=f"mean persona reward ({unit}), 95% interval")
    ax.set_title("What the user's own examples are worth")
    ax.legend(fontsize=9, title="examples", title_fontsize=9)
    return ax


def retrieval(quality: pd.DataFrame, axes: Sequence[Axes]) -> Sequence[Axes]:
    """How good the retrieval of similar users is, by embedding and size of the database, beside chance.

    Parameters
    ----------
    quality : ``adaptation.neighbour_arms``, of one database or several.
    axes : one for each metric.
    """
    quality = quality.assign(database=quality["users"].map("{:,} users".format))
    for ax, (metric, rows) in zip(axes, quality.groupby("metric", sort=False), strict=True):
        title = {"recall": "Nearest users by weights, found"}.get(metric, "Similar looks, similar weights")
        chances = rows.groupby("database", sort=False)["chance"].first()
        alike = len(set(chances)) == 1
        label = f"{metric}, 95% interval (dotted: chance{'' if alike else ' for that size'})"
        intervals(rows, ax, "embedding", "database", xlabel=label, title=title)
        for chance, colour in zip(chances, COLOURS, strict=False):
            ax.axvline(chance, color=PALETTE["noise" if alike else colour], ls=":")
    axes[0].get_legend().remove()
    return axes


def forking_paths(log: pd.DataFrame, ordered: pd.DataFrame, axes: Sequence[Axes]) -> Sequence[Axes]:
    """Every logged run, and the meta-learning runs in order beside what equally good ones would show.

    Parameters
    ----------
    log, ordered : ``runlog.load`` and ``runlog.ordered``.
    axes : two of them.
    """
    left, right = axes
    counts = log["method"].value_counts(sort=False).iloc[::-1]
    rows = log["method"].map(counts.index.get_loc) + np.random.default_rng(0).uniform(-0.25, 0.25, len(log))
    left.plot(log[RATE], rows, "o", ms=5, alpha=0.6)
    left.set_yticks(range(len(counts)), [f"{name} ({count})" for name, count in counts.items()])
    left.set(xlabel="win rate against GPT-4o (%)", title=f"All {len(log)} logged runs")
    label = "if all were equally good, with\nindependent errors (95%)"
    band = ordered["rank"], ordered["chance_low"], ordered["chance_high"]
    right.fill_between(*band, color=PALETTE["noise"], alpha=0.35, lw=0, label=label)
    right.plot(ordered["rank"], ordered[RATE], "o", ms=4, label="configurations, in order")
    plotted = ordered[ordered["plotted"]]
    style = {"ms": 9, "mfc": "none", "mew": 1.8, "color": PALETTE["control"], "label": "those in the paper's figure"}
    right.plot(plotted["rank"], plotted[RATE], "D", **style)
    own = log.query("method == 'SelfKShotICL' and responses_to_include == 'winning_only' and num_shots == 3")
    right.axhline(own[RATE].iloc[0], color=PALETTE["human"], ls="--", lw=1.2, label="Self-ICL")
    right.set(xlabel="rank of the configuration", ylabel="win rate against GPT-4o (%)")
    right.set_title(f"Meta-learning: {len(ordered)} configurations, one test set")
    right.legend(fontsize=8)
    return axes
