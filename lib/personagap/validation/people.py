"""Validation of the alternative annotator test, prediction-powered means and the latent truth."""

from typing import Any

import numpy as np
import pandas as pd

from personagap import gap
from personagap.gap.simulate import in_long_form
from personagap.validation.cases import Case, covers
from personagap.validation.checks import Check

EPSILON = 0.1
QUICK: dict[str, Any] = {"n_bootstrap": 200}


def _judgments(labels: dict[str, np.ndarray], n_prompts: int = 21) -> pd.DataFrame:
    """Judgments from {rater: labels} (NaN: not judged), prompts in blocks, 40 users in rotation."""
    unit = np.arange(len(next(iter(labels.values()))))
    prompt = unit * n_prompts // len(unit)
    design = pd.DataFrame({"prompt": prompt, "user": unit % 40, "item": unit})
    return in_long_form(design, **labels).dropna(subset="label")


def _labels(rng: np.random.Generator, truth: np.ndarray, right: np.ndarray | float) -> np.ndarray:
    """Labels that equal the truth with probability ``right``."""
    return np.where(rng.random(len(truth)) < right, truth, ~truth)


# --- the alternative annotator test ---------------------------------------------------------------


def replaceable(
    rng: np.random.Generator, worse: np.ndarray | float, right: np.ndarray | float
) -> pd.DataFrame:
    """Three people, right with probability ``right``, and a judge with an advantage of −``worse``.

    The probability that the two others are both right exceeds that of both wrong by 2 right − 1;
    where they disagree, the unit is a tie.
    """
    # 21 prompts with 20 judgments each.
    truth = rng.random(420) < 0.4
    people = {f"human_{i}": _labels(rng, truth, right) for i in range(3)}
    return _judgments({**people, "judge": _labels(rng, truth, right - worse / (2 * right - 1))})


def _replacement_trial(rng: np.random.Generator, planted: bool) -> tuple:
    worse = 0.0 if planted else EPSILON
    table = gap.alternative_annotator_test(replaceable(rng, worse, 0.85), epsilon=EPSILON, **QUICK)
    return table.iloc[1], -worse


def _replacement_false_alarm(rng: np.random.Generator) -> bool:
    """Prompts differ in difficulty, and in whether the judge is as good as people or 2 ε worse."""
    prompt = np.arange(420) // 20
    worse = EPSILON * rng.choice([0.0, 2.0], 21)[prompt]
    judgments = replaceable(rng, worse, rng.uniform(0.75, 0.95, 21)[prompt])
    return gap.alternative_annotator_test(judgments, epsilon=EPSILON, **QUICK)["p_value"][1] <= 0.05


def _replacement_reference() -> tuple:
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


def _powered_row(judgments: pd.DataFrame, **how) -> pd.Series:
    # The third row, after people alone and the judge alone.
    return gap.prediction_powered_mean(judgments, "judge", **how).iloc[2]


def _partly_labelled(
    y: np.ndarray, f: np.ndarray, has_y: np.ndarray, n_prompts: int = 21
) -> pd.DataFrame:
    """Judgments with labels ``y`` of people on ``has_y`` units and ``f`` of the judge on all."""
    return _judgments({"human": np.where(has_y, y, np.nan), "judge": f}, n_prompts)


def _powered_reference() -> tuple:
    rng = np.random.default_rng(0)
    value = rng.normal(3, 1, 2000)
    f, y = value + 0.5 + rng.normal(0, 0.5, 2000), value + rng.normal(0, 0.3, 2000)
    has_y = np.arange(2000) % 4 == 0
    weight = np.cov(y[has_y], f[has_y])[0, 1] / ((1 + 1 / 3) * f.var())
    # Clustered by item, because the formula assumes independent units.
    judgments = _partly_labelled(y, f, has_y)
    ours = _powered_row(judgments, cluster="item", n_bootstrap=500)
    return ours["estimate"], y[has_y].mean() + weight * (f[~has_y].mean() - f[has_y].mean())


def _powered_trial(rng: np.random.Generator, planted: bool) -> tuple:
    """People rated a quarter of the units. Planted: the judge inflates ratings by 0.4."""
    ratings = gap.simulate_ratings(inflation=0.4 * planted, seed=rng)
    kept = (ratings["rater"] == "judge") | ratings["item"].isin(rng.permutation(168)[:42])
    return _powered_row(ratings[kept], **QUICK), 3.0


def _powered_covers(rng: np.random.Generator) -> bool:
    """Prompts differ in value and in the judge's bias; ten of 21 have ratings of people."""
    value, bias = (rng.normal(0, sd, 21)[np.arange(420) // 20] for sd in (0.5, 0.5))
    y = 3 + value + rng.normal(0, 0.7, 420)
    f = 0.6 * y + bias + rng.normal(0, 0.5, 420)
    # Whole prompts, so that the judge's bias is estimated from ten clusters only.
    has_y = np.isin(np.arange(420) // 20, rng.permutation(21)[:10])
    return covers(_powered_row(_partly_labelled(y, f, has_y), **QUICK), 3.0)


def _powered_rate_covers(rng: np.random.Generator) -> bool:
    """A rate of 5 %, a judge with three times that yes rate; a fifth of 1,000 units labelled."""
    y = rng.random(1000) < 0.05
    f = np.where(y, rng.random(1000) < 0.9, rng.random(1000) < 0.12)
    has_y = rng.random(1000) < 0.2
    return covers(_powered_row(_partly_labelled(y, f, has_y, 50), **QUICK), 0.05)


# --- latent truth ---------------------------------------------------------------------------------


def erring(rng: np.random.Generator, prevalence: np.ndarray | float, n: int = 840) -> pd.DataFrame:
    """Three people right in 85, 80 and 75 % and a judge right in 90 %, with independent errors."""
    truth = rng.random(n) < prevalence
    people = {f"human_{i}": _labels(rng, truth, right) for i, right in enumerate((0.85, 0.8, 0.75))}
    return _judgments({**people, "judge": _labels(rng, truth, 0.9)})


def _f1(prevalence: float) -> float:
    """Expected F1 of the judge."""
    return 2 * 0.9 * prevalence / (0.9 * prevalence + 0.1 * (1 - prevalence) + prevalence)


def _latent_trial(rng: np.random.Generator, _: bool) -> tuple:
    return _latent(erring(rng, 0.3)), _f1(0.3)


def _latent(judgments: pd.DataFrame) -> pd.Series:
    table = gap.latent_truth(judgments, **QUICK)
    return table.query("rater == 'judge' and truth == 'latent' and metric == 'f1'").iloc[0]


def _latent_covers(rng: np.random.Generator) -> bool:
    """Whether F1 is covered where prevalence differs by prompt, 5–55 %."""
    prevalence = rng.uniform(0.05, 0.55, 21)[np.arange(840) // 40]
    return covers(_latent(erring(rng, prevalence)), _f1(0.3))


def _latent_few_prompts_covers(rng: np.random.Generator) -> bool:
    """Whether F1 is covered where one of the three people judged six of 42 prompts."""
    judgments = erring(rng, rng.uniform(0.05, 0.55, 21)[np.arange(840) // 40])
    judgments["prompt"] = judgments["item"] // 20
    kept = (judgments["rater"] != "human_2") | (judgments["prompt"] < 6)
    return covers(_latent(judgments[kept]), _f1(0.3))


def _latent_reference() -> tuple:
    """Rates planted in a large sample; the Monte-Carlo error is about 0.01."""
    table = gap.latent_truth(erring(np.random.default_rng(0), 0.3, 40_000), n_bootstrap=20)
    rates = ["sensitivity", "specificity", "prevalence"]
    rows = table[table["metric"].isin(rates) & (table["truth"] == "latent")]
    return rows["estimate"], [0.3, 0.85, 0.85, 0.8, 0.8, 0.75, 0.75]


PEOPLE = [
    Check("alternative annotator test", "pandas, unit by unit", _replacement_reference,
          "as good, ε = 0.1", _replacement_trial),
    Check("prediction-powered mean", "PPI++, by hand", _powered_reference, trial=_powered_trial),
    Check("latent truth: F1", "planted rates, 40,000 units", _latent_reference,
          trial=_latent_trial),
]  # fmt: skip
UNEVEN_PEOPLE = [
    Case("alternative_annotator_test", "ε worse on average, by prompt 0 or 2 ε", "false alarm",
         _replacement_false_alarm),
    Case("prediction_powered_mean", "10 of 21 prompts labelled, the judge's error differs",
         "covered", _powered_covers),
    Case("prediction_powered_mean", "a rate of 5 %, a fifth of 1,000 labelled", "covered",
         _powered_rate_covers),
    Case("latent_truth, F1", "the share of yes differs by prompt", "covered", _latent_covers),
    # Before, the degrees of freedom were those of all prompts.
    Case("latent_truth, F1", "one of three people on 6 of 42 prompts",
         "covered, stated limit", _latent_few_prompts_covers, 0.81),
]  # fmt: skip
