"""One look for every figure: colour-blind-safe, readable in print and on a dark page."""

from typing import Any

import matplotlib as mpl
import numpy as np
import pandas as pd
import seaborn as sns
from matplotlib.axes import Axes
from matplotlib.axis import Axis
from matplotlib.ticker import PercentFormatter
from numpy.typing import ArrayLike

from personagap import readable
from personagap.palette import PALETTE
from personagap.spelling import number


def use() -> None:
    """Set the style for the figures and tables that follow."""
    readable.use()
    # A verdict is a sentence: never cut it.
    pd.set_option("display.max_colwidth", None)
    pd.set_option("display.float_format", number)
    sns.set_theme(context="notebook", style="whitegrid", palette=list(PALETTE.values()))
    mpl.rcParams.update(
        {
            "figure.dpi": 100,
            # A text is as wide at every resolution: what is laid out once holds in each file.
            "text.hinting": "none",
            "savefig.dpi": 150,
            "savefig.bbox": "tight",
            # Texts stay texts, which a report can search and a reader copy.
            "svg.fonttype": "none",
            # TrueType: journals refuse Type 3 fonts.
            "pdf.fonttype": 42,
            # Or ids of an SVG would be other ones in every run, and equal figures unequal files.
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
    """A name of the user's as it stands: what two dollars enclose would be set as a formula.

    Examples
    --------
    >>> literal("earns $20k to $50k") == r"earns \\$20k to \\$50k"
    True
    """
    return str(text).replace("$", r"\$")


def percent(axis: Axis) -> None:
    """Tell shares in percent along an axis."""
    axis.set_major_formatter(PercentFormatter(1))


def lengths(middle: pd.Series, low: pd.Series, high: pd.Series) -> np.ndarray:
    """How far an interval reaches below and above its value (2, n); not below 0, where rounding may
    put its end.
    """
    return np.clip([middle - low, high - middle], 0, None)


def dots(
    ax: Axes, table: pd.DataFrame, places: ArrayLike, *, upright: bool = False, **style: Any
) -> None:
    """A dot with its interval for each row of ``table``, of `results`, at its place on the y axis
    (``upright``: x).

    ``style`` is of `Axes.errorbar`, over ours.
    """
    middle = table["estimate"]
    errors = lengths(middle, table["ci_low"], table["ci_high"])
    ours: dict[str, Any] = {"fmt": "o", "ms": 7, "capsize": 3, "color": PALETTE["data"]}
    style = ours | style
    if upright:
        ax.errorbar(places, middle, yerr=errors, **style)
    else:
        ax.errorbar(middle, places, xerr=errors, **style)
        ax.grid(axis="y", visible=False)
