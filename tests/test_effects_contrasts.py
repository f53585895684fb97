"""Contrasts and rates against statsmodels, enumeration and simulated truth."""

import itertools

import numpy as np
import pandas as pd
import pytest
from scipy import stats
from statsmodels.stats.contingency_tables import mcnemar
from statsmodels.stats.multitest import multipletests
from statsmodels.stats.proportion import proportion_confint, proportion_effectsize

from personagap.effects import (
    additivity,
    answer_flips,
    contrasts,
    paired_change,
    rates,
    simulate_scores,
)
from personagap.effects.paired import clustered_mean, sign_flip
from personagap.errors import UserError


def data_sets(make, number):
    """Simulate many data sets as tasks of one table, which is analysed faster than one by one."""
    return pd.concat(
        [make(seed).assign(task=f"data set {seed}") for seed in range(number)], ignore_index=True
    )


def test_single_binary_run_equals_statsmodels():
    scores = simulate_scores([0, -9, 6], n_items=150, seed=4)
    table = contrasts(scores).set_index("contrast")
    wide = scores.pivot(index="item", columns="persona", values="score")
    identities = ["p00", "p01", "p02"]
    for persona in [*identities, "assistant"]:
        other = mcnemar(pd.crosstab(wide[persona], wide["none"]), exact=True)
        row = table.loc[f"{persona} − none"]
        assert [row["p_value"], row["statistic"]] == pytest.approx(
            [other.pvalue, other.statistic], abs=1e-10
        )
        assert row["estimate"] == pytest.approx(100 * (wide[persona] - wide["none"]).mean())
        assert row["cohens_h"] == pytest.approx(
            proportion_effectsize(wide[persona].mean(), wide["none"].mean())
        )
    family = table.loc[[f"{persona} − none" for persona in identities]]
    assert family["p_adjusted"].tolist() == pytest.approx(
        multipletests(family["p_value"], method="holm")[1]
    )
    assert family["p_bh"].tolist() == pytest.approx(
        multipletests(family["p_value"], method="fdr_bh")[1]
    )
    assert table.loc["assistant − none", "p_adjusted"] == table.loc["assistant − none", "p_value"]


@pytest.mark.parametrize(
    "values", [[1, -1, 2, 0, 3, 3], [1 / 3, 2 / 3, 1, -1 / 3], [0.137, -0.5, 0.7071, 0.31, 0.9]]
)
def test_sign_flip_test_equals_enumeration(values):
    values = np.array(values, dtype=float)
    sums = [np.dot(signs, values) for signs in itertools.product([-1, 1], repeat=len(values))]
    assert sign_flip(values) == pytest.approx(
        np.mean(np.abs(sums) >= abs(values.sum()) - 1e-9), abs=1e-10
    )


def test_sign_flip_test_equals_the_binomial_test_for_many_items():
    values = np.repeat([1.0, -1.0], [260, 200])
    assert sign_flip(values) == pytest.approx(stats.binomtest(200, 460).pvalue, abs=1e-10)


def test_sign_flip_test_of_values_without_a_common_step_is_not_rounded():
    values = np.random.default_rng(2).normal(0.015, 1, 14_000)
    expected = 2 * stats.norm.sf(abs(values.sum()) / np.sqrt((values**2).sum()))
    assert sign_flip(values) == pytest.approx(expected, rel=0.1)


def test_interval_of_an_interaction_may_exceed_100_points():
    """Right at the intersection and the control, wrong at the parts: 1 − (0 + 0 − 1) = 2."""
    right = {"none": 1.0, "p00": 0.0, "p01": 0.0, "p02": 1.0}
    scores = pd.DataFrame(
        [
            {"task": "mmlu", "persona": p, "item": i, "score": right[p]}
            for p in right
            for i in range(50)
        ]
    )
    row = additivity(scores, {"p02": ["p00", "p01"]}).iloc[1]
    assert row["estimate"] == 200 and row["ci_low"] > 150 and row["ci_high"] > 195


def test_interval_equals_bonett_and_price():
    """The textbook form from discordant proportions, with Student's t and n + 1 instead of n +
    2.
    """
    better, worse, n = 30, 12, 100
    scores = pd.DataFrame(
        {"task": "mmlu", "persona": np.repeat(["a", "none"], n), "item": [*range(n)] * 2}
    )
    scores["score"] = np.r_[
        np.repeat([1.0, 0.0, 1.0], [better, worse, n - 42]), np.repeat([0.0, 1.0], [better, n - 30])
    ]
    row = contrasts(scores).iloc[0]
    up, down = (better + 1) / (n + 2), (worse + 1) / (n + 2)
    half = stats.t.ppf(0.975, n - 1) * np.sqrt((up + down - (up - down) ** 2) / (n + 1))
    assert [row["ci_low"], row["ci_high"]] == pytest.approx(
        [100 * (up - down - half), 100 * (up - down + half)]
    )


@pytest.mark.parametrize(
    ("n_items", "n_runs", "difficulty"), [(30, 1, (1, 1)), (60, 3, (1, 1)), (40, 1, (0.3, 0.1))]
)
def test_size_and_coverage_in_small_samples(n_items, n_runs, difficulty):
    effects, how = (
        [0.0, 0.0, 0.0, 3.0],
        {"n_items": n_items, "n_runs": n_runs, "difficulty": difficulty},
    )
    table = contrasts(data_sets(lambda seed: simulate_scores(effects, **how, seed=seed), 60))
    true = table["contrast"].map({f"p0{i} − none": effect for i, effect in enumerate(effects)})
    table, true = table[true.notna()], true.dropna()
    assert len(table) == 60 * 4
    assert true.between(table["ci_low"], table["ci_high"]).mean() >= 0.93
    assert (table["p_value"][true == 0] <= 0.05).mean() <= 0.075


def test_effect_in_one_phrasing_is_not_significant():
    """The naive test, which treats the sampled phrasings as all there are, rejects."""
    naive, ours = [], []
    for seed in range(40):
        scores = simulate_scores([[14.0, 0, 0, 0]], n_items=200, n_runs=2, seed=seed)
        ours.append(contrasts(scores)["p_value"][0])
        naive.append(
            contrasts(
                scores.groupby(["task", "persona", "item"], observed=True, as_index=False)[
                    "score"
                ].mean()
            )
        )
    assert np.mean([table["p_value"][0] <= 0.05 for table in naive]) > 0.3
    assert np.mean(np.array(ours) <= 0.05) <= 0.05


def test_several_phrasings_keep_the_level_and_have_power():
    null, real = [], []
    for seed in range(40):
        phrasing = np.random.default_rng(seed).normal(scale=3, size=(5, 4)).clip(-6, 6)
        table = contrasts(
            simulate_scores(
                phrasing + np.array([[0], [0], [0], [0], [10]]), n_items=200, n_runs=2, seed=seed
            )
        )
        null.extend(table["p_value"][:4])
        real.append(table["p_value"][4])
    assert np.mean(np.array(null) <= 0.05) <= 0.09
    assert np.mean(np.array(real) <= 0.05) >= 0.6


def test_coarser_clusters_widen_the_interval_and_keep_the_level():
    def simulated(seed):
        rng = np.random.default_rng(seed)
        # The persona's effect varies by subject, mean 0.
        shift = np.repeat(rng.normal(scale=0.2, size=20), 15)
        p = np.stack([np.full(300, 0.5), 0.5 + shift.clip(-0.5, 0.5)])
        scores = pd.DataFrame(
            {"persona": np.repeat(["none", "a"], 300), "item": np.tile(range(300), 2)}
        )
        scores["score"] = (rng.random((2, 300)) < p).ravel().astype(float)
        return scores.assign(group=scores["item"] // 15)

    scores = data_sets(simulated, 100)
    tables = {"item": contrasts(scores), "group": contrasts(scores, cluster="group")}
    assert all(len(table) == 100 for table in tables.values())
    rejected = {name: (table["p_value"] <= 0.05).sum() for name, table in tables.items()}
    assert rejected["item"] > 10 >= rejected["group"]
    scores = scores[scores["task"] == "data set 0"]
    with pytest.raises(UserError, match="several clusters"):
        contrasts(scores.assign(group=range(600)), cluster="group")
    with pytest.raises(UserError, match="group is missing in row 5"):
        contrasts(scores.assign(group=scores["group"].where(scores.index != 5)), cluster="group")


def test_category_is_the_mean_of_its_identities():
    scores = simulate_scores([0, 4, 8], n_items=200, n_runs=3, seed=0)
    table = contrasts(scores, by={"p00": "x", "p01": "y", "p02": "y"}).set_index("contrast")
    single = contrasts(scores).set_index("contrast")["estimate"]
    assert list(table.index) == ["x − none", "y − none", "assistant − none"]
    assert table.loc["y − none", "estimate"] == pytest.approx(
        (single["p01 − none"] + single["p02 − none"]) / 2
    )


def test_each_contrast_uses_the_items_shared_with_the_control():
    scores = simulate_scores([0, 5], n_items=30, n_runs=2, seed=1)
    scores = scores[~((scores["persona"] == "p01") & (scores["item"] < 10))]
    assert contrasts(scores)["n"].tolist() == [30, 20, 30]
    with pytest.raises(UserError, match="no scores of 'nobody'"):
        contrasts(scores, control="nobody")
    with pytest.raises(UserError, match="0 answered items"):
        contrasts(
            pd.concat(
                [scores.query("persona == 'none' and item < 10"), scores.query("persona == 'p01'")]
            )
        )


def test_zero_differences_have_an_interval_of_positive_width():
    scores = pd.DataFrame(
        {
            "task": "mmlu",
            "persona": np.repeat(["none", "a"], 50),
            "item": [*range(50)] * 2,
            "score": 1.0,
        }
    )
    row = contrasts(scores).iloc[0]
    assert [row["estimate"], row["p_value"], row["cohens_h"]] == [0, 1, 0]
    # 0 of 50 pairs differ: the rule of three says 6.
    assert row["ci_low"] == pytest.approx(-5.5, abs=0.2)


def test_rates_equal_wilson_and_cover_with_repeated_runs():
    scores = simulate_scores([0], n_items=40, seed=0).assign(valid=lambda s: s["item"] > 3)
    row = rates(scores).iloc[0]
    count = scores.loc[scores["persona"] == "none", "score"].sum()
    low, high = proportion_confint(count, 40, method="wilson")
    assert [row["ci_low"], row["ci_high"]] == pytest.approx([100 * low, 100 * high])
    assert row["invalid_rate"] == pytest.approx(10)
    how = {"n_items": 40, "n_runs": 3, "difficulty": (2, 0.5)}
    table = rates(data_sets(lambda seed: simulate_scores([0], **how, seed=seed), 150))
    assert len(table) == 150 * 3
    assert ((table["ci_low"] <= 80) & (table["ci_high"] >= 80)).mean() >= 0.92


def test_interval_width_follows_the_differences_of_fractional_scores():
    """Pseudo-items of a whole point would dominate differences of 0.01: a width of 23 points at 12
    items.
    """
    rng = np.random.default_rng(0)

    def simulated(_):
        base = rng.uniform(0.2, 0.8, 24)
        score = np.r_[base, base + 0.02 + 0.03 * rng.standard_normal(24)]
        return pd.DataFrame(
            {"persona": np.repeat(["none", "p00"], 24), "item": [*range(24)] * 2, "score": score}
        )

    table = contrasts(data_sets(simulated, 300))
    assert len(table) == 300
    assert ((table["ci_low"] <= 2) & (table["ci_high"] >= 2)).mean() >= 0.93
    assert (table["ci_high"] - table["ci_low"]).mean() < 4


def test_change_of_the_mean_only_flips_sign_with_the_order_of_conditions():
    one, other = (
        simulate_scores([0, shift], n_items=40, seed=shift).assign(condition=f"c{shift}")
        for shift in (1, 6)
    )
    forward, backward = (
        pd.concat(pair, ignore_index=True) for pair in ((one, other), (other, one))
    )
    changes = [
        paired_change(scores, {"c6": "c1"}, n_bootstrap=20) for scores in (forward, backward)
    ]
    means = [table[table["metric"] == "mean"].reset_index(drop=True) for table in changes]
    pd.testing.assert_frame_equal(*means)


def test_standard_error_of_unequal_clusters_equals_the_jackknife():
    rng = np.random.default_rng(0)
    difference, cluster = rng.normal(size=40), np.repeat(np.arange(6), [20, 8, 5, 4, 2, 1])
    centre, se, df = clustered_mean(difference, cluster, 1.0)
    # Each pseudo-item is a cluster.
    values, own = np.append(difference, [1, -1]), np.append(cluster, [6, 7])
    without = np.array([values[own != each].mean() for each in range(8)])
    assert centre == pytest.approx(values.mean())
    # Around the overall mean, not that of the eight.
    assert se == pytest.approx((7 / 8 * ((without - centre) ** 2).sum()) ** 0.5)
    assert df == pytest.approx(40**2 / (400 + 64 + 25 + 16 + 4 + 1) - 1)


def test_duplicated_answer_is_not_a_further_run():
    scores = simulate_scores([5], n_items=20, n_runs=2)
    for statistic in (contrasts, rates, answer_flips):
        with pytest.raises(UserError, match="item 0, run 0 was scored twice"):
            statistic(pd.concat([scores, scores.iloc[:1]]))


def test_change_of_two_items_is_at_most_100_points():
    before = pd.DataFrame({"task": "t", "persona": list("aabb"), "item": [0, 1] * 2, "score": 0.0})
    both = pd.concat([before.assign(condition="a"), before.assign(condition="b", score=1.0)])
    row = paired_change(both, {"b": "a"}, n_bootstrap=20).set_index("metric").loc["mean"]
    assert row["estimate"] == 100 and -100 <= row["ci_low"] <= row["ci_high"] == 100
