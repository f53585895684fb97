"""Judges instead of people, judges in support of people, and latent truth: references and undefined
input.
"""

import numpy as np
import pandas as pd
import pytest
from scipy import stats
from statsmodels.stats.multitest import multipletests

from personagap import gap
from personagap.errors import UserError
from personagap.results import COLUMNS

QUICK = {"n_bootstrap": 100}
#: Results of crowd-kit 1.4.2, ``DawidSkene(500, tol=1e-9)``, for the labels of ``votes``.
CROWD_KIT = {
    "human_0": {"sensitivity": 0.751616, "specificity": 0.903015},
    "human_1": {"sensitivity": 0.707278, "specificity": 0.812296},
    "human_2": {"sensitivity": 0.710989, "specificity": 0.763927},
}
CROWD_KIT_PREVALENCE = 0.350857


def judgments(labels, units_per_prompt=4):
    """Judgments from {rater: labels}, NaN = not judged; users in rotation."""
    frames = []
    for rater, column in labels.items():
        unit = np.arange(len(column))
        where = {"prompt": unit // units_per_prompt, "user": unit % 11, "item": unit}
        kind = "human" if rater.startswith("human") else "model"
        frames.append(pd.DataFrame({**where, "rater": rater, "rater_kind": kind, "label": column}))
    return pd.concat(frames, ignore_index=True).dropna(subset="label")


def erring(rng, truth, right):
    return np.where(rng.random(len(truth)) < right, truth, ~truth)


@pytest.fixture
def votes():
    """600 items, 30 % yes; three people right in 85, 80 and 75 %, one with gaps; a judge in 80
    %.
    """
    rng = np.random.default_rng(4)
    truth = rng.random(600) < 0.3
    labels = {
        f"human_{i}": erring(rng, truth, right) * 1.0 for i, right in enumerate((0.85, 0.8, 0.75))
    }
    labels["judge"] = erring(rng, truth, 0.8) * 1.0
    labels["human_2"][::9] = np.nan
    return labels


def by_hand(labels, closeness, epsilon):
    """Advantage probabilities, advantages and p-values as in the paper: item by item, with a t
    test.
    """
    humans, probabilities, advantages, p_values = (
        [name for name in labels if name != "judge"],
        [],
        [],
        [],
    )
    for name in humans:
        won = []
        for i, own in enumerate(labels[name]):
            others = [
                labels[other][i]
                for other in humans
                if other != name and not np.isnan(labels[other][i])
            ]
            if not np.isnan(own) and others:
                model, person = closeness(labels["judge"][i], others), closeness(own, others)
                won.append((model >= person, person >= model))
        model, person = np.array(won, dtype=float).T
        probabilities.append(model.mean())
        advantages.append((model - person).mean())
        p_values.append(stats.ttest_1samp(person - model, epsilon, alternative="less").pvalue)
    return probabilities, advantages, multipletests(p_values, method="fdr_by")[1]


@pytest.mark.parametrize("measurement", ["nominal", "interval"])
def test_alternative_annotator_test_equals_the_papers_for_independent_items(votes, measurement):
    def nominal(label, others):
        return np.mean([label == other for other in others])

    def interval(label, others):
        return -np.round(np.mean([(label - other) ** 2 for other in others]), 9)

    labels = votes
    if measurement == "interval":
        rng = np.random.default_rng(0)
        labels = {name: column + rng.integers(1, 4, 600) for name, column in votes.items()}
    theirs = by_hand(labels, {"nominal": nominal, "interval": interval}[measurement], 0.15)
    ours = gap.alternative_annotator_test(
        judgments(labels), epsilon=0.15, measurement=measurement, cluster="item", n_bootstrap=2000
    )
    people = ours[ours["annotator"] != "all"]
    assert people["estimate"][::2].tolist() == pytest.approx(theirs[0])
    assert people["estimate"][1::2].tolist() == pytest.approx(theirs[1])
    assert people["p_adjusted"][1::2].tolist() == pytest.approx(theirs[2], rel=0.3, abs=0.002)
    everyone = ours[ours["annotator"] == "all"].set_index("metric")["estimate"]
    assert everyone["winning rate"] == np.mean(theirs[2] <= 0.05)
    assert everyone["mean advantage probability"] == pytest.approx(np.mean(theirs[0]))


def test_random_judge_replaces_nobody_and_a_perfect_one_everybody(votes):
    rng = np.random.default_rng(1)
    for judge, rate in ((rng.integers(0, 2, 600) * 1.0, 0), (votes["human_0"], 1)):
        table = gap.alternative_annotator_test(judgments(votes | {"judge": judge}), **QUICK)
        assert table.query("metric == 'winning rate'")["estimate"].tolist() == [rate]


def test_ten_items_without_a_difference_are_not_significant():
    same = dict.fromkeys(["human_0", "human_1", "human_2", "judge"], np.tile([0.0, 1.0], 5))
    table = gap.alternative_annotator_test(judgments(same, 1), cluster="prompt", **QUICK)
    assert (table["p_value"].dropna() > 0.05).all()
    many = {name: np.tile(column, 20) for name, column in same.items()}
    table = gap.alternative_annotator_test(judgments(many, 1), cluster="prompt", **QUICK)
    assert (table["p_value"].dropna() < 0.01).all()


def test_prediction_powered_mean_equals_the_formula_for_independent_items():
    rng = np.random.default_rng(3)
    value = rng.normal(3, 1, 800)
    f, y = value + 0.5 + rng.normal(0, 0.5, 800), value + rng.normal(0, 0.3, 800)
    known = rng.random(800) < 0.25
    table = gap.prediction_powered_mean(
        judgments({"human": np.where(known, y, np.nan), "judge": f}),
        "judge",
        cluster="item",
        n_bootstrap=3000,
    ).set_index(["estimator", "metric"])
    n, m = known.sum(), (~known).sum()
    # PPI++: λ = Cov(y, f) / ((1 + n/N) Var(f))
    best = np.cov(y[known], f[known])[0, 1] / ((1 + n / m) * f.var(ddof=1))
    estimate = y[known].mean() + best * (f[~known].mean() - f[known].mean())
    variance = (y - best * f)[known].var(ddof=1) / n + best**2 * f[~known].var(ddof=1) / m
    row = table.loc["prediction-powered", "mean"]
    assert table["estimate"]["prediction-powered", "lambda"] == pytest.approx(best, rel=0.02)
    assert row["estimate"] == pytest.approx(estimate, abs=0.002)
    assert (row["ci_high"] - row["ci_low"]) / 2 == pytest.approx(1.97 * variance**0.5, rel=0.06)
    assert table["estimate"]["prediction-powered", "gain"] == pytest.approx(
        y[known].var() / n / variance, rel=0.15
    )
    assert table["estimate"]["judge alone", "mean"] == pytest.approx(f.mean())


def test_uninformative_judge_gains_nothing_and_a_perfect_one_does(votes):
    rng = np.random.default_rng(0)
    human = np.where(np.arange(600) % 5 == 0, votes["human_0"], np.nan)
    gains = []
    for judge in (rng.integers(0, 2, 600), votes["human_0"]):
        table = gap.prediction_powered_mean(
            judgments({"human": human, "judge": judge}), "judge", **QUICK
        )
        gains.append(table.query("metric == 'gain'")["estimate"].item())
        row = table.query("estimator == 'prediction-powered' and metric == 'mean'").iloc[0]
        assert 0 <= row["ci_low"] <= votes["human_0"].mean() <= row["ci_high"] <= 1
    assert gains[0] < 1.3 and gains[1] > 2


def test_latent_truth_equals_crowd_kit(votes):
    table = gap.latent_truth(judgments(votes), **QUICK)
    rates = table.query("metric in ['sensitivity', 'specificity']").set_index(["rater", "metric"])[
        "estimate"
    ]
    for rater, expected in CROWD_KIT.items():
        assert rates[rater].to_dict() == pytest.approx(expected, abs=2e-3)
    prevalence = table.query("truth == 'latent' and metric == 'prevalence'")["estimate"].item()
    assert prevalence == pytest.approx(CROWD_KIT_PREVALENCE, abs=2e-3)


def test_latent_truth_corrects_for_human_errors():
    """A judge that knows the truth seems to err where people do: its F1 against their majority is
    far below 1.
    """
    rng = np.random.default_rng(2)
    truth = rng.random(4000) < 0.2
    labels = {f"human_{i}": erring(rng, truth, right) for i, right in enumerate((0.85, 0.8, 0.8))}
    labels |= {"knows": truth, "guesses": rng.random(4000) < 0.5, "errs": erring(rng, truth, 0.9)}
    table = gap.latent_truth(judgments(labels), **QUICK).set_index(["rater", "metric", "truth"])[
        "estimate"
    ]
    assert table["knows", "f1", "majority"] < 0.85 < 0.95 < table["knows", "f1", "latent"]
    assert table["guesses", "kappa", "latent"] == pytest.approx(0, abs=0.05)
    assert table["errs", "recall", "latent"] == pytest.approx(0.9, abs=0.05)
    assert table["errs", "over_selection", "latent"] == pytest.approx(
        (0.9 * 0.2 + 0.1 * 0.8) / 0.2, abs=0.15
    )
    assert table["people", "prevalence", "latent"] == pytest.approx(0.2, abs=0.03)


@pytest.mark.parametrize("function", [gap.alternative_annotator_test, gap.latent_truth])
def test_majority_without_individual_labels_is_refused(votes, function):
    with pytest.raises(UserError, match="nothing but their majority: load the labels of each"):
        function(judgments({"human_majority": votes["human_0"], "judge": votes["judge"]}))


@pytest.mark.parametrize(
    ("labels", "call", "message"),
    [
        (
            {"human_0": [0, 1] * 8, "judge": [0, 1] * 8},
            gap.alternative_annotator_test,
            "there are those of 1: load",
        ),
        (
            {"human_0": [0, 1] * 8, "human_1": [0, 1] * 8},
            gap.alternative_annotator_test,
            "no judgments of .* 'model'",
        ),
        (
            {"human_0": [0, 1] * 8, "human_1": [1, 1] * 8, "judge": [0, 1] * 8},
            gap.latent_truth,
            "of 3 or more people",
        ),
        (
            {"human_0": [0, 1] * 8, "judge": [0, 1] * 8},
            lambda table, **how: gap.prediction_powered_mean(table, "judge", **how),
            "people judged 16 of 16 units, of 4 clusters",
        ),
        (
            {"human_0": [0, 1] * 8, "judge": [0, 1] * 8},
            lambda table, **how: gap.prediction_powered_mean(table, "gpt", **how),
            "no rater 'gpt'",
        ),
        # With all ratings distinct every unit counted as a tie, and the judge passed.
        (
            {name: np.arange(60) + i / 9 for i, name in enumerate(["human_0", "human_1", "judge"])},
            gap.alternative_annotator_test,
            "test of 180 different labels: .* or use measurement='interval'",
        ),
    ],
)
def test_undefined_input_is_a_user_error(labels, call, message):
    with pytest.raises(UserError, match=message):
        call(judgments(labels), **QUICK)


def test_every_table_has_the_standard_columns(votes):
    half = votes | {"human_0": np.where(np.arange(600) % 2, votes["human_0"], np.nan)}
    tables = [
        gap.alternative_annotator_test(judgments(votes), **QUICK),
        gap.latent_truth(judgments(votes), **QUICK),
    ]
    tables.append(gap.prediction_powered_mean(judgments(half), "judge", gold="human_0", **QUICK))
    for table in tables:
        assert table.columns[2:].tolist() == COLUMNS
        assert not table[["metric", "estimate", "n", "method"]].isna().any(axis=None)


def test_user_id_is_the_same_as_a_number_or_a_string(votes):
    table = judgments(votes)
    by_judge = table["rater"] == "judge"
    for column in ("user", "item"):
        mixed = table[column].astype(object).mask(by_judge, table[column].astype(str))
        with pytest.raises(UserError, match=f"column '{column}' holds numbers and the same"):
            gap.latent_truth(table.assign(**{column: mixed}), **QUICK)
