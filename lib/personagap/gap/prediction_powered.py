"""Few human labels, many judge labels: prediction-powered inference."""

from typing import Unpack

import numpy as np
import pandas as pd

from personagap.errors import UserError
from personagap.gap.resampling import TINY, How, Resampling, resample, with_pseudo_clusters
from personagap.gap.tables import columns_of, kinds, units
from personagap.limits import student
from personagap.results import result


def prediction_powered_mean(
    judgments: pd.DataFrame, judge: str, *, gold: str | None = None, **how: Unpack[How]
) -> pd.DataFrame:
    """Mean human rating, or rate of a 0/1 label, where people judged some units, a model all.

    The judge's mean over all units, less its error where people judged too: θ = mean(y) + λ (mean
    of f over units without y − mean of f over units with y), y the people's value and f the judge's
    (Angelopoulos, Duchi & Zrnic 2023, PPI++, arXiv 2311.01453, of means). It is right however bad
    the judge is. λ = Cov(y, f) / ((1 + n/N) Var f), in [0, 1], for n units with y and N without,
    tunes it to how good the judge is (0: people alone).

    Parameters
    ----------
    judgments : long table ``user prompt item rater rater_kind label``.
    judge : the model; units that it did not judge are left out.
    gold : the rater taken for the people, as "human_majority"; None: the mean of all human ratings
        of a unit. The units that people judged must be as good as a random draw (of units, prompts
        or users).

    Returns
    -------
    DataFrame ``rater estimator metric …``, "mean" by "people alone", "judge alone" (its errors
    included) and "prediction-powered"; then "lambda" and "gain": how many times as many human
    labels would have given people alone as short an interval. A gain of about 1 says that the judge
    does not help.

    Raises
    ------
    UserError : no such judge; fewer than two clusters that people judged, or none left without
        their labels.

    Notes
    -----
    Prompts and users are resampled, labelled and unlabelled units alike, and θ is computed in each
    resample (`gap.How`; PPI++ takes units for independent). Both ways the people's raters are these
    people. The interval is Student's, on the labelled clusters.

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
    2  prediction-powered    mean      3.03    2.65     3.41
    3  prediction-powered  lambda      0.49     NaN      NaN
    4  prediction-powered    gain      1.19     NaN      NaN
    """
    wide, kind = units(judgments), kinds(judgments)
    people = [gold] if gold else [name for name in wide if kind[name] == "human"]
    if not people:
        reason = "prediction-powered inference needs some"
        raise UserError(f"no judgments of rater_kind 'human': {reason}")
    # Says who is unknown, where pandas would give a KeyError.
    columns_of(wide, [judge, *people])
    wide = wide[wide[judge].notna()]
    f, y = wide[judge].to_numpy(), wide[people].mean(axis=1).to_numpy()
    known, drawn = np.isfinite(y), resample(wide.index, **how)
    if known.all() or drawn.clusters(known) < 2:
        raise UserError(
            f"people judged {known.sum()} of {len(y)} units, of {drawn.clusters(known)} clusters: "
            f"{judge!r} can only help where some units, of two clusters or more, have human "
            "labels and some have none"
        )
    human, everywhere = drawn.ratio(y, where=known), drawn.ratio(f)
    gap = drawn.ratio(f, where=~known) - drawn.ratio(f, where=known)
    # λ by PPI++'s formula, from the sample alone: to take the λ of the shortest bootstrap interval
    # instead picks among noisy ones, and was too short. A judge who never varies tells nothing.
    spread = (1 + known.sum() / (~known).sum()) * f.var(ddof=1)
    covariance = np.cov(y[known], f[known])[0, 1]
    weight = float(np.clip(covariance / spread, 0, 1)) if spread > TINY else 0.0
    bounds = (0.0, 1.0) if np.isin(np.append(f, y[known]), [0, 1]).all() else (-np.inf, np.inf)
    estimators = {
        "people alone": (human, known),
        "judge alone": (everywhere, np.isfinite(f)),
        "prediction-powered": (human + weight * gap, known),
    }
    rows: list[dict] = []
    widths = []
    for name, (values, where) in estimators.items():
        low, high, width = _limits(values, drawn, drawn.clusters(where), bounds)
        widths.append(width)
        row = {"estimator": name, "metric": "mean", "n": int(where.sum()), "unit": "label"}
        row |= {"estimate": values[0], "ci_low": low, "ci_high": high, "method": drawn.method}
        rows.append(row)
    tuned = {"estimator": "prediction-powered", "n": int(known.sum())}
    tuned["method"] = "Cov(y, f) / ((1 + n/N) Var f)"
    # An interval's length goes with the root of the number of labels.
    for metric, value in (("lambda", weight), ("gain", (widths[0] / widths[2]) ** 2)):
        rows.append(tuned | {"metric": metric, "estimate": value})
    return result(rows, ["rater", "estimator"], rater=judge)


def _limits(
    values: np.ndarray, drawn: Resampling, clusters: int, bounds: tuple[float, float]
) -> tuple[float, float, float]:
    """Confidence limits of a mean that rests on some of the clusters, and the width before they are
    clipped.
    """
    error, all_of_them = float(drawn.standard_error(values)), drawn.clusters()
    # Resampling all clusters understates the error of few as if they were as many.
    error *= (clusters / (clusters - 1) * (all_of_them - 1) / all_of_them) ** 0.5
    error = error if error > TINY else with_pseudo_clusters(0.0, 0.0, clusters)[1]
    # Clipped afterwards: the gain compares widths that the end of the scale did not cut.
    limits = student(values[0], error, clusters - 1, drawn.level)
    low, high = np.clip(limits, *bounds)
    return low, high, np.ptp(limits)
