"""Verdicts on judgments of relevance, and the text alternatives of their figures."""

import pandas as pd

from personagap.verdicts.wording import interval, p, side, table


def relevance(
    metrics: pd.DataFrame, means: pd.DataFrame, paired: pd.DataFrame, scored: pd.DataFrame, versus: pd.DataFrame
) -> pd.DataFrame:
    """Answers to the questions of the relevance notebook: ``question answer``.

    Parameters
    ----------
    metrics, means : ``gap.relevance_metrics`` and ``gap.mean_agreement``.
    paired : ``gap.paired_difference`` of pairs of judges, and of each judge and "select_all".
    scored : ``gap.scored_metrics`` of the retrieval baselines.
    versus : ``tuning.classifiers.compare``.
    """
    models = metrics[metrics["rater_kind"] == "model"].itertuples()
    best = scored.loc[scored["auprc"].idxmax()]
    return table(
        [
            ("Do raters agree, beyond chance?", _agreement(means)),
            *((f"Does {row.rater} select too much?", _selection(row)) for row in models),
            *_judges(paired[paired["metric"] == "f1"]),
            ("Does retrieval find the relevant attributes?", _retrieval(best)),
            *_presentation(paired[paired["metric"] == "over_selection"]),
            *_trained(versus),
        ]
    )


def describe_agreement(means: pd.DataFrame) -> str:
    """The text alternative of ``figures.agreement_matrix``."""
    return "Agreement between raters. " + _agreement(means)


def describe_selection(metrics: pd.DataFrame) -> str:
    """The text alternative of ``figures.over_selection``."""
    rows = metrics[metrics["rater_kind"].isin(["human", "model"])].itertuples()
    rates = ", ".join(f"{row.rater} {row.yes_rate:.1%} ({row.over_selection:.2f} times)" for row in rows)
    majority = metrics["prevalence"].iloc[0]
    return f"Share of attributes called relevant, by the human majority {majority:.1%}: {rates}"


def describe_differences(paired: pd.DataFrame) -> str:
    """The text alternative of ``figures.differences``."""
    rows = [f"{row.metric} {interval(row, form='+.3f')}" for row in paired.itertuples()]
    return f"Paired differences {paired['contrast'].iloc[0]}: " + ", ".join(rows)


def describe_relevance(metrics: pd.DataFrame) -> str:
    """The text alternative of ``figures.precision_recall``."""
    rows = [f"{row.rater} {row.precision:.2f} and {row.recall:.2f}" for row in metrics.itertuples()]
    return "Precision and recall against the human majority: " + ", ".join(rows)


def describe_classifiers(quality: pd.DataFrame) -> str:
    """The text alternative of ``figures.classifiers``."""
    rows = [f"{row.rater} F1 {interval(row, 'f1', '.2f')}" for row in quality.itertuples()]
    return "Trained classifiers beside the models: " + "; ".join(rows)


def describe_calibration(curve: pd.DataFrame) -> str:
    """The text alternative of ``figures.calibration``."""
    off = (curve["observed"] - curve["score"]).abs().groupby(curve["rater"], sort=False).max()
    return "Largest gap of observed from predicted relevance: " + ", ".join(f"{r} {gap:.2f}" for r, gap in off.items())


def _agreement(means: pd.DataFrame) -> str:
    rows = [f"{row.pair} {interval(row, 'kappa')}" for row in means[means["n_pairs"] > 0].itertuples()]
    return "Mean pairwise κ: " + "; ".join(rows) + "."


def _selection(row) -> str:
    ratio = f"it says yes {interval(row, 'over_selection', '.2f')} times as often as the human majority"
    if row.over_selection_low > 1:
        return f"Yes: {ratio}; recall {row.recall:.2f} comes with precision {row.precision:.2f}."
    return f"No, too little: {ratio}." if row.over_selection_high < 1 else f"Not shown: {ratio}."


def _judges(f1: pd.DataFrame) -> list[tuple[str, str]]:
    """Of each model against saying yes to everything, then of the models against each other."""
    against_all, between = [], []
    for row in f1.itertuples():
        a, b = row.contrast.split(" − ")
        if b == "select_all":
            against_all.append((f"Is {a} better than saying yes to everything?", _f1_difference(row)))
        else:
            between.append((f"Do {a} and {b} differ?", _f1_difference(row)))
    return against_all + between


def _difference(row) -> str:
    return f"{interval(row, form='+.3f')}, {p(row.p_value)}"


def _f1_difference(row) -> str:
    a, b = row.contrast.split(" − ")
    says = side(row, f"{a} is better", f"{b} is better", "Not resolved by these data")
    return f"{says}: F1 {row.value_a:.3f} ({a}) and {row.value_b:.3f} ({b}), paired difference {_difference(row)}."


def _presentation(paired: pd.DataFrame) -> list[tuple[str, str]]:
    """Of each model that judged both one at a time and list-wise."""
    answers = []
    for row in paired.itertuples():
        single, other = row.contrast.split(" − ")
        if other == f"{single}_list":
            difference = f"{-row.estimate:+.2f} [{-row.ci_high:+.2f}, {-row.ci_low:+.2f}]"
            ratios = f"{row.value_b:.2f} instead of {row.value_a:.2f} times as often as the human majority"
            question = f"Does {single} select less when it sees all attributes at once, as people did (T3)?"
            clear = side(row, "Yes", "No, more", "Not shown")
            answers.append((question, f"{clear}: it says yes {ratios} ({difference})."))
    return answers


def _trained(versus: pd.DataFrame) -> list[tuple[str, str]]:
    """Of the disjoint classifiers against the best model, alone and with it; and of the random split against them."""
    f1, against = versus[versus["metric"] == "f1"], {False: [], True: []}
    judges = f1["contrast"].str.split(" − ", expand=True)
    leaking = judges[0].str.endswith("(random split)")
    for rater, rows in f1[~leaking & (judges[1] != "select_all")].groupby(judges[0], sort=False):
        against[" & " in rater].append(_f1_difference(rows.loc[rows["value_b"].idxmax()]))
    leaks = versus[versus["contrast"].isin(f1.loc[leaking, "contrast"]) & versus["metric"].isin(["f1", "auprc"])]
    flattered = [
        f"{contrast}: {', '.join(f'{row.metric.upper()} {_difference(row)}' for row in rows.itertuples())}."
        for contrast, rows in leaks.groupby("contrast", sort=False)
    ]
    return [
        ("Does a trained classifier beat the best model, on prompts or users new to it?", " ".join(against[False])),
        ("Does a model gain where the classifier must confirm its yes?", " ".join(against[True])),
        ("How much does a random split flatter it (T7)?", " ".join(flattered)),
    ]


def _retrieval(best: pd.Series) -> str:
    found = "above chance" if best["auprc_low"] > best["prevalence"] else "not clearly above chance"
    auprc = f"AUPRC {interval(best, 'auprc')} where chance gives {best['prevalence']:.3f}"
    return f"The best of them, {best['rater']}, is {found}: {auprc}."
