"""Figures of the three stages: people beside models, real beside synthetic histories."""

import numpy as np
import pandas as pd
from matplotlib.axes import Axes

from personagap.figures.style import PALETTE, dots

__all__ = ["approval", "intervals", "stages"]

#: Of series that are no role of ``PALETTE`` themselves.
COLOURS = ("data", "accent", "control", "published", "human")
STAGES = ["1 extraction\nattribute holds", "2 relevance\nattribute matters", "3 response\npersonalized is better"]


def intervals(
    table: pd.DataFrame,
    ax: Axes,
    rows: str,
    series: str | None = None,
    *,
    xlabel: str,
    title: str,
    scale: float = 1,
    null: float | None = None,
    ceiling: str | None = None,
) -> Axes:
    """Dots with their 95 % intervals, one line per value of ``rows``, side by side for each of ``series``.

    Parameters
    ----------
    table : the two columns and ``estimate ci_low ci_high``.
    xlabel : what is measured, and its unit.
    scale : 100 to show shares in percent.
    null : the value that no difference would have, as a dashed line.
    ceiling : a column with the most that each row could reach, as a mark.
    """
    names = list(dict.fromkeys(table[rows]))
    groups = [(None, table)] if series is None else list(table.groupby(series, sort=False))
    for number, (name, part) in enumerate(groups):
        places = part[rows].map(names.index) + 0.18 * (number - (len(groups) - 1) / 2)
        colour = PALETTE[name if name in PALETTE else COLOURS[number]]
        dots(ax, part, places, scale=scale, fmt="osD^v"[number], color=colour, label=name)
    ax.set_yticks(range(len(names)), [str(name).replace("_", " ") for name in names])
    ax.set(xlabel=xlabel, title=title, ylim=(len(names) - 0.5, -0.5))
    if series is not None:
        ax.legend(fontsize=9)
    if null is not None:
        ax.axvline(null, color=PALETTE["noise"], ls="--")
    if ceiling is not None:
        ax.plot(scale * table[ceiling], table[rows].map(names.index), "|", ms=18, mew=2, color=PALETTE["accent"])
    return ax


def stages(
    acceptance: pd.DataFrame | None, relevance: pd.DataFrame | None, ratings: pd.DataFrame | None, ax: Axes
) -> Axes:
    """The synthetic–human gap in one picture: a row per stage, people beside models, real beside synthetic histories.

    Parameters
    ----------
    acceptance, relevance, ratings : the tables of these names of 1_extraction, 2_relevance and 3_response; None for a
        stage that was not run: its row says so.
    """
    points = approval(acceptance, relevance, ratings)
    for stage in range(3):
        rows = points[points["stage"] == stage + 1]
        rows = rows.assign(y=stage + np.linspace(-0.35, 0.35, len(rows) + 2)[1:-1])
        for (kind, source), part in rows.groupby(["rater_kind", "source"]):
            style = {"fmt": "o" if kind == "human" else "s", "color": PALETTE[kind]}
            dots(ax, part, part["y"], mfc="w" if source == "synthetic" else PALETTE[kind], **style)
        for row in rows.itertuples():
            end, shift, side = (row.ci_low, -6, "right") if row.ci_high > 70 else (row.ci_high, 6, "left")
            where = {"xytext": (shift, 0), "textcoords": "offset points", "va": "center", "ha": side}
            ax.annotate(row.rater, (end, row.y), fontsize=8, **where)
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
    """How often each side says yes, in %: ``stage rater rater_kind source estimate ci_low ci_high``."""
    limits = ["estimate", "ci_low", "ci_high"]
    tables = [pd.DataFrame(columns=["stage", "rater", "rater_kind", "source", *limits])]
    if acceptance is not None:
        rows = acceptance[acceptance["label"] == "accepted"]
        who = rows["rater_kind"].replace("human", "people")
        tables.append(rows.assign(stage=1, rater=who + ", " + rows["source"] + " histories"))
    if relevance is not None:
        majority = relevance.head(1).assign(rater="people, majority", rater_kind="human")
        models = relevance[relevance["rater_kind"] == "model"]
        for rows, column in ((majority, "prevalence"), (models, "yes_rate")):
            names = dict(zip([column, f"{column}_low", f"{column}_high"], limits, strict=True))
            tables.append(rows.rename(columns=names).assign(stage=2, source="real"))
    if ratings is not None:
        tables.append(ratings[ratings["measure"] == "better"].assign(stage=3, source="real"))
    table = pd.concat([rows[tables[0].columns] for rows in tables if len(rows)] or tables, ignore_index=True)
    return table.assign(**100 * table[limits])
