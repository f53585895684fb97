"""Verdicts on defences: less bias, or everybody served worse?"""

import pandas as pd

from personagap.verdicts import wording


def mitigation(
    change: pd.DataFrame,
    against_placebo: pd.DataFrame | None = None,
    checks: pd.DataFrame | None = None,
    *,
    alpha: float = 0.05,
) -> pd.DataFrame:
    """Answers to the questions of the mitigation notebook: ``question answer``.

    A defence is called a remedy only if PB falls and no mean does; where PB falls and so does mean utility or safety,
    it is said to serve everybody worse (T13, T14).

    Parameters
    ----------
    change : ``effects.paired_change`` of defended with undefended scores, by dimension.
    against_placebo : the same of defended with placebo scores.
    checks : ``defences.check_neutralization``.
    alpha : level of the tests, after Holm's correction over the defences.
    """
    answers = [
        (f"Is {_name(condition)} a remedy?", _remedy(rows, alpha))
        for condition, rows in change.groupby("condition", sort=False)
    ]
    if against_placebo is not None:
        answers.append(("Do the prompt defences do more than any further sentence?", _placebo(against_placebo, alpha)))
    if checks is not None:
        answers.append(("Does neutralization keep what a request needs, and nothing else?", _kept(checks)))
    return wording.table(answers)


def describe_changes(change: pd.DataFrame) -> str:
    """The text alternative of ``figures.changes``."""
    parts = [f"{_name(condition)}: {_numbers(rows)}" for condition, rows in change.groupby("condition", sort=False)]
    return "Personalization bias before and after, and the change of means. " + "; ".join(parts)


def _name(condition: str) -> str:
    return condition.replace("_", " ")


def _pb(rows: pd.DataFrame) -> pd.Series:
    return rows[(rows["dimension"] == "joint") & (rows["measure"] == "pb_corrected")].iloc[0]


def _remedy(rows: pd.DataFrame, alpha: float) -> str:
    tested, means = _pb(rows), rows[rows["measure"] == "mean"]
    changed = tested["p_holm"] < alpha
    lost = means[(means["p_holm"] < alpha) & (means["estimate"] < 0)]["dimension"].tolist()
    if changed and tested["estimate"] > 0:
        says = "No, it raises PB" + (f", and the mean of {' and '.join(lost)} falls" if lost else "")
    elif changed and lost:
        says = f"No: it cuts PB by serving everybody worse, the mean of {' and '.join(lost)} falls"
    elif changed:
        bound = -means["ci_low"].min()
        says = "Yes, PB falls and no mean is shown to"
        says += f" (a loss of {bound:.1f} points is not excluded)" if bound > 0 else ""
    elif lost:
        says = f"No: PB is not shown to change, and everybody is served worse, the mean of {' and '.join(lost)} falls"
    else:
        says = "Not shown"
    return f"{says}: {_numbers(rows)}; {wording.p(tested['p_holm'])} for PB."


def _numbers(rows: pd.DataFrame) -> str:
    pb, means = _pb(rows), rows[rows["measure"] == "mean"]
    parts = [f"PB {pb['before']:.2f} → {pb['after']:.2f} points, difference {_points(pb)}"]
    return ", ".join(parts + [f"mean {row['dimension']} {_points(row)}" for _, row in means.iterrows()])


def _points(row: pd.Series) -> str:
    return f"{row['estimate']:+.1f} [{row['ci_low']:+.1f}, {row['ci_high']:+.1f}]"


def _placebo(rows: pd.DataFrame, alpha: float) -> str:
    by_defence = {condition: _pb(part) for condition, part in rows.groupby("condition", sort=False)}
    better = [name for name, pb in by_defence.items() if pb["p_holm"] < alpha and pb["estimate"] < 0]
    numbers = ", ".join(f"{_name(name)} {_points(pb)}" for name, pb in by_defence.items())
    answer = f"{', '.join(map(_name, better))} beat the placebo" if better else "Not shown of any"
    return f"{answer}. PB against that with the placebo sentence, in points: {numbers}."


def _kept(checks: pd.DataFrame) -> str:
    parts = [
        f"{row.survived} of {row.n} ({100 * row.share:.0f}% [{100 * row.ci_low:.0f}%, {100 * row.ci_high:.0f}%]) "
        f"survive where the request {'needs them' if row.needed == 'yes' else 'does not'}"
        for row in checks.itertuples()
    ]
    return f"Of the identities in our own checks, {'; '.join(parts)}."
