"""Figures of persona effects."""

from collections.abc import Sequence

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.lines import Line2D
from matplotlib.patches import Patch

from personagap.figures.style import CATEGORIES, PALETTE

__all__ = ["forest", "personalization_bias", "safety_utility", "validity"]

CONTROL_LABELS = {"none": "no system prompt", "assistant": "helpful assistant"}


def _label(persona: str) -> str:
    return CONTROL_LABELS.get(persona, persona.replace("_", " "))


def safety_utility(rates: pd.DataFrame, who: pd.DataFrame, ax: Axes, *, annotate: int = 6) -> Axes:
    """Scatter of safety against utility, one point per persona with its intervals.

    Parameters
    ----------
    rates : ``effects.rates`` of scores whose ``task`` is a dimension: "utility" and "safety".
    who : ``persona category``, from ``personas.select``.
    ax : axes to draw on.
    annotate : how many identities to name, those farthest from the centre of the cloud.
    """
    wide = rates.pivot(index="persona", columns="task", values=["estimate", "ci_low", "ci_high"])
    category = who.set_index("persona")["category"]
    control = category.reindex(wide.index) == "control"
    for name, rows in wide.groupby(category.reindex(wide.index).mask(control, wide.index.to_series())):
        star = name in CONTROL_LABELS
        colour, marker = CATEGORIES.get(name, (PALETTE["control"], "*" if star else "h"))
        x, y = rows["estimate", "utility"], rows["estimate", "safety"]
        ax.errorbar(
            x,
            y,
            xerr=[x - rows["ci_low", "utility"], rows["ci_high", "utility"] - x],
            yerr=[y - rows["ci_low", "safety"], rows["ci_high", "safety"] - y],
            fmt=marker,
            color=colour,
            mfc="white" if name == "assistant" else colour,
            ms=15 if star else 7,
            elinewidth=1.5 if star else 0.8,
            ecolor=(colour, 1 if star else 0.25),
            zorder=3 if star else 2,
        )
    points = wide["estimate"][["utility", "safety"]]
    identities = points[category.reindex(points.index) != "control"]
    far = (((identities - identities.mean()) / identities.std(ddof=0).replace(0, 1)) ** 2).sum(axis=1)
    for persona in far.nlargest(annotate).index:
        ax.annotate(_label(persona), identities.loc[persona], xytext=(6, 6), textcoords="offset points", fontsize=9)
    present = [name for name in CATEGORIES if (category.reindex(points.index) == name).any()]
    handles = [Line2D([], [], ls="", marker=CATEGORIES[n][1], color=CATEGORIES[n][0], label=n) for n in present]
    for persona in CONTROL_LABELS:
        if persona in points.index:
            face = "white" if persona == "assistant" else PALETTE["control"]
            style = {"ls": "", "marker": "*", "ms": 12, "color": PALETTE["control"], "mfc": face}
            handles.append(Line2D([], [], label=f"control: {_label(persona)}", **style))
    ax.legend(handles=handles, fontsize=8, loc="center left", bbox_to_anchor=(1, 0.5))
    ax.set(
        xlabel="utility: answers right (%), with 95% interval",
        ylabel="safety: answers harmless (%), with 95% interval",
        title="Safety and utility by stated identity",
    )
    return ax


def personalization_bias(bias: pd.DataFrame, ax: Axes, truth: pd.DataFrame | None = None) -> Axes:
    """PB of each dimension against what no effect at all would give.

    The grey bar ends at the noise floor; the open dot is PB as the paper computes it, the
    filled dot the debiased value with its interval, on the scale of PB (square root of the
    debiased PB², 0 where that is negative).

    Parameters
    ----------
    bias : ``effects.personalization_bias``.
    ax : axes to draw on.
    truth : ``dimension true`` in points, where it is known.
    """
    rows = np.arange(len(bias))[::-1]
    points = bias[["debiased_pb2", "ci_low", "ci_high"]].clip(lower=0) ** 0.5
    ax.barh(
        rows,
        bias["noise_floor"],
        height=0.55,
        color=PALETTE["noise"],
        alpha=0.45,
        label="noise floor: E[PB] if no effect",
    )
    ax.errorbar(
        points["debiased_pb2"],
        rows,
        xerr=[points["debiased_pb2"] - points["ci_low"], points["ci_high"] - points["debiased_pb2"]],
        fmt="o",
        color=PALETTE["data"],
        capsize=3,
        label="PB corrected for noise, 95% interval",
    )
    ax.plot(
        bias["pb"], rows, "o", mfc="white", color=PALETTE["data"], ms=8, label="PB uncorrected, as papers report it"
    )
    if truth is not None:
        true = bias["dimension"].map(truth.set_index("dimension")["true"])
        ax.plot(true, rows, "d", color=PALETTE["control"], ms=8, label="true PB of the demo model")
    for row, (_, line) in zip(rows, bias.iterrows(), strict=True):
        ax.annotate(
            f"p = {line['p_value']:.3f}" if line["p_value"] >= 0.001 else "p < 0.001",
            (1.01, row),
            xycoords=("axes fraction", "data"),
            va="center",
            fontsize=9,
        )
    ax.set_yticks(rows, bias["dimension"].str.replace("_", " "))
    ax.set(
        xlabel="personalization bias (percentage points)",
        title="Personalization bias and its noise floor",
        xlim=(0, None),
    )
    ax.grid(axis="y", visible=False)
    ax.legend(fontsize=8, loc="upper center", bbox_to_anchor=(0.5, -0.16), ncols=2)
    return ax


def forest(
    contrasts: pd.DataFrame, axes: Sequence[Axes], *, p: str = "p_holm", correction: str = "Holm"
) -> Sequence[Axes]:
    """Forest plot: difference of each identity from the control with its interval, one panel per task.

    A filled dot survives the correction over the identities of its task, an open one does not.
    The grey band holds 95 % of the differences of an identity that has no effect.

    Parameters
    ----------
    contrasts : ``effects.contrasts``.
    axes : as many axes as there are tasks, sharing their y axis.
    p, correction : the column of p-values that decides, and the name of its correction.
    """
    order = list(dict.fromkeys(contrasts["contrast"].str.split(" − ").str[0]))[::-1]
    for ax, (task, table) in zip(axes, contrasts.groupby("task", sort=False), strict=True):
        names = table["contrast"].str.split(" − ").str[0]
        rows = names.map(order.index)
        controls = names.isin(list(CONTROL_LABELS))
        significant = (table[p] < 0.05) & ~controls
        band = (table["ci_high"] - table["ci_low"]).median() / 2
        ax.axvspan(-band, band, color=PALETTE["noise"], alpha=0.2, lw=0)
        ax.axvline(0, color=PALETTE["noise"], lw=1)
        errors = [table["estimate"] - table["ci_low"], table["ci_high"] - table["estimate"]]
        ax.errorbar(table["estimate"], rows, xerr=errors, fmt="none", ecolor="#777777", elinewidth=1)
        for chosen, colour, face in (
            (significant, PALETTE["data"], PALETTE["data"]),
            (~significant & ~controls, PALETTE["data"], "white"),
            (controls, PALETTE["control"], "white"),
        ):
            ax.plot(table["estimate"][chosen], rows[chosen], "o", ms=5, color=colour, mfc=face)
        ax.set(xlabel="difference (points)", title=task.replace("_", " "))
        ax.grid(axis="y", visible=False)
    axes[0].set_yticks(range(len(order)), [_label(name) for name in order], fontsize=9)
    axes[0].set_ylim(-0.7, len(order) - 0.3)
    dot = {"ls": "", "marker": "o", "color": PALETTE["data"]}
    handles = [
        Line2D([], [], label=f"differs from the control ({correction}, 5%)", **dot),
        Line2D([], [], label="not shown to differ", **(dot | {"mfc": "white"})),
        Line2D([], [], label="the other control", **(dot | {"mfc": "white", "color": PALETTE["control"]})),
        Patch(color=PALETTE["noise"], alpha=0.3, label="95% of differences if there is no effect"),
    ]
    axes[0].figure.legend(handles=handles, loc="outside lower center", ncols=4, fontsize=9)
    return axes


def validity(rates: pd.DataFrame, ax: Axes) -> Axes:
    """Share of answers that could not be read, and of answers cut off: a dot per task and persona.

    Parameters
    ----------
    rates : ``effects.rates``.
    ax : axes to draw on.
    """
    tasks = list(rates["task"].unique())
    for offset, column, label, colour in (
        (-0.15, "invalid_rate", "not readable", PALETTE["data"]),
        (0.15, "truncation_rate", "cut off", PALETTE["accent"]),
    ):
        for row, (_, rows) in enumerate(rates.groupby("task", sort=False)):
            heights = row + offset + np.linspace(-0.1, 0.1, len(rows))
            ordered = rows.sort_values(column)
            ax.plot(ordered[column], heights, "o", ms=4, alpha=0.7, color=colour, label=label if row == 0 else None)
            worst = ordered.iloc[-1]
            if worst[column] > 0:
                place = (worst[column], heights[-1])
                ax.annotate(
                    _label(worst["persona"]), place, xytext=(6, 0), textcoords="offset points", va="center", fontsize=8
                )
    ax.set_yticks(range(len(tasks)), [task.replace("_", " ") for task in tasks])
    ax.set_ylim(len(tasks) - 0.5, -0.5)
    ax.margins(x=0.15)
    ax.set_xlim(-0.3, max(ax.get_xlim()[1], 5))  # no answer unreadable: a line at 0, not an axis of ±0.06 %
    ax.set(xlabel="share of a persona's answers (%), one dot per persona", title="Answers not readable, or cut off")
    ax.legend(fontsize=8, loc="lower right")
    return ax
