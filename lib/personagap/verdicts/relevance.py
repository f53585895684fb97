"""Verdicts on judgments of relevance, and the text alternatives of their figures."""

import pandas as pd

from personagap.verdicts import wording


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
    return wording.table(answers)


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


def _agreement(means: pd.DataFrame) -> str:
    known = means[means["n_pairs"] > 0]
    rows = [f"{row.pair} {wording.interval(row.kappa, row.ci_low, row.ci_high)}" for row in known.itertuples()]
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
    difference = f"{row.estimate:+.3f} [{row.ci_low:+.3f}, {row.ci_high:+.3f}], {wording.p(row.p_value)}"
    values = f"F1 {row.value_a:.3f} ({a}) and {row.value_b:.3f} ({b}), paired difference {difference}"
    if row.ci_low > 0 or row.ci_high < 0:
        return f"{a if row.estimate > 0 else b} is better: {values}."
    return f"Not resolved by these data: {values}."


def _retrieval(best: pd.Series) -> str:
    auprc = wording.interval(best["auprc"], best["auprc_low"], best["auprc_high"])
    found = "above chance" if best["auprc_low"] > best["prevalence"] else "not clearly above chance"
    return f"The best of them, {best['rater']}, is {found}: AUPRC {auprc} where chance gives {best['prevalence']:.3f}."
