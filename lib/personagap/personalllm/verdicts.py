"""Verdicts on simulated users: the answers, in sentences, to the questions of the notebooks."""

import pandas as pd

from personagap.formatting import humanize, word_table
from personagap.verdicts.wording import (
    ALPHA,
    OPEN,
    interval,
    list_estimates,
    p_text,
    shown_side,
    side,
    table,
)


def simulated_users(
    diversity: pd.DataFrame,
    changes: dict[str, pd.DataFrame],
    personas: pd.DataFrame,
    regressions: pd.DataFrame,
    entropy: pd.DataFrame,
    opinions: pd.DataFrame | None,
) -> pd.DataFrame:
    """Answer the questions of the notebook on simulated users: ``question answer``.

    Parameters
    ----------
    diversity : ``users.heterogeneity`` by α.
    changes : ``users.heterogeneity_change`` from the smallest to the largest α ("alpha"), and from
        one reward model to all ("reward_models").
    personas : ``published.persona_prompting``.
    regressions : ``users.compare_regressions``.
    entropy : ``users.entropy``.
    opinions : ``users.representativeness``, or None without OpinionQA.
    """
    by_alpha = _no_majority(diversity).sort_values("alpha")
    by_alpha = by_alpha.assign(alpha="α = " + by_alpha["alpha"].astype(str))
    alpha, more = changes["alpha"], changes["reward_models"]
    answers = [
        ("How different are simulated users, and from what?", _headline(by_alpha, more)),
        (
            "On how many prompts has no response a majority?",
            list_estimates(by_alpha, "alpha") + ".",
        ),
        ("Do users disagree less as α grows?", _change(alpha, "Not shown", "Yes")),
        ("Do more reward models make them disagree more?", _change(more, "Yes", "Not shown")),
        ("Do they disagree more than prompted personas?", _personas(personas)),
    ]
    for (kind, losing), rows in regressions.groupby(["features", "losing"], sort=False):
        loser = {"paper": "the worst response", "code": "rank 4 of 8"}[losing]
        answers.append((f"Do {kind} features tell the favourite from {loser}?", _features(rows)))
    answers.append(("Do some questions divide them more than others?", _entropy(entropy)))
    if opinions is not None:
        answers.append(("How near are their opinions to those of people?", _opinions(opinions)))
    return table(answers)


def _headline(by_alpha: pd.DataFrame, more_models: pd.DataFrame) -> str:
    """State the disagreement at the median α, and how much of it comes from the reward models."""
    row, change = by_alpha.iloc[len(by_alpha) // 2], _no_majority(more_models).iloc[0]
    return (
        f"At {row['alpha']}, no response has a majority of {row['n_users']:,} users on "
        f"{interval(row, form='.1%')} of {row['n']:,.0f} prompts. Going from the fewest to the "
        f"most reward models changes that by {interval(change, form='+.1f')} points: personas of "
        "one are no fair comparison (P18)."
    )


def _no_majority(diversity: pd.DataFrame) -> pd.DataFrame:
    """Return the rows for the share of prompts on which no response has a majority."""
    return diversity[diversity["bin"] == "≤50%"]


def _change(diversity: pd.DataFrame, rises: str, falls: str) -> str:
    row = _no_majority(diversity).iloc[0]
    points = f"{interval(row, form='+.1f')} points, paired by prompt"
    answer = side(row, rises, falls, "Not shown")
    return f"{answer}: the share of prompts without a majority changes by {points}."


def _personas(personas: pd.DataFrame) -> str:
    share = _no_majority(personas)["estimate"].item()
    return (
        f"Not answered by the published comparison: its personas, with {share:.1%} of the prompts "
        "without a majority, are prompted into one reward model, where simulated users of one "
        "reward model never disagree. Method and number of reward models change together (P18)."
    )


def _features(rows: pd.DataFrame) -> str:
    accuracy = rows[rows["metric"] == "accuracy"].iloc[0]
    rows = rows[rows["metric"] == "coefficient"]
    answer = "Yes" if accuracy["ci_low"] > 0.5 else "Not shown"
    clear = rows[(rows["ci_low"] > 0) | (rows["ci_high"] < 0)].itertuples()
    names = ", ".join(f"{humanize(row.feature)} {row.estimate:+.2f}" for row in clear) or "none"
    separable = rows["separable"].iloc[0]
    note = f" {separable:.0f} users without a finite estimate are left out." if separable else ""
    held_out = f"held-out accuracy {interval(accuracy)}, chance 0.5"
    return f"{answer}: {held_out}. Clear of zero, in log odds: {names}.{note}"


def _entropy(entropy: pd.DataFrame) -> str:
    overall, rest = entropy.iloc[0], entropy.iloc[1:]
    apart = rest[(rest["ci_low"] > overall["ci_high"]) | (rest["ci_high"] < overall["ci_low"])]
    names = ", ".join(f"{row.keyword} {row.estimate:.2f}" for row in apart.itertuples())
    others = f"apart from it lie {names}" if names else "no keyword's interval lies apart from it"
    answer = "Yes" if names else "Not shown"
    return f"{answer}: the votes have an entropy of {interval(overall)} nats overall; {others}."


def _opinions(opinions: pd.DataFrame) -> str:
    rows = opinions[opinions["attribute"] == "Overall"].set_index(["distance", "model"])
    fair, paper = rows.loc["max−min"], rows.loc["options−1", "estimate"]
    if "simulated users" not in fair.index:
        return "Not known: the reward models' answers to the survey are absent."
    rows = fair.loc[["simulated users", "reward models, one vote each", "uniform"]].reset_index()
    # What the authors' denominator adds to the representativeness of the same opinions (P5).
    rise = paper["simulated users"] - rows["estimate"][0]
    adds = "adds" if rows["ci_low"][0] > rows["ci_high"][1] else "is not shown to add"
    return (
        f"{list_estimates(rows, 'model')}. Mixing reward models into users {adds} to giving each "
        f"one vote; dividing distances by the number of options less one adds {rise:+.3f} (P5)."
    )


#: Contrast of two arms → the question that it answers, in the order of the answers.
QUESTIONS = {row["contrast"]: row["question"] for row in word_table("personalllm/questions")}


def in_context(paired: pd.DataFrame) -> pd.DataFrame:
    """Answer the questions of the in-context notebook: ``question answer``.

    Whether a benefit is personal is an intersection–union test: every control must be beaten, so
    the number of controls needs no correction.

    Parameters
    ----------
    paired : ``adaptation.compare`` of "own" with every control; optionally of "losing" with
        "mislabelled".
    """
    rows = _rewards(paired)
    controls = rows.loc[["own − other people's", "own − a random user's", "own − the population's"]]
    # A benefit that examples of other users have as well (by format, length or quality) is not
    # personal.
    unbeaten = controls[controls["ci_low"] <= 0]
    decisive = controls if unbeaten.empty else unbeaten
    numbers = ", ".join(_estimate(row) for _, row in decisive.iterrows())
    names = " or ".join(contrast.split(" − ")[1] for contrast in unbeaten.index)
    verdict = "No" if (controls["ci_high"] < 0).any() else OPEN
    lacking = f"{verdict}, no benefit is shown beyond examples in {names} taste"
    answer = "Yes, beyond every control" if unbeaten.empty else lacking
    question = "Does showing a user's favourites personalize a model?"
    n = f"n = {rows['n'].iloc[0]:,.0f} users"
    return table([(question, f"{answer}: {numbers} ({n})."), *_answers(rows)])


def across_users(paired: pd.DataFrame, quality: pd.DataFrame) -> list[tuple[str, str]]:
    """Return questions and answers on similar users.

    Parameters
    ----------
    paired : ``adaptation.compare`` of "similar by difference" with the other arms, and of "own
        history" with "own history as coded".
    quality : ``adaptation.quality`` of one database or several.
    """
    recall = quality[quality["metric"] == "recall"]
    largest = recall[recall["users"] == quality["users"].max()]
    best = largest.loc[largest["estimate"].idxmax()]
    retrieval = (
        f"The embedding by {best['embedding']} finds {interval(best)} of the users nearest by true "
        f"weights among {best['users']:,}, where chance finds {best['chance']:.3f}."
    )
    rows = _rewards(paired)
    _, *others = _answers(rows)
    row = rows.loc[["similar by difference − random users"]].iloc[0]
    answer = shown_side(row, "Yes", "No, they harm", OPEN)
    answer = f"{answer}: {_estimate(row)}, {p_text(row)} (n = {row['n']:,.0f} users)."
    # The user's own history is the baseline to beat, as it is available without a database.
    own = rows.loc["similar by difference − own history"]
    does = shown_side(own, "less", "more", "as much, as far as these data tell")
    answer += f" A short history of one's own, drawn alike, does {does}: {_estimate(own)}."
    helps, alike = "Do similar users help?", "Are users who look alike alike?"
    return [(helps, answer), (alike, retrieval), *others]


def forking_paths(effect: pd.DataFrame, rates: pd.DataFrame) -> list[tuple[str, str]]:
    """Return questions and answers on the logged runs.

    ``effect`` is ``runlog.selection_effect``, whose first row assumes independent errors and whose
    last row the most correlated ones; ``rates`` is ``runlog.compare_rates``.
    """
    independent, correlated, pair = effect.iloc[0], effect.iloc[-1], rates.iloc[0]
    plotted = (
        f"{'Yes' if pair['p_value'] < ALPHA else 'Not distinguishable'}: {pair['value_a']:.1f}% "
        f"and {pair['value_b']:.1f}% win rate, difference {interval(pair, form='+.1f')} points, z "
        f"= {pair['statistic']:.2f}, {p_text(pair)}."
    )
    best = (
        f"It won {independent['best']:.1f}% where the mean is {independent['mean']:.1f}%. Were all "
        f"equally good, the best would show {independent['best_by_chance']:.1f}% by selection "
        f"alone if their errors are independent ({p_text(independent)}), and "
        f"{correlated['best_by_chance']:.1f}% if these correlate at "
        f"{correlated['correlation']:g} ({p_text(correlated)}); on new users expect "
        f"{independent['shrunken_best']:.1f}% to {correlated['shrunken_best']:.1f}%."
    )
    question = f"Is the best of {independent['n']:.0f} configurations better than the others?"
    return [("Is the plotted configuration better than Self-ICL?", plotted), (question, best)]


def _rewards(paired: pd.DataFrame) -> pd.DataFrame:
    """Return the contrasts of persona reward at the most examples, in the first template."""
    most = paired["shots"] == paired["shots"].max()
    chosen = most & (paired["template"] == paired["template"].iloc[0])
    return paired[chosen & (paired["metric"] == "persona_reward")].set_index("contrast", drop=False)


def _answers(rows: pd.DataFrame) -> list[tuple[str, str]]:
    """Answer each of ``QUESTIONS`` whose contrast is among ``rows``."""
    answerable = rows.loc[[contrast for contrast in QUESTIONS if contrast in rows.index]]
    answers = []
    for contrast, row in answerable.iterrows():
        answer = shown_side(row, "Better", "Worse", "No difference is shown")
        answer = f"{answer}: {_estimate(row)}, {p_text(row)} ({row['shots']}-shot)."
        answers.append((QUESTIONS[contrast], answer))
    return answers


def _estimate(row: pd.Series) -> str:
    other = humanize(row["contrast"].split(" − ")[1])
    return f"{interval(row, form='+.2f')} {row['unit']} against {other}"
