"""Verdicts on judgments of relevance, and the text alternatives of their figures."""

import pandas as pd

from personagap.verdicts import wording


def relevance(
    metrics: pd.DataFrame, means: pd.DataFrame, paired: pd.DataFrame, scored: pd.DataFrame, versus: pd.DataFrame
) -> pd.DataFrame:
    """Answers to the questions of the relevance notebook: ``question answer``.

    Parameters
    ----------
    metrics : ``gap.relevance_metrics``.
    means : ``gap.mean_agreement``.
    paired : ``gap.paired_difference`` of pairs of judges, and of each judge and "select_all".
    scored : ``gap.scored_metrics`` of the retrieval baselines.
    versus : ``tuning.classifiers.compare``.
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
    return wording.table([*answers, *_presentation(paired), *_trained(versus)])


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


def describe_classifiers(quality: pd.DataFrame) -> str:
    """The text alternative of ``figures.classifiers``."""
    rows = [f"{row.rater} F1 {row.f1:.2f} [{row.f1_low:.2f}, {row.f1_high:.2f}]" for row in quality.itertuples()]
    return "Trained classifiers beside the models: " + "; ".join(rows)


def describe_calibration(curve: pd.DataFrame) -> str:
    """The text alternative of ``figures.calibration``."""
    off = (curve["observed"] - curve["score"]).abs().groupby(curve["rater"], sort=False).max()
    return "Largest gap of observed from predicted relevance: " + ", ".join(f"{r} {gap:.2f}" for r, gap in off.items())


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


def _difference(row) -> str:
    return f"{row.estimate:+.3f} [{row.ci_low:+.3f}, {row.ci_high:+.3f}], {wording.p(row.p_value)}"


def _f1_difference(row, a: str, b: str) -> str:
    values = f"F1 {row.value_a:.3f} ({a}) and {row.value_b:.3f} ({b}), paired difference {_difference(row)}"
    if row.ci_low > 0 or row.ci_high < 0:
        return f"{a if row.estimate > 0 else b} is better: {values}."
    return f"Not resolved by these data: {values}."


def _presentation(paired: pd.DataFrame) -> list[tuple[str, str]]:
    """Of each model that judged both one at a time and list-wise."""
    answers = []
    for row in paired[paired["metric"] == "over_selection"].itertuples():
        single, other = row.contrast.split(" − ")
        if other == f"{single}_list":
            clear = "Yes" if row.ci_low > 0 else "No, more" if row.ci_high < 0 else "Not shown"
            difference = f"{-row.estimate:+.2f} [{-row.ci_high:+.2f}, {-row.ci_low:+.2f}]"
            ratios = f"{row.value_b:.2f} instead of {row.value_a:.2f} times as often as the human majority"
            question = f"Does {single} select less when it sees all attributes at once, as people did (T3)?"
            answers.append((question, f"{clear}: it says yes {ratios} ({difference})."))
    return answers


def _trained(versus: pd.DataFrame) -> list[tuple[str, str]]:
    """Of the disjoint classifiers against the best model, alone and with it; and of the random split against them."""
    f1, against, leaks = versus[versus["metric"] == "f1"], {False: [], True: []}, []
    judges = f1["contrast"].str.split(" − ", expand=True)
    leaking = judges[0].str.endswith("(random split)")
    rivals = f1[~leaking & (judges[1] != "select_all")]
    for rater, rows in rivals.groupby(judges[0], sort=False):
        best = rows.loc[rows["value_b"].idxmax()]
        against[" & " in rater].append(_f1_difference(best, *best["contrast"].split(" − ")))
    for contrast in f1.loc[leaking, "contrast"]:
        rows = versus[(versus["contrast"] == contrast) & versus["metric"].isin(["f1", "auprc"])]
        both = ", ".join(f"{row.metric.upper()} {_difference(row)}" for row in rows.itertuples())
        leaks.append(f"{contrast}: {both}.")
    return [
        ("Does a trained classifier beat the best model, on prompts or users new to it?", " ".join(against[False])),
        ("Does a model gain where the classifier must confirm its yes?", " ".join(against[True])),
        ("How much does a random split flatter it (T7)?", " ".join(leaks)),
    ]


def _retrieval(best: pd.Series) -> str:
    auprc = wording.interval(best["auprc"], best["auprc_low"], best["auprc_high"])
    found = "above chance" if best["auprc_low"] > best["prevalence"] else "not clearly above chance"
    return f"The best of them, {best['rater']}, is {found}: AUPRC {auprc} where chance gives {best['prevalence']:.3f}."
