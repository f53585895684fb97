"""Functions called by hand with an argument of another kind: a line that names it."""

import numpy as np
import pandas as pd
import pytest

from personagap import effects, gap, judges, personas, scores
from personagap.errors import UserError

SCORES = effects.simulate_scores([0, 5, 10], n_items=30)
LABELS = pd.DataFrame({"source": ["real"] * 2, "user": ["a", "b"], "label": ["x", "y"]})
CALLS = {
    "seed is -1": lambda: effects.personalization_bias(SCORES, seed=-1),
    "seed is 'x'": lambda: effects.omnibus(SCORES, seed="x"),
    "seed is 1.5": lambda: gap.simulate_ratings(seed=1.5),
    "control is": lambda: effects.contrasts(SCORES, control=["none"]),
    "control is .'none'.: give one": lambda: effects.watched_contrasts(SCORES, control=["none"]),
    "parts is .'p00'.: give a dict": lambda: effects.additivity(SCORES, ["p00"]),
    "comparisons is": lambda: effects.paired_change(SCORES.assign(condition="a"), ["a"]),
    "effects is": lambda: effects.simulate_scores([], n_items=5),
    "effects is nan": lambda: effects.simulate_scores(np.nan, n_items=5),
    "effects .could not convert": lambda: effects.simulate_scores(["a"], n_items=5),
    "n_items is 0": lambda: effects.simulate_scores([1], n_items=0),
    "replications is 0": lambda: effects.simulated_power([1], n_items=5, replications=0),
    "nothing to compare": lambda: effects.answer_flips(SCORES[SCORES["persona"] == "none"]),
    "spec is a DataFrame": lambda: judges.load_judge(SCORES),
    "labelled is None": lambda: judges.read_labelled(None),
    "labels is 'x'": lambda: gap.proportion_difference(LABELS, "x"),
    "epsilon is 5": lambda: gap.alternative_annotator_test(gap.simulate_ratings(), epsilon=5),
    "complete pairs of values": lambda: gap.exact_correlation(list("abc"), list("bcd")),
    "place is a DataFrame": lambda: scores.load(SCORES),
    "identities is 3": lambda: personas.select("all", identities=3),
}


@pytest.mark.parametrize("told", CALLS)
def test_an_argument_of_another_kind_is_named(told):
    with pytest.raises(UserError, match=told) as error:
        CALLS[told]()
    assert "\n" not in str(error.value)


def test_a_score_that_rounding_put_beyond_1_is_1():
    rounded = SCORES.assign(score=np.where(SCORES["score"] == 1, 1 + 1e-9, -1e-9))
    same = effects.contrasts(rounded, control="none")
    pd.testing.assert_frame_equal(same, effects.contrasts(SCORES, control="none"))
    with pytest.raises(UserError, match=r"1\.01 in row"):
        effects.contrasts(SCORES.assign(score=1.01), control="none")
