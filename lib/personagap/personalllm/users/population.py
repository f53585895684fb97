"""Simulated users as weighted reward models, and their votes (arXiv 2409.20296, §2)."""

from collections.abc import Sequence
from numbers import Real

import numpy as np
import pandas as pd

from personagap import published
from personagap.errors import UserError, expect, require_at_least
from personagap.results import random_generator

#: Scores computed at a time when a large population scores many responses (8 MB of float64).
CHUNK = 1_000_000


def dirichlet(
    n: int, alpha: float, seed: int | Sequence[int], reward_models: Sequence[str]
) -> pd.DataFrame:
    """Draw the weights of ``n`` users from Dirichlet(α, …, α).

    With a small α each user follows a single reward model; with a large α all users are alike. In
    the paper α is 0.01, 0.05 and 0.1. Returns a DataFrame, users × reward models sorted by name
    (P2); rows sum to one.

    Examples
    --------
    >>> dirichlet(2, 0.5, 0, ["b", "a"]).round(2).to_numpy().tolist()
    [[0.18, 0.82], [1.0, 0.0]]
    """
    # For α very close to 0 the logarithms below are infinite.
    if not (isinstance(alpha, Real) and 1e-9 <= alpha < np.inf):
        raise UserError(f"alpha is {alpha}: give a number above 0, such as 0.05")
    require_at_least(1, n=n, reward_models=len(reward_models))
    names = sorted(reward_models)
    # Logarithms of gamma variates, as with such small shapes the variates underflow to 0, and the
    # weights would be 0/0 (P13). Gamma(α) has the distribution of Gamma(α + 1) · U^(1/α).
    rng = random_generator(seed)
    size = n, len(names)
    log = np.log(rng.gamma(alpha + 1, size=size)) + np.log(rng.random(size)) / alpha
    weights = np.exp(log - log.max(axis=1, keepdims=True))
    index = pd.RangeIndex(n, name="user")
    return pd.DataFrame(weights / weights.sum(axis=1, keepdims=True), index, names)


def rewards(table: pd.DataFrame, normalization: str = "raw") -> np.ndarray:
    """Return rewards as an array, in the order of ``table.attrs["reward_models"]`` (sorted by
    name).

    The paper states no normalisation, and its code uses several (P2). It decides how much each
    reward model counts, as their standard deviations differ twofold.

    Parameters
    ----------
    table : ``datasets.load_personalllm``, or some of its prompts.
    normalization : "raw"; "published", z-scored with the authors' constants; "zscore", with the
        mean and standard deviation of this table.

    Returns
    -------
    (prompts, 8, reward models).

    `UserError`: an unknown normalization, or no published constants for these reward models; a
    prompt without all its responses in order; a reward model that rewards all responses equally.
    """
    if table.empty:
        raise UserError("no prompts to take rewards of: split is 'train' or 'test'")
    if "reward_models" not in table.attrs:
        remedy = "list them, sorted by name, in table.attrs['reward_models']"
        raise UserError(f"no reward models named, perhaps lost when tables were joined: {remedy}")
    names, size = list(table.attrs["reward_models"]), table["response"].nunique()
    # Reshaping a table with gaps would mix the responses to different prompts.
    first = table.iloc[np.arange(len(table)) // size * size]
    place = table["response"].to_numpy() == np.resize(table["response"].iloc[:size], len(table))
    if len(table) % size or not (place & (table["prompt"].values == first["prompt"].values)).all():
        remedy = "give all of each prompt, sorted by prompt and response"
        raise UserError(f"responses are missing or in another order: {remedy}")
    values = table[names].to_numpy().reshape(-1, size, len(names))
    if normalization == "raw":
        return values
    if normalization == "zscore":
        if (same := np.ptp(values, axis=(0, 1)) == 0).any():
            name, remedy = names[same.argmax()], "leave it out, or use normalization 'raw'"
            raise UserError(f"reward model {name!r} rewards every response alike: {remedy}")
        return (values - values.mean(axis=(0, 1))) / values.std(axis=(0, 1))
    if normalization != "published":
        raise UserError(f"normalization {normalization!r}: choose raw, published or zscore")
    constants = published.load("personalllm").query("quantity in ('norm_mean', 'norm_sd')")
    constants = constants.assign(name=constants["condition"].str.extract(r"rm=(\w+)")[0])
    constants = constants.pivot(index="name", columns="quantity", values="value").reindex(names)
    if constants.isna().any(axis=None):
        unknown = constants.index[constants["norm_sd"].isna()][0]
        remedy = "use normalization 'zscore'"
        raise UserError(f"no published constants of reward model {unknown!r}: {remedy}")
    return (values - constants["norm_mean"].to_numpy()) / constants["norm_sd"].to_numpy()


def scores(weights: pd.DataFrame | np.ndarray, rewards: np.ndarray) -> np.ndarray:
    """Return each user's score of each response, Σ over reward models of weight × reward (eq. 1).

    ``weights`` are (users, reward models), ``rewards`` (prompts, responses, reward models) and the
    scores (users, prompts, responses); to save memory, pass a few users at a time.
    """
    flat = rewards.reshape(-1, rewards.shape[-1])
    return (_weights(weights, rewards) @ flat.T).reshape(-1, *rewards.shape[:2])


def winners(weights: pd.DataFrame | np.ndarray, rewards: np.ndarray) -> np.ndarray:
    """Return each user's favourite response to each prompt, the first of several that tie: (users,
    prompts).

    Users are processed in chunks, so temporary memory does not grow with the population.
    """
    weights = _weights(weights, rewards)
    step = max(1, CHUNK // max(1, rewards[..., 0].size))
    chosen = np.empty((len(weights), len(rewards)), dtype=np.int8)
    for start in range(0, len(weights), step):
        chunk = slice(start, start + step)
        chosen[chunk] = scores(weights[chunk], rewards).argmax(axis=-1)
    return chosen


def vote_shares(winners: np.ndarray, responses: int = 8) -> np.ndarray:
    """Return the share of users that vote for each response: (prompts, responses)."""
    return np.stack([(winners == response).mean(axis=0) for response in range(responses)], axis=-1)


def _weights(weights: pd.DataFrame | np.ndarray, rewards: np.ndarray) -> np.ndarray:
    """Return the weights as an array, checked against the shape and values of the rewards."""
    # Rewards are in the order of the sorted names; an array of weights must be in it already.
    if isinstance(weights, pd.DataFrame):
        weights = weights.sort_index(axis=1)
    values = np.asarray(weights, dtype=float)
    expect(values.ndim == 2, "users × reward models", weights=weights)
    expect(np.ndim(rewards) == 3, "prompts × responses × reward models", rewards=rewards)
    if values.shape[1] != rewards.shape[-1]:
        raise UserError(
            f"weights of {values.shape[1]} reward models, rewards of {rewards.shape[-1]}: give "
            "the same"
        )
    # Users whose weights sum to more than one would count more in averages over users.
    total = values.sum(axis=1)
    if not np.allclose(total, 1):
        user = np.abs(total - 1).argmax()
        remedy = "normalise them"
        raise UserError(f"user {user}: the weights sum to {total[user]:.3f}, not to one: {remedy}")
    expect((values >= 0).all(), "weights of 0 to 1", weights=weights)
    # With NaN or infinite scores argmax would silently choose the first of them.
    expect(np.isfinite(rewards).all(), "finite numbers", rewards=rewards)
    return values
