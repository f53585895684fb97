"""Personalization bias (PB) against hand calculation, other implementations and simulated truth."""

import itertools
import time

import numpy as np
import pandas as pd
import pytest
from scipy import stats
from statsmodels.formula.api import ols
from statsmodels.stats.anova import anova_lm

from personagap import effects, validation
from personagap.effects import personalization_bias, simulate_scores
from personagap.errors import UserError

FAST = {"n_permutations": 199, "n_bootstrap": 200}


def scores_of(table: np.ndarray, task: str = "mmlu") -> pd.DataFrame:
    """Scores of one run from an identity × item table."""
    persona, item = np.indices(table.shape)
    columns = {
        "persona": [f"p{i}" for i in persona.ravel()],
        "item": item.ravel(),
        "score": table.ravel(),
    }
    return pd.DataFrame({"task": task, **columns})


def test_pb_is_the_population_sd_of_identity_means_without_controls():
    scores = pd.concat(
        [
            simulate_scores([-5, 0, 9], n_items=50, n_runs=2, task=task, seed=2)
            for task in ("mmlu", "gsm8k")
        ]
    )
    bias = personalization_bias(scores, **FAST).set_index("dimension")
    means = (
        100
        * scores[scores["persona"].str.startswith("p")]
        .groupby(["task", "persona"], observed=True)["score"]
        .mean()
    )
    expected = means.groupby("task").std(ddof=0)
    assert bias.loc["mmlu", "pb"] == pytest.approx(expected["mmlu"])
    assert bias.loc["joint", "pb"] ** 2 == pytest.approx((expected**2).sum())  # S15
    assert bias.loc["joint", ["n_identities", "n_items", "n_runs"]].tolist() == [3, 100, 2]
    # only a shift against the control: invisible to PB (S14)
    shifted = scores.assign(
        score=scores["score"].where(~scores["persona"].isin(["none", "assistant"]), 1.0)
    )
    pd.testing.assert_frame_equal(bias.reset_index(), personalization_bias(shifted, **FAST))


def test_debiased_pb_equals_statsmodels_anova():
    table = np.random.default_rng(0).random((5, 12))
    scores = scores_of(table)
    anova = anova_lm(ols("score ~ C(persona) + C(item)", scores).fit())
    mean_square = anova["sum_sq"] / anova["df"]
    expected = 1e4 * 4 / 5 * (mean_square["C(persona)"] - mean_square["Residual"]) / 12
    assert personalization_bias(scores, **FAST)["debiased_pb2"][0] == pytest.approx(
        expected, abs=1e-8
    )


def test_p_value_and_noise_floor_equal_full_enumeration():
    table = np.random.default_rng(5).integers(0, 2, (3, 5)).astype(float)
    deviations = table - table.mean(axis=0)
    everything = [
        100 * (deviations @ signs / 5).std() for signs in itertools.product([-1, 1], repeat=5)
    ]
    row = personalization_bias(scores_of(table), n_permutations=20_000, n_bootstrap=20).iloc[0]
    assert row["p_value"] == pytest.approx(
        np.mean(np.array(everything) >= row["pb"] - 1e-9), abs=0.03
    )
    assert row["noise_floor"] == pytest.approx(np.mean(everything), rel=0.03)


def test_p_value_is_exact_for_two_items():
    """The observed signs count as a permutation: of the four for two items, two are equivalent."""
    how = {"n_permutations": 400, "n_bootstrap": 20}
    tables = {seed: scores_of(np.random.default_rng(seed).random((4, 2))) for seed in range(20)}
    p_values = [
        personalization_bias(table, **how, seed=seed)["p_value"][0]
        for seed, table in tables.items()
    ]
    assert min(p_values) > 0.4


def test_p_value_equals_scipy_for_two_identities():
    table = simulate_scores([0, 12], n_items=60, seed=3).query("persona in ['p00', 'p01']")
    wide = table.pivot(index="persona", columns="item", values="score").to_numpy()
    other = stats.permutation_test(
        wide, lambda x, y, axis: np.abs((x - y).mean(axis=axis)), permutation_type="samples",
        vectorized=True,
        alternative="greater", n_resamples=4000, rng=0,
    )  # fmt: skip
    ours = personalization_bias(table, n_permutations=4000, n_bootstrap=20)["p_value"][0]
    assert ours == pytest.approx(other.pvalue, abs=0.03)


@pytest.mark.parametrize(
    ("n_items", "published", "tolerance"), [(285, 1.37, 0.03), (939, 0.75, 0.02)]
)
def test_noise_floor_is_the_pb_of_null_data(n_items, published, tolerance):
    """S12; the moment estimator of the noise floor equals the permutation mean."""
    rows = [
        personalization_bias(
            simulate_scores(np.zeros(31), n_items=n_items, n_runs=3, seed=seed),
            n_permutations=2000,
            n_bootstrap=20,
        ).iloc[0]
        for seed in range(6)
    ]
    floor, moment = (np.mean(values) for values in zip(*map(both_floors, rows), strict=True))
    assert floor == pytest.approx(published, abs=tolerance)
    assert floor == pytest.approx(moment, rel=0.01)


def both_floors(row: pd.Series) -> tuple[float, float]:
    # E[PB] = √E[PB²] · (1 − 1/(4(k − 1))) to first order: a χ with k − 1 degrees of freedom
    return row["noise_floor"], np.sqrt(row["pb"] ** 2 - row["debiased_pb2"]) * (1 - 1 / 120)


def replicate(
    pb: float, replications: int, n_templates: int = 1, phrasing_sd: float = 0.0, n_items: int = 120
):
    """Rejection rate, coverage, and mean error of the debiased value in standard errors."""
    covered, rejected, errors = [], [], []
    for seed in range(replications):
        rng = np.random.default_rng(seed)
        effects = np.clip(stats.zscore(rng.normal(size=31)), -2.5, 2.5) * pb
        phrasings = np.clip(rng.normal(size=(31, n_templates)), -2, 2) * phrasing_sd
        scores = simulate_scores(effects[:, None] + phrasings, n_items=n_items, n_runs=2, seed=rng)
        row = personalization_bias(scores, **FAST, seed=seed).iloc[0]
        truth = effects.var()
        covered.append(row["ci_low"] <= truth <= row["ci_high"])
        rejected.append(row["p_value"] <= 0.05)
        errors.append(row["debiased_pb2"] - truth)
    return np.mean(rejected), np.mean(covered), np.mean(errors) / stats.sem(errors)


@pytest.mark.parametrize("pb", [0.0, 1.5, 5.0])
def test_interval_covers_and_null_keeps_its_level(pb):
    rejected, covered, z = replicate(pb, 100)
    assert covered >= 0.90
    assert abs(z) < 3.5
    assert rejected <= 0.11 if pb == 0 else rejected >= (0.2 if pb == 1.5 else 1.0)


def test_phrasing_effect_is_not_attributed_to_identity():
    """Identity × phrasing has an sd of 4 points: with phrasing as a fixed effect nearly every test
    rejects.
    """
    rejected, covered, _ = replicate(0.0, 60, n_templates=3, phrasing_sd=4.0)
    naive, *_ = replicate(0.0, 10, n_templates=1, phrasing_sd=4.0)
    assert rejected <= 0.13
    assert covered >= 0.90
    assert naive >= 0.9


@pytest.mark.slow
@pytest.mark.parametrize("pb", [0.0, 0.7, 1.5, 4.0])
@pytest.mark.parametrize(("n_templates", "phrasing_sd"), [(1, 0.0), (3, 0.0), (3, 3.0)])
def test_coverage_and_size_in_many_replications(pb, n_templates, phrasing_sd):
    rejected, covered, _ = replicate(pb, 400, n_templates, phrasing_sd)
    assert covered >= 0.92
    assert pb > 0 or rejected <= 0.08


@pytest.mark.parametrize("value", [0.0, 1.0])
def test_constant_scores_have_no_bias_but_a_wide_interval(value):
    row = personalization_bias(scores_of(np.full((4, 60), value)), **FAST).iloc[0]
    assert row[["pb", "noise_floor", "debiased_pb2"]].tolist() == [0] * 3
    # Rule of three for one of four identities.
    assert row["ci_low"] <= 0 and row["ci_high"] >= (300 / 60) ** 2 * 3 / 16
    assert row["p_value"] == 1


def test_unequal_runs_are_averaged_and_missing_runs_drop_no_item():
    scores = simulate_scores([0, 5, -5], n_items=30, n_runs=3, seed=1)
    scores = scores.drop(scores.index[(scores["persona"] == "p01") & (scores["item"] == 7)])
    scores = scores.drop(
        scores.index[(scores["persona"] == "p02") & (scores["item"] > 20) & (scores["run"] == 2)]
    )
    row = personalization_bias(scores, **FAST).iloc[0]
    cells = scores.query("persona not in ['none', 'assistant']").groupby(
        ["persona", "item"], observed=True
    )["score"]
    fit = (
        ols("score ~ C(persona) + C(item)", cells.mean().reset_index().astype({"persona": str}))
        .fit()
        .params
    )
    effects = np.array([0.0, *fit[fit.index.str.startswith("C(persona)")]])
    assert row[["n_items", "n_missing"]].tolist() == [30, 1]
    assert row["pb"] == pytest.approx(100 * effects.std())


def test_items_missing_for_half_of_the_identities_are_dropped_with_a_warning():
    scores = simulate_scores([0, 5, -5, 0], n_items=30, seed=1)
    with pytest.warns(UserWarning, match="mmlu: 10 of 30 items are left out"):
        row = personalization_bias(
            scores.query("item > 9 or persona in ['p00', 'p01']"), **FAST
        ).iloc[0]
    assert row[["n_items", "n_missing"]].tolist() == [20, 0]
    with pytest.raises(UserError, match="p01 has no answers in template b"):
        other = scores[scores["persona"] != "p01"].assign(template="b")
        personalization_bias(pd.concat([scores.assign(template="a"), other]), **FAST)


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize(
    "case", validation.UNEVEN, ids=lambda case: f"{case.estimator}: {case.data}"
)
def test_heterogeneous_data_are_analysed(case):
    validation.run_cases([case], replications=2)


@pytest.mark.slow
@pytest.mark.parametrize(
    "case", validation.UNEVEN, ids=lambda case: f"{case.estimator}: {case.data}"
)
def test_level_coverage_and_power_on_heterogeneous_data(case):
    assert validation.kept(validation.run_cases([case], replications=400)).all()


def test_equal_scores_have_no_bias_despite_rounding():
    """The mean of 31 equal floats can differ from them: rounding alone gave p = 0.001."""
    scores = simulate_scores([0] * 31, n_items=60, seed=1)
    scores["score"] = np.random.default_rng(0).random(60)[scores["item"].to_numpy(dtype=int)]
    alike = personalization_bias(scores, **FAST)
    assert alike[["pb", "noise_floor", "p_value"]].eq([0, 0, 1]).all(axis=None)
    assert effects.omnibus(scores, n_permutations=100)["p_value"][0] == 1
    groups = {f"p{i:02}": f"g{i // 7}" for i in range(31)}
    found = effects.contrasts(scores, by=groups)
    # The interval of the other control
    assert np.allclose(found["ci_high"], found["ci_high"].iloc[-1])
    assert effects.detectable(scores)["smallest_pb"].isna().all()
    other = simulate_scores([-9, 9] * 15 + [0], n_items=60, seed=2).assign(task="gsm8k")
    both = personalization_bias(pd.concat([scores, other]), **FAST).set_index("dimension")
    assert both.loc["joint", "p_value"] == both.loc["gsm8k", "p_value"] < 0.05
    assert both.loc["joint", "pb"] == both.loc["gsm8k", "pb"]


def test_invalid_scores_are_a_one_line_error():
    good = scores_of(np.random.default_rng(0).integers(0, 2, (3, 8)).astype(float))
    cases = {
        "two identities": good[good["persona"] == "p0"],
        "2 are needed": good[good["item"] == 0],
        "0 items": pd.concat(
            [good.query("persona == 'p0' and item < 4"), good.query("persona == 'p1' and item > 3")]
        ),
        "no rows": good.iloc[:0],
        "column 'task'": good.drop(columns="task"),
        "not in [0, 1]": good.assign(score=good["score"] * 100),
        "row 3": good.assign(score=good["score"].where(good.index != 3)),
        "persona is missing in row 2": good.assign(persona=good["persona"].where(good.index != 2)),
        "scored twice": pd.concat([good, good.iloc[:1]]),
        "mix 2 models": pd.concat([good.assign(model="a"), good.assign(model="b")]),
        "no scores of p2": pd.concat([good, good[good["persona"] != "p2"].assign(task="gsm8k")]),
        "no identities": good.assign(persona="none"),
        "score yes in row 0": good.assign(score="yes"),
        "two columns 'score'": pd.concat([good, good[["score"]]], axis=1),
        "of type builtins.dict: give a pandas DataFrame": good.to_dict("list"),
    }
    for message, scores in cases.items():
        with pytest.raises(UserError) as caught:
            personalization_bias(scores, **FAST)
        assert message in str(caught.value)
    with pytest.raises(UserError, match="all items lie in one cluster of 'task'; 2 are needed"):
        personalization_bias(good, cluster="task", **FAST)
    with pytest.raises(UserError, match="give the name of one"):
        personalization_bias(good, cluster=("task", "item"), **FAST)


@pytest.mark.slow
def test_full_mmlu_is_fast():
    scores = simulate_scores(np.zeros(31), n_items=14_042, n_runs=3, seed=0)
    start = time.process_time()
    personalization_bias(scores, n_permutations=10_000, n_bootstrap=10_000)
    assert time.process_time() - start < 15
