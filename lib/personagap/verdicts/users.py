"""Verdicts on simulated users, and the text alternatives of their figures."""

import pandas as pd

from personagap.verdicts import wording


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
    cut = (
        diversity[diversity["bin"] == "≤50%"]
        .sort_values("alpha")
        .assign(alpha=lambda t: "α = " + t["alpha"].astype(str))
    )
    answers = [
        ("On how many prompts has no response a majority?", describe_users(cut, "alpha", "share") + "."),
        ("Do users disagree less as α grows?", _change(changes["alpha"], -1)),
        ("Do more reward models make them disagree more?", _change(changes["reward_models"], 1)),
        ("Do they disagree more than prompted personas?", _personas(personas)),
    ]
    for (kind, losing), rows in regressions.groupby(["features", "losing"], sort=False):
        named = {"paper": "the worst response", "code": "rank 4 of 8"}[losing]
        answers.append((f"Do {kind} features tell the favourite from {named}?", _features(rows)))
    answers.append(("Do some questions divide them more than others?", _entropy(entropy)))
    if opinions is not None:
        answers.append(("Do they hold the opinions of people?", _opinions(opinions)))
    return wording.table(answers)


def describe_users(table: pd.DataFrame, name: str, value: str) -> str:
    """The text alternative of a figure: each ``value`` with its interval; ``name`` is the column that names a row."""
    rows = zip(table[name], table[value], table["ci_low"], table["ci_high"], strict=True)
    return f"{value.capitalize()}: " + "; ".join(f"{row[0]} {wording.interval(*row[1:])}" for row in rows)


def _change(table: pd.DataFrame, sign: int) -> str:
    row = table[table["bin"] == "≤50%"].iloc[0]
    shown = "Yes" if row["ci_low"] * sign > 0 and row["ci_high"] * sign > 0 else "Not shown"
    points = [100 * row[column] for column in ("estimate", "ci_low", "ci_high")]
    text = "the share of prompts without a majority changes by {:+.1f} points [{:+.1f}, {:+.1f}], paired by prompt"
    return f"{shown}: {text.format(*points)}."


def _personas(personas: pd.DataFrame) -> str:
    share = personas.loc[personas["bin"] == "≤50%", "share"].item()
    return (
        f"Not answered by the published comparison: its personas, with {100 * share:.1f}% of the prompts without a "
        "majority, are prompted into one reward model, where simulated users of one reward model never disagree. "
        "Method and number of reward models change together (T18)."
    )


def _features(rows: pd.DataFrame) -> str:
    first = rows.iloc[0]
    accuracy = wording.interval(first["accuracy"], first["accuracy_low"], first["accuracy_high"])
    clear = rows[(rows["ci_low"] > 0) | (rows["ci_high"] < 0)]
    names = ", ".join(f"{row.feature.replace('_', ' ')} {row.estimate:+.2f}" for row in clear.itertuples())
    answer = "Yes" if first["accuracy_low"] > 0.5 else "Not shown"
    left_out = f" {first['separable']} users without a finite estimate are left out." if first["separable"] else ""
    return (
        f"{answer}: held-out accuracy {accuracy}, chance 0.5. Clear of zero, in log odds: {names or 'none'}.{left_out}"
    )


def _entropy(table: pd.DataFrame) -> str:
    overall, rest = table.iloc[0], table.iloc[1:]
    apart = rest[(rest["ci_low"] > overall["ci_high"]) | (rest["ci_high"] < overall["ci_low"])]
    value = wording.interval(*overall[["entropy", "ci_low", "ci_high"]])
    named = ", ".join(f"{row.keyword} {row.entropy:.2f}" for row in apart.itertuples())
    answer = f"apart from it lie {named}" if named else "no keyword's interval lies apart from it"
    return f"{'Yes' if named else 'Not shown'}: the votes have an entropy of {value} nats overall; {answer}."


def _opinions(table: pd.DataFrame) -> str:
    rows = table[table["attribute"] == "Overall"].set_index(["distance", "model"])
    fair, paper = rows.loc["max−min"], rows.loc["options−1", "representativeness"]
    if "simulated users" not in fair.index:
        return "Not known: the reward models' answers to the survey are absent."
    named = fair.loc[["simulated users", "reward models, one vote each", "uniform"]].reset_index()
    rise = paper["simulated users"] - fair.loc["simulated users", "representativeness"]
    better = named["ci_low"][0] > named["ci_high"][1]
    return (
        f"{describe_users(named, 'model', 'representativeness')}. Mixing reward models into users "
        f"{'adds' if better else 'is not shown to add'} to giving each one vote; dividing distances by the number of "
        f"options less one adds {rise:+.3f} (T5)."
    )
