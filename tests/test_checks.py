"""Additional checks of the notebook on personalization bias."""

import numpy as np
import pandas as pd

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
