"""Omnibus tests, variance components, equivalence, additivity and power: references, truth,
undefined input.
"""

import warnings

import numpy as np
import pandas as pd
import pytest
import statsmodels.formula.api as smf
from statsmodels.stats.power import TTestPower

from personagap import effects, validation
from personagap.effects import simulate_scores
from personagap.errors import UserError
from personagap.results import COLUMNS, wide


@pytest.mark.parametrize("check", validation.EFFECTS, ids=lambda check: check.estimator)
def test_estimators_equal_their_references(check):
    tolerance = {"omnibus: permutation": 0.02, "noise_floor": 0.03, "power": 0.09}  # Monte Carlo
    assert check.difference() <= tolerance.get(check.estimator, 1e-8)


@pytest.mark.parametrize(
    "check", validation.DECISIONS + validation.PEOPLE, ids=lambda check: check.estimator
)
def test_new_estimators_equal_their_references(check):
    tolerance = {
        "answer_flips": 1,
        "partial_pooling": 1,
        "sequential_contrasts": 0.02,
        "alternative annotator test": 1e-8,
    }
    assert check.difference() <= tolerance.get(check.estimator, 0.01)


@pytest.mark.slow
@pytest.mark.parametrize(
    "check",
    [
        check
        for check in validation.EFFECTS + validation.DECISIONS + validation.PEOPLE
        if check.trial
    ],
    ids=lambda check: check.estimator,
)
def test_validation_table_has_nominal_level_and_coverage(check):
    found = validation.run_checks([check], replications=300).set_index("metric")
    assert {"actual_error", "coverage", "power"} & set(found.index)
    error, coverage, power = (
        found[found.index == name] for name in ("actual_error", "coverage", "power")
    )
    assert (error["ci_low"] <= 0.05).all() and (error["estimate"] <= 0.08).all()
    assert (coverage["estimate"] >= 0.92).all() and (power["estimate"] >= 0.4).all()


def test_validation_table_has_the_promised_rows():
    chosen = [
        check
        for check in validation.EFFECTS
        if "TOST" in check.estimator or "noise" in check.estimator
    ]
    table = validation.run_checks(chosen, replications=3)
    assert table.columns.tolist() == ["estimator", "reference", "effect", *COLUMNS]
    metrics = {name: rows["metric"].tolist() for name, rows in table.groupby("estimator")}
    assert metrics == {
        "equivalence: TOST": ["largest_difference", "actual_error", "power"],
        "noise_floor": ["largest_difference"],
    }


def test_variance_components_equal_reml_for_crossed_factors():
    """Moment estimators equal REML on balanced data if none is negative."""
    scores = simulate_scores([-12, -5, 2, 15], n_items=40, n_runs=4, seed=0).query(
        "persona not in ['none', 'assistant']"
    )
    cells = (
        scores.groupby(["persona", "item"], observed=True, as_index=False)["score"]
        .mean()
        .assign(all=1)
    )
    crossed = {"persona": "0 + C(persona)", "item": "0 + C(item)"}
    with warnings.catch_warnings():
        # Statsmodels warns that it is at the boundary of a singular group.
        warnings.simplefilter("ignore")
        fit = smf.mixedlm("score ~ 1", cells, groups="all", vc_formula=crossed).fit(gtol=1e-10)
    reml = dict(zip(fit.model.exog_vc.names, fit.vcomp, strict=True))
    ours = wide(effects.variance_components(scores)).set_index("component")["variance"] / 1e4
    assert ours["identity"] == pytest.approx(reml["persona"], rel=0.01)
    assert ours["item"] == pytest.approx(reml["item"], rel=0.01)
    assert ours["run"] == pytest.approx(
        scores.groupby(["persona", "item"], observed=True)["score"].var().mean()
    )


def test_variance_components_separate_phrasing_from_identity():
    rng = np.random.default_rng(0)
    tables = []
    for _ in range(30):
        effect = 3 * rng.normal(size=(31, 1)).clip(-2, 2) + 4 * rng.normal(size=(31, 3)).clip(-2, 2)
        tables.append(
            effects.variance_components(simulate_scores(effect, n_items=80, n_runs=2, seed=rng))
        )
    mean = pd.concat(tables).groupby(["metric", "component"])["estimate"].mean()
    mean, shares = mean["variance"], mean["share"]
    clipped = 0.9205  # variance of a standard normal clipped at ±2
    assert mean["identity"] == pytest.approx(9 * clipped, rel=0.2)
    assert mean["identity × phrasing"] == pytest.approx(16 * clipped, rel=0.15)
    assert mean["phrasing"] == pytest.approx(0, abs=0.7)
    assert mean["item"] == pytest.approx(1e4 / 12, rel=0.05)
    assert shares["item"] == pytest.approx(1 / 3, abs=0.02)


def test_phrasing_effects_do_not_make_the_omnibus_test_significant():
    rejected = []
    for seed in range(40):
        phrasing = np.random.default_rng(seed).normal(scale=4, size=(12, 3)).clip(-8, 8)
        table = effects.omnibus(
            simulate_scores(phrasing, n_items=80, seed=seed), n_permutations=199
        )
        assert table["method"].tolist() == ["sign flip of PB", "quasi-F"]
        rejected.append(table["p_value"] <= 0.05)
    assert np.mean(rejected, axis=0).max() <= 0.15


@pytest.mark.parametrize("value", [0.0, 1.0])
def test_constant_scores_give_defined_results(value):
    scores = simulate_scores(np.zeros((3, 2)), n_items=5, n_runs=2).assign(score=value)
    for part in (scores, scores[scores["template"] == "paper"]):
        assert (effects.omnibus(part)["p_value"] == 1).all()
        assert (effects.contrasts(part)["p_value"] == 1).all()
        components = wide(effects.variance_components(part))
        assert (components[["variance", "share", "share_low", "share_high"]] == 0).all(axis=None)
        assert effects.equivalence(part, margin=60)["p_value"].between(0, 1).all()


def test_single_item_or_identity_is_a_one_line_error():
    scores = simulate_scores([0, 5], n_items=4, seed=0)
    for function in (
        effects.omnibus,
        effects.variance_components,
        effects.personalization_bias,
        effects.contrasts,
    ):
        with pytest.raises(UserError, match="2 are needed"):
            function(scores[scores["item"] == 0])
    with pytest.raises(UserError, match="two identities"):
        effects.omnibus(scores[scores["persona"] != "p01"])
    with pytest.raises(UserError, match="nothing to compare"):
        effects.contrasts(scores[scores["persona"] == "none"])
    with pytest.raises(UserError, match="no scores of 'muslim'"):
        effects.additivity(scores, {"p01": ["muslim", "p00"]})
    with pytest.raises(UserError, match=r"n_items is .* at least 2"):
        effects.power(n_items=1)
    with pytest.raises(UserError, match="add phrasings"):
        effects.items_needed({"identity × phrasing": 50}, contrast=2, n_templates=3)


def test_power_with_several_phrasings_equals_simulation():
    pilot = {"identity × phrasing": 9 * 0.9205, "run": 1e4 / 6}
    design = {"n_items": 150, "n_runs": 2, "n_templates": 4, "n_identities": 31}
    detectable = effects.power(pilot, **design).iloc[0]
    found = {"contrast": [], "pb": []}
    for seed in range(60):
        rng = np.random.default_rng(seed)
        phrasing = 3 * rng.normal(size=(31, 4)).clip(-2, 2)
        effect = np.resize([-1.0, 1.0], 31)[:, None] * detectable["smallest_pb"]
        scores = simulate_scores(effect + phrasing, n_items=150, n_runs=2, seed=rng)
        found["pb"].append(
            effects.personalization_bias(scores, n_permutations=199, n_bootstrap=20)["p_value"][0]
            <= 0.05
        )
        single = simulate_scores(
            detectable["smallest_contrast"] + phrasing[:1], n_items=150, n_runs=2, seed=rng
        )
        found["contrast"].append(effects.contrasts(single)["p_value"][0] <= 0.05)
    assert np.mean(found["pb"]) == pytest.approx(0.8, abs=0.15)
    assert np.mean(found["contrast"]) == pytest.approx(0.8, abs=0.15)


def test_planned_noise_floor_equals_that_of_null_data():
    assert effects.power(n_items=[285, 939], n_runs=3)["noise_floor"].tolist() == pytest.approx(
        [1.36, 0.75], abs=0.01
    )


def test_noise_of_one_phrasing_is_all_that_varies_over_its_items():
    pilot = {"identity × item": 100, "identity × phrasing": 400, "run": 400}
    pilot["identity × phrasing × item"] = 900
    design = {"n_items": 100, "n_identities": 2}
    row = effects.power(pilot, **design).iloc[0]
    # A contrast of two means over 100 items, of a variance of 100 + 900 + 400 points² each.
    two_means = TTestPower().solve_power(nobs=100, alpha=0.05, power=0.8) * np.sqrt(2 * 1400)
    assert row["smallest_contrast"] == pytest.approx(two_means, rel=1e-3)
    # PB of two identities is half of their difference, with a mean of √(2/π) of its error.
    assert row["noise_floor"] == pytest.approx(np.sqrt(2 * 14 / 4 * 2 / np.pi))
    # A pilot of one run hides the variance of runs in its highest interaction.
    hidden = {name: variance for name, variance in pilot.items() if name != "run"}
    hidden["identity × phrasing × item"] += pilot["run"]
    assert effects.power(hidden, **design).iloc[0].equals(row)


def test_power_near_one_has_a_smallest_effect():
    sizes = effects.power(n_items=2, target=0.9999).iloc[0]
    assert 0 < sizes["smallest_pb"] < 100 and sizes["smallest_contrast"] == np.inf


def test_more_items_beat_more_runs_if_identities_interact_with_items():
    pilot = {"identity × item": 800, "run": 800}
    split = effects.split_budget(1200, pilot, n_templates=[1])
    assert split["n_runs"].tolist() == [1, 2, 3, 4, 5]
    limited = effects.split_budget(1200, pilot, n_templates=[1], max_items=300)
    assert limited["n_runs"][0] > 1


@pytest.mark.filterwarnings("error")
def test_missing_cell_hardly_changes_components_and_detectable_effect():
    scores = simulate_scores([-9, -3, 0, 3, 9], n_items=100, n_runs=2, seed=0)
    less = scores[~((scores["persona"] == "p01") & (scores["item"] == 7))]
    whole, part = (effects.variance_components(table)["estimate"] for table in (scores, less))
    assert part.to_numpy() == pytest.approx(whole.to_numpy(), abs=30)
    whole, part = (effects.detectable(table)["smallest_pb"][0] for table in (scores, less))
    assert part == pytest.approx(whole, rel=0.05)


@pytest.mark.parametrize("score", [0.0, 1.0])
def test_interval_contains_its_estimate_if_all_answers_are_equal(score):
    rows = [("t", f"i{n}", persona, 0, score) for n in range(25) for persona in ("none", "muslim")]
    scores = pd.DataFrame(rows, columns=["task", "item", "persona", "run", "score"])
    table = effects.rates(scores.assign(valid=True, truncated=False))
    assert ((table["ci_low"] <= table["estimate"]) & (table["estimate"] <= table["ci_high"])).all()


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        (
            lambda scores: effects.personalization_bias(scores, n_bootstrap=1),
            "n_bootstrap is 1: .* at least 20",
        ),
        (lambda scores: effects.personalization_bias(scores, n_bootstrap=-1), "n_bootstrap is -1"),
        (
            lambda scores: effects.personalization_bias(scores, n_permutations=0),
            "n_permutations is 0",
        ),
        (
            lambda scores: effects.paired_change(scores, {"b": "a"}, n_bootstrap=0),
            "n_bootstrap is 0",
        ),
        (lambda scores: effects.paired_change(scores, {}), "no conditions to compare"),
        (lambda scores: effects.additivity(scores, {"p01": ["p00"]}), "'p01' is no intersection"),
        (lambda _: effects.power(n_items=[]), r"n_items is \[\]: give a list"),
        (lambda _: effects.power(n_items=1), r"n_items is \[1\]: .* at least 2"),
        (lambda _: effects.power(n_items=[10, 20], n_runs=[0]), r"n_runs is \[0\]"),
        (lambda _: effects.split_budget("x"), "budget is 'x'"),
        (
            lambda _: validation.run_checks(validation.EFFECTS[:1], replications=0),
            "replications is 0",
        ),
    ],
)
def test_undefined_input_is_a_one_line_error(wrong, message):
    scores = effects.simulate_scores([0, 1], n_items=10)
    scores = pd.concat([scores.assign(condition=name) for name in "ab"])
    with pytest.raises(UserError, match=message):
        wrong(
            scores
            if "paired_change" in wrong.__code__.co_names
            else scores.query("condition == 'a'")
        )


def test_pilot_of_one_run_does_not_predict_the_gain_of_more_runs():
    """Its identity × item component includes the noise of runs, which more runs would reduce."""
    scores = simulate_scores([-9, -3, 0, 3, 9], n_items=300, n_runs=2, seed=0)
    once, twice = (effects.variance_components(part) for part in (scores.query("run == 0"), scores))
    pilots = [wide(table).set_index("component")["variance"] for table in (once, twice)]
    same = [effects.power(pilot, n_items=300, n_runs=1)["smallest_contrast"][0] for pilot in pilots]
    assert same[0] == pytest.approx(same[1], rel=0.1)
    for plan in (effects.power, effects.split_budget):
        with pytest.raises(UserError, match=r"pilot twice \(runs=2\), or plan for n_runs=1"):
            plan(
                components=pilots[0],
                **({"n_items": 300, "n_runs": 2} if plan is effects.power else {"budget": 900}),
            )
    assert effects.detectable(scores.query("run == 0"))["smallest_pb"][0] > 0


def test_detectable_effect_of_unequal_runs_follows_their_noise():
    scores = simulate_scores(np.zeros(31), n_items=200, n_runs=2, seed=3)
    some = scores[(scores["run"] == 0) | (np.random.default_rng(0).random(len(scores)) < 0.6)]
    found = effects.personalization_bias(some, n_bootstrap=20)["noise_floor"][0]
    # Rounding to one run gave 2.8.
    assert effects.detectable(some)["noise_floor"][0] == pytest.approx(found, rel=0.03)


@pytest.mark.parametrize("score", [0.7, 1.0])
def test_zero_variance_has_no_shares(score):
    """The rounding error of 0.7 was all of the variance: "100 % by item"."""
    scores = simulate_scores([0, 1], n_items=60).assign(score=score)
    shares = effects.variance_components(scores).query("metric == 'share'")
    assert (shares[["estimate", "ci_low", "ci_high"]] == 0).all(axis=None)
