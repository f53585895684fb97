"""Figures of what a design can detect and of how far the instruments can be trusted."""

from typing import Any

import pandas as pd
import seaborn as sns
from matplotlib.axes import Axes
from matplotlib.ticker import FuncFormatter

from personagap.figures.style import PALETTE, dots, named

__all__ = ["noise_floor", "power_curves", "speed", "validation", "variance_shares"]

#: Light to dark, and told apart by line style as well.
_LINES = sns.color_palette("viridis_r", 4)[1:]


def noise_floor(floors: pd.DataFrame, published: pd.DataFrame, ax: Axes) -> Axes:
    """PB that no effect at all gives, over the number of items, with published PB beside it.

    Parameters
    ----------
    floors : ``effects.power`` for one or more ``n_runs``.
    published : ``label value`` in points, drawn as horizontal lines.
    """
    _over_items(floors, "noise_floor", ax)
    style: dict[str, Any] = {"xycoords": ("axes fraction", "data"), "ha": "right", "va": "bottom"}
    for row in published.itertuples():
        ax.axhline(row.value, color=PALETTE["published"], lw=1)
        text = f"published, {row.label}: {row.value:.2f}"
        ax.annotate(text, (0.995, row.value), color=PALETTE["published"], fontsize=8, **style)
    ax.set(ylabel="PB if there is no effect (points)", title="What 31 identities show when none makes a difference")
    ax.set_ylim(0, None)
    return ax


def power_curves(power: pd.DataFrame, axes: list[Axes]) -> list[Axes]:
    """Smallest contrast (left) and smallest PB (right) that a design finds with 80 % power.

    Parameters
    ----------
    power : ``effects.power`` for several ``n_items`` and ``n_runs``.
    axes : two axes.
    """
    titles = {"smallest_contrast_holm": "Smallest identity effect found (Holm)", "smallest_pb": "Smallest PB found"}
    for ax, (column, title) in zip(axes, titles.items(), strict=True):
        _over_items(power, column, ax)
        ax.set(ylabel="points, found with 80% power", title=title, yscale="log")
        ax.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
        ax.yaxis.set_minor_formatter(FuncFormatter(lambda value, _: f"{value:g}" if f"{value:e}"[0] in "25" else ""))
    return axes


def _over_items(designs: pd.DataFrame, column: str, ax: Axes) -> None:
    for colour, style, (runs, rows) in zip(_LINES, ("-", "--", ":"), designs.groupby("n_runs"), strict=False):
        label = f"{runs} answer{'s' * (runs > 1)} per item"
        ax.plot(rows["n_items"], rows[column], style, color=colour, lw=2.2, label=label)
    ax.set(xscale="log", xlabel="items")
    ax.xaxis.set_major_formatter(FuncFormatter(lambda n, _: f"{n:,.0f}"))
    ax.legend(fontsize=9)


def variance_shares(components: pd.DataFrame, ax: Axes) -> Axes:
    """Share of the variance of single answers by source (``effects.variance_components`` of one task)."""
    rows = range(len(components))[::-1]
    colours = components["component"].str.contains("identity").map({True: PALETTE["data"], False: PALETTE["noise"]})
    ax.barh(rows, 100 * components["share"], color=colours, alpha=0.75, height=0.6)
    dots(ax, components, rows, "share", scale=100, fmt="none", color="black", capsize=0)
    for row, line in zip(rows, components.itertuples(), strict=True):
        place, text = (100 * line.ci_high, row), f"{100 * line.share:.1f}%"
        ax.annotate(text, place, xytext=(6, 0), textcoords="offset points", va="center")
    ax.set_yticks(rows, components["component"])
    ax.margins(x=0.15)
    ax.set(xlabel="share of the variance of single answers (%), with 95% interval", title="What makes answers vary")
    return ax


def validation(table: pd.DataFrame, axes: list[Axes]) -> list[Axes]:
    """Type-I error (left) and coverage (right) of each estimator (``validation.table``) against nominal values."""
    for ax, column, ends, nominal, title in (
        (axes[0], "actual_error", ("mc_low", "mc_high"), 5, "False alarms"),
        (axes[1], "coverage", ("coverage_low", "coverage_high"), 95, "Coverage of 95% intervals"),
    ):
        rows = table.dropna(subset=column)
        places = range(len(rows))[::-1]
        ax.axvline(nominal, color=PALETTE["control"], lw=1.5, label=f"nominal: {nominal}%")
        dots(ax, rows, places, column, ends, scale=100, capsize=2, lw=1, ms=6)
        ax.set_yticks(places, named(rows["estimator"]), fontsize=9)
        ax.set(xlabel="share of simulated data sets (%), with Monte-Carlo interval", title=title)
        ax.legend(fontsize=9, loc="upper center", bbox_to_anchor=(0.5, -0.1))
    axes[0].set_xlim(0, 100 * table["mc_high"].max() + 2)
    axes[1].set_xlim(min(80, 100 * table["coverage_low"].min() - 2), 101)
    return axes


def speed(paired: pd.DataFrame, ax: Axes) -> Axes:
    """How many times as fast as the peer (``performance.paired`` rows), with the range of the repetitions."""
    rows = range(len(paired))[::-1]
    ax.axvline(1, color=PALETTE["control"], lw=1.5, label="as fast as the peer")
    dots(ax, paired, rows, "ratio", ("ratio_low", "ratio_high"), ms=6)
    for row, line in zip(rows, paired.itertuples(), strict=True):
        place, text = (line.ratio, row), f"{line.ratio:.1f}× {line.peer}"
        ax.annotate(text, place, xytext=(0, 8), textcoords="offset points", ha="center", fontsize=9)
    ax.set_yticks(rows, paired["work"])
    ax.set(xscale="log", xlim=(0.5, 2 * paired["ratio_high"].max()), ylim=(-0.6, len(paired) - 0.3))
    ax.xaxis.set_major_formatter(FuncFormatter(lambda ratio, _: f"{ratio:g}×"))
    ax.set(xlabel="times as fast (range of repetitions)", title="Speed beside other libraries")
    ax.legend(fontsize=9, loc="upper right")
    return ax
