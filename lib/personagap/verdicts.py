"""Verdicts: sentences computed from the result tables, with the uncertainty in them."""

import pandas as pd

from personagap.personas import CONTROLS


def _table(answers: list[tuple[str, str]]) -> pd.DataFrame:
    return pd.DataFrame(answers, columns=["question", "answer"])


def _p(value: float) -> str:
    return "p < 0.001" if value < 0.001 else f"p = {value:.3f}"


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
    return _table(answers)


def describe_bias(bias: pd.DataFrame) -> str:
    """The text alternative of ``figures.personalization_bias``."""
    rows = [f"{_name(row.dimension)} {row.pb:.2f} (noise floor {row.noise_floor:.2f})" for row in bias.itertuples()]
    return "Personalization bias in points: " + ", ".join(rows)


def describe_validity(rates: pd.DataFrame) -> str:
    """The text alternative of ``figures.validity``."""
    return "Unreadable and truncated answers by task and persona. " + _validity(rates)


def _name(task: str) -> str:
    return "any task (joint)" if task == "joint" else task.replace("_", " ")


def _bias(row, alpha: float) -> str:
    low, high = (max(value, 0) ** 0.5 for value in (row.ci_low, row.ci_high))
    noise = f"no effect would give {row.noise_floor:.2f} ({_p(row.p_value)}, {row.n_items} items)"
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


def relevance(metrics: pd.DataFrame, means: pd.DataFrame, paired: pd.DataFrame, scored: pd.DataFrame) -> pd.DataFrame:
    """Answers to the questions of the relevance notebook: ``question answer``.

    Parameters
    ----------
    metrics : ``gap.relevance_metrics``.
    means : ``gap.mean_agreement``.
    paired : ``gap.paired_difference`` of pairs of judges, and of each judge and "select_all".
    scored : ``gap.scored_metrics`` of the retrieval baselines.
    """
    f1 = paired[paired["metric"] == "f1"]
    against_all = f1["contrast"].str.endswith("select_all")
    answers = [("Do raters agree, beyond chance?", _agreement(means))]
    for row in metrics[metrics["rater_kind"] == "model"].itertuples():
        answers.append((f"Does {row.rater} select too much?", _selection(row)))
    for rows, question in (
        (f1[against_all], "Is {} better than saying yes to everything?"),
        (f1[~against_all], "Do {} differ?"),
    ):
        for row in rows.itertuples():
            a, b = row.contrast.split(" − ")
            answers.append((question.format(a if b == "select_all" else f"{a} and {b}"), _f1_difference(row, a, b)))
    best = scored.loc[scored["auprc"].idxmax()]
    answers.append(("Does retrieval find the relevant attributes?", _retrieval(best)))
    return _table(answers)


def describe_agreement(means: pd.DataFrame) -> str:
    """The text alternative of ``figures.agreement_matrix``."""
    return "Agreement between raters. " + _agreement(means)


def describe_selection(metrics: pd.DataFrame) -> str:
    """The text alternative of ``figures.over_selection``."""
    rows = metrics[metrics["rater_kind"].isin(["human", "model"])].itertuples()
    rates = ", ".join(f"{row.rater} {100 * row.yes_rate:.1f}% ({row.over_selection:.2f} times)" for row in rows)
    majority = 100 * metrics["prevalence"].iloc[0]
    return f"Share of attributes called relevant, by the human majority {majority:.1f}%: {rates}"


def describe_differences(paired: pd.DataFrame) -> str:
    """The text alternative of ``figures.differences``."""
    rows = [f"{row.metric} {row.estimate:+.3f} [{row.ci_low:+.3f}, {row.ci_high:+.3f}]" for row in paired.itertuples()]
    return f"Paired differences {paired['contrast'].iloc[0]}: " + ", ".join(rows)


def describe_relevance(metrics: pd.DataFrame) -> str:
    """The text alternative of ``figures.precision_recall``."""
    rows = [f"{row.rater} {row.precision:.2f} and {row.recall:.2f}" for row in metrics.itertuples()]
    return "Precision and recall against the human majority: " + ", ".join(rows)


def _interval(value: float, low: float, high: float) -> str:
    return f"{value:.3f} [{low:.3f}, {high:.3f}]"


def _agreement(means: pd.DataFrame) -> str:
    known = means[means["n_pairs"] > 0]
    rows = [f"{row.pair} {_interval(row.kappa, row.ci_low, row.ci_high)}" for row in known.itertuples()]
    return "Mean pairwise κ: " + "; ".join(rows) + "."


def _selection(row) -> str:
    interval = f"[{row.over_selection_low:.2f}, {row.over_selection_high:.2f}]"
    ratio = f"{row.over_selection:.2f} {interval} times as often as the human majority"
    if row.over_selection_low > 1:
        return f"Yes: it says yes {ratio}; recall {row.recall:.2f} comes with precision {row.precision:.2f}."
    if row.over_selection_high < 1:
        return f"No, too little: it says yes {ratio}."
    return f"Not shown: it says yes {ratio}."


def _f1_difference(row, a: str, b: str) -> str:
    difference = f"{row.estimate:+.3f} [{row.ci_low:+.3f}, {row.ci_high:+.3f}], {_p(row.p_value)}"
    values = f"F1 {row.value_a:.3f} ({a}) and {row.value_b:.3f} ({b}), paired difference {difference}"
    if row.ci_low > 0 or row.ci_high < 0:
        return f"{a if row.estimate > 0 else b} is better: {values}."
    return f"Not resolved by these data: {values}."


def _retrieval(best: pd.Series) -> str:
    auprc = _interval(best["auprc"], best["auprc_low"], best["auprc_high"])
    found = "above chance" if best["auprc_low"] > best["prevalence"] else "not clearly above chance"
    return f"The best of them, {best['rater']}, is {found}: AUPRC {auprc} where chance gives {best['prevalence']:.3f}."
