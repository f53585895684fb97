"""Type-I error, coverage and power of the gap statistics on simulated judgments of known truth."""

import numpy as np
import pytest
from scipy import stats

from personagap import gap
from personagap.results import wide
from personagap.validation import GAP, run_checks
from personagap.validation import gap as simulated


@pytest.mark.parametrize("check", GAP, ids=lambda check: check.estimator)
def test_estimators_agree_with_their_references(check):
    assert check.difference() < 1e-8


def check_level(checks, replications):
    """Assert that coverage and type-I error are within two points of nominal, up to Monte-Carlo
    noise.
    """
    found = run_checks(checks, replications=replications)
    assert {"coverage", "actual_error"} & set(found["metric"])
    for row in found.itertuples():
        if row.metric == "coverage":
            n = 2 * replications
            low, high = stats.binomtest(round(row.estimate * n), n).proportion_ci(0.999)
            assert low <= 0.97 and high >= 0.93, row
        if row.metric == "actual_error":
            low = (
                stats.binomtest(round(row.estimate * replications), replications)
                .proportion_ci(0.999)
                .low
            )
            assert low <= 0.07, row


@pytest.mark.slow
def test_level_of_proportion_difference_and_exact_correlation():
    check_level([check for check in GAP if check.estimator.startswith(("real", "exact"))], 120)


@pytest.mark.slow
def test_two_way_clustering_covers_better_than_one_way():
    """Users and prompts both recur: resampling only prompts gives intervals that cover too
    rarely.
    """
    covered = {"prompt": [], ("prompt", "user"): []}
    for seed in range(100):
        judgments = gap.simulate_relevance(seed=seed).query("rater != 'b'")
        for cluster, found in covered.items():
            rows = gap.relevance_metrics(judgments, cluster=cluster, n_bootstrap=200).set_index(
                "metric"
            )
            row = rows.loc["f1"].iloc[0]
            found.append(row["ci_low"] <= simulated.population()["f1"] <= row["ci_high"])
    assert np.mean(covered["prompt"]) < np.mean(covered["prompt", "user"])
    assert stats.binomtest(sum(covered["prompt", "user"]), 100).proportion_ci(0.999).high >= 0.95


@pytest.mark.slow
@pytest.mark.parametrize(
    "check", [check for check in GAP if check.trial], ids=lambda check: check.estimator
)
def test_level_and_coverage(check):
    check_level([check], 300)


@pytest.mark.slow
@pytest.mark.parametrize("estimator", ["judge inflation", "paired difference of yes rate"])
def test_power(estimator):
    found = wide(run_checks([check for check in GAP if check.estimator == estimator]))
    assert (found["power"] > 0.9).all()
