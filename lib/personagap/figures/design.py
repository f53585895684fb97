"""Figures of the noise floor and the power of designs."""

from typing import Any

import numpy as np
import pandas as pd
import seaborn as sns
from matplotlib.axes import Axes

from personagap.figures.style import PALETTE

#: From light to dark; line styles differ too.
_LINE_COLOURS = sns.color_palette("viridis_r", 4)[1:]


def noise_floor(floors: pd.DataFrame, published: pd.DataFrame, ax: Axes) -> Axes:
    """Plot the PB expected without any effect over the number of items, with published PBs.

    Parameters
    ----------
    floors : ``effects.power`` for one or more ``n_runs``.
    published : ``label value``, in points.
    """
    _plot_over_items(floors, "noise_floor", ax)
    style: dict[str, Any] = {"xycoords": ("axes fraction", "data"), "ha": "right", "va": "bottom"}
    for row in published.itertuples():
        ax.axhline(row.value, color=PALETTE["published"], lw=1)
        text = f"published, {row.label}: {row.value:.2f}"
        ax.annotate(text, (0.995, row.value), fontsize=8, **style)
    title = "What 31 identities show when none makes a difference"
    # The axis starts at 0, because heights are compared with the published lines.
    ax.set(ylabel="PB if there is no effect (points)", title=title, ylim=(0, None))
    return ax


def power_curves(power: pd.DataFrame, axes: list[Axes]) -> list[Axes]:
    """Plot the smallest contrast (left) and PB (right) found with 80 % power, `effects.power`."""
    titles = {
        "smallest_contrast_holm": "Smallest identity effect found (Holm)",
        "smallest_pb": "Smallest PB found",
    }
    for ax, (column, title) in zip(axes, titles.items(), strict=True):
        _plot_over_items(power, column, ax)
        # With two logarithmic axes, sizes proportional to 1 / √items are a straight line. Designs
        # that are too small have no finite value.
        scale = "log" if np.isfinite(power[column]).any() else "linear"
        ax.set(ylabel="points, found with 80% power", title=title, yscale=scale)
        ax.yaxis.set_major_formatter(lambda value, _: f"{value:g}")
        # Minor labels at 2 and 5 only, or labels would overlap.
        ax.yaxis.set_minor_formatter(
            lambda value, _: f"{value:g}" if f"{value:e}"[0] in "25" else ""
        )
    return axes


def _plot_over_items(designs: pd.DataFrame, column: str, ax: Axes) -> None:
    """Plot a column over the number of items, one line per number of runs."""
    by_runs = designs.groupby("n_runs")
    for colour, style, (runs, rows) in zip(_LINE_COLOURS, ("-", "--", ":"), by_runs, strict=False):
        label = f"{runs} answer{'s' * (runs > 1)} per item"
        ax.plot(rows["n_items"], rows[column], style, color=colour, lw=2.2, label=label)
    ax.set(xscale="log", xlabel="items")
    ax.xaxis.set_major_formatter(lambda n, _: f"{n:,.0f}")
    ax.legend(fontsize=9)
