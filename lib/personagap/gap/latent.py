"""The latent truth behind fallible raters: Dawid & Skene's model in place of a majority vote."""

from typing import NamedTuple, Unpack

import numpy as np
import pandas as pd

from personagap.gap.relevance import HIGHEST, LOWEST, METRICS, confusion_metrics, observed_metrics
from personagap.gap.resampling import How, Resampling, resample
from personagap.gap.tables import binary, people_and_models
from personagap.results import result

# EM converges slowly, and a tolerance of 1e-5 of a share is far below the width of any interval.
# Some 200 iterations suffice for people who are right in 85 %; for people right in 60 % a few
# resamples never converge, hence the maximum.
_MAX_ITERATIONS, _TOLERANCE = 500, 1e-5


class _Fit(NamedTuple):
    """Parameters of the model in the sample and each resample.

    ``prevalence`` is the share of yes; ``sensitivity`` and ``false_alarm`` are each rater's rate of
    yes where the truth is yes and where it is no.
    """

    prevalence: np.ndarray  # (resamples,)
    sensitivity: np.ndarray  # (resamples, n_raters)
    false_alarm: np.ndarray

    def posterior(self, yes: np.ndarray, no: np.ndarray) -> np.ndarray:
        """P(truth is yes) for each pattern of labels: (resamples, n_patterns).

        ``yes`` and ``no`` (n_patterns, n_raters) are 1 where a rater gave that label.
        """
        # In logarithms, as products over many raters underflow.
        if_yes, if_no = (np.log(rate) @ yes.T + np.log(1 - rate) @ no.T for rate in self[1:])
        log_odds = np.log(self.prevalence / (1 - self.prevalence))[:, None] + if_yes - if_no
        return 1 / (1 + np.exp(-log_odds))


def latent_truth(judgments: pd.DataFrame, **how: Unpack[How]) -> pd.DataFrame:
    """Metrics of models against the latent truth estimated from people, and against their majority.

    Each person says yes with one probability where the truth is yes and with another where it is
    no, independently given the truth. Prevalence and probabilities are fitted by maximum likelihood
    (Dawid & Skene 1979, Applied Statistics 28, 20–28, eqs. 2.3–2.5). A unit is then a yes with some
    probability, and true and false positives are expected counts. The two probabilities of a model
    are fitted in the same way with those of the people held fixed: a model does not influence what
    counts as the truth.

    Parameters
    ----------
    judgments : long table ``user prompt item rater rater_kind label`` with labels 0/1 of three or
        more people (two leave the model unidentified), who need not all judge every unit. Models do
        not vote.
    **how : ``cluster``, ``n_bootstrap``, ``level`` and ``seed`` of the intervals, see ``gap.How``.

    Returns
    -------
    DataFrame ``rater truth metric …``. For every model the metrics of `relevance_metrics` against
    "latent" and against "majority" (without ties), and the "difference" of the two; for every
    person "sensitivity" and "specificity" against "latent"; for "people" the "prevalence" under
    each truth.

    Raises
    ------
    UserError : fewer than three people, for example where only their majority is stored.

    Notes
    -----
    The model is fitted anew in each resample of the clusters. If people err on the same (hard)
    units, they agree more than the model explains and it overestimates them: the latent truth is
    then closer to the majority than it should be. Three people who are right in 65–70 % hardly
    identify the model: with 800 units intervals cover in 82–85 %; with people right in 75–80 % they
    cover in 90–95 %. Degrees of freedom are those of the units that three people judged: where one
    of three judged six of 42 prompts, intervals cover in 91 %. EM stops after 500 iterations; more
    would lower the coverage.

    Examples
    --------
    Three people who are right in 80 % of cases, and a judge who always knows the truth.

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
    labels, boot = wide[humans].to_numpy(), resample(wide.index, **how)
    # Units with the same labels have the same posterior. Three people make at most 27 patterns,
    # which makes it feasible to fit every resample.
    patterns, pattern = np.unique(np.nan_to_num(labels, nan=-1.0), axis=0, return_inverse=True)
    yes, no = ((patterns == label).astype(float) for label in (1, 0))
    fit = _fit_model(yes, no, _counts(boot, pattern, len(patterns)))
    posterior = fit.posterior(yes, no)
    share_yes, n_people = np.nanmean(labels, axis=1), np.isfinite(labels).sum(axis=1)
    decided, identified = share_yes != 0.5, n_people >= min(n_people.max(), 3)
    majority = boot.ratio(share_yes > 0.5, where=decided)
    people = {"rater": "people", "metric": "prevalence", "n": len(labels)}
    rows = [
        people | {"truth": truth, **boot.row(prevalence, 0, 1, used)}
        for truth, prevalence, used in (
            ("latent", fit.prevalence, identified),
            ("majority", majority, decided),
        )
    ]
    for rater in [name for name in wide if name not in humans]:
        x = wide[rater].to_numpy()
        rows += _model_rows(boot, rater, x, posterior, pattern, share_yes, identified)
    if_yes = posterior[0, pattern]
    for name, *rates in zip(humans, fit.sensitivity.T, 1 - fit.false_alarm.T, strict=True):
        judged = wide[name].notna().to_numpy()
        person, used = {"rater": name, "truth": "latent", "n": judged.sum()}, judged & identified
        for metric, values, truth in zip(
            ("sensitivity", "specificity"), rates, (if_yes, 1 - if_yes), strict=True
        ):
            row = boot.row(values, 0, 1, (used if used.any() else judged) * truth)
            rows.append(person | {"metric": metric, **row})
    return result(rows, ["rater", "truth"], method=boot.method)


def _counts(
    boot: Resampling, pattern: np.ndarray, n: int, where: np.ndarray | slice = slice(None)
) -> np.ndarray:
    """Number of units ``where`` with each of the n patterns: (resamples, n_patterns)."""
    return boot.totals(np.eye(n)[pattern], where)


def _fit_model(yes: np.ndarray, no: np.ndarray, counts: np.ndarray) -> _Fit:
    """Fit the model to all resamples at once by EM, starting from the majority vote."""
    # The likelihood is the same with yes and no exchanged: the start selects the right solution.
    judged, total = yes + no, counts.sum(axis=1)
    truth = np.broadcast_to(yes.sum(axis=1) / judged.sum(axis=1), counts.shape)
    previous: np.ndarray | float = np.inf
    for _ in range(_MAX_ITERATIONS):
        weights = counts * truth, counts * (1 - truth)
        prevalence = _rate(weights[0].sum(axis=1), total)
        fit = _Fit(prevalence, *(_rate(weight @ yes, weight @ judged) for weight in weights))
        truth = fit.posterior(yes, no)
        if np.abs(prevalence - previous).max() < _TOLERANCE:
            break
        previous = prevalence
    return fit


def _model_rows(
    boot: Resampling,
    rater: str,
    x: np.ndarray,
    posterior: np.ndarray,
    pattern: np.ndarray,
    share_yes: np.ndarray,
    identified: np.ndarray,
) -> list[dict]:
    """Rows of a model with labels ``x`` (n_units,): each metric against both truths."""
    # The errors of people are estimated from units that three of them judged, and the rates of the
    # model from those that it judged: the degrees of freedom are those of the fewer clusters.
    used = min(np.isfinite(x), identified, key=boot.df)
    # Ties have a posterior but no majority: the difference is over units that have both.
    decided = np.isfinite(x) & (share_yes != 0.5)
    latent = confusion_metrics(*_expected_outcomes(boot, x, posterior, pattern))
    majority = observed_metrics(x, share_yes > 0.5, boot, decided)
    n_judged, n_decided = int(np.isfinite(x).sum()), int(decided.sum())
    rows: list[dict] = []
    # Without the first metric: prevalence is a property of the people's labels, not of a judge.
    for metric, *bounds in zip(METRICS[1:], LOWEST[1:], HIGHEST[1:], strict=True):
        row, (a, b) = {"rater": rater, "metric": metric}, (latent[metric], majority[metric])
        rows.append(row | {"truth": "latent", "n": n_judged, **boot.row(a, *bounds, used)})
        rows.append(row | {"truth": "majority", "n": n_decided, **boot.row(b, *bounds, decided)})
        # The yes rate of a judge does not depend on the truth.
        if metric != "yes_rate":
            difference = boot.tested(a - b, where=min(used, decided, key=boot.df))
            rows.append(row | {"truth": "difference", "n": n_decided, **difference})
    return rows


def _expected_outcomes(
    boot: Resampling, x: np.ndarray, prior: np.ndarray, pattern: np.ndarray
) -> list[np.ndarray]:
    """Expected tp, fp, fn, tn of a model, whose two rates are fitted with the people's held fixed.

    The label of the model is evidence of the truth too. Expected counts that ignored it would rate
    a model that knows the truth as no more certain than the people's labels.
    """
    yes, no = (_counts(boot, pattern, prior.shape[1], x == label) for label in (1, 0))
    if_yes = if_no = prior
    previous: np.ndarray | float = np.inf
    for _ in range(_MAX_ITERATIONS):
        tp, fn = (yes * if_yes).sum(axis=1), (no * if_no).sum(axis=1)
        fp, tn = yes.sum(axis=1) - tp, no.sum(axis=1) - fn
        rates = _rate(np.stack([tp, fp]), np.stack([tp + fn, fp + tn]))[:, :, None]
        if_yes, if_no = (prior * a / (prior * a + (1 - prior) * b) for a, b in (rates, 1 - rates))
        if np.abs(rates - previous).max() < _TOLERANCE:
            break
        previous = rates
    return [tp, fp, fn, tn]


def _rate(part: np.ndarray, whole: np.ndarray) -> np.ndarray:
    """``part`` / ``whole``, kept off 0 and 1, where a single label would settle the truth."""
    return (part / np.maximum(whole, 1e-12)).clip(1e-4, 1 - 1e-4)
