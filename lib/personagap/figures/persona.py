"""Figures of persona effects."""

from collections.abc import Sequence
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from personagap.effects import pb_corrected
from personagap.figures.style import error_sizes, errorbars, legend_below, literal
from personagap.formatting import humanize
from personagap.palette import PALETTE, category_styles
from personagap.readable import display_names
from personagap.results import correction

CONTROL_LABELS = {
    "none": "no system prompt",
    "empty": "empty system prompt",
    "assistant": "helpful assistant",
}
CONTROL_FACES = {"none": PALETTE["control"], "empty": PALETTE["noise"], "assistant": "white"}
#: Longest name of an identity in a figure, in characters.
MAX_NAME = 36
#: Dimensions on the x and the y axis.
DIMENSIONS = ["utility", "safety"]
#: Number of identities labelled in a scatter plot, those farthest from the centre. More labels
#: would overlap.
N_LABELLED = 6


def _label(persona: str) -> str:
    """Label of a control or an identity; of a long name, such as a system prompt, both ends."""
    name = CONTROL_LABELS.get(persona, humanize(persona))
    if len(name) <= MAX_NAME:
        return name
    return f"{name[: MAX_NAME // 2].rstrip()} … {name[-MAX_NAME // 2 :].lstrip()}"


def safety_utility(rates: pd.DataFrame, who: pd.DataFrame, ax: Axes) -> Axes:
    """Plot safety against utility, one point per persona with its intervals.

    Parameters
    ----------
    rates : ``effects.rates`` of scores whose ``task`` is a dimension, "utility" or "safety".
    who : ``persona category``.
    """
    wide = rates.pivot(index="persona", columns="task", values=["estimate", "ci_low", "ci_high"])
    category = who.set_index("persona")["category"].reindex(wide.index)
    is_control = category == "control"
    styles = category_styles(category[~is_control])
    for name, group in wide.groupby(category.mask(is_control, wide.index.to_series())):
        colour, marker = styles.get(name, (PALETTE["control"], "*"))
        mean, low, high = (group[column] for column in ("estimate", "ci_low", "ci_high"))
        xerr, yerr = (error_sizes(mean[task], low[task], high[task]) for task in DIMENSIONS)
        style: dict[str, Any] = {"fmt": marker, "color": colour, "ms": 7, "zorder": 2}
        # Pale error bars, because 31 crosses would hide the points.
        face = CONTROL_FACES.get(name, colour)
        style |= {"mfc": face, "ecolor": (colour, 0.25), "elinewidth": 0.8}
        if name in CONTROL_LABELS:
            style |= {"ms": 15, "zorder": 3, "ecolor": colour, "elinewidth": 1.5}
        bars = ax.errorbar(mean["utility"], mean["safety"], xerr=xerr, yerr=yerr, **style)
        # The report reads its tooltips from these ids.
        bars.lines[0].set_gid("\n".join(map(_label, mean.index)))
    identities = wide["estimate"][DIMENSIONS][~is_control]
    # In standard deviations, or the axis with the wider spread would dominate the distance.
    distance = (identities - identities.mean()) / identities.std(ddof=0).replace(0, 1)
    text_style: dict[str, Any] = {"xytext": (6, 6), "textcoords": "offset points", "fontsize": 9}
    for persona in (distance**2).sum(axis=1).nlargest(N_LABELLED).index:
        ax.annotate(literal(_label(persona)), identities.loc[persona], **text_style)
    handles = [
        Line2D([], [], ls="", marker=marker, color=colour, label=literal(name))
        for name, (colour, marker) in styles.items()
    ]
    for persona in (name for name in CONTROL_LABELS if name in wide.index):
        star: dict[str, Any] = {"ls": "", "marker": "*", "ms": 12, "color": PALETTE["control"]}
        label, face = f"control: {_label(persona)}", CONTROL_FACES[persona]
        handles.append(Line2D([], [], label=label, mfc=face, **star))
    ax.legend(handles=handles, fontsize=8, loc="center left", bbox_to_anchor=(1, 0.5))
    ax.set(
        xlabel="utility: answers right (%), with 95% interval",
        ylabel="safety: answers harmless (%), with 95% interval",
    )
    ax.set_title("Safety and utility by stated identity")
    return ax


def personalization_bias(bias: pd.DataFrame, ax: Axes, truth: pd.DataFrame | None = None) -> Axes:
    """Plot the PB of each dimension and the noise floor, the PB expected without any effect.

    The grey bar ends at the noise floor. The open dot is PB as the paper computes it, the filled
    dot the debiased value with its interval.

    Parameters
    ----------
    bias : ``effects.personalization_bias``.
    truth : ``dimension true`` in points, if the true PB is known.
    """
    if len(bias) == 2:
        # With a single task the joint PB is that of the task.
        bias = bias[bias["dimension"] != "joint"]
    rows = np.arange(len(bias))[::-1]
    label = "noise floor: E[PB] if no effect"
    ax.barh(rows, bias["noise_floor"], height=0.55, color=PALETTE["noise"], alpha=0.45, label=label)
    errorbars(ax, pb_corrected(bias), rows, ms=6, label="PB corrected for noise, 95% interval")
    label = "PB uncorrected, as papers report it"
    ax.plot(bias["pb"], rows, "o", mfc="white", color=PALETTE["data"], ms=8, label=label)
    if truth is not None:
        true = bias["dimension"].map(truth.set_index("dimension")["true"])
        ax.plot(true, rows, "d", color=PALETTE["control"], ms=8, label="true PB of the demo model")
    for row, p, family in zip(rows, bias["p_adjusted"], bias["family"], strict=True):
        text = f"p = {p:.3f}" if p >= 0.001 else "p < 0.001"
        text += "\n" + correction(family).partition(" of ")[0]
        ax.annotate(text, (1.01, row), xycoords=("axes fraction", "data"), va="center", fontsize=8)
    ax.set_yticks(rows, display_names(bias["dimension"]).map(literal))
    limits = {"xlim": (0, None), "ylim": (-0.6, len(bias) - 0.4)}
    ax.set(xlabel="personalization bias (percentage points)", **limits)
    ax.set_title("Personalization bias and its noise floor")
    legend_below(ax, fontsize=8, ncols=2)
    return ax


def panels(contrasts: pd.DataFrame) -> tuple[Figure, Sequence[Axes]]:
    """Create an empty figure for `forest`: one panel per task, with a shared axis of identities."""
    n, rows = contrasts["task"].nunique(), contrasts["contrast"].nunique()
    size = (2.4 * n + 1.5, 0.18 * rows + 1.8)
    options: dict[str, Any] = {"sharex": True, "sharey": True, "layout": "constrained"}
    fig, axes = plt.subplots(1, n, squeeze=False, figsize=size, **options)
    return fig, axes[0]


def forest(contrasts: pd.DataFrame, axes: Sequence[Axes]) -> Sequence[Axes]:
    """Forest plot of ``effects.contrasts``: differences from the control, one panel per task.

    Filled dots are significant after Holm's correction over the identities of the task, open ones
    are not. The grey band contains 95 % of the differences of an identity without an effect.
    ``axes`` are those of `panels`.
    """
    persona = contrasts["contrast"].str.split(" − ").str[0]
    order = persona.drop_duplicates()[::-1].tolist()
    dot: dict[str, Any] = {"ls": "", "marker": "o", "ms": 5, "color": PALETTE["data"]}
    for ax, (task, table) in zip(axes, contrasts.groupby("task", sort=False), strict=True):
        personas, estimate = persona[table.index], table["estimate"]
        rows, controls = personas.map(order.index), personas.isin(CONTROL_LABELS)
        significant = (table["p_adjusted"] < 0.05) & ~controls
        # Half a typical interval, which chance alone does not exceed in 95 % of samples.
        band = (table["ci_high"] - table["ci_low"]).median() / 2
        label = "95% of differences if there is no effect"
        ax.axvspan(-band, band, color=PALETTE["noise"], alpha=0.2, lw=0, label=label)
        ax.axvline(0, color=PALETTE["noise"], lw=1)
        errorbars(ax, table, rows, fmt="none", ecolor="#777777", elinewidth=1, capsize=0)
        for label, chosen, style in (
            ("differs (Holm, 5%)", significant, dot),
            ("not shown to differ", ~significant & ~controls, dot | {"mfc": "white"}),
            ("a control", controls, dot | {"mfc": "white", "color": PALETTE["control"]}),
        ):
            ax.plot(estimate[chosen], rows[chosen], label=label, **style)
        ax.set(xlabel="difference (points)", title=literal(humanize(task)))
    labels = [literal(_label(name)) for name in order]
    axes[0].set_yticks(range(len(order)), labels, fontsize=9)
    axes[0].set_ylim(-0.7, len(order) - 0.3)
    band, *signs = axes[0].get_legend_handles_labels()[0]
    axes[0].figure.legend(handles=[*signs, band], loc="outside lower center", ncols=4, fontsize=9)
    return axes


def validity(rates: pd.DataFrame, ax: Axes) -> Axes:
    """Plot shares of unreadable and of truncated answers (``effects.rates``) by task and persona.

    For likelihoods, which are always readable, plot the share of probability outside the choices.
    """
    shown = {
        "invalid_rate": (-0.15, "not readable", "data"),
        "truncation_rate": (0.15, "cut off", "accent"),
    }
    title, share = "Answers not readable, or cut off", "share of a persona's answers"
    if "choice_mass" in rates:
        rates = rates.assign(elsewhere=100 - rates["choice_mass"])
        shown = {"elsewhere": (0, "not on the choices", "data")}
        title, share = "Probability not on the choices", "share of the probability"
    tasks = rates["task"].drop_duplicates()
    text_style: dict[str, Any] = {"xytext": (6, 0), "textcoords": "offset points", "va": "center"}
    for column, (offset, label, role) in shown.items():
        for row, task in enumerate(tasks):
            # Sorted and slightly apart, so that equal shares are visible as several dots.
            rows = rates[rates["task"] == task].sort_values(column)
            heights = row + offset + np.linspace(-0.1, 0.1, len(rows))
            style: dict[str, Any] = {"color": PALETTE[role], "label": None if row else label}
            ax.plot(rows[column], heights, "o", ms=4, alpha=0.7, **style)
            worst = rows.iloc[-1]
            if worst[column] > 0:
                end = worst[column], heights[-1]
                ax.annotate(literal(_label(worst["persona"])), end, fontsize=8, **text_style)
    ax.set_yticks(range(len(tasks)), display_names(tasks).map(literal))
    ax.set_ylim(len(tasks) - 0.5, -0.5)
    ax.margins(x=0.15)
    # With no unreadable answer the axis would otherwise be ±0.06 %.
    ax.set_xlim(-0.3, max(ax.get_xlim()[1], 5))
    ax.set(xlabel=f"{share} (%), one dot per persona", title=title)
    ax.legend(fontsize=8, loc="lower right")
    return ax
