"""Verdicts on personalization by examples, and on the authors' logged runs."""

import pandas as pd

from personagap.verdicts.wording import ALPHA, corrected, interval, p, side, table, words

QUESTIONS = {
    "own − zero_shot": "What do examples of what the user liked change?",
    "own − population's favourite": "And compared with giving everybody the most popular stored response?",
    "own − user 0's": "And with examples for user 0, as in the authors' code (P1)?",
    "losing − mislabelled": "Disliked responses: labelled so, against labelled as liked?",
    "similar by difference − random users": "What are similar users worth?",
    "similar by difference − oracle users": "How far is that from perfect retrieval?",
    "similar by difference − own history": "How do they compare with the user's own short history, drawn alike?",
    "own history − own history as coded": "And the own history, against one drawn as in the authors' code (P7)?",
}


def in_context(paired: pd.DataFrame, unit: str = "z units") -> pd.DataFrame:
    """Answers to the questions of the in-context notebook: ``question answer``.

    Whether a benefit is personal is an intersection–union test: every control must be beaten, so their number
    needs no correction.

    Parameters
    ----------
    paired : ``adaptation.compare`` of "own" with every control; optionally of "losing" with "mislabelled".
    unit : of rewards.
    """
    rows = _rewards(paired)
    controls = rows.loc[["own − other people's", "own − a random user's", "own − the population's"]]
    short = controls[controls["ci_low"] <= 0]
    numbers = ", ".join(_number(row, unit) for _, row in (controls if short.empty else short).iterrows())
    names = " or ".join(contrast.split(" − ")[1] for contrast in short.index)
    lacking = f"No personalization benefit is shown beyond examples in {names} taste"
    personal = "Yes, beyond every control" if short.empty else lacking
    question = "Is that personalization: do the user's own winners beat those of others?"
    first, *others = _answers(rows, unit)
    return table([first, (question, f"{personal}: {numbers}."), *others])


def across_users(paired: pd.DataFrame, quality: pd.DataFrame, unit: str = "z units") -> list[tuple[str, str]]:
    """Questions and answers on similar users.

    Parameters
    ----------
    paired : ``adaptation.compare`` of "similar by difference" with the others, and of "own history" with "… as coded".
    quality : ``adaptation.neighbour_arms``, of one database or several.
    unit : of rewards.
    """
    largest = quality[(quality["metric"] == "recall") & (quality["users"] == quality["users"].max())]
    best = largest.loc[largest["estimate"].idxmax()]
    looks = (
        f"The embedding by {best['embedding']} finds {interval(best)} of the users nearest by true weights among "
        f"{best['users']:,}, where chance finds {best['chance']:.3f}."
    )
    return [("Are users who look alike alike?", looks), *_answers(_rewards(paired), unit)]


def forking_paths(effect: pd.DataFrame, rates: pd.DataFrame) -> list[tuple[str, str]]:
    """Questions and answers on the logged runs, of ``runlog.selection_effect`` and ``runlog.compare_rates``."""
    free, tied, pair = effect.iloc[0], effect.iloc[-1], rates.iloc[0]
    plotted = (
        f"{'Yes' if pair['p_value'] < ALPHA else 'Not distinguishable'}: {pair['a']:.1f}% and {pair['b']:.1f}% win "
        f"rate, difference {pair['difference']:+.1f} points [{pair['ci_low']:+.1f}, {pair['ci_high']:+.1f}], "
        f"z = {pair['z']:.2f}, {p(pair['p_value'])}."
    )
    best = (
        f"It won {free['best']:.1f}% where the mean is {free['mean']:.1f}%. Were all equally good, the best would show "
        f"{free['best_by_chance']:.1f}% by selection alone if their errors are independent "
        f"({p(free['p_value'])}), and {tied['best_by_chance']:.1f}% if these correlate at "
        f"{tied['correlation']:g} ({p(tied['p_value'])}); on new users expect {free['shrunken_best']:.1f}% to "
        f"{tied['shrunken_best']:.1f}%."
    )
    question = f"Is the best of {free['runs']:.0f} configurations better than the others?"
    return [("Is the plotted configuration better than Self-ICL?", plotted), (question, best)]


def _rewards(paired: pd.DataFrame) -> pd.DataFrame:
    """Contrasts of persona reward with the most examples, in the first template."""
    chosen = (paired["shots"] == paired["shots"].max()) & (paired["template"] == paired["template"].iloc[0])
    return paired[chosen & (paired["metric"] == "persona_reward")].set_index("contrast", drop=False)


def _answers(rows: pd.DataFrame, unit: str) -> list[tuple[str, str]]:
    """The questions that ``rows`` can answer, p-values corrected by Holm over them."""
    told = corrected(rows.loc[[contrast for contrast in QUESTIONS if contrast in rows.index]])
    return [
        (question, f"{_verdict(row)}: {_number(row, unit)}, {p(row['p_holm'])} after Holm ({row['shots']}-shot).")
        for question, (_, row) in zip(map(QUESTIONS.get, told.index), told.iterrows(), strict=True)
    ]


def _verdict(row: pd.Series) -> str:
    none = "No difference is shown"
    return side(row, "Better", "Worse", none) if row["p_holm"] < ALPHA else none


def _number(row: pd.Series, unit: str) -> str:
    return f"{interval(row, form='+.2f')} {unit} against {words(row['contrast'].split(' − ')[1])}"
