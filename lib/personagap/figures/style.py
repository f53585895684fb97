"""One look for every figure: colour-blind-safe, readable in print and on a dark page."""

import matplotlib as mpl
import pandas as pd
import seaborn as sns

#: Okabe–Ito colours by role: "data" for what was measured, "control" for the controls, "noise" for
#: what no effect would give, "published" for the papers' numbers, "human" and "model" for raters.
PALETTE = {
    "data": "#0072B2",
    "control": "#D55E00",
    "noise": "#999999",
    "published": "#CC79A7",
    "human": "#009E73",
    "model": "#0072B2",
    "accent": "#E69F00",
}
#: Seven categories of identity, distinguishable without colour by the marker beside it.
CATEGORIES = {
    "disability": ("#000000", "s"),
    "religion": ("#0072B2", "o"),
    "race": ("#009E73", "^"),
    "gender": ("#CC79A7", "D"),
    "politics": ("#E69F00", "v"),
    "age": ("#56B4E9", "P"),
    "sexuality": ("#8C510A", "X"),
}


def use() -> None:
    """Set the style for the figures and tables that follow."""
    pd.set_option("display.max_colwidth", None)  # a verdict is a sentence: never cut it
    sns.set_theme(context="notebook", style="whitegrid", palette=list(PALETTE.values()))
    mpl.rcParams.update(
        {
            "figure.dpi": 100,
            "savefig.dpi": 150,
            "savefig.bbox": "tight",
            "svg.fonttype": "none",
            "pdf.fonttype": 42,  # TrueType: journals refuse Type 3 fonts
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
