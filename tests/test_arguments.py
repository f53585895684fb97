"""Functions called by hand with an argument of the wrong type raise a one-line error that names
it.
"""

import pickle

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest

from personagap import effects, gap, judges, personas, scores
from personagap.errors import UserError
from personagap.gap.tables import MAJORITY
from personagap.personalllm import users

SCORES = effects.simulate_scores([0, 5, 10], n_items=30)
LABELS = pd.DataFrame({"source": ["real"] * 2, "user": ["a", "b"], "label": ["x", "y"]})
RATINGS = gap.simulate_ratings()
REWARDS = np.random.default_rng(0).normal(size=(9, 8, 3))
CHANGE = pd.concat(SCORES.assign(condition=name) for name in "ab")
CARD = pd.DataFrame({"by": "all", "group": "all", "estimate": 0.9, "n": 100,
                     "metric": ["sensitivity", "specificity"]})  # fmt: skip
NUMBERED = SCORES.assign(persona=SCORES["persona"].cat.codes)
CALLS = {
    "seed is -1": lambda: effects.personalization_bias(SCORES, seed=-1),
    "seed is 'x'": lambda: effects.omnibus(SCORES, seed="x"),
    "seed is 1.5": lambda: gap.simulate_ratings(seed=1.5),
    "control is": lambda: effects.contrasts(SCORES, control=["none"]),
    "control is .'none'.: give one": lambda: effects.sequential_contrasts(SCORES, control=["none"]),
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
    "heterogeneity: rewards is None: give ndarray": lambda: users.heterogeneity(
        None, {"alpha": 1, "n_users": 5, "seed": 0}
    ),
    "'n_user': 5, .*: give a dictionary of alpha, n_users": lambda: users.heterogeneity(
        REWARDS, {"alpha": 1, "n_user": 5, "seed": 0}
    ),
    "dependence: varied is .*list.Population": lambda: users.dependence(REWARDS, {"alpha": {}}),
    "by is None: give one column": lambda: gap.means(LABELS, "label", None),
    "means: by is 'user': give list.str.": lambda: gap.means(LABELS, "label", "user"),
    "means: how is .'clster.*dictionary of cluster": lambda: gap.means(
        LABELS, "label", ["user"], clster="user"
    ),
    "no column 3 in the judgments": lambda: gap.means(LABELS, "label", ["user"], cluster=3),
    "answer_flips: personas is 'p00'": lambda: effects.answer_flips(SCORES, personas="p00"),
    "contrasts: .*unexpected.*'contrl': it takes scores": lambda: effects.contrasts(
        SCORES, contrl="none"
    ),
    "power: .*'n_run': it takes components": lambda: effects.items_needed(contrast=5, n_run=3),
    "n_runs is .1, 2.: give one number": lambda: effects.items_needed(contrast=5, n_runs=[1, 2]),
    "no scores of 9; there are 0, 1": lambda: effects.contrasts(NUMBERED, control=9),
    r"by.'p00'. is nan": lambda: effects.contrasts(SCORES, by={"p00": np.nan}),
    "components is a dict|'run': nan.: give finite": lambda: effects.power(
        {"run": np.nan}, n_items=9
    ),
    "no rater to be gold 'x': choose from human_m": lambda: gap.agreement(
        gap.simulate_relevance(), gold="x"
    ),
    "rater_kind 'Human': choose from human": lambda: gap.judge_inflation(
        RATINGS.assign(rater_kind="Human")
    ),
    "has no 'mention'": lambda: gap.mention_bias(
        RATINGS.assign(mention=RATINGS["mention"].astype(object).mask(RATINGS.index == 7))
    ),
    "labels other than 0 and 1": lambda: gap.majority_bias(
        RATINGS[RATINGS["rater_kind"] == "human"]
    ),
    "row 1 without a usable label": lambda: gap.proportion_difference(
        LABELS.assign(label=["x", None]), ["x"]
    ),
}


def odd(table, column, *values):
    """The table with these values in the first rows of a column."""
    column_values = table[column].astype(object).tolist()
    column_values[: len(values)] = values
    return table.assign(**{column: pd.Series(column_values, table.index, dtype=object)})


RATES = effects.rates(SCORES)
BIAS = pd.DataFrame({"dimension": ["mmlu"], "debiased_pb2": 1.0, "ci_low": 0.5, "ci_high": 2.0})
LEVELS = RATINGS.set_index(["prompt"], drop=False)
CALLS |= {
    "scores: column 'persona', row 1: a list, not one value": lambda: effects.contrasts(
        odd(SCORES, "persona", "none", ["a"])
    ),
    "scores: column 'valid', row 0: the text 'perhaps', not a number": lambda: effects.rates(
        odd(SCORES, "valid", "perhaps")
    ),
    "scores: column 'score', row 0: a number beyond all floats": lambda: effects.omnibus(
        odd(SCORES, "score", 10**400)
    ),
    "bias: column 'ci_low', row 0: the text 'x', not a number": lambda: effects.pb_corrected(
        BIAS.assign(ci_low="x", n_items=9)
    ),
    "judgments: 'prompt' is a column and a level": lambda: gap.judge_correlation(LEVELS),
    "judgments: column 'rater', row 0: missing": lambda: gap.prediction_powered_mean(
        odd(gap.simulate_relevance(), "rater", None), "a"
    ),
    "n_permutations is 10{30}: give a smaller": lambda: effects.omnibus(
        SCORES, n_permutations=10**30
    ),
    "n_bootstrap is a Series: give a whole number": lambda: effects.personalization_bias(
        SCORES, n_bootstrap=RATES["n"]
    ),
    "results lack the column 'method'": lambda: effects.judge_corrected(
        RATES.drop(columns="method"), CARD
    ),
    "bias: column 'ci_low' is categorical": lambda: effects.pb_corrected(
        BIAS.assign(n_items=9).astype({"ci_low": "category"})
    ),
    "difficulty is .1.0,.: give tuple.float, float": lambda: effects.simulate_scores(
        [1], n_items=5, difficulty=(1.0,)
    ),
    "card has two rows of one group": lambda: effects.judge_corrected(
        RATES, pd.concat([CARD, CARD])
    ),
    "card has a share outside": lambda: effects.judge_corrected(RATES, CARD.assign(estimate=90)),
    "card has no model with both": lambda: effects.judge_corrected(RATES, CARD.head(0)),
}
# Ambiguous weights, and results that judge errors do not scale linearly.
for one in (["p00", "p00"], ["p00", "p02"], ["p00", "none"]):
    CALLS[f"parts.'p02'. is .'{one[0]}', '{one[1]}'"] = lambda one=one: effects.additivity(
        SCORES, {"p02": one}
    )
RESULTS = {
    "changes": lambda: effects.paired_change(CHANGE, {"b": "a"}, n_bootstrap=20),
    "equivalence": lambda: effects.equivalence(SCORES, margin=5),
}


@pytest.mark.parametrize("results", RESULTS)
def test_judge_correction_refuses_other_kinds_of_results(results):
    with pytest.raises(UserError, match=r"give the table of effects\.rates"):
        effects.judge_corrected(RESULTS[results](), CARD)


def test_internal_error_is_not_reported_as_a_user_error(monkeypatch):
    def broken(*_):
        raise ZeroDivisionError

    monkeypatch.setattr("personagap.effects.bias.inverted_interval", broken)
    with pytest.raises(ZeroDivisionError):
        effects.personalization_bias(SCORES, n_permutations=20, n_bootstrap=20)


def test_error_of_memory_says_what_to_reduce(monkeypatch):
    def broken(*_):
        raise MemoryError("Unable to allocate 7 TiB")

    monkeypatch.setattr("personagap.effects.bias.inverted_interval", broken)
    with pytest.raises(UserError, match=r"out of memory \(Unable to allocate 7 TiB\): give fewer"):
        effects.personalization_bias(SCORES, n_permutations=20, n_bootstrap=20)


def test_checked_functions_can_be_pickled():
    assert pickle.loads(pickle.dumps(effects.contrasts)) is effects.contrasts


@pytest.mark.parametrize("message", CALLS)
def test_argument_of_the_wrong_type_is_named(message):
    with pytest.raises(UserError, match=message) as error:
        CALLS[message]()
    assert "\n" not in str(error.value)


def test_score_rounded_above_1_is_1():
    rounded = SCORES.assign(score=np.where(SCORES["score"] == 1, 1 + 1e-9, -1e-9))
    same = effects.contrasts(rounded, control="none")
    pd.testing.assert_frame_equal(same, effects.contrasts(SCORES, control="none"))
    with pytest.raises(UserError, match=r"1\.01 in row"):
        effects.contrasts(SCORES.assign(score=1.01), control="none")


DICTIONARY = pd.ArrowDtype(pa.dictionary(pa.int32(), pa.string()))


@pytest.mark.parametrize("kind", ["category", DICTIONARY, "string[pyarrow]"])
def test_names_may_have_any_string_type(kind):
    two = pd.concat([SCORES, SCORES.assign(task="b", item=SCORES["item"] + 100)])
    names = ["persona", "task", "item"]
    plain = two.astype(dict.fromkeys(names, str))
    for statistic in (effects.contrasts, effects.omnibus, effects.answer_flips):
        if statistic is effects.answer_flips:
            plain = pd.concat([plain, plain.assign(run=1)])
        # Dropped rows leave their names in an Arrow dictionary.
        found = statistic(plain.astype(dict.fromkeys(names, kind)))
        pd.testing.assert_frame_equal(
            found, statistic(plain), check_dtype=False, check_categorical=False
        )
    ratings = pd.concat([RATINGS, RATINGS.query("rater == 'judge'").assign(rater=MAJORITY)])
    names = ["prompt", "user", "rater", "rater_kind"]
    plain = ratings.assign(length=ratings["item"]).astype(dict.fromkeys(names, str))
    for of, how in ((gap.judge_inflation, {}), (gap.rating_effects, {"covariates": ["length"]})):
        found = of(plain.astype(dict.fromkeys(names, kind)), n_bootstrap=20, **how)
        pd.testing.assert_frame_equal(
            found, of(plain, n_bootstrap=20, **how), check_dtype=False, check_categorical=False
        )


@pytest.mark.parametrize("kind", [bool, object, "boolean", "bool[pyarrow]", "int8[pyarrow]"])
def test_shares_may_have_any_numeric_type(kind):
    hits = pd.DataFrame(
        {"step": list("xxy") * 4, "user": list("abcd") * 3, "hit": [1, 0, 0, 1] * 3}
    )
    found = gap.means(hits.astype({"hit": kind}), "hit", ["step"], cluster="user")
    pd.testing.assert_frame_equal(found, gap.means(hits, "hit", ["step"], cluster="user"))


def test_missing_group_is_a_group_of_its_own():
    hits = pd.DataFrame({"step": ["x", None] * 6, "user": list("abcdef") * 2, "hit": [1, 0, 0] * 4})
    found = gap.means(hits, "hit", ["step"], cluster="user")
    assert found["step"].isna().tolist() == [False, True] and found["n"].tolist() == [6, 6]
