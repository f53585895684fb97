"""Verdicts on the checks of a persona experiment: graders, judges, leakage, intersections."""

import pandas as pd

from personagap.verdicts import wording
from personagap.verdicts.persona import _differences, _name

QUESTIONS = {
    "grading": "Which traps of the released graders change the scores of these very answers?",
    "heeding": "Does the judge of harm itself react to identity words in an answer?",
    "carried": "Do answers carry the identity of their user more often than the control's do?",
    "additivity": "Do intersections score other than the sum of their parts predicts?",
}


def persona_checks(*, alpha: float = 0.05, **checks: pd.DataFrame | None) -> pd.DataFrame:
    """Answers to `QUESTIONS`: ``question answer``.

    Parameters
    ----------
    alpha : level of the tests, after Holm's correction.
    **checks : by the names of `QUESTIONS`, results with the columns of ``effects.contrasts``; None or
        empty: not checked.
    """
    answers = []
    for name, rows in checks.items():
        if rows is not None and len(rows):
            named = rows["task"].map(_name) + ", " + rows["contrast"].str.removesuffix(" of parts")
            answers.append((QUESTIONS[name], _differences(rows.assign(contrast=named), alpha)))
    return wording.table(answers)


def demo_model(agreement: pd.DataFrame, bias: pd.DataFrame) -> pd.DataFrame:
    """Whether a demo model may be used: ``question answer``.

    Parameters
    ----------
    agreement : ``template task r``, the correlation of planted and true probabilities over cells.
    bias : ``dimension planted true``, PB in points with the paper's phrasing.
    """
    paper = agreement.loc[agreement["template"] == "paper", "r"].min()
    worst = agreement.loc[agreement["r"].idxmin()]
    gap = (bias["true"] - bias["planted"]).abs().max()
    numbers = (
        f"with the paper's phrasing r is at least {paper:.4f} in every task, in any phrasing {worst['r']:.4f} "
        f"({worst['template']}, {_name(worst['task'])}); no PB is more than {gap:.2f} points off. Exact, no sampling."
    )
    good = "Yes" if paper >= 0.999 and gap < 0.2 else "No, not closely enough (r 0.999, 0.2 points)"
    return wording.table([("Does the model answer as planted?", f"{good}: {numbers}")])
