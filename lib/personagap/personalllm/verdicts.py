"""Verdicts on simulated users, and the text alternatives of their figures."""

import pandas as pd

from personagap.spelling import entries, words
from personagap.verdicts.wording import ALPHA, OPEN, interval, listed, shown, side, table, tested


def simulated_users(
    diversity: pd.DataFrame,
    changes: dict[str, pd.DataFrame],
    personas: pd.DataFrame,
    regressions: pd.DataFrame,
    entropy: pd.DataFrame,
    opinions: pd.DataFrame | None,
) -> pd.DataFrame:
    """Answers to the questions of the notebook on simulated users: ``question answer``.

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
    cut = _undecided(diversity).sort_values("alpha")
    cut = cut.assign(alpha="α = " + cut["alpha"].astype(str))
    alpha, more = changes["alpha"], changes["reward_models"]
    answers = [
        ("How different are simulated users, and from what?", _headline(cut, more)),
        ("On how many prompts has no response a majority?", listed(cut, "alpha") + "."),
        ("Do users disagree less as α grows?", _change(alpha, "Not shown", "Yes")),
        ("Do more reward models make them disagree more?", _change(more, "Yes", "Not shown")),
        ("Do they disagree more than prompted personas?", _personas(personas)),
    ]
    for (kind, losing), rows in regressions.groupby(["features", "losing"], sort=False):
        named = {"paper": "the worst response", "code": "rank 4 of 8"}[losing]
        answers.append((f"Do {kind} features tell the favourite from {named}?", _features(rows)))
    answers.append(("Do some questions divide them more than others?", _entropy(entropy)))
    if opinions is not None:
        answers.append(("How near are their opinions to those of people?", _opinions(opinions)))
    return table(answers)


def _headline(cut: pd.DataFrame, more_models: pd.DataFrame) -> str:
    """The α in the middle, and what one reward model for all would have shown instead."""
    row, change = cut.iloc[len(cut) // 2], _undecided(more_models).iloc[0]
    return (
        f"At {row['alpha']}, no response has a majority of {row['n_users']:,} users on "
        f"{interval(row, form='.1%')} of {row['n']:,.0f} prompts. Going from the fewest to the "
        f"most reward models changes that by {interval(change, form='+.1f')} points: personas of "
        "one are no fair comparison (P18)."
    )


def _undecided(diversity: pd.DataFrame) -> pd.DataFrame:
    """On how many prompts no response has a majority."""
    return diversity[diversity["bin"] == "≤50%"]


def _change(diversity: pd.DataFrame, rises: str, falls: str) -> str:
    row = _undecided(diversity).iloc[0]
    points = f"{interval(row, form='+.1f')} points, paired by prompt"
    shown = side(row, rises, falls, "Not shown")
    return f"{shown}: the share of prompts without a majority changes by {points}."


def _personas(personas: pd.DataFrame) -> str:
    share = _undecided(personas)["estimate"].item()
    return (
        f"Not answered by the published comparison: its personas, with {share:.1%} of the prompts "
        "without a majority, are prompted into one reward model, where simulated users of one "
        "reward model never disagree. Method and number of reward models change together (P18)."
    )


def _features(rows: pd.DataFrame) -> str:
    rows, right = rows[rows["metric"] == "coefficient"], rows[rows["metric"] == "accuracy"].iloc[0]
    answer = "Yes" if right["ci_low"] > 0.5 else "Not shown"
    clear = rows[(rows["ci_low"] > 0) | (rows["ci_high"] < 0)].itertuples()
    names = ", ".join(f"{words(row.feature)} {row.estimate:+.2f}" for row in clear) or "none"
    lost = rows["separable"].iloc[0]
    left_out = f" {lost:.0f} users without a finite estimate are left out." if lost else ""
    accuracy = f"held-out accuracy {interval(right)}, chance 0.5"
    return f"{answer}: {accuracy}. Clear of zero, in log odds: {names}.{left_out}"


def _entropy(entropy: pd.DataFrame) -> str:
    overall, rest = entropy.iloc[0], entropy.iloc[1:]
    apart = rest[(rest["ci_low"] > overall["ci_high"]) | (rest["ci_high"] < overall["ci_low"])]
    named = ", ".join(f"{row.keyword} {row.estimate:.2f}" for row in apart.itertuples())
    answer = f"apart from it lie {named}" if named else "no keyword's interval lies apart from it"
    says = f"{'Yes' if named else 'Not shown'}: the votes have an entropy of {interval(overall)}"
    return f"{says} nats overall; {answer}."


def _opinions(opinions: pd.DataFrame) -> str:
    rows = opinions[opinions["attribute"] == "Overall"].set_index(["distance", "model"])
    fair, paper = rows.loc["max−min"], rows.loc["options−1", "estimate"]
    if "simulated users" not in fair.index:
        return "Not known: the reward models' answers to the survey are absent."
    named = fair.loc[["simulated users", "reward models, one vote each", "uniform"]].reset_index()
    # What their own way of dividing adds to the same opinions.
    rise = paper["simulated users"] - named["estimate"][0]
    adds = "adds" if named["ci_low"][0] > named["ci_high"][1] else "is not shown to add"
    return (
        f"{listed(named, 'model')}. Mixing reward models into users {adds} to giving each one "
        f"vote; dividing distances by the number of options less one adds {rise:+.3f} (P5)."
    )


QUESTIONS = {row["contrast"]: row["question"] for row in entries("personalllm/questions")}


def in_context(paired: pd.DataFrame) -> pd.DataFrame:
    """Answers to the questions of the in-context notebook: ``question answer``.

    Whether a benefit is personal is an intersection–union test: every control must be beaten, so
    their number needs no correction.

    Parameters
    ----------
    paired : ``adaptation.compare`` of "own" with every control; optionally of "losing" with
        "mislabelled".
    """
    rows = _rewards(paired)
    controls = rows.loc[["own − other people's", "own − a random user's", "own − the population's"]]
    # What others' examples do as well is not personal: format, length, quality.
    short = controls[controls["ci_low"] <= 0]
    numbers = ", ".join(_number(row) for _, row in (controls if short.empty else short).iterrows())
    names = " or ".join(contrast.split(" − ")[1] for contrast in short.index)
    beaten = (controls["ci_high"] < 0).any()
    lacking = f"{'No' if beaten else OPEN}, no benefit is shown beyond examples in {names} taste"
    personal = "Yes, beyond every control" if short.empty else lacking
    question = "Does showing a user's favourites personalize a model?"
    counted = f"n = {rows['n'].iloc[0]:,.0f} users"
    return table([(question, f"{personal}: {numbers} ({counted})."), *_answers(rows)])


def across_users(paired: pd.DataFrame, quality: pd.DataFrame) -> list[tuple[str, str]]:
    """Questions and answers on similar users.

    Parameters
    ----------
    paired : ``adaptation.compare`` of "similar by difference" with the others, and of "own history"
        with "… as coded".
    quality : ``adaptation.quality``, of one database or several.
    """
    recall = quality[quality["metric"] == "recall"]
    largest = recall[recall["users"] == quality["users"].max()]
    best = largest.loc[largest["estimate"].idxmax()]
    looks = (
        f"The embedding by {best['embedding']} finds {interval(best)} of the users nearest by true "
        f"weights among {best['users']:,}, where chance finds {best['chance']:.3f}."
    )
    rows = _rewards(paired)
    _, *others = _answers(rows)
    row = rows.loc[["similar by difference − random users"]].iloc[0]
    users = f"n = {row['n']:,.0f} users"
    helps = shown(row, "Yes", "No, they harm", OPEN)
    helps = f"{helps}: {_number(row)}, {tested(row)} ({users})."
    # What they must beat: the user has it anyway.
    own = rows.loc["similar by difference − own history"]
    does = shown(own, "less", "more", "as much, as far as these data tell")
    helps += f" A short history of one's own, drawn alike, does {does}: {_number(own)}."
    return [("Do similar users help?", helps), ("Are users who look alike alike?", looks), *others]


def forking_paths(effect: pd.DataFrame, rates: pd.DataFrame) -> list[tuple[str, str]]:
    """Questions and answers on the logged runs, of ``runlog.selection_effect`` and
    ``runlog.compare_rates``.
    """
    free, tied, pair = effect.iloc[0], effect.iloc[-1], rates.iloc[0]
    plotted = (
        f"{'Yes' if pair['p_value'] < ALPHA else 'Not distinguishable'}: {pair['value_a']:.1f}% "
        f"and {pair['value_b']:.1f}% win rate, difference {interval(pair, form='+.1f')} points, z "
        f"= {pair['statistic']:.2f}, {tested(pair)}."
    )
    best = (
        f"It won {free['best']:.1f}% where the mean is {free['mean']:.1f}%. Were all equally good, "
        f"the best would show {free['best_by_chance']:.1f}% by selection alone if their errors are "
        f"independent ({tested(free)}), and {tied['best_by_chance']:.1f}% if these correlate at "
        f"{tied['correlation']:g} ({tested(tied)}); on new users expect "
        f"{free['shrunken_best']:.1f}% to {tied['shrunken_best']:.1f}%."
    )
    question = f"Is the best of {free['n']:.0f} configurations better than the others?"
    return [("Is the plotted configuration better than Self-ICL?", plotted), (question, best)]


def _rewards(paired: pd.DataFrame) -> pd.DataFrame:
    """Contrasts of persona reward with the most examples, in the first template."""
    most = paired["shots"] == paired["shots"].max()
    chosen = most & (paired["template"] == paired["template"].iloc[0])
    return paired[chosen & (paired["metric"] == "persona_reward")].set_index("contrast", drop=False)


def _answers(rows: pd.DataFrame) -> list[tuple[str, str]]:
    """The questions that ``rows`` can answer."""
    told = rows.loc[[contrast for contrast in QUESTIONS if contrast in rows.index]]
    answers = []
    for contrast, row in told.iterrows():
        says = shown(row, "Better", "Worse", "No difference is shown")
        answer = f"{says}: {_number(row)}, {tested(row)} ({row['shots']}-shot)."
        answers.append((QUESTIONS[contrast], answer))
    return answers


def _number(row: pd.Series) -> str:
    other = words(row["contrast"].split(" − ")[1])
    return f"{interval(row, form='+.2f')} {row['unit']} against {other}"
