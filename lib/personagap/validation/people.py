"""How statistics of judges in place of people, beside people and above them are validated."""

from typing import Any

import numpy as np
import pandas as pd

from personagap import gap
from personagap.gap.simulate import in_long_form
from personagap.validation.cases import Case, covers
from personagap.validation.checks import Check

EPSILON = 0.1
QUICK: dict[str, Any] = {"n_bootstrap": 200}


def _long(labels: dict[str, np.ndarray], n_prompts: int = 21) -> pd.DataFrame:
    """Judgments from {rater: labels}, NaN = not judged: prompts in blocks, 40 users in rotation."""
    unit = np.arange(len(next(iter(labels.values()))))
    prompt = unit * n_prompts // len(unit)
    design = pd.DataFrame({"prompt": prompt, "user": unit % 40, "item": unit})
    return in_long_form(design, **labels).dropna(subset="label")


def _said(rng: np.random.Generator, truth: np.ndarray, right: np.ndarray | float) -> np.ndarray:
    return np.where(rng.random(len(truth)) < right, truth, ~truth)


# --- the alternative annotator test ---------------------------------------------------------------


def replaceable(
    rng: np.random.Generator, worse: np.ndarray | float, right: np.ndarray | float
) -> pd.DataFrame:
    """Three people, right with probability ``right``, and a judge whose advantage is −``worse`` of
    each.

    Of two others both are right or both wrong with a difference of 2 right − 1; a tie is nobody's.
    """
    # As many as 21 prompts of 20 judgments each.
    truth = rng.random(420) < 0.4
    people = {f"human_{i}": _said(rng, truth, right) for i in range(3)}
    return _long({**people, "judge": _said(rng, truth, right - worse / (2 * right - 1))})


def _replacement_trial(rng: np.random.Generator, planted: bool) -> tuple:
    worse = 0.0 if planted else EPSILON
    table = gap.alternative_annotator_test(replaceable(rng, worse, 0.85), epsilon=EPSILON, **QUICK)
    return table.iloc[1], -worse


def _replacement_alarm(rng: np.random.Generator) -> bool:
    """Prompts differ in how hard they are, and in whether the judge is as good there as people, or
    twice as bad.
    """
    prompt = np.arange(420) // 20
    worse = EPSILON * rng.choice([0.0, 2.0], 21)[prompt]
    judgments = replaceable(rng, worse, rng.uniform(0.75, 0.95, 21)[prompt])
    return gap.alternative_annotator_test(judgments, epsilon=EPSILON, **QUICK)["p_value"][1] <= 0.05


def _replacement() -> tuple:
    judgments = replaceable(np.random.default_rng(0), 0.05, 0.85)
    wide = judgments.pivot(index="item", columns="rater", values="label")
    theirs = []
    for name in ("human_0", "human_1", "human_2"):
        others = wide.drop(columns=[name, "judge"])
        judge, person = (others.eq(wide[rater], axis=0).mean(axis=1) for rater in ("judge", name))
        theirs += [(judge >= person).mean(), (judge >= person).mean() - (person >= judge).mean()]
    ours = gap.alternative_annotator_test(judgments, n_bootstrap=20)
    return ours.query("annotator != 'all'")["estimate"], theirs


# --- prediction-powered means ---------------------------------------------------------------------


def _powered(judgments: pd.DataFrame, **how) -> pd.Series:
    # After people alone and the judge alone.
    return gap.prediction_powered_mean(judgments, "judge", **how).iloc[2]


def _partly_judged(
    y: np.ndarray, f: np.ndarray, known: np.ndarray, n_prompts: int = 21
) -> pd.DataFrame:
    """People's labels ``y`` of the units ``known``, the judge's ``f`` of all."""
    return _long({"human": np.where(known, y, np.nan), "judge": f}, n_prompts)


def _powered_reference() -> tuple:
    rng = np.random.default_rng(0)
    value = rng.normal(3, 1, 2000)
    f, y = value + 0.5 + rng.normal(0, 0.5, 2000), value + rng.normal(0, 0.3, 2000)
    known = np.arange(2000) % 4 == 0
    best = np.cov(y[known], f[known])[0, 1] / ((1 + 1 / 3) * f.var())
    # By item, for the formula takes units for independent.
    judgments = _partly_judged(y, f, known)
    ours = _powered(judgments, cluster="item", n_bootstrap=500)
    return ours["estimate"], y[known].mean() + best * (f[~known].mean() - f[known].mean())


def _powered_trial(rng: np.random.Generator, planted: bool) -> tuple:
    """A quarter of the units have people's ratings; planted: the judge inflates by 0.4."""
    ratings = gap.simulate_ratings(inflation=0.4 * planted, seed=rng)
    kept = (ratings["rater"] == "judge") | ratings["item"].isin(rng.permutation(168)[:42])
    return _powered(ratings[kept], **QUICK), 3.0


def _powered_covers(rng: np.random.Generator) -> bool:
    """Prompts differ in value, and in how wrong the judge is; ten of 21 have people's ratings."""
    value, bias = (rng.normal(0, sd, 21)[np.arange(420) // 20] for sd in (0.5, 0.5))
    y = 3 + value + rng.normal(0, 0.7, 420)
    f = 0.6 * y + bias + rng.normal(0, 0.5, 420)
    # Whole prompts, so that only ten clusters tell how wrong the judge is.
    known = np.isin(np.arange(420) // 20, rng.permutation(21)[:10])
    return covers(_powered(_partly_judged(y, f, known), **QUICK), 3.0)


def _powered_rate_covers(rng: np.random.Generator) -> bool:
    """A rate of 5 %, a judge that says yes three times as often; a fifth of 1,000 labelled."""
    y = rng.random(1000) < 0.05
    f = np.where(y, rng.random(1000) < 0.9, rng.random(1000) < 0.12)
    known = rng.random(1000) < 0.2
    return covers(_powered(_partly_judged(y, f, known, 50), **QUICK), 0.05)


# --- latent truth ---------------------------------------------------------------------------------


def erring(rng: np.random.Generator, prevalence: np.ndarray | float, n: int = 840) -> pd.DataFrame:
    """Three people right in 85, 80 and 75 %, and a judge right in 90 %, each by themselves."""
    truth = rng.random(n) < prevalence
    people = {f"human_{i}": _said(rng, truth, right) for i, right in enumerate((0.85, 0.8, 0.75))}
    return _long({**people, "judge": _said(rng, truth, 0.9)})


def _f1(prevalence: float) -> float:
    return 2 * 0.9 * prevalence / (0.9 * prevalence + 0.1 * (1 - prevalence) + prevalence)


def _latent_trial(rng: np.random.Generator, _: bool) -> tuple:
    return _latent(erring(rng, 0.3)), _f1(0.3)


def _latent(judgments: pd.DataFrame) -> pd.Series:
    table = gap.latent_truth(judgments, **QUICK)
    return table.query("rater == 'judge' and truth == 'latent' and metric == 'f1'").iloc[0]


def _latent_covers(rng: np.random.Generator) -> bool:
    """The share of yes differs by prompt, 5–55 %."""
    return covers(_latent(erring(rng, rng.uniform(0.05, 0.55, 21)[np.arange(840) // 40])), _f1(0.3))


def _latent_reference() -> tuple:
    """Expected rates of the data, in large; Monte-Carlo error about 0.01."""
    table = gap.latent_truth(erring(np.random.default_rng(0), 0.3, 40_000), n_bootstrap=20)
    rates = ["sensitivity", "specificity", "prevalence"]
    found = table[table["metric"].isin(rates) & (table["truth"] == "latent")]
    return found["estimate"], [0.3, 0.85, 0.85, 0.8, 0.8, 0.75, 0.75]


PEOPLE = [
    Check("alternative annotator test", "pandas, unit by unit", _replacement, "as good, ε = 0.1",
          _replacement_trial),
    Check("prediction-powered mean", "PPI++, by hand", _powered_reference, trial=_powered_trial),
    Check("latent truth: F1", "planted rates, 40,000 units", _latent_reference,
          trial=_latent_trial),
]  # fmt: skip
UNEVEN_PEOPLE = [
    Case("alternative_annotator_test", "ε worse on average, by prompt 0 or 2 ε", "false alarm",
         _replacement_alarm),
    Case("prediction_powered_mean", "10 of 21 prompts labelled, the judge's error differs",
         "covered", _powered_covers),
    Case("prediction_powered_mean", "a rate of 5 %, a fifth of 1,000 labelled", "covered",
         _powered_rate_covers),
    Case("latent_truth, F1", "the share of yes differs by prompt", "covered", _latent_covers),
]  # fmt: skip
