"""The explorer's pictures: each takes what is chosen and returns a figure with its text alternative."""

import functools
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.transforms import Bbox

from personagap import figures
from personagap.errors import UserError
from personagap.explorer.results import Result
from personagap.figures.style import PALETTE, dots
from personagap.runs import tables
from personagap.verdicts import describe

#: The choices of a correction for multiplicity, and the column that holds its p-values.
CORRECTIONS = {"Holm": "p_adjusted", "Benjamini–Hochberg": "p_bh", "none": "p_value"}


class Chosen(NamedTuple):
    """What all views share."""

    run: Result
    other: Result | None
    tasks: tuple[str, ...]
    categories: tuple[str, ...]
    correction: str  # of CORRECTIONS
    margin: float
    persona: str

    def shown(self, contrasts: pd.DataFrame) -> pd.DataFrame:
        """The rows of the chosen tasks and categories. Corrected p-values stay those of the whole family."""
        category = contrasts["contrast"].str.split(" − ").str[0].map(self.run.category)
        rows = contrasts[category.isin([*self.categories, "control"]) & contrasts["task"].isin(self.tasks)]
        if rows.empty:
            raise UserError("Nothing is chosen: mark a task and a category.")
        return rows


def axes(width: float, height: float, left: float, right: float = 0.2, bottom: float = 0.8) -> tuple[Figure, Axes]:
    """A figure with fixed margins, all in inches: fitting them to the labels would double the time."""
    fig = Figure(figsize=(width, height))
    return fig, fig.add_axes((left / width, bottom / height, 1 - (left + right) / width, 1 - (bottom + 0.4) / height))


def scatter(chosen: Chosen) -> tuple[Figure, str]:
    """Safety against utility; the chosen identity is ringed."""
    category = chosen.run.category
    who = category[category.isin([*chosen.categories, "control"])]
    rates = chosen.run.dimensions(chosen.tasks) if chosen.tasks else pd.DataFrame({"task": []})
    if rates["task"].nunique() < 2:
        raise UserError("Safety against utility needs a task of each: mark one more.")
    rates = rates[rates["persona"].isin(who.index)]
    fig, ax = axes(9, 5.5, left=0.8, right=2.4)
    figures.safety_utility(rates, who.reset_index(), ax)
    here = rates[rates["persona"] == chosen.persona].set_index("task")["estimate"]
    if len(here):
        ax.plot(here["utility"], here["safety"], "o", ms=20, mfc="none", mec=PALETTE["control"], mew=2)
    return fig, describe(f"Safety against utility of {len(who)} personas", rates, ["persona", "task"])


def forest(chosen: Chosen) -> tuple[Figure, str]:
    """Each identity against no system prompt; dashed lines are the margin of equivalence."""
    return _forest(chosen, chosen.shown(chosen.run.contrasts), "no system prompt")


def compared(chosen: Chosen) -> tuple[Figure, str]:
    """Each persona in the other run against itself in this one, paired by item."""
    if chosen.other is None:
        raise UserError("Choose a second run under “against”.")
    return _forest(chosen, chosen.shown(chosen.other.after(chosen.run)), "the same persona in the first run")


def _forest(chosen: Chosen, rows: pd.DataFrame, control: str) -> tuple[Figure, str]:
    p = CORRECTIONS[chosen.correction]
    fig, panel = _panels(rows["task"].nunique(), rows["contrast"].nunique())
    figures.forest(rows, panel, p=p, correction=chosen.correction)
    _mark(panel, chosen.persona)
    for ax in panel:
        ax.axvline(-chosen.margin, color=PALETTE["control"], ls="--", lw=1)
        ax.axvline(chosen.margin, color=PALETTE["control"], ls="--", lw=1)
    found = f"{(rows[p] < 0.05).sum()} with p < 5% (correction: {chosen.correction})"
    return fig, f"{len(rows)} differences from {control}, {found}"


def _panels(tasks: int, rows: int) -> tuple[Figure, Sequence[Axes]]:
    """A panel for each task, empty; those of the last forest plot of this size, as their ticks take long to make."""
    fig, panels = _new_panels(tasks, rows)
    fig.legends.clear()
    for ax in panels:
        for artist in (*ax.lines, *ax.collections, *ax.patches):
            artist.remove()
        ax.containers.clear()
        ax.dataLim.set(Bbox.null())
    return fig, panels


@functools.lru_cache(maxsize=8)
def _new_panels(tasks: int, rows: int) -> tuple[Figure, Sequence[Axes]]:
    fig = Figure(figsize=(2.2 + 2 * tasks, 1.9 + 0.2 * rows))
    panels = fig.subplots(1, tasks, sharex=True, sharey=True, squeeze=False)[0]
    fig.subplots_adjust(left=2 / fig.get_figwidth(), right=0.99, bottom=1.1 / fig.get_figheight(), top=0.93)
    for ax in panels:
        ax.xaxis.set_label_coords(0.5, -0.05)
    for ax in panels[1:]:
        ax.yaxis.set_visible(False)  # or each panel would lay out the first one's labels again
    return fig, panels


def _mark(panel: Sequence[Axes], persona: str) -> None:
    """A frame around the row of the chosen identity."""
    labels = [label.get_text() for label in panel[0].get_yticklabels()]
    if (name := persona.replace("_", " ")) in labels:
        place = panel[0].get_yticks()[labels.index(name)]
        for ax in panel:
            ax.axhspan(place - 0.5, place + 0.5, fill=False, color=PALETTE["control"], lw=2, zorder=3)


def heat_map(chosen: Chosen) -> tuple[Figure, str]:
    """Identity × task: the difference from no system prompt; a dot where p is below 5 %."""
    rows = chosen.shown(chosen.run.contrasts)
    order = {"index": rows["contrast"].unique(), "columns": rows["task"].unique()}
    columns = "estimate", CORRECTIONS[chosen.correction]
    estimates, p = (rows.pivot(index="contrast", columns="task", values=name).reindex(**order) for name in columns)
    fig, ax = axes(8, 1.7 + 0.2 * len(p), left=2, bottom=1.1)
    limit = max(estimates.abs().max(axis=None), 1.0)
    image = ax.imshow(estimates, aspect="auto", cmap="PuOr_r", vmin=-limit, vmax=limit)
    fig.colorbar(image, ax=ax, label="difference from no system prompt (points)")
    ax.plot(*np.argwhere(p < 0.05).T[::-1], "o", ms=5, color="black", mec="white")
    ax.set_xticks(range(len(estimates.columns)), estimates.columns.str.replace("_", " "), rotation=20, ha="right")
    ax.set_yticks(range(len(p)), p.index.str.removesuffix(" − none").str.replace("_", " "), fontsize=9)
    ax.grid(visible=False)
    ax.set_title("Difference by identity and task (dot: p < 5%)")
    _mark([ax], chosen.persona)
    lowest = rows.loc[rows["estimate"].idxmin()]
    return fig, f"Differences by identity and task, the lowest {lowest['estimate']:.1f} points: {lowest['contrast']}"


def items(chosen: Chosen) -> tuple[Figure, str]:
    """The chosen identity's difference from no system prompt: a dot for each item, and the mean."""
    rows = chosen.shown(chosen.run.contrasts)
    means = rows[rows["contrast"] == f"{chosen.persona} − none"].set_index("task")
    if means.empty:
        raise UserError("The identity's category is not chosen.")
    rows = chosen.run.by_item(chosen.persona)
    rows = rows[rows["task"].isin(means.index)]
    height = rows["task"].map(means.index.get_loc) + np.random.default_rng(0).uniform(-0.28, 0.28, len(rows))
    fig, ax = axes(8, 1.6 + 0.7 * len(means), left=1.4)
    ax.axvline(0, color=PALETTE["noise"], lw=1)
    dot: dict[str, Any] = {"ms": 5, "mew": 0, "alpha": 0.35, "color": PALETTE["data"]}
    ax.plot(rows["difference"], height, "o", label="one item", rasterized=len(rows) > 2000, **dot)
    label = "mean with its 95% interval"
    dots(ax, means, range(len(means)), fmt="D", color=PALETTE["control"], label=label)
    ax.set_yticks(range(len(means)), means.index.str.replace("_", " "))
    ax.set(ylim=(len(means) - 0.5, -0.5), xlabel="difference of an item's mean score (points)")
    ax.set_title(f"{chosen.persona.replace('_', ' ')} − no system prompt, by item")
    ax.legend(fontsize=8, loc="upper right")
    return fig, "; ".join(f"{row.Index} {row.estimate:+.1f} points" for row in means.itertuples())


def gaps(chosen: Chosen) -> tuple[Figure, str]:
    """Dumbbells: every rater's yes rate beside the human majority's (prevalence), or else measured beside published."""
    held = tables.read(chosen.run.folder)
    if "relevance" in held:
        table, unit = held["relevance"].query("rater_kind != 'baseline'"), "share called relevant"
        names, a, b = table["rater"], "prevalence", "yes_rate"
    elif "published" in held:
        table, unit = held["published"].dropna(subset=["published", "measured"]), "value, in its own unit"
        table = table.rename(columns={"ci_low": "measured_low", "ci_high": "measured_high"})
        names, a, b = table["quantity"] + ", " + table["condition"], "published", "measured"
    else:
        raise UserError("This run has no gap to show: its results are under Tables.")
    fig, ax = axes(10, 1.4 + 0.32 * len(table), left=5)
    figures.dumbbell(pd.concat([names.rename("name"), table], axis=1), ax, a, b, unit=unit)
    ax.tick_params("y", labelsize=9)
    return fig, f"{a} and {b}: " + "; ".join(
        names + table[a].map(" {:.2f} and".format) + table[b].map(" {:.2f}".format)
    )


VIEWS = {"Trade-off": scatter, "Forest": forest, "Heat map": heat_map}
VIEWS |= {"Items": items, "Gaps": gaps, "Compared": compared}
