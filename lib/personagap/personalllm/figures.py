"""Figures of simulated users: their votes, the features they like, and adaptation to them."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd
import seaborn as sns
from matplotlib.axes import Axes
from matplotlib.ticker import MaxNLocator

from personagap import palette, readable
from personagap.figures.intervals import intervals
from personagap.figures.style import PALETTE, errorbars, percent

_MARKERS = "osD^vP"
_COLOURS = (PALETTE["data"], PALETTE["accent"])
_SMALL: dict[str, Any] = {"ms": 6, "capsize": 2, "lw": 1}


def heterogeneity(table: pd.DataFrame, personas: pd.DataFrame, axes: list[Axes]) -> list[Axes]:
    """Draw the votes of the top response (left) and the number of distinct winners (right), by α,
    beside persona prompting.

    ``table`` is ``users.heterogeneity`` for several α, ``personas`` is
    ``published.persona_prompting``.
    """
    colours = sns.color_palette("viridis_r", table["alpha"].nunique() + 1)[1:]
    for ax, (measure, rows) in zip(axes, table.groupby("measure", sort=False), strict=True):
        bins = rows.drop_duplicates("bin")
        x = np.arange(len(bins))
        for number, (alpha, part) in enumerate(rows.groupby("alpha")):
            shifted = x + 0.12 * (number - 1.5)
            style: dict[str, Any] = {"color": colours[number], "label": f"α = {alpha:g}"}
            style |= _SMALL | {"fmt": _MARKERS[number % len(_MARKERS)]}
            errorbars(ax, part, shifted, upright=True, **style)
        prompted = personas[personas["measure"] == measure].set_index("bin")["estimate"]
        style = {"ms": 8, "color": PALETTE["published"], "label": "persona prompting (published)"}
        ax.plot(x + 0.3, prompted.reindex(bins["bin"]), "X", **style)
        # The labels of the published figure are off by one bin (P3), so both labels are shown.
        in_paper = ("\n“" + bins["in_paper"] + "”").where(bins["bin"] != bins["in_paper"], "")
        labels = bins["bin"] + in_paper
        ax.set(ylabel="share of prompts, 95% interval", ylim=(-0.03, 1.03))
        percent(ax.yaxis)
        ax.set_xticks(x, labels)
        ax.grid(axis="x", visible=False)
    axes[0].set(title="Top response", xlabel="votes of the most popular response")
    xlabel = "responses with a vote\n(“label in the published figure”)"
    axes[1].set(title="Distinct winners", xlabel=xlabel)
    axes[1].legend(fontsize=9, loc="upper left")
    return axes


def dependence(table: pd.DataFrame, axes: list[Axes]) -> list[Axes]:
    """Draw heterogeneity against the number of users (left) and of reward models (right).

    ``table`` is ``users.dependence``: ``users.heterogeneity`` for several ``n_users`` and
    ``n_reward_models``, with a column ``varies`` that names the one that varies in a row.
    """
    bins = {"≤50%": "top response has no majority", "7–8": "7 or 8 winners"}
    for ax, (varies, rows) in zip(axes, table.groupby("varies", sort=False), strict=True):
        for number, (name, label) in enumerate(bins.items()):
            part = rows[rows["bin"] == name]
            style: dict[str, Any] = {"fmt": f"{_MARKERS[number]}-", "color": _COLOURS[number]}
            errorbars(ax, part, part[varies], upright=True, label=label, **_SMALL, **style)
        ax.set(ylabel="share of prompts, 95% interval", xscale="log", ylim=(-0.03, 1.03))
        percent(ax.yaxis)
        ticks = sorted(rows[varies].unique())
        ax.set_xticks(ticks, [f"{tick:,}" for tick in ticks])
        ax.minorticks_off()
    axes[0].set(title="More users", xlabel="users, all reward models")
    axes[1].set(title="More reward models", xlabel="reward models, same number of users")
    axes[0].legend(fontsize=9)
    return axes


def coefficients(table: pd.DataFrame, axes: list[Axes]) -> list[Axes]:
    """Draw a forest plot of mean coefficients, one panel per kind of feature and one colour per
    losing response.

    ``table`` is ``users.compare_regressions``.
    """
    labels = {"paper": "against the worst", "code": "against rank 4 of 8"}
    accuracy = table[table["metric"] == "accuracy"].set_index(["features", "losing"])["estimate"]
    table = table[table["metric"] == "coefficient"]
    kinds = [*table.groupby("features", sort=False)]
    for ax in axes[len(kinds) :]:
        ax.set_visible(False)
    for ax, (kind, rows) in zip(axes, kinds, strict=False):
        names = rows["feature"].drop_duplicates()
        places = np.arange(len(names))[::-1]
        for number, (losing, part) in enumerate(rows.groupby("losing", sort=False)):
            y = places + 0.14 * (1 - 2 * number)
            colour = (PALETTE["data"], PALETTE["control"])[number]
            ax.hlines(y, part["q1"], part["q3"], color=colour, lw=6, alpha=0.2)
            label = f"{labels[losing]}: {accuracy[kind, losing]:.0%} right"
            errorbars(ax, part, y, fmt=_MARKERS[number], ms=6, capsize=2, color=colour, label=label)
        ax.axvline(0, color=PALETTE["noise"], lw=1)
        ax.xaxis.set_major_locator(MaxNLocator(5))
        ax.set_yticks(places, readable.display_names(names))
        ax.set_title(f"{kind.capitalize()} features")
        ax.set_xlabel("log odds per standard deviation (bar: middle half of users)")
        # The legend stands below the axes, as inside it would always hide some coefficient.
        below: dict[str, Any] = {"loc": "upper center", "bbox_to_anchor": (0.5, -0.16), "ncols": 2}
        ax.legend(fontsize=9, title="held-out accuracy", **below)
    return axes


_RATE = "win_rate_against_gpt4o"


def shots(means: pd.DataFrame, ax: Axes) -> Axes:
    """Draw the mean reward against the number of the user's own examples, beside the references
    that need no model.

    ``means`` are rows of ``adaptation.summarise`` of one metric: control "own" and zero-shot of one
    template, and the arms of ``adaptation.references``.
    """
    means = means.assign(strategy=readable.display_names(means["strategy"]))
    zero = means[means["strategy"] == "zero shot"]
    shown = means[means["shots"] > 0]
    styles = palette.series_styles(shown["strategy"])
    for number, (strategy, (colour, marker)) in enumerate(styles.items()):
        # Zero shots is the same for every strategy, so every line begins there.
        line = pd.concat([zero, shown[shown["strategy"] == strategy]]).sort_values("shots")
        x = line["shots"] + 0.06 * (number - 1.5)
        errorbars(ax, line, x, upright=True, fmt=f"{marker}-", color=colour, label=strategy, ms=6)
    for row in means[means["template"] == "none"].itertuples():
        ax.axhline(row.estimate, color=PALETTE["noise"], ls=":", lw=1.2)
        margin: dict[str, Any] = {"xycoords": ("axes fraction", "data"), "va": "center"}
        ax.annotate(f" {row.strategy}", (1, row.estimate), fontsize=9, **margin)
    ax.margins(y=0.08)
    unit = means["unit"].iloc[0]
    ax.set(xlabel="examples shown", ylabel=f"mean persona reward ({unit}), 95% interval")
    ax.set_title("What the user's own examples are worth")
    ax.legend(fontsize=9, title="examples", title_fontsize=9)
    return ax


def retrieval(quality: pd.DataFrame, axes: Sequence[Axes]) -> Sequence[Axes]:
    """Draw how well similar users are retrieved, by embedding and size of database, beside chance.

    ``quality`` is ``adaptation.quality`` of one database or several; each metric has its own axes.
    """
    quality = quality.assign(database=quality["users"].map("{:,} users".format))
    for ax, (metric, rows) in zip(axes, quality.groupby("metric", sort=False), strict=True):
        recalled = metric == "recall"
        title = "Nearest users by weights, found" if recalled else "Similar looks, similar weights"
        # Chance recalls less from a larger database; where it differs, each size has its own line.
        chances = rows.groupby("database", sort=False)["chance"].first()
        shared = len(set(chances)) == 1
        chance = "chance" if shared else "chance for that size"
        xlabel = f"{readable.label(metric)}, 95% interval (dotted: {chance})"
        intervals(rows, ax, "embedding", "database", xlabel=xlabel, title=title)
        for database, (colour, _) in palette.series_styles(chances.index).items():
            ax.axvline(chances[database], color=PALETTE["noise"] if shared else colour, ls=":")
    axes[0].legend().remove()
    return axes


def forking_paths(log: pd.DataFrame, ordered: pd.DataFrame, axes: Sequence[Axes]) -> Sequence[Axes]:
    """Draw every logged run (``runlog.load``; left), and the meta-learning runs by rank
    (``runlog.rank_runs``; right) beside the band expected of equally good ones.
    """
    left, right = axes
    counts = log["method"].value_counts(sort=False).iloc[::-1]
    # Jitter, as runs of similar rates would cover one another.
    jitter = np.random.default_rng(0).uniform(-0.25, 0.25, len(log))
    rows = log["method"].map(counts.index.get_loc) + jitter
    left.plot(log[_RATE], rows, "o", ms=5, alpha=0.6)
    left.set_yticks(range(len(counts)), [f"{name} ({count})" for name, count in counts.items()])
    left.set(xlabel="win rate against GPT-4o (%)", title=f"All {len(log)} logged runs")
    label = "if all were equally good, with\nindependent errors (95%)"
    band = ordered["rank"], ordered["chance_low"], ordered["chance_high"]
    right.fill_between(*band, color=PALETTE["noise"], alpha=0.35, lw=0, label=label)
    right.plot(ordered["rank"], ordered[_RATE], "o", ms=4, label="configurations, in order")
    plotted = ordered[ordered["plotted"]]
    style: dict[str, Any] = {"ms": 9, "mfc": "none", "mew": 1.8, "color": PALETTE["control"]}
    right.plot(plotted["rank"], plotted[_RATE], "D", label="those in the paper's figure", **style)
    runs = log.query("method == 'SelfKShotICL' and num_shots == 3")
    runs = runs[runs["responses_to_include"] == "winning_only"]
    right.axhline(runs[_RATE].iloc[0], color=PALETTE["human"], ls="--", lw=1.2, label="Self-ICL")
    right.set(xlabel="rank of the configuration", ylabel="win rate against GPT-4o (%)")
    right.set_title(f"Meta-learning: {len(ordered)} configurations, one test set")
    right.legend(fontsize=8)
    return axes
