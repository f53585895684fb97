"""Verdicts on persona effects, and the text alternatives of their figures."""

import pandas as pd

from personagap.personas import CONTROLS
from personagap.verdicts import wording


def persona_effects(
    bias: pd.DataFrame, contrasts: pd.DataFrame, rates: pd.DataFrame, *, alpha: float = 0.05
) -> pd.DataFrame:
    """Answers to the questions of the personalization-bias notebooks: ``question answer``.

    Parameters
    ----------
    bias : ``effects.personalization_bias``.
    contrasts : ``effects.contrasts`` against the control "none".
    rates : ``effects.rates``.
    alpha : level of the tests, after Holm's correction for the contrasts.
    """
    answers = [
        (f"Does {_name(row.dimension)} depend on the identity stated?", _bias(row, alpha)) for row in bias.itertuples()
    ]
    of_identities = ~contrasts["contrast"].str.split(" − ").str[0].isin(CONTROLS)
    for task, rows in contrasts[of_identities].groupby("task", sort=False):
        answers.append((f"Which identities differ from no system prompt on {_name(task)}?", _differences(rows, alpha)))
    answers.append(("Are some identities' answers read or cut off less well?", _validity(rates)))
    return wording.table(answers)


def describe_bias(bias: pd.DataFrame) -> str:
    """The text alternative of ``figures.personalization_bias``."""
    rows = [f"{_name(row.dimension)} {row.pb:.2f} (noise floor {row.noise_floor:.2f})" for row in bias.itertuples()]
    return "Personalization bias in points: " + ", ".join(rows)


def describe_validity(rates: pd.DataFrame) -> str:
    """The text alternative of ``figures.validity``."""
    return "Unreadable and truncated answers by task and persona. " + _validity(rates)


def describe_dimensions(rates: pd.DataFrame) -> str:
    """The text alternative of ``figures.safety_utility``."""
    parts = []
    for dimension, rows in rates.groupby("task"):
        scores = rows.set_index("persona")["estimate"].rename(lambda persona: persona.replace("_", " "))
        others = scores.drop(list(CONTROLS), errors="ignore")
        ends = f"from {others.min():.1f}% ({others.idxmin()}) to {others.max():.1f}% ({others.idxmax()})"
        parts.append(f"{dimension} {ends}, {scores['none']:.1f}% without a system prompt")
    return "By stated identity: " + "; ".join(parts)


def describe_effects(contrasts: pd.DataFrame, *, alpha: float = 0.05) -> str:
    """The text alternative of ``figures.forest``."""
    identities = contrasts[~contrasts["contrast"].str.split(" − ").str[0].isin(CONTROLS)]
    parts = [f"{_name(task)}: {_differences(rows, alpha)}" for task, rows in identities.groupby("task", sort=False)]
    return "Identities that differ from no system prompt. " + " ".join(parts)


def _name(task: str) -> str:
    return "any task (joint)" if task == "joint" else task.replace("_", " ")


def _bias(row, alpha: float) -> str:
    if row.noise_floor == 0:
        return f"Cannot be told: all answers to each of the {row.n_items} items scored alike, right or wrong."
    low, high = (max(value, 0) ** 0.5 for value in (row.ci_low, row.ci_high))
    noise = f"no effect would give {row.noise_floor:.2f} ({wording.p(row.p_value)}, {row.n_items} items)"
    observed = f"PB {row.pb:.2f} points where {noise}"
    corrected = f"corrected for noise {max(row.debiased_pb2, 0) ** 0.5:.2f} [{low:.2f}, {high:.2f}]"
    if row.p_value < alpha:
        return f"Yes: {observed}; {corrected}."
    return f"Not distinguishable from noise: {observed}; an effect up to {high:.2f} points is not excluded."


def _differences(rows: pd.DataFrame, alpha: float) -> str:
    found = rows[rows["p_holm"] < alpha].sort_values("estimate", key=abs, ascending=False)
    count = f"{len(found)} of {len(rows)} after Holm's correction"
    if found.empty:
        widest = (rows["ci_high"] - rows["ci_low"]).max() / 2
        return f"None ({count}); each difference is known to within ±{widest:.1f} points."
    named = [
        f"{row.contrast.split(' − ')[0].replace('_', ' ')} {row.estimate:+.1f} [{row.ci_low:+.1f}, {row.ci_high:+.1f}]"
        for row in found.head(3).itertuples()
    ]
    return f"{count}, the largest: {'; '.join(named)} points."


def _validity(rates: pd.DataFrame) -> str:
    sentences = []
    for column, what in (("invalid_rate", "unreadable"), ("truncation_rate", "cut off")):
        worst = rates.loc[rates[column].idxmax()]
        if worst[column] == 0:
            sentences.append(f"no answer was {what}")
        else:
            typical = rates.loc[rates["task"] == worst["task"], column].median()
            whose = f"{worst['persona'].replace('_', ' ')}, {_name(worst['task'])}"
            sentences.append(f"{what}: at most {worst[column]:.1f}% ({whose}; median persona {typical:.1f}%)")
    return "; ".join(sentences).capitalize() + "."
