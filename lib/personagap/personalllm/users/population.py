"""Simulated users: weighted reward models, and how they vote (arXiv 2409.20296, §2)."""

from collections.abc import Sequence
from numbers import Real

import numpy as np
import pandas as pd

from personagap import published
from personagap.errors import UserError, at_least, expect
from personagap.results import generator

#: Numbers held at a time when a large population scores many responses (8 MB of float64).
CHUNK = 1_000_000


def dirichlet(
    n: int, alpha: float, seed: int | Sequence[int], reward_models: Sequence[str]
) -> pd.DataFrame:
    """Draw users whose weights are Dirichlet(α, …, α): small α, users of one reward model; large α,
    all alike.

    DataFrame ``n`` users × reward models sorted by name (P2); rows sum to one. In the paper α is
    0.01, 0.05 and 0.1.

    Examples
    --------
    >>> dirichlet(2, 0.5, 0, ["b", "a"]).round(2).to_numpy().tolist()
    [[0.18, 0.82], [1.0, 0.0]]
    """
    # Of an α next to 0 the logarithms below are infinite.
    if not (isinstance(alpha, Real) and 1e-9 <= alpha < np.inf):
        raise UserError(f"alpha is {alpha}: give a number above 0, such as 0.05")
    at_least(1, n=n, reward_models=len(reward_models))
    names = sorted(reward_models)
    # By logarithms: gamma variates of so small a shape underflow to 0, and 0/0 is no weight (P13).
    rng = generator(seed)
    size = n, len(names)
    log = np.log(rng.gamma(alpha + 1, size=size)) + np.log(rng.random(size)) / alpha
    weights = np.exp(log - log.max(axis=1, keepdims=True))
    index = pd.RangeIndex(n, name="user")
    return pd.DataFrame(weights / weights.sum(axis=1, keepdims=True), index, names)


def rewards(table: pd.DataFrame, normalization: str = "raw") -> np.ndarray:
    """Rewards as an array, in the order of ``table.attrs["reward_models"]`` (sorted by name).

    The paper states no normalisation, and its code uses several (P2); spreads differ twofold
    between reward models, so it decides how much each counts.

    Parameters
    ----------
    table : ``datasets.load_personalllm``, or some of its prompts.
    normalization : "raw"; "published", z-scored with the authors' constants; "zscore", with the
        mean and standard deviation of this table.

    Returns
    -------
    (prompts, 8, reward models).

    `UserError`: unknown normalization, or no published constants for these reward models; a prompt
    without all its responses in order; a reward model that tells no responses apart.
    """
    if table.empty:
        raise UserError("no prompts to take rewards of: split is 'train' or 'test'")
    if "reward_models" not in table.attrs:
        remedy = "list them, sorted by name, in table.attrs['reward_models']"
        raise UserError(f"no reward models named, perhaps lost when tables were joined: {remedy}")
    names, size = list(table.attrs["reward_models"]), table["response"].nunique()
    # Or responses to several prompts would be taken for those to one.
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
    """What each user thinks of each response: Σ over reward models of weight × reward (eq. 1).

    (users, reward models) and (prompts, responses, reward models) → (users, prompts, responses); of
    a large population give a few users at a time.
    """
    flat = rewards.reshape(-1, rewards.shape[-1])
    return (_weights(weights, rewards) @ flat.T).reshape(-1, *rewards.shape[:2])


def winners(weights: pd.DataFrame | np.ndarray, rewards: np.ndarray) -> np.ndarray:
    """Each user's favourite response to each prompt, the first where several tie: (users, prompts).

    Works through the users in chunks, so memory does not grow with the population.
    """
    weights = _weights(weights, rewards)
    step = max(1, CHUNK // max(1, rewards[..., 0].size))
    chosen = np.empty((len(weights), len(rewards)), dtype=np.int8)
    for start in range(0, len(weights), step):
        some = slice(start, start + step)
        chosen[some] = scores(weights[some], rewards).argmax(axis=-1)
    return chosen


def vote_shares(winners: np.ndarray, responses: int = 8) -> np.ndarray:
    """Share of the users that vote for each response: (prompts, responses)."""
    return np.stack([(winners == response).mean(axis=0) for response in range(responses)], axis=-1)


def _weights(weights: pd.DataFrame | np.ndarray, rewards: np.ndarray) -> np.ndarray:
    # Rewards are in the order of the names; an array has its own.
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
    # Users of other sums would count more in whatever averages over them.
    total = values.sum(axis=1)
    if not np.allclose(total, 1):
        user = np.abs(total - 1).argmax()
        remedy = "normalise them"
        raise UserError(f"user {user}: the weights sum to {total[user]:.3f}, not to one: {remedy}")
    expect((values >= 0).all(), "weights of 0 to 1", weights=weights)
    # Or whatever is chosen would be the first.
    expect(np.isfinite(rewards).all(), "finite numbers", rewards=rewards)
    return values
