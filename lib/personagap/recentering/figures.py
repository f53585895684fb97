"""Figures of the gaps between people and models, and between real and synthetic histories."""

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes

from personagap.figures.intervals import intervals
from personagap.figures.style import PALETTE, error_sizes, errorbars, literal, percent
from personagap.formatting import humanize
from personagap.palette import ROLES, series_styles
from personagap.readable import display_names
from personagap.results import result, wide


def agreement_matrix(agreement: pd.DataFrame, ax: Axes) -> Axes:
    """Draw Cohen's κ of every pair of raters (``gap.agreement``) as a lower triangle, with the
    interval in each cell.
    """
    raters = list(dict.fromkeys([*agreement["rater_a"], *agreement["rater_b"]]))
    grid = np.full((len(raters), len(raters)), np.nan)
    for pair in agreement.itertuples():
        row, column = sorted((raters.index(pair.rater_a), raters.index(pair.rater_b)), reverse=True)
        grid[row, column] = pair.estimate
        # κ of raters who always give the same label is 0/0.
        text = f"{pair.estimate:.2f}\n{pair.ci_low:.2f}–{pair.ci_high:.2f}"
        text = "undefined" if pair.note else text
        colour = "white" if pair.estimate > 0.6 else "black"
        ax.text(column, row, text, ha="center", va="center", fontsize=8, color=colour)
    extent = (-0.5, len(raters) - 1.5, len(raters) - 0.5, 0.5)
    ax.imshow(grid[1:, :-1], extent=extent, cmap="Blues", vmin=0, vmax=1)
    names = display_names(pd.Series(raters)).map(literal)
    ax.set_xticks(range(len(raters) - 1), names[:-1], rotation=30, ha="right")
    ax.set_yticks(range(1, len(raters)), names[1:])
    ax.grid(visible=False)
    ax.set_title("Agreement between raters\n(Cohen's κ, 95% interval; 0: chance, 1: identical)")
    return ax


def over_selection(metrics: pd.DataFrame, ax: Axes) -> Axes:
    """Draw how often each rater says yes (``gap.relevance_metrics``), compared with the human
    majority.
    """
    # The yes rate of a baseline only reflects its arbitrary cutoff, so baselines are left out.
    judges = metrics[metrics["rater_kind"].isin(["human", "model"])]
    table, base, ratios = (
        judges[judges["metric"] == name] for name in ("yes_rate", "prevalence", "over_selection")
    )
    rows = np.arange(len(table))[::-1]
    for kind in table["rater_kind"].unique():
        (colour, marker), here = ROLES[kind], (table["rater_kind"] == kind).to_numpy()
        errorbars(ax, table[here], rows[here], fmt=marker, color=colour)
    ax.set_yticks(rows, display_names(table["rater"]).map(literal))
    base, low, high = base[["estimate", "ci_low", "ci_high"]].iloc[0]
    ax.axvspan(low, high, color=PALETTE["human"], alpha=0.18)
    ax.axvline(base, color=PALETTE["human"])
    style: dict[str, Any] = {"xytext": (4, 0), "textcoords": "offset points", "va": "top"}
    style |= {"fontsize": 9, "xycoords": ("data", "axes fraction")}
    ax.annotate(f"human majority\n{base:.1%}", (base, 0.98), **style)
    margin: dict[str, Any] = {"xycoords": ("axes fraction", "data"), "va": "center"}
    for row, ratio in zip(rows, ratios["estimate"], strict=True):
        ax.annotate(f"{ratio:.2f}×", (1.02, row), fontsize=10, **margin)
    ax.annotate("ratio", (1.02, len(table) - 0.4), fontsize=9, **margin)
    ax.set(xlabel="attributes called relevant, 95% interval", xlim=(0, None))
    ax.set_title("Over-selection")
    percent(ax.xaxis)
    ax.set_ylim(-0.6, len(table) + 0.2)
    return ax


def precision_recall(metrics: pd.DataFrame, ax: Axes) -> Axes:
    """Draw precision against recall (``gap.relevance_metrics``), with baselines and lines of equal
    F1.
    """
    metrics = wide(metrics, ["prevalence", "precision", "recall"])
    metrics["rater"] = display_names(metrics["rater"])
    recall = np.linspace(0.01, 1, 400)
    for f1 in (0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8):
        # F1 = 2PR / (P + R), solved for P; only where P is a proportion.
        precision = np.divide(
            f1 * recall, 2 * recall - f1, out=np.full_like(recall, np.nan), where=2 * recall > f1
        )
        shown = np.where(precision <= 1, precision, np.nan)
        ax.plot(recall, shown, color="#cccccc", lw=0.8, zorder=0)
        ax.text(1.012, f1 / (2 - f1), f"F1 {f1:.1f}", fontsize=8, color="#777777", va="center")
    ax.axhline(metrics["prevalence"].iloc[0], color=PALETTE["noise"], ls="--", lw=1)
    for kind, rows in metrics.groupby("rater_kind", sort=False):
        colour, marker = ROLES[kind]
        xerr, yerr = (
            error_sizes(*(rows[name + end] for end in ("", "_low", "_high")))
            for name in ("recall", "precision")
        )
        style: dict[str, Any] = {"fmt": marker, "ms": 7, "color": colour, "elinewidth": 0.8}
        # People are compared with a majority that includes them, which flatters them (R8).
        style["label"] = "human (part of the majority)" if kind == "human" else kind
        # A recall of 1, like that of saying yes to everything, lies on the frame.
        style["clip_on"] = False
        ax.errorbar(rows["recall"], rows["precision"], xerr=xerr, yerr=yerr, **style)
    below: list[Any] = []  # rows
    for row in metrics.itertuples():
        left, rise, name = row.recall > 0.7 or row.rater_kind == "baseline", 6, row.rater
        # These cluster at the base rate, so their names are stacked below the points.
        if row.rater_kind in ("baseline", "retrieval"):
            near = [other for other in below if abs(other.recall - row.recall) < 0.15]
            # The name of a point that covers another one begins with an equals sign.
            point = row.recall, row.precision
            distances = [math.dist((other.recall, other.precision), point) for other in near]
            name = f"= {name}" if min(distances, default=1) < 0.005 else name
            rise = -14 - 11 * len(near)
            below.append(row)
        place: dict[str, Any] = {"xytext": (-7 if left else 7, rise), "fontsize": 9}
        place |= {"textcoords": "offset points", "ha": "right" if left else "left"}
        ax.annotate(literal(name), (row.recall, row.precision), **place)
    ax.set(xlim=(0, 1), ylim=(0, 1), xlabel="recall of the relevant attributes", ylabel="precision")
    ax.set_title("Precision and recall against the human majority")
    ax.legend(fontsize=8, loc="upper left")
    return ax


def calibration(curve: pd.DataFrame, ax: Axes) -> Axes:
    """Draw how often the gold says yes among items of similar score (``gap.reliability_curve`` of
    one or several raters).
    """
    ax.plot([0, 1], [0, 1], color=PALETTE["noise"], ls="--", lw=1, label="calibrated")
    styles = series_styles(curve["rater"])
    for rater, rows in curve.groupby("rater", sort=False):
        colour, marker = styles[rater]
        style: dict[str, Any] = {"fmt": f"{marker}-", "ms": 6, "color": colour}
        errorbars(ax, rows, rows["score"], upright=True, label=literal(humanize(rater)), **style)
    ax.set(xlim=(0, 1), ylim=(0, 1), xlabel="mean score of the judge")
    ax.set(ylabel="share relevant to the human majority", title="Calibration")
    ax.legend(fontsize=9)
    return ax


STAGES = [
    "1 extraction\nattribute holds",
    "2 relevance\nattribute matters",
    "3 response\npersonalized is better",
]


def stages(
    acceptance: pd.DataFrame | None,
    relevance: pd.DataFrame | None,
    ratings: pd.DataFrame | None,
    ax: Axes,
) -> Axes:
    """Draw the synthetic–human gap with one row per stage: people beside models, real beside
    synthetic histories.

    Parameters
    ----------
    acceptance, relevance, ratings : the tables of these names that 1_extraction, 2_relevance and
        3_response saved; None for a stage that was not run, whose row says so.
    """
    points = approval(acceptance, relevance, ratings)
    points["rater"] = display_names(points["rater"]).map(literal)
    for stage in range(3):
        rows = points[points["stage"] == stage + 1]
        rows = rows.assign(y=stage + np.linspace(-0.35, 0.35, len(rows) + 2)[1:-1])
        for (kind, source), part in rows.groupby(["rater_kind", "source"]):
            marker, colour = "o" if kind == "human" else "s", PALETTE[kind]
            face = "w" if source == "synthetic" else colour
            errorbars(ax, part, part["y"], fmt=marker, color=colour, mfc=face)
        for row in rows.itertuples():
            # Without room to the right of an interval, the name goes to its left.
            crowded = row.ci_high > 70
            place: dict[str, Any] = {"xytext": (-6 if crowded else 6, 0), "va": "center"}
            place |= {"textcoords": "offset points", "ha": "right" if crowded else "left"}
            end = row.ci_low if crowded else row.ci_high
            ax.annotate(row.rater, (end, row.y), fontsize=8, **place)
        if rows.empty:
            ax.text(50, stage, "not run", ha="center", va="center", color=PALETTE["noise"])
    for edge in (0.5, 1.5):
        ax.axhline(edge, color=PALETTE["noise"], lw=0.8)
    ax.set_yticks(range(3), STAGES)
    ax.set(xlim=(0, 100), ylim=(2.5, -0.5), title="The synthetic–human gap, by stage")
    ax.set_xlabel("said yes (%), 95% interval; open: synthetic histories")
    return ax


def approval(
    acceptance: pd.DataFrame | None, relevance: pd.DataFrame | None, ratings: pd.DataFrame | None
) -> pd.DataFrame:
    """Return how often people and models say yes at each stage: `results` with the keys
    ``stage rater rater_kind source``, in percent.
    """
    limits = ["estimate", "ci_low", "ci_high"]
    tables = [pd.DataFrame(columns=["stage", "rater", "rater_kind", "source", *limits])]
    if acceptance is not None:
        rows = acceptance[acceptance["label"] == "accepted"]
        rater = rows["rater_kind"].replace("human", "people")
        tables.append(rows.assign(stage=1, rater=rater + ", " + rows["source"] + " histories"))
    if relevance is not None:
        majority = relevance.head(1).assign(rater="people, majority", rater_kind="human")
        models = relevance[relevance["rater_kind"] == "model"]
        for rows, column in ((majority, "prevalence"), (models, "yes_rate")):
            names = dict(zip([column, f"{column}_low", f"{column}_high"], limits, strict=True))
            tables.append(rows.rename(columns=names).assign(stage=2, source="real"))
    if ratings is not None:
        tables.append(ratings[ratings["metric"] == "better"].assign(stage=3, source="real"))
    # Empty tables are left out, as their columns would determine the dtypes of the result.
    filled = [rows[tables[0].columns] for rows in tables if len(rows)] or tables
    table = pd.concat(filled, ignore_index=True)
    table = table.assign(**100 * table[limits])
    return result(table, [*table.columns[:4]], metric="said yes", unit="percent")


def quality(table: pd.DataFrame, axes: Sequence[Axes]) -> Sequence[Axes]:
    """Draw F1 and AUPRC of models and classifiers (``classifiers.quality``), beside those of saying
    yes to everything.
    """
    for ax, (metric, name) in zip(axes, {"f1": "F1", "auprc": "AUPRC"}.items(), strict=True):
        rows = table[table["metric"] == metric].set_index("rater", drop=False)
        everything = rows.loc["select_all", "estimate"]
        # The baseline is drawn as the line that the others must pass, not as a row (R5).
        rows = rows[rows["rater_kind"] != "baseline"]
        label = f"{name}, 95% interval (dashed: yes to everything)"
        how: dict[str, Any] = {"xlabel": label, "title": f"{name} of models and trained judges"}
        intervals(rows, ax, "rater", "rater_kind", null=everything, **how)
    return axes
