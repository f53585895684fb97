"""Verdicts on extraction and responses, and the text alternatives of their figures."""

import pandas as pd

from personagap.verdicts import wording

EFFECTS = {"mention": "naming the attribute", "log2_length": "twice the length", "second": "standing second"}


def describe_intervals(table: pd.DataFrame, *names: str, scale: float = 1) -> str:
    """The text alternative of ``figures.intervals``; ``names`` are the columns that name a row."""
    return "; ".join(
        f"{', '.join(str(row[name]) for name in names)} {_value(row, scale)}" for _, row in table.iterrows()
    )


def extraction(
    contrasts: pd.DataFrame,
    agreement: pd.DataFrame,
    verifier: pd.DataFrame,
    failures: pd.DataFrame | None,
    strategies: pd.DataFrame | None,
) -> pd.DataFrame:
    """Answers to the questions of the extraction notebook, from its tables of these names: ``question answer``.

    The first of ``agreement`` is between people; ``failures`` and ``strategies`` are None without a model.
    """
    kappa = wording.interval(*agreement.iloc[0][["kappa", "ci_low", "ci_high"]])
    answers = [("Do people agree on what is problematic?", f"Mean pairwise κ {kappa}.")]
    for _, row in contrasts.iterrows():
        side = "More" if row["ci_low"] > 0 else "Fewer" if row["ci_high"] < 0 else "Not resolved"
        change = f"{side}: {_value(row)} points, {wording.p(row['p_value'])}."
        answers.append((f"Problematic attributes, {row['contrast']}: do they differ?", change))
    metrics = verifier.set_index("rater")
    trained, everything = metrics.loc["trained verifier"], metrics.loc["select_all", "f1"]
    better = "Better" if trained["f1_low"] > everything else "Not shown to be better"
    f1 = wording.interval(*trained[["f1", "f1_low", "f1_high"]])
    found = f"{better} than flagging all: F1 {f1} where that has {everything:.3f}."
    answers.append(("Does a trained verifier find the problems?", found))
    if failures is not None:
        broken = failures[(failures["step"] == "extract") & (failures["estimate"] > 0)]
        said = describe_intervals(broken, "problem", scale=100) or "none"
        answers.append(("Are the extractor's outputs readable?", f"Outputs with a problem (%): {said}."))
        for name, rows in strategies.groupby("strategy", sort=False):
            values = describe_intervals(
                rows[rows["measure"].isin(["accepted", "useful", "covered"])], "measure", scale=100
            )
            answers.append((f"What becomes of the attributes, {name}?", f"In percent: {values}."))
    return wording.table(answers)


def response(
    summary: pd.DataFrame, inflation: pd.DataFrame, correlations: pd.DataFrame, effects: pd.DataFrame
) -> pd.DataFrame:
    """Answers to the questions of the response notebook, from its tables: ``question answer``."""
    people = summary[summary["rater"] == "human"].set_index("measure")
    mean, worse, responses = (people.loc[name] for name in ("mean rating", "no better", "no better, by response"))
    side = "Yes" if mean["ci_low"] > 3 else "No, worse" if mean["ci_high"] < 3 else "Not resolved"
    answers = [
        ("Do people find personalized responses better?", f"{side}: rated {_value(mean)} where 3 is no difference."),
        ("How often no better?", f"{_value(worse, 100)} % of judgments, {_value(responses, 100)} % of responses."),
    ]
    for _, row in inflation.iterrows():
        change = f"{_value(row)} points above people, {wording.p(row['p_value'])}."
        answers.append((f"Does {row['rater']} rate as people do?", change))
    for row in correlations[correlations["rater_kind"] == "model"].itertuples():
        rho = wording.interval(row.spearman, row.ci_low, row.ci_high)
        answers.append(
            (f"Does {row.rater} rank as people do?", f"ρ {rho}; a perfect judge would have {row.ceiling:.3f}.")
        )
    for covariate, what in EFFECTS.items():
        said = describe_intervals(effects[effects["covariate"] == covariate], "rater")
        untested = "It never varied, so nobody can tell (T11)."
        answers.append((f"Does {what} move ratings?", f"In points: {said}." if said else untested))
    return wording.table(answers)


def _value(row: pd.Series, scale: float = 1) -> str:
    value, low, high = (scale * row[name] for name in ("estimate", "ci_low", "ci_high"))
    return f"{value:.2f} [{low:.2f}, {high:.2f}]" if scale == 1 else f"{value:.1f} [{low:.1f}, {high:.1f}]"
