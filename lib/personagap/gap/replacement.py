"""May a model judge replace the people? The alternative annotator test."""

from numbers import Real
from typing import Literal, Unpack

import numpy as np
import pandas as pd
from scipy import special, stats

from personagap.errors import UserError, expect, one_of, shares
from personagap.gap.kappa import categories
from personagap.gap.resampling import How, Resampling, resample
from personagap.gap.tables import people_and_models
from personagap.limits import student
from personagap.results import result


def alternative_annotator_test(
    judgments: pd.DataFrame,
    *,
    epsilon: float = 0.1,
    measurement: Literal["nominal", "interval"] = "nominal",
    alpha: float = 0.05,
    **how: Unpack[How],
) -> pd.DataFrame:
    """Does a model stand for the people at least as well as one of them would?

    Each person is left out in turn; on every unit the model and that person are held against the
    remaining people, and whoever is closer to them wins it (a tie is won by both). Calderon,
    Reichart & Dror 2025 (arXiv 2501.10970, §3): the model's advantage probability ρᶠ against that
    person's ρʰ, H₀: ρᶠ ≤ ρʰ − ε, corrected over people by Benjamini & Yekutieli; the winning rate ω
    is the share of people for whom H₀ is rejected, and a model with ω ≥ 0.5 passes.

    Parameters
    ----------
    judgments : long table ``user prompt item rater rater_kind label`` of two or more people (three
        are better) and one model or more. A majority vote is nobody who could be left out.
    epsilon : what people may be better by, for they cost more: 0.2 for experts, 0.15 for trained
        annotators, 0.1 for crowd workers (the paper's rule of thumb).
    measurement : "nominal" labels (closeness is the share of the others who gave the same) or
        "interval" ratings (closeness is minus the root mean square of the distances).
    alpha : level of the tests and of the winning rate; not of the intervals, that is ``level`` of
        **how.

    Returns
    -------
    DataFrame ``rater annotator metric …``. For each model and person: "advantage probability" ρᶠ,
    and "advantage" ρᶠ − ρʰ with the p-value of H₀. For each model and "all": "winning rate" and
    "mean advantage probability".

    Raises
    ------
    UserError : fewer than two people, as where only their majority is stored; no model; nothing
        that they share.

    Notes
    -----
    The paper's t test takes units for independent; here prompts and users are resampled
    (`gap.How`), and two pseudo-clusters as large as the largest seen, one for and one against, keep
    it honest where hardly any unit is decided (Bonett & Price 2012).

    Examples
    --------
    >>> from personagap.gap import simulate_ratings
    >>> ratings = simulate_ratings()  # of three people and a judge that is as good
    >>> table = alternative_annotator_test(ratings, measurement="interval", n_bootstrap=200)
    >>> table[["annotator", "metric", "estimate", "p_adjusted"]].round(3).iloc[1::2]
      annotator                      metric  estimate  p_adjusted
    1   human_0                   advantage     0.202       0.007
    3   human_1                   advantage     0.167       0.019
    5   human_2                   advantage     0.286       0.005
    7       all  mean advantage probability     0.609         NaN
    """
    one_of(["nominal", "interval"], "unknown measurement", measurement)
    shares(alpha=alpha)
    good = isinstance(epsilon, Real) and 0 <= epsilon < 1
    expect(good, "a share of at least 0 and below 1", epsilon=epsilon)
    # One person is left out, and somebody must be left whom the model and that person can be held
    # against.
    wide, humans, models = people_and_models(judgments, "the alternative annotator test", 2)
    if not models:
        raise UserError("no judgments of rater_kind 'model' to compare with the people")
    if measurement == "nominal":
        # Where no two labels are the same every unit is a tie, and any model would pass.
        said = wide[[*humans, *models]].melt()["value"].nunique()
        categories(said, "the alternative annotator test", "measurement='interval'")
    labels, drawn = wide[humans].to_numpy(), resample(wide.index, **how)
    rows = []
    for model in models:
        x, tests, wins = wide[model].to_numpy(), [], []
        for j, name in enumerate(humans):
            others = np.delete(labels, j, axis=1)
            model_wins, person_wins, usable = _won(x, labels[:, j], others, measurement)
            if not usable.any():
                raise UserError(
                    f"{model!r} and {name!r} share no unit with another person: leave one of "
                    "them out"
                )
            key = {"rater": model, "annotator": name, "n": int(usable.sum())}
            share = drawn.ratio(model_wins, where=usable)
            found = drawn.row(share, 0, 1, drawn.clusters(usable))
            rows.append(key | {"metric": "advantage probability", **found})
            tests.append(key | _advantage(model_wins - person_wins, usable, drawn, epsilon))
            rows.append(tests[-1])
            wins.append(share)
        # Benjamini & Yekutieli's, since tests that share the model and most people go together.
        p_values = [test["p_value"] for test in tests]
        adjusted = stats.false_discovery_control(p_values, method="by")
        family = f"{len(humans)} people, Benjamini–Yekutieli"
        for test, p_adjusted in zip(tests, adjusted, strict=True):
            test |= {"p_adjusted": p_adjusted, "family": family}
        every = {"rater": model, "annotator": "all", "n": len(humans)}
        # Without an interval: it counts decisions, of which there are as many as people.
        rate = f"share of people whom the model is as good as, ε = {epsilon}; it passes from 0.5"
        passed = {"metric": "winning rate", "estimate": float(np.mean(adjusted <= alpha))}
        rows.append(every | passed | {"method": rate})
        mean = drawn.row(np.mean(wins, axis=0), 0, 1)
        rows.append(every | {"metric": "mean advantage probability", **mean})
    same = {"unit": "share", "method": drawn.method}
    return result([same | row for row in rows], ["rater", "annotator"])


def _won(
    x: np.ndarray, own: np.ndarray, others: np.ndarray, measurement: str
) -> tuple[np.ndarray, ...]:
    """Units (n,) that the model wins and the person wins (ties both), and those that all judged."""
    usable = np.isfinite(x + own) & np.isfinite(others).any(axis=1)
    scores = []
    for label in (x, own):
        apart = np.abs(others - label[:, None])
        cost = (apart > 0) if measurement == "nominal" else apart**2
        scores.append(-np.nanmean(np.where(np.isfinite(apart), cost, np.nan)[usable], axis=1))
    model_wins, person_wins = np.zeros(len(x)), np.zeros(len(x))
    # Rounded, or equal closeness would be decided by the last bit.
    difference = (scores[0] - scores[1]).round(9)
    model_wins[usable], person_wins[usable] = difference >= 0, difference <= 0
    return model_wins, person_wins, usable


def _advantage(d: np.ndarray, usable: np.ndarray, drawn: Resampling, epsilon: float) -> dict:
    """ρᶠ − ρʰ, its interval, and p of the null that it is −ε or less."""
    values = drawn.ratio(d, where=usable)
    code = drawn.codes[int(drawn.sizes.argmin())][drawn.cell[usable]]
    # With few labels most units are ties, won by both: were all so, the error would be 0 without.
    largest = max(np.abs(np.bincount(code, weights=d[usable])).max(), 1.0) / usable.sum()
    error = np.hypot(drawn.standard_error(values), 2**0.5 * largest)
    low, high = student(values[0], error, drawn.df, drawn.level, -1, 1)
    p_value = float(special.stdtr(drawn.df, -(values[0] + epsilon) / error))
    found = {"metric": "advantage", "estimate": values[0], "ci_low": low, "ci_high": high}
    return found | {"p_value": p_value}
