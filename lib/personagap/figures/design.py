"""Figures of what a design can detect."""

from typing import Any

import numpy as np
import pandas as pd
import seaborn as sns
from matplotlib.axes import Axes

from personagap.figures.style import PALETTE

__all__ = ["noise_floor", "power_curves"]

#: Light to dark, and told apart by line style as well.
_LINES = sns.color_palette("viridis_r", 4)[1:]


def noise_floor(floors: pd.DataFrame, published: pd.DataFrame, ax: Axes) -> Axes:
    """PB that no effect at all gives, over the number of items, with published PB beside it.

    ``floors`` is ``effects.power`` for one or more ``n_runs``, ``published`` has ``label value``,
    in points.
    """
    _over_items(floors, "noise_floor", ax)
    style: dict[str, Any] = {"xycoords": ("axes fraction", "data"), "ha": "right", "va": "bottom"}
    for row in published.itertuples():
        ax.axhline(row.value, color=PALETTE["published"], lw=1)
        text = f"published, {row.label}: {row.value:.2f}"
        ax.annotate(text, (0.995, row.value), fontsize=8, **style)
    title = "What 31 identities show when none makes a difference"
    # From 0, for the height is what is compared with the published lines.
    ax.set(ylabel="PB if there is no effect (points)", title=title, ylim=(0, None))
    return ax


def power_curves(power: pd.DataFrame, axes: list[Axes]) -> list[Axes]:
    """Smallest contrast (left) and smallest PB (right) that designs find with 80 % power
    (``effects.power``).
    """
    titles = {
        "smallest_contrast_holm": "Smallest identity effect found (Holm)",
        "smallest_pb": "Smallest PB found",
    }
    for ax, (column, title) in zip(axes, titles.items(), strict=True):
        _over_items(power, column, ax)
        # Both logarithmic: sizes fall with the root of items, a straight line. Designs that are too
        # small find none.
        scale = "log" if np.isfinite(power[column]).any() else "linear"
        ax.set(ylabel="points, found with 80% power", title=title, yscale=scale)
        ax.yaxis.set_major_formatter(lambda value, _: f"{value:g}")
        # Between the powers of ten 2 and 5 alone, or their names would cover each other.
        ax.yaxis.set_minor_formatter(
            lambda value, _: f"{value:g}" if f"{value:e}"[0] in "25" else ""
        )
    return axes


def _over_items(designs: pd.DataFrame, column: str, ax: Axes) -> None:
    by_runs = designs.groupby("n_runs")
    for colour, style, (runs, rows) in zip(_LINES, ("-", "--", ":"), by_runs, strict=False):
        label = f"{runs} answer{'s' * (runs > 1)} per item"
        ax.plot(rows["n_items"], rows[column], style, color=colour, lw=2.2, label=label)
    ax.set(xscale="log", xlabel="items")
    ax.xaxis.set_major_formatter(lambda n, _: f"{n:,.0f}")
    ax.legend(fontsize=9)
