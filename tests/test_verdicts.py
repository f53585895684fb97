"""Verdicts: sentences derived from the numbers, each with its interval."""

import re

import numpy as np
import pandas as pd
from simulated_conditions import simulate_conditions, unit_effects

from personagap import effects, safety_utility, validation, verdicts
from personagap.verdicts import wording

ROW = {"estimate": 0.5, "ci_low": 0.4, "ci_high": 0.6}


def test_number_is_shown_with_its_own_interval():
    table = pd.DataFrame([ROW])
    for row in (table.iloc[0], next(table.itertuples())):
        assert wording.interval(row) == "0.500 [0.400, 0.600]"
        assert wording.interval(row, form="+.0%") == "+50% [+40%, +60%]"
        assert [
            wording.side(row, "above", "below", "neither", than) for than in (0.3, 0.5, 0.7)
        ] == [*("above", "neither", "below")]


def test_p_value_names_the_family_of_its_correction():
    rows = {
        "p_value": [0.01, 0.04, 0.04],
        "p_adjusted": [0.02, 0.04, np.nan],
        "family": ["f1 (2 tests)", "x (1 test)", ""],
    }
    assert [wording.p_text(row) for row in pd.DataFrame(rows).itertuples()] == [
        *("p = 0.020, Holm over 2 tests of F1", "p = 0.040, one test", "p = 0.040, not corrected")
    ]


def test_bias_is_distinguished_from_noise_and_from_low_power():
    scores = effects.simulate_scores([-16, 0, 0], n_items=200, seed=1)
    bias = pd.DataFrame(
        {
            "dimension": ["mmlu", "gsm8k", "joint"],
            "pb": [9.0, 1.0, 0.0],
            "noise_floor": [1.0, 1.0, 0.0],
        }
    )
    bias = bias.assign(
        p_value=[0.01, 0.4, np.nan],
        debiased_pb2=[81, -1, 0],
        ci_low=[64, -4, 0],
        ci_high=[100, 4, 0],
    )
    contrasts, rates = (
        effects.contrasts(scores),
        effects.rates(scores.assign(valid=True, truncated=False)),
    )
    bias = bias.assign(n_items=200, n_identities=3)
    first, *answers = verdicts.persona_effects(bias, contrasts, rates, effects.detectable(scores))[
        "answer"
    ]
    assert first == "Not told by these data: all answers to each of the 200 items scored alike."
    assert answers[0].startswith("Yes: PB 9.00")
    assert answers[0].endswith("corrected for noise 9.00 [8.00, 10.00].")
    assert answers[1].startswith("Not distinguishable")
    assert "an effect up to 2.00 points is not excluded" in answers[1]
    assert answers[2].startswith("Cannot be told")
    assert answers[3].startswith("1 of 3 after Holm's correction, the largest: p00 -")
    # Tables and figures show narrower intervals, of each alone.
    assert answers[3].endswith(" points (simultaneous interval).")
    assert "assistant" not in answers[3]
    assert answers[4].startswith("With 80 % power, after Holm's correction: mmlu ")
    assert answers[5] == "No answer was unreadable; no answer was cut off."


def test_constant_scores_have_no_detectable_effect():
    scores = effects.simulate_scores([0, 0, 0], n_items=20, seed=1).assign(score=1.0)
    power = effects.detectable(scores)
    assert (
        power[["smallest_contrast", "smallest_contrast_holm", "smallest_pb"]].isna().all(axis=None)
    )
    results = effects.personalization_bias(scores), effects.contrasts(scores), effects.rates(scores)
    answer = verdicts.persona_effects(*results, power)["answer"].iloc[-2]
    assert answer.endswith("mmlu cannot be told, as all answers to each item scored alike.")
    few = verdicts.persona_effects(
        *results, effects.power(n_items=2, n_identities=2).assign(task="mmlu")
    )
    assert few["answer"].iloc[-2].endswith("mmlu none of one identity, PB none.")


def test_unparsable_answers_qualify_the_verdict():
    bias = pd.DataFrame(
        {"dimension": ["mmlu", "gsm8k", "joint"], "pb": 9.0, "noise_floor": 1.0, "p_value": 0.01}
    )
    bias = bias.assign(debiased_pb2=81.0, ci_low=[64.0, 0.0, 1.0], ci_high=[100.0, 400.0, 200.0])
    bias = bias.assign(n_items=200, n_identities=2)
    scores = effects.simulate_scores([0, 0], n_items=200, seed=1).assign(
        valid=True, truncated=False
    )
    scores = pd.concat([scores, scores.assign(task="gsm8k", valid=scores["item"] % 10 > 8)])
    given = (bias, effects.contrasts(scores), effects.rates(scores), effects.detectable(scores))
    first, *answers = verdicts.persona_effects(*given)["answer"]
    assert first.startswith(
        "Yes, but perhaps in the format of answers alone (median persona: 90% unreadable in gsm8k)"
    )
    assert first.endswith("no single identity is shown to differ from no system prompt.")
    assert answers[0].startswith("Yes: PB 9.00")
    assert answers[1].startswith(
        "Yes, but perhaps in the format of answers alone (median persona: 90% unreadable): PB"
    )
    assert "90% unreadable in gsm8k" in answers[2]
    assert answers[1].endswith(
        "[0.00, 20.00]; test and interval disagree: the interval includes 0."
    )
    assert answers[2].endswith("[1.00, 20.00].")  # not below the bound for one task
    assert "disagree" not in answers[0]


def test_headline_says_yes_or_undecided():
    scores = effects.simulate_scores([-16, 0, 0], n_items=300, seed=1)
    found = {}
    for name, rows in {"effect": scores, "none": scores[scores["persona"] != "p00"]}.items():
        bias = effects.personalization_bias(rows, n_permutations=199, n_bootstrap=99)
        rates = effects.rates(rows.assign(valid=True, truncated=False))
        table = verdicts.persona_effects(
            bias, effects.contrasts(rows), rates, effects.detectable(rows)
        )
        found[name] = table["answer"][0]
    assert re.match(
        r"Yes: a spread \(PB\) of \d\.\d\d \[.*\] points between identities \(p = 0.005,",
        found["effect"],
    )
    assert re.search(
        r"Farthest from no system prompt: p00 in mmlu, -\d+\.\d \[-.*, -.*\]"
        r" \(simultaneous interval\)\.$",
        found["effect"],
    )
    none = (
        r"Not told by these data: PB corrected for noise \d.* \[\d.*, \d.*\] points \(p = "
        r".*, one test, 300 items"
    )
    assert re.match(none, found["none"]) and "is not excluded" in found["none"]


def test_stage_that_halves_bias_is_named():
    effect = 6 * unit_effects(np.random.default_rng(0))
    scores = simulate_conditions(effect, 0 * effect, n_items=200, names=("sft", "tuned"))
    bias = effects.by_condition(
        effects.personalization_bias, scores, n_permutations=99, n_bootstrap=99
    )
    change = effects.paired_change(scores, {"tuned": "sft"}, n_bootstrap=99)
    answers = safety_utility.verdicts.origin(bias, change).set_index("question")["answer"]
    where = answers["In short"]
    assert where.startswith(
        "Not told by these data: there is bias in sft (n = 200 items); from sft to tuned it falls"
    )
    assert answers["Does the stage sft show a bias?"].startswith("Yes: joint PB")
    again = change.replace({"condition": {"tuned": "last"}, "compared_with": {"sft": "tuned"}})
    of_both = safety_utility.verdicts.origin(bias, pd.concat([change, again]))["answer"][0]
    assert ". From tuned to last it falls: " in of_both
    assert answers["How does bias change from sft to tuned?"].startswith("It falls: ")
    assert answers["How do scores change from sft to tuned?"].startswith("On 0 of 1 tasks")


def test_checks_that_were_not_run_are_left_out():
    grading = effects.contrasts(effects.simulate_scores([0], n_items=50)).assign(
        task="do_not_answer"
    )
    table = verdicts.persona_checks(grading=grading, heeding=None, carried=grading.head(0))
    assert table["question"].tolist() == [
        "Which traps of the released graders change the scores of these very answers?"
    ]
    assert table["answer"][0].startswith("None (0 of 2 after Holm's correction)")


def test_difference_that_rests_on_few_items_is_qualified():
    rng = np.random.default_rng(0)
    shift = 0.3 * np.arange(9).clip(max=1)[:, None] + 0.1 * rng.normal(size=(9, 40))
    missed = rng.lognormal(-7, 1.5, 40) * np.exp(shift)
    scores = validation.cases.scores_of(1 - missed)
    scores["persona"] = np.array(["none", *"abcdefgh"])[scores["persona"]]
    mass = effects.contrasts(scores)
    holds_0 = ((mass["simultaneous_low"] <= 0) & (mass["simultaneous_high"] >= 0)).sum()
    assert holds_0 and (mass["p_adjusted"] < 0.001).all()  # nearly every difference is below 0
    answer = verdicts.persona_checks(choice_mass=mass)["answer"][0]
    assert answer.startswith(
        f"8 of 8 after Holm's correction; the mean difference may still be 0 in {holds_0} of "
    )


def test_level_estimated_from_few_data_sets_is_not_called_nominal():
    rows = [
        ("a", "actual_error", 0.05, 0.001, 0.249, 20), ("a", "coverage", 0.95, 0.83, 0.994, 40),
        ("b", "actual_error", 0.05, 0.001, 0.2, 20), ("b", "coverage", 1.0, 0.83, 0.994, 40),
    ]  # fmt: skip
    table = pd.DataFrame(
        rows, columns=["estimator", "metric", "estimate", "ci_low", "ci_high", "n"]
    )
    together = validation.false_alarms(table)
    floors = effects.power(n_items=[100, 1000])
    best = effects.split_budget(300)
    naive = pd.DataFrame({"estimate": [0.9, 0.04]})
    answers = verdicts.instruments(table, together, naive, floors, best)["answer"]
    assert answers[0].startswith(
        "Yes, none of 2 tests is shown to be beyond the 5% level; together 5.0% [0.6%, 16.9%] of 40"
    )
    assert answers[0].endswith(
        "each test has only 20 of them: a level of up to 25% (a) is not excluded."
    )
    assert answers[1].startswith("Between 95% [83%, 99%] (a) and 100%")
    assert "40 data sets each" in answers[1]
    table.loc[0, "ci_low"] = 0.06
    broken = verdicts.instruments(table, together, naive, floors, best)["answer"][0]
    assert broken.startswith("No, all but a are within the 5% level")
    sentence = verdicts.describe("Levels", table, ["estimator", "metric"])
    assert sentence.startswith(
        "Levels. a, actual error: estimate 0.050 [0.060, 0.249]; a, coverage: estimate 0.950 ["
    )


def test_smaller_spread_at_a_cost_to_everybody_is_no_remedy():
    changes = {"ask": (-2, 0.01, 0), "cut": (-3, 0.01, -9), "none": (-1, 0.4, -9)}
    rows = [
        {"condition": name, "task": task, "metric": metric, "estimate": change, "n": 99,
         "ci_low": change - 1, "ci_high": change + 1, "p_adjusted": p, "family": "f (3 tests)"}
        for name, (pb, p, mean) in changes.items()
        for metric, task, change, p in (
            ("PB", "mmlu", pb, p), ("mean score", "utility", mean, 0.01),
            ("mean score", "safety", 9, 0.01),
        )
    ]  # fmt: skip

    def said(*tried, without=""):
        remedies = pd.DataFrame(rows).query("condition in @tried and task != @without")
        return verdicts.real_remedies(remedies)["answer"][0].partition(". ")[0]

    cost = "it is cut by serving everybody worse by cut"
    assert said("ask") == "PB is shown to fall by ask"
    assert said("ask", "cut") == f"PB is shown to fall by ask; {cost}"
    assert said("cut", "none") == f"None of 2 is shown to lower PB without loss; {cost}"
    assert said("none") == "None of 1 is shown to lower PB without loss"
    # Refusing everything gains only safety.
    unasked = "it falls by ask, but what it costs in utility was not asked"
    none = "None of 1 is shown to lower PB without loss"
    assert said("ask", without="utility") == f"{none}; {unasked}"
