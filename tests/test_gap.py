"""Gap statistics against independent implementations and textbook cases, and undefined input."""

import warnings
from functools import partial

import krippendorff
import numpy as np
import pandas as pd
import pytest
from scipy import stats
from sklearn import metrics as sk
from statsmodels.stats.inter_rater import aggregate_raters, fleiss_kappa
from statsmodels.stats.proportion import proportion_confint

from personagap import gap
from personagap.errors import UserError
from personagap.gap.resampling import resample
from personagap.gap.simulate import in_long_form
from personagap.limits import cluster_correction
from personagap.results import COLUMNS, wide
from personagap.validation.uneven_raters import few_prompts, rotating

SAME = {"rel": 0, "abs": 1e-8}


def make_judgments(labels, n_users=5, kinds=None):
    """Judgments from {rater: labels}: prompts of four items each, users in rotation, NaN = not
    judged.
    """
    frames = []
    for rater, column in labels.items():
        unit = np.arange(len(column))
        kind = (kinds or {}).get(rater, "human" if rater.startswith("human") else "model")
        frames.append(
            pd.DataFrame(
                {
                    "prompt": unit // 4,
                    "user": unit % n_users,
                    "item": unit,
                    "rater": rater,
                    "rater_kind": kind,
                }
            )
        )
        frames[-1]["label"] = column
    return pd.concat(frames, ignore_index=True).dropna(subset="label")


def by_rater(judgments, **how):
    """Relevance metrics, a row for each rater."""
    return wide(gap.relevance_metrics(judgments, **how)).set_index("rater")


def by_metric(results, metric):
    """The rows of a metric, by rater."""
    return results[results["metric"] == metric].set_index("rater")


@pytest.fixture
def rng():
    return np.random.default_rng(1)


@pytest.fixture
def ordinal(rng):
    """Three humans and a model on a 1–5 scale around a common value, one human with gaps."""
    value = rng.normal(3, 1, 120)
    labels = {
        name: np.clip(np.round(value + rng.normal(0, 0.8, 120)), 1, 5)
        for name in ("human_1", "human_2", "human_3")
    }
    labels["judge"] = np.clip(np.round(0.6 * value + rng.normal(2, 0.7, 120)), 1, 5)
    labels["human_3"][::7] = np.nan
    return labels


def test_relevance_metrics_equal_scikit_learn(rng):
    y, x = rng.random(200) < 0.2, rng.random(200) < 0.45
    row = by_rater(make_judgments({"human_majority": y * 1, "judge": x * 1}), n_bootstrap=50).loc[
        "judge"
    ]
    expected = {
        "precision": sk.precision_score(y, x),
        "recall": sk.recall_score(y, x),
        "f1": sk.f1_score(y, x),
        "accuracy": sk.accuracy_score(y, x),
        "kappa": sk.cohen_kappa_score(y, x),
        "auprc": sk.average_precision_score(y, x),
    }
    assert {name: row[name] for name in expected} == pytest.approx(expected, **SAME)
    assert row["over_selection"] == pytest.approx(x.mean() / y.mean(), **SAME)


def test_baseline_judges_have_chance_agreement(rng):
    y = (rng.random(400) < 0.25) * 1
    rows = by_rater(make_judgments({"human_majority": y, "judge": y}), n_bootstrap=50)
    assert rows.loc["select_all", "f1"] == pytest.approx(sk.f1_score(y, np.ones(400)), **SAME)
    assert rows.loc["prevalence", ["precision", "recall", "f1"]].astype(
        float
    ).tolist() == pytest.approx([y.mean()] * 3)
    assert rows.loc[["select_all", "prevalence"], "kappa"].tolist() == pytest.approx(
        [0, 0], abs=1e-12
    )
    assert rows.loc["judge", ["f1", "f1_high"]].tolist() == [1, 1]
    # Wilson's bound with n = 5 users.
    assert rows.loc["judge", "f1_low"] == pytest.approx(5 / (5 + stats.norm.ppf(0.975) ** 2))


def test_bootstrap_weights_equal_repeated_rows(rng):
    judgments = make_judgments(
        {"human_majority": (rng.random(160) < 0.3) * 1, "judge": (rng.random(160) < 0.5) * 1}
    )
    drawn = resample(gap.tables.units(judgments).index, cluster=("prompt", "user"), n_bootstrap=30)
    units = gap.tables.units(judgments)
    blocks = drawn.weights[1:].reshape(3, 30, -1)
    for block, factor in zip(blocks[:2], ("prompt", "user"), strict=True):
        code, levels = pd.factorize(units.index.get_level_values(factor))
        times = block[7][drawn.cell].astype(int)
        assert all(len(set(times[code == i])) == 1 for i in range(len(levels)))
        assert sum(times[code == i][0] for i in range(len(levels))) == len(levels)
        y, x = (np.repeat(units[rater].to_numpy(), times) for rater in ("human_majority", "judge"))
        value = gap.relevance._metric_values(
            units["judge"].to_numpy(), units["human_majority"].to_numpy(), drawn
        )
        row = value[1:].reshape(3, 30, -1)[0 if factor == "prompt" else 1, 7]
        assert row[gap.METRICS.index("f1")] == pytest.approx(sk.f1_score(y, x), **SAME)


def test_one_way_bootstrap_error_equals_the_cluster_robust_one(rng):
    """For a mean, the cluster-bootstrap variance tends to the sandwich estimate (equal cluster
    sizes).
    """
    effect = np.repeat(rng.normal(0, 1, 50), 4) + rng.normal(0, 0.5, 200)
    drawn = resample(
        gap.tables.units(make_judgments({"judge": effect})).index,
        cluster="prompt",
        n_bootstrap=20_000,
    )
    total = drawn.totals(np.stack([effect, np.ones(200)], axis=1))
    error = drawn.standard_error(total[:, 0] / total[:, 1])
    assert error == pytest.approx(effect.reshape(50, 4).mean(axis=1).std() / 50**0.5, rel=0.02)


@pytest.mark.parametrize("sizes", [[5, 5, 5, 5], [40, 4, 4, 4], [30, 20, 10]])
def test_correction_of_unequal_clusters_makes_the_variance_unbiased(sizes):
    """The expectation of a quadratic form in independent cluster means is its trace."""
    share = np.array(sizes) / np.sum(sizes)
    # Row c maps the means of clusters to the residual of cluster c, weighted as in the mean.
    residual = share[:, None] * (np.eye(len(share)) - share)
    expected = np.trace(residual @ residual.T)
    assert cluster_correction(np.array(sizes)) * expected == pytest.approx((share**2).sum())


@pytest.mark.parametrize("coefficient", [gap.mean_agreement, gap.reliability])
def test_units_without_a_pair_of_ratings_do_not_shorten_the_interval_of_agreement(rng, coefficient):
    ratings = few_prompts(rng, other="human_1")
    ratings["label"] = (ratings["label"] > 3).astype(int)
    row, alone = (
        coefficient(table, cluster="prompt").iloc[-1]
        for table in (ratings, ratings[ratings["prompt"] < 5])
    )
    assert row["estimate"] == pytest.approx(alone["estimate"])
    # The number of resampled prompts that the person judged varies, too.
    assert 0.95 < (row["ci_high"] - row["ci_low"]) / (alone["ci_high"] - alone["ci_low"]) < 1.3


def test_interval_of_few_clusters_uses_student_t(rng):
    """Exact for normal clusters; without G/(G − 1) an interval of four clusters covers in only 93
    %.
    """
    values = pd.DataFrame({"user": range(4), "value": rng.normal(0, 1, 4)})
    row = gap.means(
        values.assign(all=1), "value", ["all"], cluster="user", n_bootstrap=20_000
    ).iloc[0]
    exact = stats.ttest_1samp(values["value"], 0).confidence_interval()
    assert [row["ci_low"], row["ci_high"]] == pytest.approx([exact.low, exact.high], rel=0.02)


def test_interval_of_a_share_covers_with_few_users():
    covered = []
    for seed in range(200):
        draw = np.random.default_rng(seed)
        rows = pd.DataFrame({"user": np.repeat(range(6), 8), "all": 1})
        rows["hit"] = (draw.random(48) < np.repeat(draw.beta(1.2, 2.8, 6), 8)) * 1
        row = gap.means(rows, "hit", ["all"], cluster="user", n_bootstrap=200).iloc[0]
        covered.append(row["ci_low"] <= 0.3 <= row["ci_high"])
    assert np.mean(covered) >= 0.92
    assert "few clusters" in row["method"]  # a caveat: with rarer labels it may cover less


def test_interval_of_shares_0_and_1_is_wilsons_for_the_number_of_clusters():
    """A judge that said yes to all 40 items of ten prompts need not always do so."""
    y, z2 = np.tile([1, 0, 0, 0], 10) * (np.arange(40) < 12), stats.norm.ppf(0.975) ** 2
    judgments = make_judgments(
        {"human_majority": y, "yes": np.ones(40), "half": np.tile([1, 0], 20)}
    )
    rows = by_rater(judgments, cluster="prompt", n_bootstrap=50)
    expected = {
        "yes_rate_low": 10 / (10 + z2),
        "yes_rate_high": 1,
        "recall_low": 3 / (3 + z2),
        "recall_high": 1,
    }
    assert rows.loc["yes", list(expected)].to_dict() == pytest.approx(expected)
    assert (
        rows.loc["yes", "precision_low"]
        < rows.loc["yes", "precision"]
        < rows.loc["yes", "precision_high"]
    )
    # A fixed rule, yes to two items of each prompt, has no sampling error.
    assert rows.loc["half", ["yes_rate_low", "yes_rate_high"]].tolist() == [0.5, 0.5]
    assert (rows.loc["select_all", ["yes_rate_low", "recall_low"]] == 1).all()  # by definition
    scored = make_judgments({"human_majority": y, "judge": 0.9 * y})
    curve = gap.reliability_curve(scored, n_bins=2, cluster="prompt", n_bootstrap=50)
    assert ((curve["ci_low"] < curve["estimate"]) | (curve["ci_high"] > curve["estimate"])).all()
    f1 = wide(gap.scored_metrics(scored, cluster="prompt", n_bootstrap=50)).iloc[0]
    assert f1["f1"] == 1 and f1["f1_low"] == pytest.approx(3 / (3 + z2))
    third = pd.DataFrame({"user": np.repeat(np.arange(7), 3), "hit": [1, 0, 0] * 7, "all": 1})
    row = gap.means(third, "hit", ["all"], cluster="user", n_bootstrap=50).iloc[0]
    assert row["ci_low"] < 0.2 and row["ci_high"] > 0.5


@pytest.mark.parametrize(("units", "significant"), [(4, False), (6, True)])
def test_identical_units_are_significant_only_if_a_sign_test_would_be(units, significant):
    ratings = {"human_1": 3.0, "human_2": 3.0, "judge": 4.0}
    alike = make_judgments({rater: np.full(units, value) for rater, value in ratings.items()})
    alike = alike.assign(prompt=lambda rows: rows["item"])
    how = {"cluster": "prompt", "n_bootstrap": 50}
    row = gap.judge_inflation(alike, **how).iloc[0]
    assert (row["p_value"] <= 0.05) == (row["ci_low"] > 0) == significant
    assert row["ci_low"] < 1 < row["ci_high"]
    mean = gap.means(alike.query("rater == 'judge'"), "label", ["rater"], **how).iloc[0]
    assert mean["ci_low"] < 4 < mean["ci_high"]
    labels = np.arange(units) % 2
    both = make_judgments({"human_1": labels, "human_2": labels}).assign(prompt=alike["item"])
    kappa = gap.agreement(both, **how).query("metric == 'kappa'").iloc[0]
    assert kappa["estimate"] == kappa["ci_high"] == 1 and kappa["ci_low"] < 0.7


def test_boolean_labels_equal_0_and_1_and_missing_codes_are_refused(ordinal):
    labels = {
        "human_1": np.tile([True, False], 8),
        "human_2": np.tile([True, True, False, False], 4),
    }
    numbers = {rater: column * 1 for rater, column in labels.items()}
    pd.testing.assert_frame_equal(
        gap.agreement(make_judgments(labels), n_bootstrap=20),
        gap.agreement(make_judgments(numbers), n_bootstrap=20),
    )
    rated = make_judgments(ordinal)
    for code in (99, -9):
        wrong = rated.assign(label=rated["label"].where(rated.index != 5, code))
        for function in (
            gap.judge_inflation,
            gap.judge_correlation,
            partial(gap.rating_summary, item=["item"]),
        ):
            with pytest.raises(
                UserError, match=f"row 5 has the label {code}, where all others lie in 1–5"
            ):
                function(wrong)


def mean_difference(x, **how):
    """Mean difference of prompts with its interval."""
    rows = pd.DataFrame({"prompt": np.arange(len(x)), "x": x, "all": 1})
    return gap.means(rows, "x", ["all"], differences=True, cluster="prompt", **how).iloc[0]


@pytest.mark.parametrize("changed", [0, 1])
def test_one_change_in_a_hundred_prompts_is_not_significant(changed):
    """A sign test gives p = 1; Wilson's interval of a share would exclude 0."""
    x = np.arange(100) < changed
    row, opposite = mean_difference(1.0 * x), mean_difference(-1.0 * x)
    assert row["estimate"] == changed / 100
    assert row["ci_low"] < -0.01
    assert 0.02 < row["ci_high"] < 0.05
    assert [-opposite["ci_high"], -opposite["ci_low"]] == pytest.approx(
        [row["ci_low"], row["ci_high"]]
    )


@pytest.mark.parametrize(("up", "down"), [(0.01, 0.0), (0.01, 0.01), (0.03, 0.0), (0.2, 0.1)])
def test_interval_of_differences_covers_with_rare_changes(up, down):
    covered = []
    for seed in range(200):
        x = np.random.default_rng(seed).choice([1.0, -1.0, 0.0], 100, p=[up, down, 1 - up - down])
        row = mean_difference(x, n_bootstrap=200)
        covered.append(row["ci_low"] <= up - down <= row["ci_high"])
    assert np.mean(covered) >= 0.92


@pytest.mark.slow
def test_interval_of_a_share_near_one_covers_with_homogeneous_prompts():
    """Prompts are judged right or wrong as a whole; an interval of width 0 would cover in half the
    cases.
    """
    covered, y = [], np.tile([1, 0, 0, 0], 20)
    for seed in range(200):
        right = np.repeat(np.random.default_rng(seed).random(20) < 0.97, 4)
        judgments = make_judgments({"human_majority": y, "judge": np.where(right, y, 1 - y)})
        row = by_rater(judgments, cluster="prompt", n_bootstrap=200).loc["judge"]
        covered.append(
            [row[f"{name}_low"] <= 0.97 <= row[f"{name}_high"] for name in ("accuracy", "recall")]
        )
    assert (np.mean(covered, axis=0) >= 0.94).all()


@pytest.mark.parametrize("weights", [None, "linear", "quadratic"])
def test_cohen_kappa_equals_scikit_learn(ordinal, weights):
    rows = gap.agreement(make_judgments(ordinal), weights=weights, n_bootstrap=50)
    for row in rows.itertuples():
        a, b = ordinal[row.rater_a], ordinal[row.rater_b]
        both = ~np.isnan(a + b)
        assert row.estimate == pytest.approx(
            sk.cohen_kappa_score(a[both], b[both], weights=weights), **SAME
        )
        assert row.n == both.sum() and row.ci_low < row.estimate < row.ci_high
    means = gap.mean_agreement(make_judgments(ordinal), weights=weights, n_bootstrap=50).set_index(
        "pair"
    )
    assert means["n"].to_dict() == {"human–human": 3, "human–model": 3}
    of_pairs = rows[rows["pair"] == "human–model"]["estimate"]
    assert means.loc["human–model", "estimate"] == pytest.approx(of_pairs.mean(), **SAME)


@pytest.mark.parametrize("weights", ["linear", "quadratic"])
def test_weighted_kappa_uses_the_whole_scale(weights):
    a, b = [1, 2, 4, 5, 5, 2, 1, 4], [1, 4, 4, 5, 4, 2, 2, 2]
    row = gap.agreement(
        make_judgments({"human_1": a, "human_2": b}), weights=weights, n_bootstrap=20
    ).iloc[0]
    assert row["estimate"] == pytest.approx(
        sk.cohen_kappa_score(a, b, weights=weights, labels=[1, 2, 3, 4, 5]), **SAME
    )


@pytest.mark.parametrize("measurement", ["nominal", "ordinal", "interval"])
def test_alpha_and_fleiss_kappa_equal_reference_packages(ordinal, measurement):
    humans = {rater: labels for rater, labels in ordinal.items() if rater != "judge"}
    matrix = np.stack(list(humans.values()))
    rows = gap.reliability(
        make_judgments(humans), measurement=measurement, n_bootstrap=50
    ).set_index("metric")
    alpha = krippendorff.alpha(reliability_data=matrix, level_of_measurement=measurement)
    assert rows.loc[f"Krippendorff α ({measurement})", "estimate"] == pytest.approx(alpha, **SAME)
    complete = matrix[:, ~np.isnan(matrix).any(axis=0)]
    kappa = fleiss_kappa(aggregate_raters(complete.T.astype(int))[0])
    assert rows.loc["Fleiss κ", "estimate"] == pytest.approx(kappa, **SAME)
    assert rows["n"].tolist() == [complete.shape[1], 120]


def test_rotating_raters_have_reliability_and_a_ceiling():
    """Six raters, three per item: nobody rates all, and some pairs share no item."""
    pool = rotating(np.random.default_rng(0))
    humans = pool[pool["rater_kind"] == "human"].assign(label=lambda rows: rows["label"].round())
    rows = gap.reliability(humans, n_bootstrap=50)
    groups = [list(part) for _, part in humans.groupby("item")["label"]]
    assert rows["estimate"][0] == pytest.approx(
        fleiss_kappa(aggregate_raters(np.array(groups))[0]), **SAME
    )
    assert rows["n"].tolist() == [300, 300]
    ceiling = by_metric(gap.judge_correlation(pool, n_bootstrap=50), "ceiling")["estimate"]
    assert ceiling["judge"] == pytest.approx(0.77, abs=0.06)


def test_majority_bias_of_guessing_raters(rng):
    """R8: three independent random raters agree with their own majority at κ = 0.5."""
    labels = {f"human_{i}": (rng.random(4000) < 0.5) * 1 for i in range(3)}
    rows = wide(gap.majority_bias(make_judgments(labels)))
    assert rows["κ if independent"].tolist() == pytest.approx([0.5] * 3, abs=0.01)
    assert rows["κ with the majority"].tolist() == pytest.approx([0.5] * 3, abs=0.04)
    assert rows["κ with the others"].tolist() == pytest.approx([0] * 3, abs=0.04)


@pytest.mark.parametrize(
    "estimator",
    [
        *(gap.judge_correlation, gap.judge_inflation, gap.mention_bias),
        partial(gap.rating_summary, item=["user", "prompt"]),
        partial(gap.rating_effects, covariates=["mention"]),
        lambda judgments, **how: gap.reliability(
            judgments[judgments["rater_kind"] == "human"], **how
        ),
        lambda judgments, **_: gap.majority_bias(judgments[judgments["rater_kind"] == "human"]),
    ],
)
def test_human_majority_is_not_counted_as_a_rater(estimator):
    """Counting it would raise the ceiling of these three people from 0.69 to 0.86."""
    judgments = gap.simulate_ratings().assign(label=lambda rows: (rows["label"] > 3) * 1)
    by_human = judgments[judgments["rater_kind"] == "human"].pivot(
        index="item", columns="rater", values="label"
    )
    majority = judgments[judgments["rater"] == "human_0"].assign(rater="human_majority")
    majority["label"] = majority["item"].map(by_human.median(axis=1)).astype(int)
    with_majority = pd.concat([judgments, majority], ignore_index=True)
    pd.testing.assert_frame_equal(
        estimator(with_majority, n_bootstrap=20), estimator(judgments, n_bootstrap=20)
    )


def test_scored_metrics_equal_scikit_learn(rng):
    y = (rng.random(300) < 0.25) * 1
    # Rounding produces ties.
    score = np.round(np.clip(0.3 * y + rng.random(300) * 0.7, 0, 1), 2)
    judgments = make_judgments({"human_majority": y, "judge": score})
    row = wide(gap.scored_metrics(judgments, n_bootstrap=50)).iloc[0]
    assert row["auprc"] == pytest.approx(sk.average_precision_score(y, score), **SAME)
    precision, recall, thresholds = sk.precision_recall_curve(y, score)
    f1 = 2 * precision * recall / (precision + recall)
    assert row["best_f1"] == pytest.approx(np.nanmax(f1), **SAME)
    assert row["best_threshold"] == thresholds[np.nanargmax(f1)]
    assert row["f1"] <= row["best_f1"]
    curve = gap.reliability_curve(judgments, n_bins=5, n_bootstrap=50)
    assert np.average(curve["estimate"], weights=curve["n"]) == pytest.approx(y.mean(), **SAME)
    assert curve["estimate"].is_monotonic_increasing


def test_weighted_average_precision_equals_scikit_learn(rng):
    y, score = (rng.random(80) < 0.4) * 1.0, rng.integers(0, 9, 80) / 8
    weight = rng.integers(0, 3, (4, 80)).astype(float)
    expected = [sk.average_precision_score(y, score, sample_weight=w) for w in weight]
    assert gap.scores._average_precision(y, score)(weight).tolist() == pytest.approx(
        expected, **SAME
    )


def test_spearman_and_its_bootstrap_equal_scipy(ordinal):
    humans = np.stack([ordinal[f"human_{i}"] for i in (1, 2, 3)])
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)
        mean = np.nanmean(humans, axis=0)
    rows = wide(gap.judge_correlation(make_judgments(ordinal), n_bootstrap=50)).set_index("rater")
    assert rows.loc["judge", "spearman"] == pytest.approx(
        stats.spearmanr(ordinal["judge"], mean).statistic, **SAME
    )
    pairs = [
        stats.spearmanr(humans[a], humans[b], nan_policy="omit").statistic
        for a, b in ((0, 1), (0, 2), (1, 2))
    ]
    shared = [np.isfinite(humans[a] + humans[b]).sum() for a, b in ((0, 1), (0, 2), (1, 2))]
    between, k = np.average(pairs, weights=shared), 1 / np.mean(1 / np.isfinite(humans).sum(axis=0))
    ceiling = (k * between / (1 + (k - 1) * between)) ** 0.5
    assert rows.loc["judge", "ceiling"] == pytest.approx(ceiling, **SAME)
    assert 0 < rows.loc["judge", "ceiling_low"] < ceiling < rows.loc["judge", "ceiling_high"] <= 1
    assert rows.loc["judge", "disattenuated"] == pytest.approx(
        rows.loc["judge", "spearman"] / ceiling, **SAME
    )
    drawn = resample(gap.tables.units(make_judgments(ordinal)).index, n_bootstrap=20)
    times = drawn.weights[3][drawn.cell].astype(int)
    expected = stats.spearmanr(np.repeat(ordinal["judge"], times), np.repeat(mean, times)).statistic
    assert gap.ranks.Spearman(drawn)(ordinal["judge"], mean)[3] == pytest.approx(expected, **SAME)


def test_exact_p_value_of_a_correlation_over_five_models():
    """R16: r = 0.90 with a reported p of 0.04; 10 of the 120 permutations are as extreme."""
    row = gap.exact_correlation([1, 2, 3, 4, 5], [2, 1, 3, 4, 5]).iloc[0]
    assert row["method"] == "exact permutation" and row["estimate"] == pytest.approx(0.9)
    assert row["p_value"] == pytest.approx(10 / 120, **SAME)
    assert row["p_t"] == pytest.approx(0.037, abs=0.0005)


def test_inflation_and_mention_bias_recover_planted_effects(rng):
    value, mention = rng.normal(3, 0.5, 2000), rng.random(2000) < 0.5
    labels = {f"human_{i}": value + rng.normal(0, 0.5, 2000) for i in range(3)}
    labels["judge"] = value + 0.4 - 0.3 * mention + rng.normal(0, 0.5, 2000)
    judgments = make_judgments(labels, n_users=50)
    inflation = gap.judge_inflation(judgments, n_bootstrap=200).iloc[0]
    assert inflation["ci_low"] < 0.25 < inflation["ci_high"] and inflation["p_value"] < 1e-6
    judgments["mention"] = mention[judgments["item"]]
    human, judge, excess = gap.mention_bias(judgments, n_bootstrap=200).to_dict("records")
    assert judge["estimate"] == pytest.approx(
        labels["judge"][mention].mean() - labels["judge"][~mention].mean(), **SAME
    )
    assert excess["ci_low"] < -0.3 < excess["ci_high"] and excess["p_value"] < 1e-6
    assert human["p_value"] > 0.01


def test_proportion_difference_of_independent_judgments_is_the_textbook_one(rng):
    judgments = pd.DataFrame({"source": ["real"] * 300 + ["synthetic"] * 200, "user": range(500)})
    judgments["label"] = np.where(rng.random(500) < 0.3, "rejected", "accepted")
    row = gap.proportion_difference(judgments, ["rejected"]).iloc[0]
    p, q = (
        judgments[judgments["source"] == s]["label"].eq("rejected").mean()
        for s in ("real", "synthetic")
    )
    assert row["estimate"] == pytest.approx(100 * (p - q), **SAME)
    error = 100 * (p * (1 - p) / 300 + q * (1 - q) / 200) ** 0.5
    assert (row["ci_high"] - row["ci_low"]) / 2 == pytest.approx(1.965 * error, rel=0.01)


def test_a_person_who_judged_few_prompts_has_their_degrees_of_freedom(rng):
    ratings = few_prompts(rng)
    row = gap.judge_inflation(ratings, cluster="prompt").iloc[0]
    wide = ratings.pivot(index=["prompt", "item"], columns="rater", values="label").dropna()
    by_prompt = (wide["judge"] - wide["human_0"]).groupby("prompt").mean()
    low, high = stats.ttest_1samp(by_prompt, 0).confidence_interval()
    assert row["estimate"] == pytest.approx(by_prompt.mean())
    # The number of resampled prompts that the person judged varies, too.
    assert 1 < (row["ci_high"] - row["ci_low"]) / (high - low) < 1.3


def test_a_share_of_one_prompt_is_not_certain():
    prompt = np.repeat(np.arange(10), 5)
    design = pd.DataFrame({"prompt": prompt, "item": np.arange(50)})
    labels = {"human_majority": np.resize([1.0, 1, 0, 0, 0], 50), "judge": (prompt == 0) * 0.9}
    judgments = in_long_form(design, **labels)
    curve = gap.reliability_curve(judgments, n_bins=10, cluster="prompt", n_bootstrap=200)
    row = curve.query("score > 0.5").iloc[0]
    assert row["estimate"] == 0.4
    one = proportion_confint(0.4, 1, method="wilson")
    assert (row["ci_low"], row["ci_high"]) == pytest.approx(one)


def test_users_who_vary_more_are_no_difference_of_sources(rng):
    """Ten synthetic users are mostly all right or all wrong; 47 real ones are right in 30 %."""
    found = []
    for _ in range(100):
        share = np.append(np.full(47, 0.3), rng.beta(0.3, 0.7, 10))
        label = rng.random((57, 10)) < share[:, None]
        source = np.repeat(["real", "synthetic"], [470, 100])
        user = np.repeat(np.arange(57), 10)
        table = pd.DataFrame({"source": source, "user": user, "label": label.ravel()})
        found.append(gap.proportion_difference(table, [True]).iloc[0])
    found = pd.DataFrame(found)
    assert (found["p_value"] <= 0.05).mean() < 0.15  # 0.2 for differences that are not studentized
    excluded = (found["ci_low"] > 0) | (found["ci_high"] < 0)
    assert (excluded == (found["p_value"] <= 0.05)).mean() > 0.9


def test_proportion_difference_without_variation_counts_users():
    judgments = pd.DataFrame(
        {"source": ["real"] * 30 + ["synthetic"] * 30, "user": np.arange(60) // 3, "label": "ok"}
    )
    row = gap.proportion_difference(judgments, ["ok"]).iloc[0]
    assert row["p_value"] == 1 and row["ci_low"] < -20 and row["ci_high"] > 20
    judgments["label"] = np.where(judgments["source"] == "real", "bad", "ok")
    row = gap.proportion_difference(judgments, ["ok"]).iloc[0]
    assert row["estimate"] == -100 and -60 > row["ci_high"] > -90
    assert row["p_value"] == pytest.approx(stats.fisher_exact([[10, 0], [0, 10]]).pvalue)


def test_paired_difference_with_itself_and_with_select_all(rng):
    y, x = (rng.random(200) < 0.3) * 1, (rng.random(200) < 0.4) * 1
    judgments = make_judgments({"human_majority": y, "a": x, "b": x})
    same = gap.paired_difference(judgments, "a", "b", n_bootstrap=50)
    assert (same["estimate"] == 0).all() and (same["p_value"] == 1).all()
    # Identical judges may differ on other items: the interval adds two pseudo-users (±1) to five.
    reach = stats.t.ppf(0.975, 4) * np.sqrt(2 / (7 * 6))
    assert same["ci_low"].to_numpy() == pytest.approx(-reach)
    assert same["ci_high"].to_numpy() == pytest.approx(reach)
    against_all = gap.paired_difference(judgments, "a", "select_all", n_bootstrap=50)
    assert against_all.set_index("metric").loc["recall", "value_b"] == 1


def test_seed_determines_the_interval(ordinal):
    first, again, other = (
        gap.judge_inflation(make_judgments(ordinal), n_bootstrap=100, seed=seed)
        for seed in (1, 1, 2)
    )
    pd.testing.assert_frame_equal(first, again)
    assert first["ci_low"].iloc[0] != other["ci_low"].iloc[0]


@pytest.mark.parametrize(
    ("estimator", "keys"),
    [
        (gap.agreement, ["rater_a", "rater_b", "pair"]),
        (gap.mean_agreement, ["pair"]),
        (gap.judge_correlation, ["rater", "rater_kind"]),
        *((each, ["rater"]) for each in (gap.judge_inflation, gap.mention_bias)),
        (partial(gap.rating_summary, item=["user", "prompt"]), ["rater", "rater_kind"]),
        (partial(gap.rating_effects, covariates=["mention"]), ["rater"]),
        (partial(gap.means, value="label", by=["rater"]), ["rater"]),
        (
            lambda judgments, **how: gap.reliability(
                judgments.query("rater_kind == 'human'"), **how
            ),
            [],
        ),
    ],
)
def test_every_estimator_returns_the_standard_columns(estimator, keys):
    judgments = gap.simulate_ratings().assign(label=lambda rows: rows["label"].round())
    found = estimator(judgments, n_bootstrap=20)
    assert list(found)[: len(keys) + len(COLUMNS)] == [*keys, *COLUMNS]
    assert not found.duplicated([*keys, "metric"]).any() and (found["method"] != "").all()
    # Every p-value comes with its adjusted one.
    assert (found["p_value"].isna() == found["p_adjusted"].isna()).all()


# ------------------------------------------------------------------------- undefined input


def test_no_overlap_or_constant_labels_give_an_explaining_note():
    nan = [np.nan] * 8
    rows = gap.agreement(
        make_judgments({"human_1": [0, 1] * 4 + nan, "human_2": nan + [0, 1] * 4}), n_bootstrap=20
    )
    assert rows["n"].item() == 0 and rows["note"].item() == "no item judged by both"
    rows = gap.agreement(make_judgments({"human_1": [1] * 8, "human_2": [1] * 8}), n_bootstrap=20)
    assert "one and the same label" in rows["note"].item()
    rows = gap.agreement(
        make_judgments({"human_1": [1] * 8, "human_2": [np.nan] * 4 + [1] * 4}), n_bootstrap=20
    )
    assert rows["n"].item() == 4 and "one and the same label" in rows["note"].item()
    means = gap.mean_agreement(
        make_judgments({"human_1": [1] * 8, "human_2": [1] * 8, "a": [0, 1] * 4}), n_bootstrap=20
    )
    assert means.set_index("pair")["n"].to_dict() == {"human–human": 0, "human–model": 2}


def test_constant_judges_have_defined_metrics():
    judgments = make_judgments(
        {"human_majority": [0, 1] * 8, "never": [0] * 16, "always": [1] * 16}
    )
    rows = by_rater(judgments, n_bootstrap=50)
    assert rows.loc["never", ["precision", "recall", "f1", "kappa"]].tolist() == [0, 0, 0, 0]
    assert (
        rows.loc["always", ["f1", "kappa"]].tolist()
        == rows.loc["select_all", ["f1", "kappa"]].tolist()
    )
    assert not rows.isna().any(axis=None)


def test_disagreeing_humans_give_no_ceiling():
    labels = {
        "human_1": [1, 2, 3, 4] * 5,
        "human_2": [4, 3, 2, 1] * 5,
        "judge": [1, 2, 3, 5] * 5,
        "flat": [3] * 20,
    }
    rows = by_metric(gap.judge_correlation(make_judgments(labels), n_bootstrap=20), "spearman")
    assert rows["note"].tolist() == [
        "ρ undefined",
        "ρ undefined",
        *["humans do not agree: no ceiling"] * 2,
    ]


@pytest.mark.parametrize(
    ("labels", "call", "message"),
    [
        ({"human_1": [0, 1] * 4}, gap.agreement, "at least two raters"),
        (
            {"human_1": [0, 1] * 4, "human_majority": [0, 1] * 4, "judge": [0, 1] * 4},
            partial(gap.agreement, gold="judge"),
            "gold 'judge' is a model.*: choose from human_1, human_majority",
        ),
        ({"human_1": [0, 1] * 4}, gap.reliability, "two or more raters"),
        ({"human_1": [0] * 8, "human_2": [0] * 8}, gap.reliability, "more than one label"),
        ({"human_1": [0, 1] * 4, "human_2": [0, 1] * 4}, gap.majority_bias, "odd number"),
        ({"human_majority": [0] * 8, "a": [1] * 8}, gap.relevance_metrics, "never says yes"),
        (
            {"human_majority": [0, 1] * 4, "a": [0.5] * 8},
            gap.relevance_metrics,
            "other than 0 and 1",
        ),
        ({"human_1": [0, 1] * 4}, gap.relevance_metrics, "no rater 'human_majority'"),
        (
            {"human_majority": [0, 1] * 4},
            partial(gap.scored_difference, a="a", b="select_all"),
            "no rater 'a'",
        ),
        ({"human_majority": [0, 1] * 4, "a": [2] * 8}, gap.reliability_curve, r"score in \[0, 1\]"),
        ({"a": [1, 2] * 4, "b": [1, 2] * 4}, gap.judge_inflation, "rater_kind 'human'"),
        (
            {"human_1": [1, 2] * 4, "b": [1, 2] * 4},
            gap.judge_correlation,
            "labels of 2 or more people",
        ),
        ({"human_1": [0, 1], "human_2": [0, 1]}, gap.agreement, "only one prompt"),
        (
            {"human_1": np.arange(0, 60, 0.5), "b": np.arange(120.0)},
            gap.agreement,
            "κ of 180 different labels",
        ),
        (
            {"a": [1, 2] * 4, "b": [1, 2] * 4},
            partial(gap.rating_effects, covariates=["item"]),
            "labels of people",
        ),
    ],
)
def test_undefined_input_is_a_user_error(labels, call, message):
    with pytest.raises(UserError, match=message):
        call(make_judgments(labels))


@pytest.mark.parametrize(
    ("how", "message"),
    [
        *(
            ({"n_bootstrap": n}, "^n_bootstrap is .*: give a whole number of at least 20$")
            for n in (-1, 0, 1, 2, 99.5)
        ),
        *(
            ({"level": level}, "^level is .*: give a number between 0 and 1")
            for level in (0, 1, 95, -0.5)
        ),
    ],
)
def test_invalid_bootstrap_size_or_level_is_a_user_error(how, message):
    judgments = make_judgments({"human_1": [1, 2] * 4, "human_2": [1, 3] * 4, "judge": [2, 2] * 4})
    for function in (gap.judge_inflation, gap.mean_agreement, gap.judge_correlation):
        with pytest.raises(UserError, match=message):
            function(judgments, **how)


def test_malformed_judgments_are_user_errors(rng):
    judgments = make_judgments({"human_majority": [0, 1] * 4, "judge": [0, 1] * 4})
    for broken, message in [
        (judgments.drop(columns="label"), "lack the column 'label'"),
        (judgments.assign(label=[np.nan, *judgments["label"][1:]]), "row 0 without a usable label"),
        (pd.concat([judgments, judgments.head(1)], ignore_index=True), "row 16 repeats"),
        (
            pd.concat([judgments, judgments]),
            "row 0 repeats an item of rater 'human_majority': keep one",
        ),
        (judgments.head(0), "no rows"),
    ]:
        with pytest.raises(UserError, match=message):
            gap.relevance_metrics(broken)
    with pytest.raises(UserError, match="no column 'page'"):
        gap.relevance_metrics(judgments, cluster="page")
    with pytest.raises(UserError, match="no column 'page'"):
        gap.means(judgments, "label", ["rater"], cluster="page")
    with pytest.raises(UserError, match="lack the column 'rater_kind'"):
        gap.agreement(judgments.drop(columns="rater_kind"))
    with pytest.raises(UserError, match="lack the column 'source'"):
        gap.proportion_difference(judgments, [1])
    with pytest.raises(UserError, match="lack the column 'page'"):
        gap.means(judgments, "label", ["page"])
    with pytest.raises(UserError, match="lack the column 'page'"):
        gap.rating_summary(judgments, ["page"])
    with pytest.raises(UserError, match="lack the column 'page'"):
        gap.rating_effects(judgments, ["page"])
    with pytest.raises(UserError, match=r"no numbers .*: code them as numbers"):
        gap.rating_effects(judgments, ["rater"])
    # A misspelt scale must not fall back to another one.
    with pytest.raises(UserError, match="unknown weights 'lineal': choose from nominal, linear"):
        gap.agreement(judgments, weights="lineal")
    for function in (gap.reliability, gap.alternative_annotator_test):
        with pytest.raises(UserError, match="unknown measurement 'ratio': choose from nominal"):
            function(judgments, measurement="ratio")
    with pytest.raises(UserError, match="one column or two"):
        gap.relevance_metrics(judgments, cluster=("prompt", "user", "item"))
    with pytest.raises(UserError, match="three or more complete pairs"):
        gap.exact_correlation([1, 1, 1], [1, 2, 3])
    with pytest.raises(UserError, match="two or more users each"):
        gap.proportion_difference(judgments.assign(source="real"), [1])


def test_severity_of_raters_without_shared_items_widens_the_interval(rng):
    value = rng.normal(3, 0.7, 300)
    columns = {"judge": value}
    for i, severity in enumerate((-0.6, 0.0, 0.6)):
        columns[f"human_{i}"] = np.where(np.arange(300) % 3 == i, value + severity, np.nan)
    row = gap.judge_inflation(make_judgments(columns), n_bootstrap=50).iloc[0]
    # Severities of three raters have standard deviation 0.6: at least ± t(2) · 0.6 / √3.
    assert row["ci_high"] - row["ci_low"] > 2 * stats.t.ppf(0.975, 2) * 0.6 / 3**0.5 * 0.99
    assert row["p_value"] == pytest.approx(1)


def test_raters_with_one_user_each_add_no_variance_to_user_clusters(rng):
    value, user = rng.normal(3, 0.7, 100), np.arange(100) % 5
    own = {f"human_{u}": np.where(user == u, value + u / 5, np.nan) for u in range(5)}
    several = gap.judge_inflation(make_judgments({"judge": value} | own), cluster="user").iloc[0]
    single = make_judgments({"judge": value, "human_0": value + user / 5})
    single = gap.judge_inflation(single, cluster="user").iloc[0]
    assert several["ci_high"] == pytest.approx(single["ci_high"])


def test_baselines_of_a_majority_that_always_says_yes_are_not_certain():
    judgments = make_judgments({"human_majority": np.ones(40), "judge": np.arange(40) % 2})
    found = by_rater(judgments, cluster="prompt")
    assert found["prevalence_low"].tolist() == pytest.approx([10 / (10 + 3.84)] * 3, abs=1e-3)
    # The rate of who says yes to everything is 1 by definition.
    assert found.loc["select_all", "yes_rate_low"] == 1
    assert found.loc["prevalence", "yes_rate_low"] < 1


@pytest.mark.filterwarnings("error")
def test_a_judge_who_shares_no_item_with_people_has_no_correlation(rng):
    labels = rng.normal(size=(3, 40))
    labels[:2, 20:], labels[2, :20] = np.nan, np.nan
    names = ["human_0", "human_1", "judge"]
    table = gap.judge_correlation(make_judgments(dict(zip(names, labels, strict=True))))
    assert by_metric(table, "spearman").loc["judge", ["n", "note"]].tolist() == [0, "ρ undefined"]


def test_a_covariate_may_have_any_name():
    ratings = gap.simulate_ratings().assign(people=lambda rows: rows["item"] % 7)
    found, renamed = (
        gap.rating_effects(table, [name], n_bootstrap=50)["estimate"]
        for table, name in (
            (ratings, "people"),
            (ratings.rename(columns={"people": "length"}), "length"),
        )
    )
    assert found.tolist() == renamed.tolist()


def test_undefined_precision_has_a_wide_interval(rng):
    judgments = make_judgments(
        {"human_majority": (rng.random(40) < 0.4) * 1, "never": np.zeros(40)}
    )
    rows = gap.relevance_metrics(judgments, n_bootstrap=50).set_index(["rater", "metric"])
    assert rows.loc[("never", "precision"), "ci_high"] > 0.75
    assert rows.loc[("never", "kappa"), "ci_high"] > 0.4
    # Known by definition, not estimated.
    assert rows.loc[("select_all", "recall"), "ci_low"] == 1


def test_labels_of_another_type_are_no_share_of_zero():
    judgments = pd.DataFrame({"source": ["real", "synthetic"] * 4, "user": [*range(8)]})
    judgments["label"] = ["1", "0"] * 4
    with pytest.raises(UserError, match="labels \\[1\\]: judgments have '1', of another type"):
        gap.proportion_difference(judgments, [1])


def test_infinite_labels_are_refused():
    judgments = gap.simulate_relevance().astype({"label": float})
    judgments.loc[3, "label"] = np.inf
    with pytest.raises(UserError, match="row 3 without a usable label"):
        gap.relevance_metrics(judgments)
    with pytest.raises(UserError, match="finite numbers"):
        gap.means(judgments, "label", ["rater"])


def test_equal_scores_are_one_bin_of_a_reliability_curve():
    judgments = gap.simulate_relevance().query("rater != 'b'")
    equal = judgments.assign(label=judgments["label"].where(judgments["rater"] != "a", 0.5))
    curve = gap.reliability_curve(equal, n_bootstrap=50)
    gold = judgments.loc[judgments["rater"] == "human_majority", "label"]
    assert curve[["bin", "n", "score"]].to_numpy().tolist() == [[0, len(gold), 0.5]]
    assert curve["estimate"].item() == pytest.approx(gold.mean())
