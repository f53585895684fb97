"""Figures of simulated users: how differently they vote, what they like, whose opinions they have."""

import numpy as np
import pandas as pd
import seaborn as sns
from matplotlib.axes import Axes
from matplotlib.ticker import MaxNLocator

from personagap.figures.style import PALETTE, dots, named

__all__ = ["coefficients", "dependence", "heterogeneity", "representativeness", "win_shares"]

_MARKERS = "osD^vP"
_COLOURS = (PALETTE["data"], PALETTE["accent"])
_SMALL = {"ms": 6, "capsize": 2, "lw": 1}


def heterogeneity(table: pd.DataFrame, personas: pd.DataFrame, axes: list[Axes]) -> list[Axes]:
    """Votes of the top response (left) and number of distinct winners (right), by α, beside persona prompting.

    ``table`` is ``users.heterogeneity`` for several α, ``personas`` is ``published.persona_prompting``.
    """
    colours = sns.color_palette("viridis_r", table["alpha"].nunique() + 1)[1:]
    for ax, (measure, rows) in zip(axes, table.groupby("measure", sort=False), strict=True):
        bins = rows.drop_duplicates("bin")
        x = np.arange(len(bins))
        for number, (alpha, part) in enumerate(rows.groupby("alpha")):
            shifted = x + 0.12 * (number - 1.5)
            style = {"fmt": _MARKERS[number % len(_MARKERS)], "color": colours[number], "label": f"α = {alpha:g}"}
            dots(ax, part, shifted, "share", scale=100, upright=True, **_SMALL, **style)
        prompted = personas[personas["measure"] == measure].set_index("bin")["share"].reindex(bins["bin"])
        ax.plot(x + 0.3, 100 * prompted, "X", ms=8, color=PALETTE["published"], label="persona prompting (published)")
        labels = bins["bin"] + ("\n“" + bins["in_paper"] + "”").where(bins["bin"] != bins["in_paper"], "")
        ax.set(ylabel="share of prompts (%), 95% interval", ylim=(-3, 103))
        ax.set_xticks(x, labels)
        ax.grid(axis="x", visible=False)
    axes[0].set(title="Top response", xlabel="votes of the most popular response")
    axes[1].set(title="Distinct winners", xlabel="responses with a vote\n(“label in the published figure”)")
    axes[1].legend(fontsize=9, loc="upper left")
    return axes


def dependence(table: pd.DataFrame, axes: list[Axes]) -> list[Axes]:
    """How heterogeneity grows with the number of users (left) and of reward models (right).

    ``table`` is ``users.heterogeneity`` for several ``n_users`` and ``n_reward_models``, with a column ``varies`` that
    says which of them a row belongs to.
    """
    shown = {"≤50%": "top response has no majority", "7–8": "7 or 8 winners"}
    for ax, (varies, rows) in zip(axes, table.groupby("varies", sort=False), strict=True):
        for number, (name, label) in enumerate(shown.items()):
            part = rows[rows["bin"] == name]
            style = {"fmt": f"{_MARKERS[number]}-", "color": _COLOURS[number], "label": label}
            dots(ax, part, part[varies], "share", scale=100, upright=True, **_SMALL, **style)
        ax.set(ylabel="share of prompts (%), 95% interval", xscale="log", ylim=(-3, 103))
        ticks = sorted(rows[varies].unique())
        ax.set_xticks(ticks, [f"{tick:,}" for tick in ticks])
        ax.minorticks_off()
    axes[0].set(title="More users", xlabel="users, all reward models")
    axes[1].set(title="More reward models", xlabel="reward models, same number of users")
    axes[0].legend(fontsize=9)
    return axes


def win_shares(wins: pd.DataFrame, ax: Axes) -> Axes:
    """Share of the votes that each response model wins (``users.wins``), and an even split."""
    rows = range(len(wins))[::-1]
    ax.axvline(100 / len(wins), color=PALETTE["noise"], ls="--", lw=1, label="even split")
    dots(ax, wins, rows, "share", scale=100, ms=6, capsize=2)
    ax.set_yticks(rows, wins["response_model"])
    ax.set(xlabel="share of the users' votes (%), 95% interval", title="Who wins", xlim=(0, None))
    ax.legend(fontsize=9)
    return ax


def coefficients(table: pd.DataFrame, axes: list[Axes]) -> list[Axes]:
    """Forest of mean coefficients, one panel per kind of feature, one colour per losing response.

    ``table`` is ``users.regressions`` of several kinds, with a column ``features`` that names the kind.
    """
    labels = {"paper": "against the worst", "code": "against rank 4 of 8"}
    for ax, (kind, rows) in zip(axes, table.groupby("features", sort=False), strict=True):
        names = rows["feature"].drop_duplicates()
        places = np.arange(len(names))[::-1]
        for number, (losing, part) in enumerate(rows.groupby("losing", sort=False)):
            y, colour = places + 0.14 * (1 - 2 * number), (PALETTE["data"], PALETTE["control"])[number]
            ax.hlines(y, part["q1"], part["q3"], color=colour, lw=6, alpha=0.2)
            label = f"{labels[losing]}: {100 * part['accuracy'].iloc[0]:.0f}% right"
            dots(ax, part, y, fmt=_MARKERS[number], ms=6, capsize=2, color=colour, label=label)
        ax.axvline(0, color=PALETTE["noise"], lw=1)
        ax.xaxis.set_major_locator(MaxNLocator(5))
        ax.set_yticks(places, named(names))
        ax.set_title(f"{kind.capitalize()} features")
        ax.set_xlabel("log odds per standard deviation (bar: middle half of users)")
        ax.legend(fontsize=9, loc="upper center", bbox_to_anchor=(0.5, -0.16), ncols=2, title="held-out accuracy")
    return axes


def representativeness(table: pd.DataFrame, ax: Axes) -> Axes:
    """How close each population's answers come to everybody's, by both normalisations of the distance.

    Of ``users.representativeness`` the attribute "Overall" is shown.
    """
    table = table[table["attribute"] == "Overall"].sort_values("representativeness")
    names = table.loc[table["distance"] == "max−min", "model"].tolist()
    labels = "÷ (max − min), as OpinionQA", "÷ (options − 1), as PersonalLLM"
    for number, (_, rows) in enumerate(table.groupby("distance")):
        y = rows["model"].map(names.index) + 0.14 * (1 - 2 * number)
        style = {"fmt": _MARKERS[number], "color": _COLOURS[number], "label": labels[number]}
        dots(ax, rows, y, "representativeness", ms=6, capsize=2, **style)
    ax.set_yticks(range(len(names)), names)
    ax.set(xlabel="representativeness (1: answers like everybody), 95% interval", title="Whose opinions?")
    ax.legend(fontsize=9, loc="lower right")
    return ax
