"""Verdicts on extraction and responses, and the text alternatives of their figures."""

import pandas as pd

from personagap.verdicts.wording import interval, p, side, table

EFFECTS = {"mention": "naming the attribute", "log2_length": "twice the length", "second": "standing second"}


def describe_intervals(rows: pd.DataFrame, *names: str, scale: float = 1) -> str:
    """The text alternative of ``figures.intervals``; ``names`` are the columns that name a row."""
    named = (f"{', '.join(str(row[name]) for name in names)} {_value(row, scale)}" for _, row in rows.iterrows())
    return "; ".join(named)


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
    between = f"Mean pairwise κ {interval(agreement.iloc[0], 'kappa')}."
    answers = [("Do people agree on what is problematic?", between)]
    for row in contrasts.itertuples():
        change = f"{side(row, 'More', 'Fewer', 'Not resolved')}: {_value(row)} points, {p(row.p_value)}."
        contrast = row.contrast.replace("log2_turns", "number of turns")
        answers.append((f"Problematic attributes, {contrast}: do they differ?", change))
    metrics = verifier.set_index("rater")
    trained, everything = metrics.loc["trained verifier"], metrics.loc["select_all", "f1"]
    better = "Better" if trained["f1_low"] > everything else "Not shown to be better"
    found = f"{better} than flagging all: F1 {interval(trained, 'f1')} where that has {everything:.3f}."
    answers.append(("Does a trained verifier find the problems?", found))
    if failures is not None:
        broken = failures[(failures["step"] == "extract") & (failures["estimate"] > 0)]
        said = describe_intervals(broken, "problem", scale=100) or "none"
        answers.append(("Are the extractor's outputs readable?", f"Outputs with a problem (%): {said}."))
        measured = strategies[strategies["measure"].isin(["accepted", "useful", "covered"])]
        itself = (measured["measure"] == "covered") & (measured["strategy"] == "as extracted")  # 100 % by definition
        measured = measured[~itself]
        for name, rows in measured.groupby("strategy", sort=False):
            values = describe_intervals(rows, "measure", scale=100)
            answers.append((f"What becomes of the attributes, {name}?", f"In percent: {values}."))
    return table(answers)


def response(
    summary: pd.DataFrame, inflation: pd.DataFrame, correlations: pd.DataFrame, effects: pd.DataFrame
) -> pd.DataFrame:
    """Answers to the questions of the response notebook, from its tables: ``question answer``."""
    people = summary[summary["rater"] == "human"].set_index("measure")
    mean, worse, responses = (people.loc[name] for name in ("mean rating", "no better", "no better, by response"))
    better = side(mean, "Yes", "No, worse", "Not resolved", than=3)
    answers = [
        ("Do people find personalized responses better?", f"{better}: rated {_value(mean)} where 3 is no difference."),
        ("How often no better?", f"{_value(worse, 100)} % of judgments, {_value(responses, 100)} % of responses."),
    ]
    for row in inflation.itertuples():
        above = f"{_value(row)} points above people, {p(row.p_value)}."
        answers.append((f"Does {row.rater} rate as people do?", above))
    for row in correlations[correlations["rater_kind"] == "model"].itertuples():
        most = row.note or f"a perfect judge would have {interval(row, 'ceiling')}"
        answers.append((f"Does {row.rater} rank as people do?", f"ρ {interval(row, 'spearman')}; {most}."))
    for covariate, what in EFFECTS.items():
        said = describe_intervals(effects[effects["covariate"] == covariate], "rater")
        untested = "It never varied, so nobody can tell (R11)."
        answers.append((f"Does {what} move ratings?", f"In points: {said}." if said else untested))
    return table(answers)


def _value(row, scale: float = 1) -> str:
    return interval(row, form=".2f" if scale == 1 else ".1f", scale=scale)
