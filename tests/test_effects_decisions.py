"""Equivalence of PB, flips, partial pooling, sequential analysis: references and undefined
input.
"""

from itertools import combinations, product

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from personagap import effects, readable
from personagap.effects import simulate_scores
from personagap.effects.pooling import hierarchical
from personagap.effects.sequential import _sequence
from personagap.errors import UserError
from personagap.results import COLUMNS
from personagap.validation.cases import scores_of


def test_equivalence_of_pb_is_dual_to_its_interval():
    """With the margin at the upper end of the 90 % interval, p is 5 %."""
    scores = simulate_scores([-3, 3] * 4, n_items=200, n_runs=2, seed=0)
    high = effects.bias_equivalence(scores, margin=5)["ci_high"][0]
    assert effects.bias_equivalence(scores, margin=high)["p_value"][0] == pytest.approx(
        0.05, abs=0.002
    )
    bias = effects.personalization_bias(scores, level=0.9, n_permutations=20).iloc[0]
    assert high**2 == pytest.approx(bias["ci_high"], rel=0.1)  # different random draws
    same = effects.bias_equivalence(scores, margin=high)
    assert same.columns.tolist() == ["task", *COLUMNS, "margin", "equivalent"]
    assert readable.readable(same)[1]["in brackets"] == "90 % interval"
    wider = effects.bias_equivalence(scores, margin=high + 1)
    assert wider["equivalent"].tolist() == [True, True] and set(wider["margin"]) == {high + 1}
    assert same["task"].tolist() == [
        "mmlu",
        "joint",
    ]


def test_equivalence_that_rests_on_few_items_has_a_note():
    right = np.ones((31, 285))
    right[0, :6] = 0
    persona, item = np.indices(right.shape).reshape(2, -1)
    scores = pd.DataFrame({"task": "t", "persona": persona, "item": item, "score": right.ravel()})
    scores["persona"] = "p" + scores["persona"].astype(str)
    assert "only 6 items differ" in effects.bias_equivalence(scores, margin=1)["method"][0]
    even = effects.simulate_scores([-1, 1] * 5, n_items=100, seed=0)
    assert "only" not in effects.bias_equivalence(even, margin=1)["method"][0]


def test_flips_are_counted_pair_by_pair():
    rng = np.random.default_rng(0)
    rows = [
        ("t", persona, item, run)
        for persona in ("none", "p")
        for item in range(40)
        for run in range(3)
    ]
    scores = pd.DataFrame(rows, columns=["task", "persona", "item", "run"])
    scores["choice"] = rng.choice(list("ABCD"), len(scores))
    scores["score"] = (scores["choice"] == "A") * 1.0
    choices = scores.set_index(["persona", "item", "run"])["choice"]
    between, control, own = [], [], []
    for item in range(40):
        a, b = choices["none", item].tolist(), choices["p", item].tolist()
        between.append(np.mean([x != y for x, y in product(a, b)]))
        control.append(np.mean([x != y for x, y in combinations(a, 2)]))
        own.append(np.mean([x != y for x, y in combinations(b, 2)]))
    table = effects.answer_flips(scores, answer="choice").set_index("metric")
    between, control, own = (np.array(each) for each in (between, control, own))
    assert table["estimate"].tolist() == pytest.approx(
        [100 * each.mean() for each in (between, control, between - (control + own) / 2)]
    )
    reference = stats.ttest_1samp(between - (control + own) / 2, 0)
    assert table.loc["excess flips", "p_value"] == pytest.approx(reference.pvalue, abs=0.1)
    assert table.columns.tolist() == [
        "task",
        "contrast",
        *(name for name in COLUMNS if name != "metric"),
    ]


def test_flips_in_both_directions_are_found_where_means_are_equal():
    """The identity is wrong where the control is right, and as often the other way round."""
    rows = [
        ("t", who, i, run, (i + (who == "p")) % 2)
        for who in ("none", "p")
        for i in range(50)
        for run in (0, 1)
    ]
    scores = pd.DataFrame(rows, columns=["task", "persona", "item", "run", "score"])
    assert effects.contrasts(scores)["estimate"][0] == 0
    table = effects.answer_flips(scores).set_index("metric")
    assert table["estimate"].tolist() == [100, 0, 100] and table["p_adjusted"].iloc[-1] < 1e-6


def test_likelihood_answers_flip_only_with_the_identity():
    """They are the same in every run, so one run of the control shows no flips of its own."""
    chosen = {"none": "AABB", "p": "AABA", "q": "AABB"}
    rows = [
        ("t", who, *answer, 0.5, 0.9)
        for who, letters in chosen.items()
        for answer in enumerate(letters)
    ]
    scores = pd.DataFrame(
        rows, columns=["task", "persona", "item", "choice", "score", "choice_mass"]
    )
    table = effects.answer_flips(scores, answer="choice").set_index(["contrast", "metric"])[
        "estimate"
    ]
    assert table.tolist() == [25, 0, 25, 0, 0, 0]
    assert table["p − none", "excess flips"] == 25
    with pytest.raises(UserError, match="ask with runs=2 or more"):
        effects.answer_flips(scores.drop(columns="choice_mass"), answer="choice")


def test_shrinkage_equals_the_eight_schools_example():
    """Gelman et al., Bayesian Data Analysis, 3rd ed., table 5.3: medians and quartiles of 200
    draws.
    """
    y, se = np.array([28, 8, -3, 7, -1, 1, 18, 12.0]), np.array([15, 10, 16, 11, 9, 11, 10, 18.0])
    drawn = hierarchical(y, np.diag(se**2)).draws(np.eye(8), np.random.default_rng(0))
    low, middle, high = np.quantile(drawn, [0.25, 0.5, 0.75], axis=1)
    assert middle == pytest.approx([10, 8, 7, 8, 5, 6, 10, 8], abs=1.2)
    assert low == pytest.approx([7, 3, 2, 4, 1, 2, 7, 3], abs=1.7)
    assert high == pytest.approx([16, 12, 11, 11, 10, 10, 15, 13], abs=1.7)


def test_deviating_category_is_found_and_noise_is_shrunk():
    by = {f"p{i:02d}": "abcdef"[i % 6] for i in range(24)}
    effect = np.where(np.arange(24) % 6 == 0, -9.0, 0.0)
    table = effects.partial_pooling(simulate_scores(effect, n_items=400, n_runs=2, seed=0), by)
    category = table.query("level == 'category' and metric == 'shrunken effect'").set_index(
        "contrast"
    )
    assert category.loc["a − mean", "ci_high"] < -3 and (category["ci_low"] > -9)[1:].all()
    raw, shrunken = (
        table.query(f"level == 'identity' and metric == '{m} effect'") for m in ("raw", "shrunken")
    )
    true = effect - effect.mean()
    errors = [np.mean((part["estimate"] - true) ** 2) for part in (raw, shrunken)]
    assert errors[1] < 0.6 * errors[0]
    assert table.columns[3:].tolist() == COLUMNS


def test_item_variance_does_not_mask_small_differences_of_likelihoods():
    """Identities differ by one point, items by twenty: raw intervals are paired."""
    rng = np.random.default_rng(0)
    spread = np.linspace(0.2, 1.5, 12)[:, None]
    x = (
        0.5
        + rng.normal(scale=0.2, size=80).clip(-0.4, 0.4)
        + 0.01 * spread * rng.normal(size=(12, 80))
    )
    rows = [
        ("t", f"p{i:02d}", j, value) for i, line in enumerate(x) for j, value in enumerate(line)
    ]
    table = effects.partial_pooling(
        pd.DataFrame(rows, columns=["task", "persona", "item", "score"])
    )
    raw = table.query("metric == 'raw effect'")
    paired = stats.sem(x - x.mean(axis=0), axis=1) * stats.t.ppf(0.975, 79) * 100
    assert ((raw["ci_high"] - raw["ci_low"]) / 2).tolist() == pytest.approx(paired, rel=0.25)


def test_raw_effects_of_clustered_items_have_the_errors_of_cluster_means():
    """A t interval over the means of eight subjects; the number of their items says nothing."""
    rng, subject = np.random.default_rng(0), np.repeat(np.arange(8), 12)
    p = 0.5 + 0.1 * rng.normal(size=(12, 8)).clip(-3, 3)[:, subject]
    x = (rng.random(p.shape) < p) * 1.0
    table = effects.partial_pooling(scores_of(x, subject=subject), cluster="subject")
    raw = table.query("metric == 'raw effect'")
    means = (x - x.mean(axis=0)).reshape(12, 8, 12).mean(axis=2)
    limits = stats.sem(means, axis=1) * stats.t.ppf(0.975, 7) * 100
    half = ((raw["ci_high"] - raw["ci_low"]) / 2).to_numpy()
    # Raw intervals share what identities have in common, hence the mean of squares.
    assert np.mean(half**2) == pytest.approx(np.mean(limits**2), rel=0.1)


def test_confidence_sequence_equals_the_betting_definition():
    """Step by step, after Waudby-Smith & Ramdas 2024."""
    x, alpha = np.random.default_rng(0).beta(2, 3, 80), 0.1
    low, high, against_half = _sequence(x, alpha)
    for m in (0.5, low - 0.001, low + 0.001, high - 0.001, high + 0.001):
        capital = capital_of(x, alpha, m)
        assert (low <= m <= high) == (max(capital) < 1 / alpha)
    assert against_half[1:].tolist() == pytest.approx(capital_of(x, alpha, 0.5))
    assert against_half[0] == 1


def capital_of(x, alpha, m):
    up = down = 1.0
    before, capital = [], []
    for t, value in enumerate(x, 1):
        means = [(0.5 + sum(before[: i + 1])) / (i + 2) for i in range(t - 1)]
        variance = (0.25 + sum((a - b) ** 2 for a, b in zip(before, means, strict=True))) / t
        stake = np.sqrt(2 * np.log(2 / alpha) / (variance * t * np.log(1 + t)))
        up *= 1 + min(stake, 0.5 / m) * (value - m)
        down *= 1 - min(stake, 0.5 / (1 - m)) * (value - m)
        capital.append((up + down) / 2)
        before.append(value)
    return capital


def test_sequence_of_drifting_scores_keeps_unrefuted_candidates():
    """The mean may be a refuted one: the interval then had no width."""
    rng = np.random.default_rng(0)
    x = np.concatenate([rng.random(60) < 0.2, rng.random(60) < 0.7]).astype(float)
    low, high, _ = _sequence(x, 0.05)
    assert high < x.mean()
    for m in (low - 0.001, low + 0.001, high - 0.001, high + 0.001):
        assert (low <= m <= high) == (max(capital_of(x, 0.05, m)) < 20)
    low, high, capital = _sequence(np.repeat([0.0, 1.0], 200), 0.05)
    assert np.isnan([low, high]).all() and capital.max() > 20


def test_sequential_analysis_finds_an_effect_and_keeps_it():
    scores = simulate_scores([0, -12], n_items=600, n_runs=3, seed=1)
    p_values = []
    for n in (50, 200, 600):
        table = effects.sequential_contrasts(scores[scores["item"] < n]).set_index("contrast")
        p_values.append(table.loc[["p01 − none", "any − none"], "p_value"].tolist())
        assert table.loc["p00 − none", "p_value"] > 0.05 and table["n"].tolist() == [n] * 3
    assert np.diff(p_values, axis=0).max() <= 0 and max(p_values[-1]) < 0.001


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (
            lambda scores: effects.bias_equivalence(scores, margin=-1),
            "margin is -1: give a number of at least 0",
        ),
        (lambda scores: effects.bias_equivalence(scores, margin="x"), "margin is 'x'"),
        (
            lambda scores: effects.answer_flips(scores),
            "none has two runs of 0 items that p00 answered",
        ),
        (
            lambda scores: effects.answer_flips(scores, "control"),
            "no scores of the control 'control'",
        ),
        (lambda scores: effects.answer_flips(scores, answer="choice"), "lack the column 'choice'"),
        (lambda scores: effects.answer_flips(scores, personas=["p77"]), "no scores of 'p77'"),
        (lambda scores: effects.sequential_contrasts(scores, "control"), "no scores of 'control'"),
        (lambda scores: effects.sequential_contrasts(scores, by={}), "by names no identity"),
        (lambda scores: effects.contrasts(scores, by={"zen": "a"}), "there are p00, p01, p02"),
        (lambda scores: effects.contrasts(scores, by=["p00"]), "by is a list: give a dictionary"),
        (lambda scores: effects.equivalence(scores, margin=-1), "margin is -1"),
        (lambda scores: effects.power(n_items=9, alpha=5), "alpha is 5"),
        (lambda scores: effects.power(n_items=9, target=0.05), "give a power above alpha"),
        (lambda scores: effects.power({"identity:item": 5}, n_items=9), "components have none of"),
        (lambda scores: effects.items_needed(), "give contrast= or pb="),
        (lambda scores: effects.items_needed(contrast=5, pb=2), "give contrast= or pb="),
        (lambda scores: effects.outcomes(scores), "lack the column 'outcome'"),
        (lambda scores: effects.by_condition(effects.rates, scores), "lack the column 'condition'"),
        (lambda scores: effects.pb_corrected(scores), "lack the column 'dimension'"),
        (lambda scores: effects.judge_corrected(scores, scores), "lack the column 'by'"),
        (
            lambda scores: effects.partial_pooling(scores[scores["persona"] != "p02"]),
            "three identities or more",
        ),
        (lambda scores: effects.partial_pooling(scores, {"p00": "a"}), "no category of 'p01'"),
        (
            lambda scores: effects.partial_pooling(
                scores, dict.fromkeys(["p00", "p01", "p02"], "a")
            ),
            "three categories or more",
        ),
    ],
)
def test_undefined_input_is_a_one_line_error(call, message):
    with pytest.raises(UserError, match=message):
        call(simulate_scores([0, 1, 2], n_items=20))


@pytest.mark.parametrize("level", [0, 1, 95, -0.5])
def test_invalid_level_is_a_one_line_error(level):
    scores = simulate_scores([0, 1, 2], n_items=20)
    both = pd.concat([scores.assign(condition=name) for name in "ab"])
    for function, table in [
        (effects.personalization_bias, scores),
        (effects.contrasts, scores),
        (effects.sequential_contrasts, scores),
        (effects.rates, scores),
        (effects.partial_pooling, scores),
        (effects.variance_components, scores),
        (lambda table, level: effects.paired_change(table, {"a": "b"}, level=level), both),
    ]:
        with pytest.raises(UserError, match=f"^level is {level}: give a number between 0 and 1"):
            function(table, level=level)


def test_shrunken_effects_need_no_posterior_draws():
    scores = effects.simulate_scores([-6, 0, 0, 4], n_items=60, seed=1)
    one, other = (effects.partial_pooling(scores, seed=seed)["estimate"] for seed in (0, 1))
    np.testing.assert_allclose(one, other, rtol=1e-12)
