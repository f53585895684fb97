"""The truth behind raters who err: Dawid & Skene's model in place of a majority vote."""

from typing import NamedTuple, Unpack

import numpy as np
import pandas as pd

from personagap.gap.relevance import HIGHEST, LOWEST, METRICS, confusion_metrics, observed_metrics
from personagap.gap.resampling import How, Resampling, resample
from personagap.gap.tables import binary, people_and_models
from personagap.results import result

# EM creeps: 1e-5 of a share is far below any interval. Some 200 steps do for people who are right
# in 85 %; for those right in 60 % a few resamples never get there, hence the most.
_STEPS, _CLOSE = 500, 1e-5


class _Fit(NamedTuple):
    """Of the sample and each resample: share of yes, and each rater's rate of yes where the truth
    is yes, or no.
    """

    prevalence: np.ndarray  # (resamples,)
    sensitivity: np.ndarray  # (resamples, n_raters)
    false_alarm: np.ndarray

    def posterior(self, yes: np.ndarray, no: np.ndarray) -> np.ndarray:
        """P(yes) of patterns of labels, 1 where ``yes`` or ``no`` was said (n_patterns, n_raters):
        one for each.

        Returns (resamples, n_patterns).
        """
        # In logarithms, as products over many raters underflow.
        if_yes, if_no = (np.log(rate) @ yes.T + np.log(1 - rate) @ no.T for rate in self[1:])
        odds = np.log(self.prevalence / (1 - self.prevalence))[:, None] + if_yes - if_no
        return 1 / (1 + np.exp(-odds))


def latent_truth(judgments: pd.DataFrame, **how: Unpack[How]) -> pd.DataFrame:
    """Models judged against the truth that the people's labels point to, beside their majority.

    Each person says yes with a probability of their own where the truth is yes, and with another
    where it is no, independently given the truth; prevalence and probabilities are fitted by
    maximum likelihood (Dawid & Skene 1979, Applied Statistics 28, 20–28, eqs. 2.3–2.5). A unit then
    is a yes with some probability, and true and false positives are expected counts. A model's own
    two probabilities are fitted likewise, given the people's: it has no say in what the truth is.

    Parameters
    ----------
    judgments : long table ``user prompt item rater rater_kind label``, labels 0/1, of three or more
        people (two leave the model undetermined), not all of whom need judge all units. Models do
        not vote.

    Returns
    -------
    DataFrame ``rater truth metric …``. For every model the metrics of `relevance_metrics` against
    "latent" and against "majority" (ties are left out), and the "difference" of the two; for every
    person "sensitivity" and "specificity" against "latent"; for "people" the "prevalence" under
    each.

    Raises
    ------
    UserError : fewer than three people, as where only their majority is stored.

    Notes
    -----
    Each resample of the clusters is fitted anew. People who err on the same (hard) units agree more
    than the model explains, and it takes them for better than they are: the latent truth is then
    nearer to the majority than it should be. Three people who are right in 65–70 % hardly determine
    the model: of 800 units intervals cover in 82–85 %, where people are right in 75–80 % in 90–95
    %. The fit is stopped after 500 steps; further ones would cover less.

    Examples
    --------
    Three people who are right in 80 % of cases, of whom a judge knows nothing but the truth.

    >>> rng = np.random.default_rng(0)
    >>> truth = rng.random(600) < 0.3
    >>> said = {f"human_{i}": np.where(rng.random(600) < 0.8, truth, ~truth) for i in range(3)}
    >>> item = np.arange(600)
    >>> key = pd.DataFrame({"prompt": item // 20, "user": item % 25, "item": item})
    >>> frames = [key.assign(rater=name, rater_kind="human", label=said[name]) for name in said]
    >>> frames.append(key.assign(rater="judge", rater_kind="model", label=truth))
    >>> table = latent_truth(pd.concat(frames), n_bootstrap=200)
    >>> table.query("metric == 'f1'")[["rater", "truth", "estimate", "ci_low", "ci_high"]].round(2)
        rater       truth  estimate  ci_low  ci_high
    10  judge      latent      0.94    0.85     1.00
    11  judge    majority      0.82    0.78     0.87
    12  judge  difference      0.12    0.04     0.20
    """
    wide, humans, _ = people_and_models(judgments, "the latent truth", 3)
    binary(wide, list(wide))
    wide = wide[wide[humans].notna().any(axis=1)]
    labels, drawn = wide[humans].to_numpy(), resample(wide.index, **how)
    # Units with the same labels have the same posterior: three people make 27 patterns at most,
    # which is what lets every resample be fitted anew.
    patterns, which = np.unique(np.nan_to_num(labels, nan=-1.0), axis=0, return_inverse=True)
    yes, no = ((patterns == label).astype(float) for label in (1, 0))
    fit = _fitted(yes, no, _counts(drawn, which, len(patterns)))
    truth = fit.posterior(yes, no)
    votes = np.nanmean(labels, axis=1)
    voted = drawn.ratio(votes > 0.5, where=votes != 0.5)
    people = {"rater": "people", "metric": "prevalence", "n": len(labels)}
    rows = [
        people | {"truth": truth_of, **drawn.row(values, 0, 1)}
        for truth_of, values in (("latent", fit.prevalence), ("majority", voted))
    ]
    for rater in [name for name in wide if name not in humans]:
        rows += _judged(drawn, rater, wide[rater].to_numpy(), truth, which, votes)
    for name, *rates in zip(humans, fit.sensitivity.T, 1 - fit.false_alarm.T, strict=True):
        person = {"rater": name, "truth": "latent", "n": int(wide[name].notna().sum())}
        for metric, values in zip(("sensitivity", "specificity"), rates, strict=True):
            rows.append(person | {"metric": metric, **drawn.row(values, 0, 1)})
    return result(rows, ["rater", "truth"], method=drawn.method)


def _counts(
    drawn: Resampling, which: np.ndarray, n: int, where: np.ndarray | slice = slice(None)
) -> np.ndarray:
    """How often each pattern occurs, of units ``where``: (resamples, n_patterns)."""
    return drawn.totals(np.eye(n)[which], where)


def _fitted(yes: np.ndarray, no: np.ndarray, counts: np.ndarray) -> _Fit:
    """EM for all resamples at once, from the majority's vote."""
    # From there, for with yes and no exchanged the likelihood is the same.
    judged, total = yes + no, counts.sum(axis=1)
    truth = np.broadcast_to(yes.sum(axis=1) / judged.sum(axis=1), counts.shape)
    before: np.ndarray | float = np.inf
    for _ in range(_STEPS):
        weights = counts * truth, counts * (1 - truth)
        prevalence = _rate(weights[0].sum(axis=1), total)
        fit = _Fit(prevalence, *(_rate(weight @ yes, weight @ judged) for weight in weights))
        truth = fit.posterior(yes, no)
        if np.abs(prevalence - before).max() < _CLOSE:
            break
        before = prevalence
    return fit


def _judged(
    drawn: Resampling,
    rater: str,
    x: np.ndarray,
    truth: np.ndarray,
    which: np.ndarray,
    votes: np.ndarray,
) -> list[dict]:
    # A tie has no majority, though a posterior: the difference is of the units that have both.
    decided = np.isfinite(x) & (votes != 0.5)
    latent = confusion_metrics(*_outcomes(drawn, x, truth, which))
    majority = observed_metrics(x, votes > 0.5, drawn, decided)
    every, some = int(np.isfinite(x).sum()), int(decided.sum())
    rows: list[dict] = []
    # Without the first, the prevalence: it is one of people, not of a judge.
    for metric, *ends in zip(METRICS[1:], LOWEST[1:], HIGHEST[1:], strict=True):
        row, (a, b) = {"rater": rater, "metric": metric}, (latent[metric], majority[metric])
        rows.append(row | {"truth": "latent", "n": every, **drawn.row(a, *ends)})
        rows.append(row | {"truth": "majority", "n": some, **drawn.row(b, *ends)})
        # How often a judge says yes is the same whatever is true.
        if metric != "yes_rate":
            rows.append(row | {"truth": "difference", "n": some, **drawn.tested(a - b)})
    return rows


def _outcomes(
    drawn: Resampling, x: np.ndarray, truth: np.ndarray, which: np.ndarray
) -> list[np.ndarray]:
    """Expected tp, fp, fn, tn of a model, whose two rates are fitted while the people's stay as
    they are.

    Its label tells of the truth too; expected counts that ignore this would take a model that knows
    the truth for one that is as uncertain as the people's labels are.
    """
    yes, no = (_counts(drawn, which, truth.shape[1], x == said) for said in (1, 0))
    if_yes = if_no = truth
    before: np.ndarray | float = np.inf
    for _ in range(_STEPS):
        tp, fn = (yes * if_yes).sum(axis=1), (no * if_no).sum(axis=1)
        fp, tn = yes.sum(axis=1) - tp, no.sum(axis=1) - fn
        after = _rate(np.stack([tp, fp]), np.stack([tp + fn, fp + tn]))[:, :, None]
        if_yes, if_no = (truth * a / (truth * a + (1 - truth) * b) for a, b in (after, 1 - after))
        if np.abs(after - before).max() < _CLOSE:
            break
        before = after
    return [tp, fp, fn, tn]


def _rate(part: np.ndarray, whole: np.ndarray) -> np.ndarray:
    """Off 0 and 1, where a single label would settle the truth."""
    return (part / np.maximum(whole, 1e-12)).clip(1e-4, 1 - 1e-4)
