"""Prediction-powered inference: few human labels combined with many labels of a judge."""

from typing import Unpack

import numpy as np
import pandas as pd

from personagap.errors import UserError
from personagap.gap.resampling import TINY, How, Resampling, resample
from personagap.gap.tables import columns_of, kinds, units
from personagap.limits import t_interval, with_pseudo_clusters
from personagap.results import result


def prediction_powered_mean(
    judgments: pd.DataFrame, judge: str, *, gold: str | None = None, **how: Unpack[How]
) -> pd.DataFrame:
    """Mean human rating, or rate of a 0/1 label, when people judged some units and a model all.

    The estimator is θ = mean(y) + λ (mean of f over units without y − mean of f over units with y),
    where y is the people's value and f the judge's (Angelopoulos, Duchi & Zrnic 2023, PPI++, arXiv
    2311.01453, for means): the judge's mean corrected for its error where people judged too. It is
    valid however bad the judge is. λ = Cov(y, f) / ((1 + n/N) Var f), clipped to [0, 1], for n
    units with y and N without, adapts it to the quality of the judge (0: people alone).

    Parameters
    ----------
    judgments : long table ``user prompt item rater rater_kind label``.
    judge : the model; units that it did not judge are left out.
    gold : rater whose labels are the people's, for example "human_majority"; None: the mean of all
        human ratings of a unit. The units that people judged must be equivalent to a random sample
        (of units, prompts or users).
    **how : ``cluster``, ``n_bootstrap``, ``level`` and ``seed`` of the intervals, see ``gap.How``.

    Returns
    -------
    DataFrame ``rater estimator metric …``: the "mean" by "people alone", by "judge alone" (with its
    bias) and "prediction-powered"; then "lambda" and "gain", the factor by which the number of
    human labels would have to grow to give people alone an interval as short. A gain of about 1
    means that the judge does not help.

    Raises
    ------
    UserError : no such judge, fewer than two clusters with labels of people, or no unit without.

    Notes
    -----
    Prompts and users are resampled, labelled and unlabelled units alike, and θ is computed in each
    resample (`gap.How`; PPI++ assumes independent units). In all estimators the human raters are
    fixed. The interval is Student's with degrees of freedom from the labelled clusters.

    Examples
    --------
    People rated 42 of 168 units, the judge all.

    >>> from personagap.gap import simulate_ratings
    >>> ratings = simulate_ratings(inflation=0.4)  # the true mean is 3
    >>> few = ratings[(ratings["rater"] == "judge") | (ratings["item"] % 4 == 0)]
    >>> table = prediction_powered_mean(few, "judge", n_bootstrap=200)
    >>> table[["estimator", "metric", "estimate", "ci_low", "ci_high"]].round(2)
                estimator  metric  estimate  ci_low  ci_high
    0        people alone    mean      3.06    2.65     3.47
    1         judge alone    mean      3.32    2.90     3.73
    2  prediction-powered    mean      3.03    2.65     3.42
    3  prediction-powered  lambda      0.49     NaN      NaN
    4  prediction-powered    gain      1.18     NaN      NaN
    """
    wide, kind_of = units(judgments), kinds(judgments)
    people = [gold] if gold else [name for name in wide if kind_of[name] == "human"]
    if not people:
        reason = "prediction-powered inference needs some"
        raise UserError(f"no judgments of rater_kind 'human': {reason}")
    # Raises an error that names an unknown rater, instead of the KeyError of pandas.
    columns_of(wide, [judge, *people])
    wide = wide[wide[judge].notna()]
    f, y = wide[judge].to_numpy(), wide[people].mean(axis=1).to_numpy()
    labelled, boot = np.isfinite(y), resample(wide.index, **how)
    if labelled.all() or boot.clusters(labelled) < 2:
        raise UserError(
            f"people judged {labelled.sum()} of {len(y)} units, of {boot.clusters(labelled)} "
            f"clusters: {judge!r} can only help where some units, of two clusters or more, have "
            "human labels and some have none"
        )
    human_mean, judge_mean = boot.ratio(y, where=labelled), boot.ratio(f)
    gap = boot.ratio(f, where=~labelled) - boot.ratio(f, where=labelled)
    # λ by the formula of PPI++, from the sample alone: choosing the λ with the shortest bootstrap
    # interval selects among noisy ones and gives intervals that are too short. A judge whose labels
    # do not vary carries no information.
    scaled_variance = (1 + labelled.sum() / (~labelled).sum()) * f.var(ddof=1)
    covariance = np.cov(y[labelled], f[labelled])[0, 1]
    weight = float(np.clip(covariance / scaled_variance, 0, 1)) if scaled_variance > TINY else 0.0
    bounds = (0.0, 1.0) if np.isin(np.append(f, y[labelled]), [0, 1]).all() else (-np.inf, np.inf)
    estimators = {
        "people alone": (human_mean, labelled),
        "judge alone": (judge_mean, np.isfinite(f)),
        "prediction-powered": (human_mean + weight * gap, labelled),
    }
    rows: list[dict] = []
    widths = []
    for name, (values, used) in estimators.items():
        low, high, width = _limits(values, boot, used, bounds)
        widths.append(width)
        row = {"estimator": name, "metric": "mean", "n": int(used.sum()), "unit": "label"}
        row |= {"estimate": values[0], "ci_low": low, "ci_high": high, "method": boot.method}
        rows.append(row)
    tuning = {"estimator": "prediction-powered", "n": int(labelled.sum())}
    tuning["method"] = "Cov(y, f) / ((1 + n/N) Var f)"
    # The length of an interval is proportional to one over the root of the number of labels.
    for metric, value in (("lambda", weight), ("gain", (widths[0] / widths[2]) ** 2)):
        rows.append(tuning | {"metric": metric, "estimate": value})
    return result(rows, ["rater", "estimator"], rater=judge)


def _limits(
    values: np.ndarray, boot: Resampling, used: np.ndarray, bounds: tuple[float, float]
) -> tuple[float, float, float]:
    """Confidence limits of a mean over the units ``used``, and their width before clipping."""
    clusters = boot.clusters(used)
    error = float(boot.standard_error(values, used))
    error = error if error > TINY else with_pseudo_clusters(0.0, 0.0, clusters)[1]
    # Clipped last, because the gain compares widths that the bounds of the scale do not cut.
    limits = t_interval(values[0], error, boot.df(used), boot.level)
    low, high = np.clip(limits, *bounds)
    return low, high, np.ptp(limits)
