"""Statistics applied to the demo model recover its known truth."""

import numpy as np
import pandas as pd
import pytest

from personagap import ask, datasets, demo, effects, judges, personas, tasks
from personagap.responses import ResponseStore

#: Simulated data sets: a coverage of 95 % has a standard error of 0.7 points. With fifty, one suite
#: in twenty would fail by chance.
SEEDS = 1000


@pytest.fixture(scope="module")
def identities():
    return personas.select("all", controls=False)


@pytest.fixture(scope="module")
def exact_scores(demo_true_scores, identities):
    """Exact score of the demo model for each identity and item."""
    return demo_true_scores[demo_true_scores["persona"].isin(identities["persona"])].reset_index(
        drop=True
    )


def simulate(
    exact_scores: pd.DataFrame, probability: np.ndarray, seed: int, runs: int = 3
) -> pd.DataFrame:
    """Simulate scores of ``runs`` answers per identity and item with success ``probability``."""
    draws = np.random.default_rng(seed).random((runs, len(exact_scores))) < probability
    parts = [
        exact_scores[["task", "item", "persona"]].assign(run=run, score=row.astype(float))
        for run, row in enumerate(draws)
    ]
    return pd.concat(parts, ignore_index=True)


def test_graded_answers_follow_the_exact_probabilities(demo_lm, identities, exact_scores, tmp_path):
    items = datasets.load("all", items_per_task=12)
    some = identities.iloc[::4]
    responses = ask.ask(demo_lm, some, items, runs=3, store=ResponseStore(demo_lm.id, tmp_path))
    scores = tasks.grade(responses, items, judge=judges.load_judge("refusal"))
    assert scores["valid"].all() and not scores["truncated"].any()
    graded = scores.merge(exact_scores, on=["task", "item", "persona"])
    z = graded.groupby("task").apply(
        lambda rows: (
            (rows["score"] - rows["true"]).sum()
            / np.sqrt((rows["true"] * (1 - rows["true"])).sum())
        )
    )
    assert z.abs().max() < 3.5


@pytest.mark.slow
def test_debiased_pb_interval_covers_the_truth_at_its_level(exact_scores):
    truth = demo.exact_bias(exact_scores, "true") ** 2
    covered = []
    for seed in range(SEEDS):
        bias = effects.personalization_bias(
            simulate(exact_scores, exact_scores["true"].to_numpy(), seed),
            n_permutations=1,
            seed=seed,
        )
        true = truth[bias["dimension"]].to_numpy()
        covered.append(
            ((bias["ci_low"] <= true) & (true <= bias["ci_high"])).set_axis(bias["dimension"])
        )
    assert pd.DataFrame(covered).mean().min() >= 0.93


@pytest.mark.slow
def test_pb_without_effects_is_significant_at_its_level(exact_scores):
    no_effect = exact_scores.groupby(["task", "item"])["true"].transform("mean").to_numpy()
    significant = []
    for seed in range(SEEDS):
        bias = effects.personalization_bias(
            simulate(exact_scores, no_effect, seed), n_permutations=199, n_bootstrap=20, seed=seed
        )
        significant.append((bias["p_value"] <= 0.05).set_axis(bias["dimension"]))
    assert pd.DataFrame(significant).mean().max() <= 0.07
