"""Which features of a response simulated users like: one logistic regression per user (arXiv
2409.20296, §3.2).
"""

import warnings
from collections.abc import Sequence
from itertools import product

import numpy as np
import pandas as pd
from scipy import stats
from scipy.special import expit

from personagap.errors import UserError, expect, explained
from personagap.limits import student
from personagap.personalllm.users.population import scores
from personagap.results import result

#: Rank of the "losing" response: the worst in the paper's text, the fourth of eight in its code
#: (P4).
LOSING = {"paper": -1, "code": 3}
#: Folds of prompts for held-out accuracy, and users fitted at a time.
FOLDS, CHUNK = 5, 50


def regressions(
    features: pd.DataFrame,
    weights: pd.DataFrame,
    rewards: np.ndarray,
    losing: str = "paper",
    ridge: float = 1.0,
    seed: int = 0,
) -> pd.DataFrame:
    """Regress winning (1) against losing (0) on features, user by user, and average over users.

    Features are standardised once over all responses, so that users share a scale (the authors
    standardise per user). Without intercept, as there: the two classes are balanced. The interval
    is that of the mean over users, from the sandwich variance clustered by prompt: users vote on
    the same prompts, so a thousand simulated users are no more evidence than the prompts are. Of 40
    prompts it covers in some 91 %, of 120 in 94 %.

    Parameters
    ----------
    features : one row per prompt × response, in the order of ``rewards``, (prompts, 8, reward
        models).
    weights : users × reward models.
    losing : "paper" (the worst response) or "code" (rank 4 of 8).
    ridge : L2 penalty ½ ridge ‖β‖², as 1/C in scikit-learn, for collinear features; 0: none.
        Without it a user whose choices the features separate has no finite estimate: such users are
        left out and counted.

    Returns
    -------
    `results`, with the keys ``losing ridge feature``. Metric "coefficient", one row per feature:
    its mean over users, with the quartiles ``q1 q3``, the variance inflation factor ``vif``, and
    how many users are ``separable``. Metric "accuracy", one row of feature "all": held out by whole
    prompts, with a penalty of 0.001 at least; chance is 0.5.

    `UserError`: without a penalty, no user has a finite estimate; or a feature is constant.
    """
    with explained("features", "give a table of numbers"):
        features = features.astype(float)
    complete = len(features) == rewards[..., 0].size and np.isfinite(features.to_numpy()).all()
    expect(complete, "a row of finite numbers for each response", features=features)
    prompts, spread = len(rewards), features.std(ddof=0)
    if ridge < 0:
        raise UserError(f"ridge is {ridge}: give 0 or more")
    if losing not in LOSING:
        raise UserError(f"losing {losing!r}: choose {' or '.join(LOSING)}")
    if rewards.shape[1] < (fewest := max(2, LOSING[losing] + 1)):
        raise UserError(f"losing {losing!r} is of {fewest} responses or more to each prompt")
    if (spread == 0).any():
        raise UserError(f"feature {spread.idxmin()!r} is the same in every response: drop it")
    x = ((features - features.mean()) / spread).to_numpy().reshape(*rewards.shape[:2], -1)
    fold = np.random.default_rng(seed).permutation(prompts) % FOLDS
    coefficients, influence, right = [], np.zeros((prompts, x.shape[-1])), np.zeros(prompts)
    for start in range(0, len(weights), CHUNK):
        order = scores(weights.iloc[start : start + CHUNK], rewards).argsort(axis=-1)[..., ::-1]
        win, lose = (x[np.arange(prompts), order[..., rank]] for rank in (0, LOSING[losing]))
        beta, moved = _fit(win, lose, ridge)
        coefficients.append(beta)
        influence += np.nansum(moved, axis=0)
        # Held out by whole prompts, whose two responses are one choice; a user whose choices a fold
        # separates needs some penalty there.
        right += _right(win, lose, fold, max(ridge, 1e-3)) / len(weights)
    beta = np.concatenate(coefficients)
    known = beta[~np.isnan(beta[:, 0])]
    if not len(known):
        remedy = "give a ridge above 0"
        raise UserError(f"regressions: these features separate every user's choices: {remedy}")
    # The means over users are also means over prompts; under a penalty what they add does not sum
    # to zero.
    estimate, error = known.mean(axis=0), stats.sem(influence * prompts / len(known))
    table = pd.DataFrame({"feature": features.columns, "estimate": estimate, "error": error})
    table["n"] = len(known)
    table[["q1", "q3"]] = np.quantile(known, [0.25, 0.75], axis=0).T
    # The pseudo-inverse, as features that add up to another have no inverse at all: of those it
    # gives a projection in place of 1.
    correlation = np.atleast_2d(np.corrcoef(x.reshape(-1, x.shape[-1]).T))
    inverse = np.linalg.pinv(correlation)
    settled = np.diag(inverse @ correlation) < 1 - 1e-6
    table["vif"] = np.where(settled, np.inf, np.diag(inverse))
    table["metric"], table["unit"] = "coefficient", "log odds per sd"
    table["separable"] = len(beta) - len(known)
    accuracy = {"metric": "accuracy", "feature": "all", "unit": "share", "n": len(beta)}
    accuracy |= {"estimate": right.mean(), "error": stats.sem(right)}
    table = pd.concat([table, pd.DataFrame([accuracy])], ignore_index=True)
    error = table.pop("error")
    table["ci_low"], table["ci_high"] = student(table["estimate"], error, prompts - 1, 0.95)
    same = {"losing": losing, "ridge": ridge, "method": "sandwich variance, clusters: prompt"}
    return result(table, ["losing", "ridge", "feature"], **same)


def compare_regressions(
    kinds: dict[str, pd.DataFrame],
    weights: pd.DataFrame,
    rewards: np.ndarray,
    losing: Sequence[str],
    **how,
) -> pd.DataFrame:
    """`regressions` on several kinds of features, by name, and against several losing responses.

    A further key, ``features``, names the kind; ``how`` holds ``ridge seed``. Features that are the
    same in every response, as stop words of English in another language, are left out with a
    warning.
    """
    if not losing or not set(losing) <= set(LOSING):
        raise UserError(f"losing is {losing!r}: give a list of {', '.join(LOSING)}")
    fits, varied = [], {}
    for kind, x in kinds.items():
        same = x.columns[x.nunique() < 2]
        if len(same):
            told = f"{kind} features that are the same in every response are left out"
            warnings.warn(f"{told}: {', '.join(same)}", stacklevel=3)
        if len(same) < x.shape[1]:
            varied[kind] = x.drop(columns=same)
    if not varied:
        raise UserError("no feature differs between responses: give others")
    for (kind, x), rank in product(varied.items(), losing):
        fits.append(regressions(x, weights, rewards, rank, **how).assign(features=kind))
    return result(pd.concat(fits), ["features", "losing", "ridge", "feature"])


def _fit(win: np.ndarray, lose: np.ndarray, ridge: float) -> tuple[np.ndarray, np.ndarray]:
    """Newton's method for all users at once, on (users, prompts, features) each.

    Coefficients (users, features) and what each prompt adds to them (users, prompts, features), NaN
    for users where they do not converge.
    """
    beta = np.zeros((len(win), win.shape[-1]))
    for _ in range(25):
        # The least of a penalty keeps the curve invertible where none is asked for.
        slope, curve = np.zeros_like(win), (ridge + 1e-9) * np.eye(win.shape[-1])
        for side, label in ((win, 1), (lose, 0)):
            p = expit(np.einsum("unp,up->un", side, beta))[..., None]
            slope = slope + (label - p) * side
            curve = curve + np.swapaxes(side * p * (1 - p), 1, 2) @ side
        step = np.linalg.solve(curve, (slope.sum(axis=1) - ridge * beta)[..., None])[..., 0]
        beta = beta + step
        if np.abs(step).max() < 1e-8:
            break
    # Where features separate the choices, the likelihood has no maximum and coefficients run away.
    lost = (np.abs(step).max(axis=1) > 1e-4) | (np.abs(beta).max(axis=1) > 50)
    moved = np.swapaxes(np.linalg.solve(curve, np.swapaxes(slope, 1, 2)), 1, 2)
    beta[lost], moved[lost] = np.nan, np.nan
    return beta, moved


def _right(win: np.ndarray, lose: np.ndarray, fold: np.ndarray, ridge: float) -> np.ndarray:
    """Over users, the sum of the shares of a prompt's two responses that a fit to other prompts
    tells: (prompts,).
    """
    right = np.zeros(len(fold))
    for held in range(FOLDS):
        beta, _ = _fit(win[:, fold != held], lose[:, fold != held], ridge)
        odds = [np.einsum("unp,up->un", side[:, fold == held], beta) for side in (win, lose)]
        right[fold == held] = ((odds[0] > 0).sum(axis=0) + (odds[1] <= 0).sum(axis=0)) / 2
    return right
