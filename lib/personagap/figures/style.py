"""Common style of all figures: colour-blind-safe, readable in print and on dark backgrounds."""

from typing import Any

import matplotlib as mpl
import numpy as np
import pandas as pd
import seaborn as sns
from matplotlib.axes import Axes
from matplotlib.axis import Axis
from matplotlib.lines import Line2D
from matplotlib.ticker import PercentFormatter
from matplotlib.transforms import ScaledTranslation
from numpy.typing import ArrayLike

from personagap import readable
from personagap.formatting import format_number
from personagap.palette import PALETTE


def use() -> None:
    """Set the style of all following figures and tables."""
    readable.use()
    # Verdicts are sentences, which must not be truncated.
    pd.set_option("display.max_colwidth", None)
    pd.set_option("display.float_format", format_number)
    sns.set_theme(context="notebook", style="whitegrid", palette=list(PALETTE.values()))
    mpl.rcParams.update(
        {
            "figure.dpi": 100,
            # Texts have the same width at every resolution, so one layout is valid for all files.
            "text.hinting": "none",
            "savefig.dpi": 150,
            "savefig.bbox": "tight",
            # Keep texts as text, so that they can be searched and copied in a report.
            "svg.fonttype": "none",
            # Embed TrueType fonts, because journals reject Type 3 fonts.
            "pdf.fonttype": 42,
            # Fixed ids in SVG files, so that equal figures give equal files in every run.
            "svg.hashsalt": "personagap",
            "axes.titlelocation": "left",
            "axes.titleweight": "bold",
            "axes.titlesize": 12,
            "axes.labelsize": 11,
            "legend.frameon": True,
            "font.size": 10,
            "grid.color": "#e5e5e5",
            "axes.edgecolor": "#888888",
        }
    )


def literal(text: object) -> str:
    """Escape dollar signs in a text, which matplotlib would interpret as a formula.

    Examples
    --------
    >>> literal("earns $20k to $50k") == r"earns \\$20k to \\$50k"
    True
    """
    return str(text).replace("$", r"\$")


def percent(axis: Axis) -> None:
    """Format shares along an axis in percent."""
    axis.set_major_formatter(PercentFormatter(1))


def legend_below(ax: Axes, **style: Any) -> None:
    """Put the legend below the label of the x axis, however high the axes are."""
    # In inches: a share of a low figure would not clear the label
    below = ScaledTranslation(0, -0.45, ax.figure.dpi_scale_trans)
    place: dict[str, Any] = {"loc": "upper center", "bbox_to_anchor": (0.5, 0)}
    ax.legend(**place, bbox_transform=ax.transAxes + below, **style)


def error_sizes(middle: pd.Series, low: pd.Series, high: pd.Series) -> np.ndarray:
    """Return the lengths (2, n) of error bars below and above; not negative despite rounding."""
    return np.clip([middle - low, high - middle], 0, None)


def errorbars(
    ax: Axes, table: pd.DataFrame, places: ArrayLike, *, upright: bool = False, **style: Any
) -> None:
    """Draw a dot with its interval for each row of a `results` table.

    An interval need not hold its dot (a published PB and the true one); where an end is infinite,
    it leaves the axes without a cap.

    Parameters
    ----------
    places : positions on the y axis, or on the x axis if ``upright``.
    **style : options of `Axes.errorbar`, which override the defaults.
    """
    estimate, at = table["estimate"].to_numpy(float), np.asarray(places)
    ends = table[["ci_low", "ci_high"]].to_numpy(float).T
    default: dict[str, Any] = {"fmt": "o", "ms": 7, "capsize": 3, "color": PALETTE["data"]}
    style = default | style
    infinite = np.isinf(ends)
    sizes = error_sizes(estimate, *np.where(infinite, estimate, ends))
    outside = (estimate < ends[0]) | (estimate > ends[1])
    # Not those that rounding errors put outside
    outside &= ~np.isclose(estimate, ends).any(axis=0) & ~infinite.any(axis=0)
    sizes[:, outside] = np.nan
    _bars(ax, estimate, at, sizes, upright, style)
    if outside.any():
        middle, half = ends[:, outside].mean(axis=0), np.ptp(ends[:, outside], axis=0) / 2
        bare = style | {"fmt": "none", "label": None}
        _bars(ax, middle, at[outside], half, upright, bare)
    colour = style.get("ecolor", style["color"])
    width = style.get("elinewidth", mpl.rcParams["lines.linewidth"])
    for end, row in np.argwhere(infinite):
        # Far beyond any axes, whose limits an artist leaves as they are.
        along, across = [estimate[row], np.copysign(1e9, ends[end, row])], [at[row]] * 2
        x, y = (across, along) if upright else (along, across)
        ax.add_artist(Line2D(x, y, color=colour, lw=width, zorder=2))
    if not upright:
        ax.grid(axis="y", visible=False)


def _bars(
    ax: Axes, middle: np.ndarray, at: np.ndarray, sizes: np.ndarray, upright: bool, style: dict
) -> None:
    if upright:
        ax.errorbar(at, middle, yerr=sizes, **style)
    else:
        ax.errorbar(middle, at, xerr=sizes, **style)
