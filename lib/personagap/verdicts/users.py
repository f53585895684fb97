"""Verdicts on simulated users, and the text alternatives of their figures."""

import pandas as pd

from personagap.verdicts.wording import interval, side, table, words


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
    changes : ``users.heterogeneity_change`` from the smallest to the largest α ("alpha"), and from one reward
        model to all ("reward_models").
    personas : ``published.persona_prompting``.
    regressions : ``users.regressions`` with a column ``features``.
    entropy : ``users.entropy``.
    opinions : ``users.representativeness``, or None without OpinionQA.
    """
    cut = _undecided(diversity).sort_values("alpha").assign(alpha=lambda t: "α = " + t["alpha"].astype(str))
    answers = [
        ("On how many prompts has no response a majority?", describe_users(cut, "alpha", "share") + "."),
        ("Do users disagree less as α grows?", _change(changes["alpha"], "Not shown", "Yes")),
        ("Do more reward models make them disagree more?", _change(changes["reward_models"], "Yes", "Not shown")),
        ("Do they disagree more than prompted personas?", _personas(personas)),
    ]
    for (kind, losing), rows in regressions.groupby(["features", "losing"], sort=False):
        named = {"paper": "the worst response", "code": "rank 4 of 8"}[losing]
        answers.append((f"Do {kind} features tell the favourite from {named}?", _features(rows)))
    answers.append(("Do some questions divide them more than others?", _entropy(entropy)))
    if opinions is not None:
        answers.append(("Do they hold the opinions of people?", _opinions(opinions)))
    return table(answers)


def describe_users(rows: pd.DataFrame, name: str, value: str) -> str:
    """The text alternative of a figure: each ``value`` with its interval; ``name`` is the column that names a row."""
    named = (f"{row[name]} {interval(row, value)}" for _, row in rows.iterrows())
    return f"{value.capitalize()}: " + "; ".join(named)


def _undecided(diversity: pd.DataFrame) -> pd.DataFrame:
    """On how many prompts no response has a majority."""
    return diversity[diversity["bin"] == "≤50%"]


def _change(diversity: pd.DataFrame, rises: str, falls: str) -> str:
    row = _undecided(diversity).iloc[0]
    change = interval(row, form="+.1f", scale=100).replace(" [", " points [")
    shown = side(row, rises, falls, "Not shown")
    return f"{shown}: the share of prompts without a majority changes by {change}, paired by prompt."


def _personas(personas: pd.DataFrame) -> str:
    share = _undecided(personas)["share"].item()
    return (
        f"Not answered by the published comparison: its personas, with {share:.1%} of the prompts without a majority, "
        "are prompted into one reward model, where simulated users of one reward model never disagree. Method and "
        "number of reward models change together (P18)."
    )


def _features(rows: pd.DataFrame) -> str:
    first = rows.iloc[0]
    answer = "Yes" if first["accuracy_low"] > 0.5 else "Not shown"
    clear = rows[(rows["ci_low"] > 0) | (rows["ci_high"] < 0)].itertuples()
    names = ", ".join(f"{words(row.feature)} {row.estimate:+.2f}" for row in clear) or "none"
    left_out = f" {first['separable']} users without a finite estimate are left out." if first["separable"] else ""
    accuracy = f"held-out accuracy {interval(first, 'accuracy')}, chance 0.5"
    return f"{answer}: {accuracy}. Clear of zero, in log odds: {names}.{left_out}"


def _entropy(entropy: pd.DataFrame) -> str:
    overall, rest = entropy.iloc[0], entropy.iloc[1:]
    apart = rest[(rest["ci_low"] > overall["ci_high"]) | (rest["ci_high"] < overall["ci_low"])]
    named = ", ".join(f"{row.keyword} {row.entropy:.2f}" for row in apart.itertuples())
    answer = f"apart from it lie {named}" if named else "no keyword's interval lies apart from it"
    value = interval(overall, "entropy")
    return f"{'Yes' if named else 'Not shown'}: the votes have an entropy of {value} nats overall; {answer}."


def _opinions(opinions: pd.DataFrame) -> str:
    rows = opinions[opinions["attribute"] == "Overall"].set_index(["distance", "model"])
    fair, paper = rows.loc["max−min"], rows.loc["options−1", "representativeness"]
    if "simulated users" not in fair.index:
        return "Not known: the reward models' answers to the survey are absent."
    named = fair.loc[["simulated users", "reward models, one vote each", "uniform"]].reset_index()
    rise = paper["simulated users"] - named["representativeness"][0]
    adds = "adds" if named["ci_low"][0] > named["ci_high"][1] else "is not shown to add"
    return (
        f"{describe_users(named, 'model', 'representativeness')}. Mixing reward models into users {adds} to giving "
        f"each one vote; dividing distances by the number of options less one adds {rise:+.3f} (P5)."
    )
