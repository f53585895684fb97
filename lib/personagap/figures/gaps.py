"""Figures of the human–model and the real–synthetic gap."""

import numpy as np
import pandas as pd
from matplotlib.axes import Axes

from personagap.figures.style import PALETTE

__all__ = ["agreement_matrix", "calibration", "differences", "dumbbell", "over_selection", "precision_recall"]

KINDS = {
    "human": ("human", "o"),
    "model": ("model", "s"),
    "baseline": ("noise", "D"),
    "retrieval": ("accent", "^"),
    "trained": ("control", "P"),
}


def _label(name: str) -> str:
    return name.replace("_", " ")


def agreement_matrix(agreement: pd.DataFrame, ax: Axes) -> Axes:
    """Cohen's κ of every pair of raters, as a lower triangle with its 95 % interval in each cell.

    Parameters
    ----------
    agreement : ``gap.agreement``.
    ax : axes to draw on.
    """
    raters = list(dict.fromkeys([*agreement["rater_a"], *agreement["rater_b"]]))
    grid = np.full((len(raters), len(raters)), np.nan)
    for pair in agreement.itertuples():
        row, column = sorted((raters.index(pair.rater_a), raters.index(pair.rater_b)), reverse=True)
        grid[row, column] = pair.kappa
        text = f"{pair.kappa:.2f}\n{pair.ci_low:.2f} – {pair.ci_high:.2f}" if not pair.note else "undefined"
        colour = "white" if pair.kappa > 0.6 else "black"
        ax.text(column, row, text, ha="center", va="center", fontsize=8, color=colour)
    extent = (-0.5, len(raters) - 1.5, len(raters) - 0.5, 0.5)
    image = ax.imshow(grid[1:, :-1], extent=extent, cmap="Blues", vmin=0, vmax=1)
    ax.figure.colorbar(image, ax=ax, label="Cohen's κ (0: chance, 1: identical)", shrink=0.8)
    ax.set_xticks(range(len(raters) - 1), raters[:-1], rotation=30, ha="right")
    ax.set_yticks(range(1, len(raters)), raters[1:])
    ax.grid(visible=False)
    ax.set_title("Agreement between raters (κ, 95% interval)")
    return ax


def _dots(table: pd.DataFrame, ax: Axes, value: str, low: str, high: str, kind: pd.Series, scale: float) -> np.ndarray:
    """Dots with intervals, one row each, coloured and shaped by kind; returns the rows' positions."""
    rows = np.arange(len(table))[::-1]
    for row, (_, line), what in zip(rows, table.iterrows(), kind, strict=True):
        colour, marker = KINDS[what]
        error = np.array([[line[value] - line[low]], [line[high] - line[value]]]).clip(min=0)
        style = {"fmt": marker, "ms": 7, "color": PALETTE[colour], "capsize": 3}
        ax.errorbar(scale * line[value], row, xerr=scale * error, **style)
    ax.set_yticks(rows, table.iloc[:, 0])
    ax.grid(axis="y", visible=False)
    return rows


def over_selection(metrics: pd.DataFrame, ax: Axes) -> Axes:
    """How often each rater says yes, against how often the human majority does.

    Parameters
    ----------
    metrics : ``gap.relevance_metrics``, of which humans and models are shown.
    ax : axes to draw on.
    """
    table = metrics[metrics["rater_kind"].isin(["human", "model"])]
    rows = _dots(table, ax, "yes_rate", "yes_rate_low", "yes_rate_high", table["rater_kind"], 100)
    base = table.iloc[0]
    ax.axvspan(100 * base["prevalence_low"], 100 * base["prevalence_high"], color=PALETTE["human"], alpha=0.18)
    ax.axvline(100 * base["prevalence"], color=PALETTE["human"])
    ax.annotate(
        f"human majority\n{100 * base['prevalence']:.1f}%",
        (100 * base["prevalence"], 0.98),
        xycoords=("data", "axes fraction"),
        xytext=(4, 0),
        textcoords="offset points",
        va="top",
        fontsize=9,
        color=PALETTE["human"],
    )
    for row, ratio in zip(rows, table["over_selection"], strict=True):
        ax.annotate(f"{ratio:.2f}×", (1.02, row), xycoords=("axes fraction", "data"), va="center", fontsize=10)
    ax.annotate("ratio", (1.02, len(table) - 0.4), xycoords=("axes fraction", "data"), va="center", fontsize=9)
    ax.set(xlabel="attributes called relevant (%), 95% interval", title="Over-selection", xlim=(0, None))
    ax.set_ylim(-0.6, len(table) + 0.2)
    return ax


def precision_recall(metrics: pd.DataFrame, ax: Axes) -> Axes:
    """Precision against recall, with the two baselines that know nothing and lines of equal F1.

    Parameters
    ----------
    metrics : ``gap.relevance_metrics`` of judges, baselines and, where there are, retrieval.
    ax : axes to draw on.
    """
    recall = np.linspace(0.01, 1, 400)
    for f1 in (0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8):
        # F1 = 2PR / (P + R), solved for P; only where P is a proportion.
        precision = np.divide(f1 * recall, 2 * recall - f1, out=np.full_like(recall, np.nan), where=2 * recall > f1)
        shown = np.where(precision <= 1, precision, np.nan)
        ax.plot(recall, shown, color="#cccccc", lw=0.8, zorder=0)
        ax.text(1.012, f1 / (2 - f1), f"F1 {f1:.1f}", fontsize=8, color="#777777", va="center")
    base = metrics["prevalence"].iloc[0]
    ax.axhline(base, color=PALETTE["noise"], ls="--", lw=1)
    for kind, rows in metrics.groupby("rater_kind", sort=False):
        colour, marker = KINDS[kind]
        ax.errorbar(
            rows["recall"],
            rows["precision"],
            xerr=[rows["recall"] - rows["recall_low"], rows["recall_high"] - rows["recall"]],
            yerr=[rows["precision"] - rows["precision_low"], rows["precision_high"] - rows["precision"]],
            fmt=marker,
            ms=7,
            color=PALETTE[colour],
            elinewidth=0.8,
            label="human (part of the majority)" if kind == "human" else kind,
            clip_on=False,
        )
    below = 0
    for row in metrics.itertuples():
        left, rise = row.recall > 0.7 or row.rater_kind == "baseline", 6
        if row.rater_kind in ("baseline", "retrieval"):  # these crowd at the base rate: their names go below, in turn
            below, rise = below + 1, -18 - 11 * (below % 4)
        place = {"xytext": (-7 if left else 7, rise), "ha": "right" if left else "left"}
        ax.annotate(row.rater, (row.recall, row.precision), textcoords="offset points", fontsize=9, **place)
    ax.set(xlim=(0, 1), ylim=(0, 1), xlabel="recall of the relevant attributes", ylabel="precision")
    ax.set_title("Precision and recall against the human majority")
    ax.legend(fontsize=8, loc="upper left")
    return ax


def differences(paired: pd.DataFrame, ax: Axes) -> Axes:
    """Forest plot of the paired differences between two judges; filled where the interval excludes 0.

    Parameters
    ----------
    paired : ``gap.paired_difference``; the over-selection ratio, on another scale, is left out.
    ax : axes to draw on.
    """
    table = paired[paired["metric"] != "over_selection"].iloc[::-1].reset_index(drop=True)
    clear = (table["ci_low"] > 0) | (table["ci_high"] < 0)
    error = [table["estimate"] - table["ci_low"], table["ci_high"] - table["estimate"]]
    ax.axvline(0, color=PALETTE["noise"], lw=1)
    ax.errorbar(table["estimate"], table.index, xerr=error, fmt="none", ecolor=PALETTE["data"], capsize=3)
    for chosen, face in ((clear, PALETTE["data"]), (~clear, "white")):
        ax.plot(table["estimate"][chosen], table.index[chosen], "o", ms=7, color=PALETTE["data"], mfc=face)
    ax.set_yticks(table.index, [_label(name) for name in table["metric"]])
    ax.set_ylim(-0.6, len(table) - 0.4)
    ax.grid(axis="y", visible=False)
    a, b = table["contrast"].iloc[0].split(" − ")
    ax.set(xlabel=f"← higher for {b}      difference, 95% interval      higher for {a} →", title="Paired comparison")
    return ax


def dumbbell(
    table: pd.DataFrame, ax: Axes, a: str, b: str, *, unit: str, colours: tuple[str, str] = ("human", "model")
) -> Axes:
    """Two values per row, joined: real and synthetic, or human and model.

    Parameters
    ----------
    table : first column the row's name, then ``a`` and ``b`` and, where known, ``{a}_low {a}_high`` ….
    ax : axes to draw on.
    a, b : names of the two columns, and their labels.
    unit : what the values are measured in, for the axis.
    colours : roles of ``PALETTE`` for the two.
    """
    rows = np.arange(len(table))[::-1]
    ax.hlines(rows, table[[a, b]].min(axis=1), table[[a, b]].max(axis=1), color=PALETTE["noise"], lw=3, alpha=0.5)
    for name, colour, marker, shift in zip((a, b), colours, "os", (0.07, -0.07), strict=True):
        if f"{name}_low" in table:
            ends = table[f"{name}_low"], table[f"{name}_high"]
            ax.hlines(rows + shift, *ends, color=PALETTE[colour], lw=1.2)
        ax.plot(table[name], rows, marker, ms=9, color=PALETTE[colour], label=_label(name))
    ax.set_yticks(rows, [_label(name) for name in table.iloc[:, 0]])
    ax.set_ylim(-0.6, len(table) - 0.4)
    ax.grid(axis="y", visible=False)
    ax.set_xlabel(unit)
    ax.legend(fontsize=9)
    return ax


def calibration(curve: pd.DataFrame, ax: Axes) -> Axes:
    """Reliability curve: how often the gold says yes among items of like score.

    Parameters
    ----------
    curve : ``gap.reliability_curve``, of one rater or several.
    ax : axes to draw on.
    """
    ax.plot([0, 1], [0, 1], color=PALETTE["noise"], ls="--", lw=1, label="calibrated")
    for number, (rater, rows) in enumerate(curve.groupby("rater", sort=False)):
        colour = list(PALETTE.values())[number]
        error = [rows["observed"] - rows["ci_low"], rows["ci_high"] - rows["observed"]]
        ax.errorbar(rows["score"], rows["observed"], yerr=error, fmt="o-", color=colour, capsize=3, label=rater)
    ax.set(xlim=(0, 1), ylim=(0, 1), xlabel="mean score of the judge", ylabel="share relevant to the human majority")
    ax.set_title("Calibration")
    ax.legend(fontsize=9)
    return ax
