"""Logistic regressions, one per simulated user, of preferences on features of the responses (arXiv
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
from personagap.limits import t_interval
from personagap.personalllm.users.population import scores
from personagap.results import result

#: Rank of the "losing" response: the worst in the paper's text, the fourth of eight in its code
#: (P4).
LOSING = {"paper": -1, "code": 3}
#: Folds of prompts for the held-out accuracy, and number of users fitted at a time.
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
    standardise per user). There is no intercept, as in the authors' code: the two classes are
    balanced. The interval of the mean over users uses the sandwich variance clustered by prompt:
    users vote on the same prompts, so more simulated users add no evidence beyond that of the
    prompts. A 95 % interval covers in about 91 % of simulations with 40 prompts, and in 94 % with
    120.

    Parameters
    ----------
    features : one row per prompt × response, in the order of ``rewards``, (prompts, 8, reward
        models).
    weights : users × reward models.
    losing : "paper" (the worst response) or "code" (rank 4 of 8).
    ridge : L2 penalty ½ ridge ‖β‖², as 1/C in scikit-learn, for collinear features; 0: none.
        Without a penalty, users whose choices the features separate have no finite estimate; they
        are left out and counted.

    Returns
    -------
    `results`, with the keys ``losing ridge feature``. Metric "coefficient" has one row per feature:
    its mean over users, with the quartiles ``q1 q3``, the variance inflation factor ``vif``, and
    the number of ``separable`` users. Metric "accuracy" has one row, of feature "all": the accuracy
    on held-out prompts, with a penalty of at least 0.001; chance is 0.5.

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
    coefficients, influence, accuracy = [], np.zeros((prompts, x.shape[-1])), np.zeros(prompts)
    for start in range(0, len(weights), CHUNK):
        order = scores(weights.iloc[start : start + CHUNK], rewards).argsort(axis=-1)[..., ::-1]
        win, lose = (x[np.arange(prompts), order[..., rank]] for rank in (0, LOSING[losing]))
        beta, per_prompt = _fit(win, lose, ridge)
        coefficients.append(beta)
        influence += np.nansum(per_prompt, axis=0)
        # Whole prompts are held out, as the two responses to a prompt are one choice. The least
        # penalty is for users whose choices the features separate in some training fold.
        accuracy += _accuracy(win, lose, fold, max(ridge, 1e-3)) / len(weights)
    beta = np.concatenate(coefficients)
    finite = beta[~np.isnan(beta[:, 0])]
    if not len(finite):
        remedy = "give a ridge above 0"
        raise UserError(f"regressions: these features separate every user's choices: {remedy}")
    # A mean over users is also a mean over prompts of their influence, whose standard error is
    # taken about its mean, as under a penalty the influences do not sum to zero.
    estimate, error = finite.mean(axis=0), stats.sem(influence * prompts / len(finite))
    table = pd.DataFrame({"feature": features.columns, "estimate": estimate, "error": error})
    table["n"] = len(finite)
    table[["q1", "q3"]] = np.quantile(finite, [0.25, 0.75], axis=0).T
    # Linearly dependent features have no inverse correlation matrix. Times the matrix, the
    # pseudo-inverse gives a projection, whose diagonal is below 1 for these: their VIF is infinite.
    correlation = np.atleast_2d(np.corrcoef(x.reshape(-1, x.shape[-1]).T))
    inverse = np.linalg.pinv(correlation)
    dependent = np.diag(inverse @ correlation) < 1 - 1e-6
    table["vif"] = np.where(dependent, np.inf, np.diag(inverse))
    table["metric"], table["unit"] = "coefficient", "log odds per sd"
    table["separable"] = len(beta) - len(finite)
    row = {"metric": "accuracy", "feature": "all", "unit": "share", "n": len(beta)}
    row |= {"estimate": accuracy.mean(), "error": stats.sem(accuracy)}
    table = pd.concat([table, pd.DataFrame([row])], ignore_index=True)
    error = table.pop("error")
    table["ci_low"], table["ci_high"] = t_interval(table["estimate"], error, prompts - 1, 0.95)
    same = {"losing": losing, "ridge": ridge, "method": "sandwich variance, clusters: prompt"}
    return result(table, ["losing", "ridge", "feature"], **same)


def compare_regressions(
    kinds: dict[str, pd.DataFrame],
    weights: pd.DataFrame,
    rewards: np.ndarray,
    losing: Sequence[str],
    **how,
) -> pd.DataFrame:
    """Run `regressions` on several kinds of features and against several losing responses.

    ``kinds`` maps the name of a kind, a further key ``features`` of the results, to its features;
    ``how`` holds ``ridge seed``. Features that are the same in every response, such as counts of
    English stop words in another language, are left out with a warning.
    """
    if not losing or not set(losing) <= set(LOSING):
        raise UserError(f"losing is {losing!r}: give a list of {', '.join(LOSING)}")
    fits, varied = [], {}
    for kind, x in kinds.items():
        same = x.columns[x.nunique() < 2]
        if len(same):
            notice = f"{kind} features that are the same in every response are left out"
            warnings.warn(f"{notice}: {', '.join(same)}", stacklevel=3)
        if len(same) < x.shape[1]:
            varied[kind] = x.drop(columns=same)
    if not varied:
        raise UserError("no feature differs between responses: give others")
    for (kind, x), rank in product(varied.items(), losing):
        fits.append(regressions(x, weights, rewards, rank, **how).assign(features=kind))
    return result(pd.concat(fits), ["features", "losing", "ridge", "feature"])


def _fit(win: np.ndarray, lose: np.ndarray, ridge: float) -> tuple[np.ndarray, np.ndarray]:
    """Fit all users at once by Newton's method, on features (users, prompts, features) of the
    winning and of the losing responses.

    Returns the coefficients (users, features) and the influence of each prompt on them (users,
    prompts, features); both are NaN for users whose coefficients do not converge.
    """
    beta = np.zeros((len(win), win.shape[-1]))
    for _ in range(25):
        # A tiny penalty keeps the Hessian invertible if ``ridge`` is 0.
        gradient, hessian = np.zeros_like(win), (ridge + 1e-9) * np.eye(win.shape[-1])
        for side, label in ((win, 1), (lose, 0)):
            p = expit(np.einsum("unp,up->un", side, beta))[..., None]
            gradient = gradient + (label - p) * side
            hessian = hessian + np.swapaxes(side * p * (1 - p), 1, 2) @ side
        step = np.linalg.solve(hessian, (gradient.sum(axis=1) - ridge * beta)[..., None])[..., 0]
        beta = beta + step
        if np.abs(step).max() < 1e-8:
            break
    # If features separate the choices, the likelihood has no maximum and coefficients diverge.
    diverged = (np.abs(step).max(axis=1) > 1e-4) | (np.abs(beta).max(axis=1) > 50)
    influence = np.swapaxes(np.linalg.solve(hessian, np.swapaxes(gradient, 1, 2)), 1, 2)
    beta[diverged], influence[diverged] = np.nan, np.nan
    return beta, influence


def _accuracy(win: np.ndarray, lose: np.ndarray, fold: np.ndarray, ridge: float) -> np.ndarray:
    """Return, summed over users, the share of each prompt's two responses that a fit to the other
    folds classifies correctly: (prompts,).
    """
    accuracy = np.zeros(len(fold))
    for held in range(FOLDS):
        beta, _ = _fit(win[:, fold != held], lose[:, fold != held], ridge)
        odds = [np.einsum("unp,up->un", side[:, fold == held], beta) for side in (win, lose)]
        accuracy[fold == held] = ((odds[0] > 0).sum(axis=0) + (odds[1] <= 0).sum(axis=0)) / 2
    return accuracy
