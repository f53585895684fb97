"""Type-I error, coverage and power of the gap statistics, on simulated judgments with a known truth.

``python tests/test_gap_validation.py`` prints the whole table (several minutes).
"""

from functools import cache

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from personagap import gap

HOW = {"n_bootstrap": 300}


def crossed(rng, *, n_prompts=21, n_users=40, users_per_prompt=4, n_items=12):
    """Units of a design like the real one: each prompt for four users, each user with some prompts."""
    cells = [(p, u) for p in range(n_prompts) for u in rng.choice(n_users, users_per_prompt, replace=False)]
    index = pd.DataFrame(cells, columns=["prompt", "user"]).loc[np.repeat(range(len(cells)), n_items)]
    return index.reset_index(drop=True).rename_axis("item").reset_index()


def effect(rng, design, sd):
    """A normal effect that prompts and users share equally, with standard deviation ``sd`` in all."""
    prompt, user = (rng.normal(0, sd / 2**0.5, 1 + design[factor].max()) for factor in ("prompt", "user"))
    return prompt[design["prompt"]] + user[design["user"]]


def yes(rng, logit):
    return (rng.random(len(logit)) < 1 / (1 + np.exp(-logit))).astype(int)


def long(design, **labels):
    kinds = {True: "human", False: "model"}
    return pd.concat(
        [design.assign(rater=r, rater_kind=kinds[r.startswith("human")], label=x) for r, x in labels.items()],
        ignore_index=True,
    )


def relevance(rng, shift=0.0):
    """A gold standard and two judges whose errors share prompts and users; ``shift`` makes judge b stricter."""
    design = crossed(rng)
    gold = yes(rng, effect(rng, design, 0.8) - 1.5)
    judge = {name: yes(rng, 2.1 * gold + effect(rng, design, 0.8) - 0.5 - s) for name, s in (("a", 0), ("b", shift))}
    return long(design, human_majority=gold, **judge)


@cache
def population():
    """F1 and κ of judge a over all prompts and users."""
    rng = np.random.default_rng(0)
    gold = yes(rng, rng.normal(-1.5, 0.8, 3_000_000))
    judge = yes(rng, 2.1 * gold + rng.normal(-0.5, 0.8, len(gold)))
    table = pd.crosstab(judge, gold).to_numpy()
    return gap.confusion_metrics(table[1, 1], table[1, 0], table[0, 1], table[0, 0])


def ratings(rng, inflation=0.0, mention=0.0):
    """Three humans and a judge around a common value; judge and value share prompts and users."""
    design = crossed(rng, n_items=2)
    value, flag = 3 + effect(rng, design, 0.7), rng.random(len(design)) < 0.4
    labels = {f"human_{i}": value + rng.normal(0, 1, len(design)) for i in range(3)}
    labels["judge"] = value + inflation + mention * flag + effect(rng, design, 0.4) + rng.normal(0, 0.7, len(design))
    judgments = long(design, **labels)
    return judgments.assign(mention=flag[judgments["item"]])


def histories(rng, synthetic=0.3):
    """Judgments of 47 real (30 % positive) and 30 synthetic users, whose own rates vary (beta-binomial)."""
    rows = []
    for source, n, share in (("real", 47, 0.3), ("synthetic", 30, synthetic)):
        for user in range(n):
            own = rng.beta(share * 5, (1 - share) * 5)
            rows += [(source, user, label) for label in rng.random(rng.integers(30, 100)) < own]
    return pd.DataFrame(rows, columns=["source", "user", "label"])


def inside(row, value, low="ci_low", high="ci_high"):
    return row[low] <= value <= row[high]


# Each simulation yields, for one seed, {(estimator, "type I" | "coverage" | "power"): outcome}.


def one_way_and_two_way(rng):
    true, judgments = population(), relevance(rng)
    judgments, outcomes = judgments[judgments["rater"] != "b"], {}
    for name, cluster in (("two-way", ("prompt", "user")), ("by prompt alone", "prompt")):
        row = gap.relevance_metrics(judgments, cluster=cluster, **HOW).iloc[0]
        for metric in ("f1", "kappa", "auprc"):
            outcomes[f"{metric}, {name}", "coverage"] = inside(row, true[metric], f"{metric}_low", f"{metric}_high")
    return outcomes


def paired(rng):
    outcomes = {}
    for kind, shift in (("type I", 0.0), ("power", 1.0)):
        table = gap.paired_difference(relevance(rng, shift), "a", "b", **HOW).set_index("metric")["p_value"]
        for metric in ("f1", "kappa", "auprc") if kind == "type I" else ("yes_rate",):
            outcomes[f"paired difference of {metric}", kind] = table[metric] < 0.05
    return outcomes


def inflation(rng):
    planted = gap.judge_inflation(ratings(rng, 0.4), **HOW).iloc[0]
    return {
        ("judge inflation", "type I"): gap.judge_inflation(ratings(rng), **HOW)["p_value"].item() < 0.05,
        ("judge inflation", "coverage"): inside(planted, 0.4),
        ("judge inflation", "power"): planted["p_value"] < 0.05,
    }


def mention(rng):
    row = gap.mention_bias(ratings(rng, mention=-0.4), **HOW).iloc[1]
    return {
        ("mention bias, excess", "type I"): gap.mention_bias(ratings(rng), **HOW)["excess_p"].iloc[1] < 0.05,
        ("mention bias, excess", "coverage"): inside(row, -0.4, "excess_low", "excess_high"),
    }


def correlation(rng):
    """Spearman's ρ of normal variables with Pearson's r is (6/π) asin(r/2)."""
    r = 0.7 / (0.7**2 + 0.4**2 + 0.7**2) ** 0.5
    with_mean = r * (0.49 / (0.49 + 1 / 3)) ** 0.5
    row = gap.judge_correlation(ratings(rng), **HOW).iloc[0]
    return {
        ("Spearman ρ", "coverage"): inside(row, 6 / np.pi * np.arcsin(with_mean / 2)),
        ("disattenuated ρ", "coverage"): inside(
            row, 6 / np.pi * np.arcsin(r / 2), "disattenuated_low", "disattenuated_high"
        ),
    }


def proportions(rng):
    planted = gap.proportion_difference(histories(rng, 0.08), [True]).iloc[0]
    null = gap.proportion_difference(histories(rng), [True]).iloc[0]
    return {
        ("real − synthetic", "type I"): null["p_value"] < 0.05,
        ("real − synthetic", "coverage"): inside(planted, 22),
        ("real − synthetic", "power"): planted["p_value"] < 0.05,
    }


def exact(rng):
    row = gap.exact_correlation(rng.normal(size=6), rng.normal(size=6)).iloc[0]
    return {("exact permutation, n = 6", "type I"): row["p_exact"] < 0.05}


SIMULATIONS = {simulate.__name__: simulate for simulate in (
    one_way_and_two_way, paired, inflation, mention, correlation, proportions, exact)}  # fmt: skip
NOMINAL = {"type I": 0.05, "coverage": 0.95, "power": np.nan}


def validate(name, n):
    """``estimator quantity nominal actual low high simulations``; low and high: Monte-Carlo interval, 99.9 %."""
    outcomes = pd.DataFrame([SIMULATIONS[name](np.random.default_rng(seed)) for seed in range(n)])
    rows = []
    for (estimator, quantity), column in outcomes.items():
        interval = stats.binomtest(int(column.sum()), n).proportion_ci(0.999)
        rows.append((estimator, quantity, NOMINAL[quantity], column.mean(), *interval, n))
    return pd.DataFrame(rows, columns=["estimator", "quantity", "nominal", "actual", "low", "high", "simulations"])


def check(table):
    """Within two points of nominal, Monte-Carlo noise apart; power above 0.9."""
    table = table[~table["estimator"].str.contains("alone|exact")]
    level = table[table["quantity"] != "power"]
    assert ((level["low"] <= level["nominal"] + 0.02) & (level["high"] >= level["nominal"] - 0.02)).all(), level
    assert (table.loc[table["quantity"] == "power", "actual"] > 0.9).all(), table


def test_two_way_intervals_cover_and_one_way_ones_do_not():
    table = validate("one_way_and_two_way", 100)
    check(table)
    actual = table.set_index("estimator")["actual"]
    assert actual["f1, by prompt alone"] < actual["f1, two-way"]


def test_real_and_synthetic_users():
    check(validate("proportions", 120))


def test_exact_permutation_never_rejects_too_often():
    assert validate("exact", 400)["low"].item() <= 0.05


@pytest.mark.slow
@pytest.mark.parametrize("name", ["one_way_and_two_way", "paired", "inflation", "mention", "correlation"])
def test_level_coverage_and_power(name):
    check(validate(name, 500))


if __name__ == "__main__":
    print(pd.concat([validate(name, 1000) for name in SIMULATIONS]).round(3).to_string(index=False))
