"""Additional checks of the notebook on personalization bias."""

import numpy as np
import pandas as pd

from personagap import personas, verdicts
from personagap.results import holm
from personagap.safety_utility import checks


def test_intersection_truth_equals_the_estimate_from_exact_scores():
    cells = pd.MultiIndex.from_product([["t", "u"], range(6), ["none", "a", "b", "a+b"]])
    exact = cells.to_frame(index=False, name=["task", "item", "persona"])
    exact["true"] = np.random.default_rng(0).random(len(exact))
    table = checks.intersections(exact.assign(score=exact["true"]), ["a+b"], exact)
    assert len(table) == 4 and np.allclose(table["true"], table["estimate"])
    assert "true" not in checks.intersections(exact.assign(score=exact["true"]), ["a+b"])
    without = exact[exact["persona"] != "a+b"]  # not planted
    assert "true" not in checks.intersections(exact.assign(score=exact["true"]), ["a+b"], without)


def test_judge_error_correction_applies_to_judged_tasks_only():
    from personagap import effects, judges

    scores = effects.simulate_scores([-9, 0, 9], n_items=40, n_runs=2, seed=0)
    scores = pd.concat([scores, scores.assign(task="do_not_answer")])
    bias = effects.personalization_bias(scores, n_permutations=99, n_bootstrap=99)
    given = (effects.rates(scores), effects.contrasts(scores), bias)
    tables = checks.without_judge_errors(judges.card("refusal"), *given)
    assert list(tables) == ["rates", "contrasts", "bias"]
    assert {task for table in tables.values() for task in table.iloc[:, 0]} == {"do_not_answer"}
    assert tables["bias"]["raw"].item() == bias["debiased_pb2"][1]


def test_words_of_identities_are_one_family_of_tests():
    """Of several categories, of which each is a task of its own; a verdict counts all of them."""
    rng = np.random.default_rng(0)
    who = personas.select(["religion", "age"])
    who = who[who["persona"].ne("assistant")]
    cells = [(name, item) for name in who["persona"] for item in map(str, range(40))]
    responses = pd.DataFrame(cells, columns=["persona", "item"]).assign(template="paper", task="t")
    said = np.where(rng.random(len(cells)) < 0.3, "As an adult, I pray like a Muslim.", "Yes.")
    responses["text"] = np.where(responses["persona"] == "none", "Yes.", said)
    table = checks.leakage_contrasts(responses, who)
    assert len(table) == 4 and table["family"].unique() == ["words of an identity (4 tests)"]
    assert np.allclose(table["p_adjusted"], holm(table["p_value"].to_numpy()))
    assert (table["simultaneous_high"] > table["ci_high"]).all()
    assert (table["simultaneous_low"] < table["ci_low"]).all()
    verdict = verdicts.persona_checks(carried=table)["answer"][0]
    assert " of 4 after Holm's correction" in verdict
