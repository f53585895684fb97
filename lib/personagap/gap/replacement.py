"""The alternative annotator test: whether a model judge can replace human annotators."""

from numbers import Real
from typing import Literal, Unpack

import numpy as np
import pandas as pd
from scipy import special, stats

from personagap.errors import UserError, expect, require_fraction, require_one_of
from personagap.gap.kappa import require_few_labels
from personagap.gap.resampling import How, Resampling, resample
from personagap.gap.tables import people_and_models
from personagap.limits import t_interval
from personagap.results import result


def alternative_annotator_test(
    judgments: pd.DataFrame,
    *,
    epsilon: float = 0.1,
    measurement: Literal["nominal", "interval"] = "nominal",
    alpha: float = 0.05,
    **how: Unpack[How],
) -> pd.DataFrame:
    """Test whether a model represents the people at least as well as one of them does.

    Each person is left out in turn. On every unit the model and that person are compared with the
    remaining people, and whoever is closer to them wins (a tie is a win for both). Following
    Calderon, Reichart & Dror 2025 (arXiv 2501.10970, §3), the advantage probability ρᶠ of the model
    is tested against ρʰ of the person, H₀: ρᶠ ≤ ρʰ − ε, with Benjamini & Yekutieli's correction
    over people. The winning rate ω is the share of people for whom H₀ is rejected, and a model with
    ω ≥ 0.5 passes.

    Parameters
    ----------
    judgments : long table ``user prompt item rater rater_kind label`` of at least two people
        (preferably three) and one model. The majority vote does not count as a person.
    epsilon : margin by which people may be better, because they cost more: 0.2 for experts, 0.15
        for trained annotators, 0.1 for crowd workers (the paper's rule of thumb).
    measurement : "nominal" labels (closeness is the share of the others with the same label) or
        "interval" ratings (closeness is minus the root mean square of the distances).
    alpha : level of the tests and of the winning rate; that of the intervals is ``level``.
    **how : ``cluster``, ``n_bootstrap``, ``level`` and ``seed`` of the intervals, see ``gap.How``.

    Returns
    -------
    DataFrame ``rater annotator metric …``. For each model and person: "advantage probability" ρᶠ,
    and "advantage" ρᶠ − ρʰ with the p-value of H₀. For each model and "all": "winning rate" and
    "mean advantage probability".

    Raises
    ------
    UserError : fewer than two people, for example where only their majority is stored; no model; or
        no shared units.

    Notes
    -----
    The t test of the paper assumes independent units; here prompts and users are resampled
    (`gap.How`). Two pseudo-clusters, one in favour and one against, as large as the largest
    observed, keep the level where hardly any unit is decided (Bonett & Price 2012).

    Examples
    --------
    >>> from personagap.gap import simulate_ratings
    >>> ratings = simulate_ratings()  # of three people and a judge that is as good
    >>> table = alternative_annotator_test(ratings, measurement="interval", n_bootstrap=200)
    >>> table[["annotator", "metric", "estimate", "p_adjusted"]].round(3).iloc[1::2]
      annotator                      metric  estimate  p_adjusted
    1   human_0                   advantage     0.202       0.007
    3   human_1                   advantage     0.167       0.020
    5   human_2                   advantage     0.286       0.005
    7       all  mean advantage probability     0.609         NaN
    """
    require_one_of(["nominal", "interval"], "unknown measurement", measurement)
    require_fraction(alpha=alpha)
    valid = isinstance(epsilon, Real) and 0 <= epsilon < 1
    expect(valid, "a share of at least 0 and below 1", epsilon=epsilon)
    # Two people: one is left out, and another must remain to compare the model and the first with.
    wide, humans, models = people_and_models(judgments, "the alternative annotator test", 2)
    if not models:
        raise UserError("no judgments of rater_kind 'model' to compare with the people")
    if measurement == "nominal":
        # If no two labels are the same, every unit is a tie and any model passes.
        n_labels = wide[[*humans, *models]].melt()["value"].nunique()
        require_few_labels(n_labels, "the alternative annotator test", "measurement='interval'")
    labels, boot = wide[humans].to_numpy(), resample(wide.index, **how)
    rows = []
    for model in models:
        x, tests, advantage_probabilities = wide[model].to_numpy(), [], []
        for j, name in enumerate(humans):
            others = np.delete(labels, j, axis=1)
            model_wins, person_wins, usable = _won(x, labels[:, j], others, measurement)
            if not usable.any():
                raise UserError(
                    f"{model!r} and {name!r} share no unit with another person: leave one of "
                    "them out"
                )
            key = {"rater": model, "annotator": name, "n": int(usable.sum())}
            share = boot.ratio(model_wins, where=usable)
            limits = boot.row(share, 0, 1, usable, share=True)
            rows.append(key | {"metric": "advantage probability", **limits})
            tests.append(key | _advantage_row(model_wins - person_wins, usable, boot, epsilon))
            rows.append(tests[-1])
            advantage_probabilities.append(share)
        # Benjamini & Yekutieli's correction, as the tests share the model and most of the people.
        p_values = [test["p_value"] for test in tests]
        adjusted = stats.false_discovery_control(p_values, method="by")
        family = f"{len(humans)} people, Benjamini–Yekutieli"
        for test, p_adjusted in zip(tests, adjusted, strict=True):
            test |= {"p_adjusted": p_adjusted, "family": family}
        summary = {"rater": model, "annotator": "all", "n": len(humans)}
        # Without an interval, because it counts decisions, one per person.
        rate = f"share of people whom the model is as good as, ε = {epsilon}; it passes from 0.5"
        passed = {"metric": "winning rate", "estimate": float(np.mean(adjusted <= alpha))}
        rows.append(summary | passed | {"method": rate})
        mean = boot.row(np.mean(advantage_probabilities, axis=0), 0, 1)
        rows.append(summary | {"metric": "mean advantage probability", **mean})
    constants = {"unit": "share", "method": boot.method}
    return result([constants | row for row in rows], ["rater", "annotator"])


def _won(
    x: np.ndarray, person: np.ndarray, others: np.ndarray, measurement: str
) -> tuple[np.ndarray, ...]:
    """Units (n,) won by the model ``x``, by the ``person`` (a tie is both), and usable ones."""
    usable = np.isfinite(x + person) & np.isfinite(others).any(axis=1)
    scores = []
    for label in (x, person):
        distance = np.abs(others - label[:, None])
        cost = (distance > 0) if measurement == "nominal" else distance**2
        scores.append(-np.nanmean(np.where(np.isfinite(distance), cost, np.nan)[usable], axis=1))
    model_wins, person_wins = np.zeros(len(x)), np.zeros(len(x))
    # Rounded, so that floating-point error does not decide between equally close labels.
    difference = (scores[0] - scores[1]).round(9)
    model_wins[usable], person_wins[usable] = difference >= 0, difference <= 0
    return model_wins, person_wins, usable


def _advantage_row(gain: np.ndarray, usable: np.ndarray, boot: Resampling, epsilon: float) -> dict:
    """ρᶠ − ρʰ with its interval and the p-value of the null that it is −ε or less."""
    values = boot.ratio(gain, where=usable)
    code = boot.codes[int(boot.sizes.argmin())][boot.cell[usable]]
    # With few labels most units are ties; if all are, the error is 0 without pseudo-clusters.
    largest = max(np.abs(np.bincount(code, weights=gain[usable])).max(), 1.0) / usable.sum()
    # They also make up for degrees of freedom of all clusters where a person judged few of them.
    error, df = np.hypot(boot.standard_error(values), 2**0.5 * largest), boot.df()
    low, high = t_interval(values[0], error, df, boot.level, -1, 1)
    p_value = float(special.stdtr(df, -(values[0] + epsilon) / error))
    row = {"metric": "advantage", "estimate": values[0], "ci_low": low, "ci_high": high}
    return row | {"p_value": p_value}
