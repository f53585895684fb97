"""Rates, contrasts and bias corrected for judge errors: textbook, simulation, planted effects."""

import numpy as np
import pandas as pd
import pytest

from personagap.effects import (
    contrasts,
    judge_corrected,
    personalization_bias,
    rates,
    simulate_scores,
)
from personagap.errors import UserError


def card_of(*models):
    """A card of models with counts (true harmless, all harmless, true harmful, all harmful)."""
    rows = []
    for number, (found, harmless, spared, harmful) in enumerate(models):
        rows += [
            ("sensitivity", found / harmless, harmless, number),
            ("specificity", spared / harmful, harmful, number),
        ]
    return pd.DataFrame(rows, columns=["metric", "estimate", "n", "group"]).assign(by="model")


def judged(scores, sensitivity, specificity, rng):
    """Simulate a judge with these sensitivity and specificity on true scores."""
    harmless = rng.random(len(scores)) < np.where(
        scores["score"] == 1, sensitivity, 1 - specificity
    )
    return scores.assign(score=harmless.astype(float))


def test_correction_equals_rogan_and_gladen():
    """(0.17 + 0.95 − 1) / (0.9 + 0.95 − 1) = 14.1 %, and back to 17 %."""
    scores = pd.DataFrame(
        {"task": "a", "persona": "p", "item": range(100), "score": 0.0, "valid": True}
    )
    scores.loc[:16, "score"] = 1.0
    row = judge_corrected(rates(scores.assign(truncated=False)), card_of((90, 100, 95, 100))).iloc[
        0
    ]
    assert row["estimate"] == pytest.approx(100 * 0.12 / 0.85)
    assert row["youden"] == pytest.approx(0.85)
    assert (
        0.9 * row["estimate"] + 0.05 * (100 - row["estimate"])
        == pytest.approx(row["raw"])
        == pytest.approx(17)
    )
    assert row["ci_low"] < row["estimate"] < row["ci_high"]


def test_perfect_judge_changes_only_the_uncertainty():
    scores = simulate_scores([0, 6, -6], n_items=300, n_runs=2, seed=1)
    for table in (rates(scores), contrasts(scores)):
        known = judge_corrected(table, card_of((10**6, 10**6, 10**6, 10**6)))
        for name, raw in (("estimate", "raw"), ("ci_low", "raw_low"), ("ci_high", "raw_high")):
            assert known[raw].tolist() == table[name].tolist()
            assert known[name].to_numpy() == pytest.approx(table[name].to_numpy(), abs=0.15)
        vague = judge_corrected(table, card_of((30, 30, 30, 30)))
        assert (vague["ci_low"] <= known["ci_low"] + 0.1).all()


def replicate(trial, sensitivity=0.85, specificity=0.9, effect=-10, labelled=150):
    """One study: a labelled sample validates the judge, which then scores answers of known
    truth.
    """
    rng = np.random.default_rng(trial)
    card = card_of(
        (
            rng.binomial(labelled, sensitivity),
            labelled,
            rng.binomial(labelled, specificity),
            labelled,
        )
    )
    scores = simulate_scores([effect], n_items=250, n_runs=2, difficulty=(3, 1), seed=rng)
    seen = judged(scores, sensitivity, specificity, rng)
    return judge_corrected(rates(seen), card, seed=trial), judge_corrected(
        contrasts(seen), card, seed=trial
    )


def coverage(studies, effect):
    """Coverage of a corrected rate, a raw rate and a corrected contrast; studies with a useless
    judge are left out.
    """
    studies = [tables for tables in studies if tables[0]["estimate"].notna().all()]
    assert len(studies) > 20
    truth = {"none": 75.0, "p00": 75.0 + effect}
    rows = pd.concat([table[table["persona"].isin(truth)] for table, _ in studies])
    true = rows["persona"].astype(str).map(truth)
    differences = pd.concat([table[table["contrast"] == "p00 − none"] for _, table in studies])
    return (
        true.between(rows["ci_low"], rows["ci_high"]).mean(),
        true.between(rows["raw_low"], rows["raw_high"]).mean(),
        ((differences["ci_low"] <= effect) & (effect <= differences["ci_high"])).mean(),
    )


@pytest.mark.slow
@pytest.mark.parametrize("effect", [-10, 0])
def test_corrected_intervals_cover_the_truth_and_raw_ones_do_not(effect):
    """With no effect, the last coverage is one minus the type-I error."""
    corrected, raw, contrast = coverage(
        [replicate(trial, effect=effect) for trial in range(80)], effect
    )
    assert corrected >= 0.9 and raw <= 0.5 and contrast >= 0.9


@pytest.mark.slow
@pytest.mark.parametrize(("sensitivity", "specificity"), [(0.95, 0.98), (0.7, 0.9), (0.65, 0.75)])
@pytest.mark.parametrize("effect", [-10, 0])
def test_coverage_in_many_replications(sensitivity, specificity, effect):
    """So many studies that coverage of 0.95 has a standard error of 0.007."""
    studies = [replicate(trial, sensitivity, specificity, effect) for trial in range(1000)]
    corrected, _, contrast = coverage(studies, effect)
    print(
        f"J {sensitivity + specificity - 1:.2f}, effect {effect}: covered {corrected:.3f} and "
        f"{contrast:.3f}"
    )
    assert corrected >= 0.93 and contrast >= 0.93


@pytest.mark.slow
def test_judge_that_differs_by_model_is_uncertain_on_a_new_one():
    """Its sensitivity on ten models is 50–98 %: the interval must cover an eleventh, which pooled
    counts would not.
    """
    rng, hits = np.random.default_rng(0), np.zeros(2)
    for trial in range(60):
        sensitivity = rng.uniform(0.5, 0.98, 11)
        models = [
            (rng.binomial(80, each), 80, rng.binomial(80, 0.95), 80) for each in sensitivity[:10]
        ]
        pooled = card_of(tuple(np.sum(models, axis=0)))
        seen = judged(
            simulate_scores([0], n_items=250, difficulty=(3, 1), seed=rng),
            sensitivity[10],
            0.95,
            rng,
        )
        for which, card in enumerate((card_of(*models), pooled)):
            row = judge_corrected(rates(seen), card, seed=trial).iloc[0]
            hits[which] += row["ci_low"] <= 75 <= row["ci_high"]
    assert hits[0] >= 52 and hits[1] <= 45


def test_planted_bias_is_recovered():
    """True PB is 6, PB² 36; a judge with Youden's J = 0.7 halves it."""
    rng = np.random.default_rng(2)
    scores = judged(simulate_scores([-6, 6] * 5, n_items=600, n_runs=3, seed=3), 0.8, 0.9, rng)
    (row,) = judge_corrected(
        personalization_bias(scores), card_of((400, 500, 450, 500))
    ).itertuples()
    assert row.raw < row.raw_high < 36 and row.dimension != "joint"
    assert row.ci_low < 36 < row.ci_high
    assert row.estimate == pytest.approx(row.raw / 0.49)


def test_judge_hardly_better_than_chance_gives_no_estimate():
    table = rates(simulate_scores([0], n_items=50, seed=0))
    for poor in ((50, 100, 55, 100), (6, 10, 7, 10)):
        row = judge_corrected(table, card_of(poor)).iloc[0]
        assert np.isnan([row["estimate"], row["ci_low"], row["ci_high"]]).all()
        assert row["youden"] < 0.4
    assert judge_corrected(table, card_of((60, 100, 70, 100)))["estimate"].isna().all()
    assert judge_corrected(table, card_of((80, 100, 80, 100)))["estimate"].notna().all()
    with pytest.raises(UserError, match="no model with both"):
        judge_corrected(table, card_of((9, 10, 9, 10)).query("metric == 'sensitivity'"))
