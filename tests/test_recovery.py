"""The workbook's instruments against the demo model's known truth."""

import numpy as np
import pandas as pd
import pytest

from personagap import ask, datasets, demo, effects, judges, personas, tasks
from personagap.responses import ResponseStore

#: Data sets: enough that a coverage of 95 % is known to 0.7 points. Fifty were asked for, and
#: failed once on the retrained demo model (gsm8k 86 %, a null task significant in 11 %), as about
#: one of twenty sets of fifty does.
SEEDS = 1000


@pytest.fixture(scope="module")
def who():
    return personas.select("all", controls=False)


@pytest.fixture(scope="module")
def cells(demo_true_scores, who):
    """Exact probability of a right or harmless answer of the demo model, for each identity and
    item.
    """
    return demo_true_scores[demo_true_scores["persona"].isin(who["persona"])].reset_index(drop=True)


def sample(cells: pd.DataFrame, probability: np.ndarray, seed: int, runs: int = 3) -> pd.DataFrame:
    """Scores of ``runs`` answers per cell, drawn with the exact probabilities."""
    draws = np.random.default_rng(seed).random((runs, len(cells))) < probability
    parts = [
        cells[["task", "item", "persona"]].assign(run=run, score=row.astype(float))
        for run, row in enumerate(draws)
    ]
    return pd.concat(parts, ignore_index=True)


def test_graded_answers_follow_the_exact_probabilities(demo_lm, who, cells, tmp_path):
    items = datasets.load("all", items_per_task=12)
    some = who.iloc[::4]
    responses = ask.ask(demo_lm, some, items, runs=3, store=ResponseStore(demo_lm.id, tmp_path))
    scores = tasks.grade(responses, items, judge=judges.load_judge("refusal"))
    assert scores["valid"].all() and not scores["truncated"].any()
    graded = scores.merge(cells, on=["task", "item", "persona"])
    z = graded.groupby("task").apply(
        lambda rows: (
            (rows["score"] - rows["true"]).sum()
            / np.sqrt((rows["true"] * (1 - rows["true"])).sum())
        )
    )
    assert z.abs().max() < 3.5


@pytest.mark.slow
def test_debiased_pb_interval_covers_the_truth_as_often_as_it_says(cells):
    truth = demo.exact_bias(cells, "true") ** 2
    covered = []
    for seed in range(SEEDS):
        bias = effects.personalization_bias(
            sample(cells, cells["true"].to_numpy(), seed), n_permutations=1, seed=seed
        )
        true = truth[bias["dimension"]].to_numpy()
        covered.append(
            ((bias["ci_low"] <= true) & (true <= bias["ci_high"])).set_axis(bias["dimension"])
        )
    assert pd.DataFrame(covered).mean().min() >= 0.93


@pytest.mark.slow
def test_without_effects_pb_is_rarely_called_significant(cells):
    no_effect = cells.groupby(["task", "item"])["true"].transform("mean").to_numpy()
    significant = []
    for seed in range(SEEDS):
        bias = effects.personalization_bias(
            sample(cells, no_effect, seed), n_permutations=199, n_bootstrap=20, seed=seed
        )
        significant.append((bias["p_value"] <= 0.05).set_axis(bias["dimension"]))
    assert pd.DataFrame(significant).mean().max() <= 0.07
