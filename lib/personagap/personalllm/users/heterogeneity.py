"""How differently simulated users vote (arXiv 2409.20296, §3)."""

from typing import NotRequired, TypedDict, Unpack

import numpy as np
import pandas as pd
from scipy import stats

from personagap import gap
from personagap.errors import UserError, expect
from personagap.personalllm.users.population import dirichlet, vote_shares, winners
from personagap.results import generator, require
from personagap.spelling import entries

#: Numbers of distinct winners → the label of their bar in the paper, whose bins are off by one
#: (P3).
IN_PAPER = {
    row["bin"]: row["in_paper"]
    for row in entries("personalllm/bins")
    if row["measure"] == "distinct_winners"
}
_BIN = np.array(["", "1", "2–3", "2–3", "4", "5", "6", "7–8", "7–8"])
#: Words of the entropy analysis: anywhere in the prompt, or first in it.
SUBJECTIVE = ("imagine", "opinion", "poem", "taste")
OBJECTIVE = ("who", "what", "where", "when", "why")


class Population(TypedDict):
    """``alpha``, ``n_users`` and ``seed`` of ``users.dirichlet``, and how many of the reward
    models: so many are drawn ten times at random, and the result is the mean over these
    populations.
    """

    alpha: float
    n_users: int
    seed: int
    n_reward_models: NotRequired[int]


def heterogeneity(
    rewards: np.ndarray, population: Population, **how: Unpack[gap.How]
) -> pd.DataFrame:
    """Share of prompts by the votes of their top response, and by number of distinct winners.

    Parameters
    ----------
    rewards : (prompts, responses, reward models), see ``users.rewards``.
    population : a dictionary, see `Population`.
    how : of the intervals, which resample the prompts; users and sets of reward models stay as
        drawn.

    Returns
    -------
    `results`, with the keys ``alpha measure bin`` and ``n_users n_reward_models in_paper``. Measure
    "top_share": share of the prompts whose top response has at most 50 %, 75 % or 95 % of the
    votes; "distinct_winners": share with so many responses that win a vote, ``in_paper`` the label
    that the published figure puts on that bar (P3). Shares are in [0, 1]; ``n`` counts prompts ×
    sets of reward models.
    """
    found = _means(_prompts(rewards, **population), "share", ["measure", "bin"], how)
    found.insert(0, "alpha", population["alpha"])
    size = population.get("n_reward_models", rewards.shape[-1])
    in_paper = found["bin"].replace(IN_PAPER)
    return found.assign(n_users=population["n_users"], n_reward_models=size, in_paper=in_paper)


def heterogeneity_change(
    rewards: np.ndarray, before: Population, after: Population, **how: Unpack[gap.How]
) -> pd.DataFrame:
    """What changes between two populations of `heterogeneity` that vote on the same prompts, paired
    by prompt.

    `results`, with the keys ``measure bin``: the difference of the shares, after − before, in
    points.
    """
    key = ["measure", "bin", "prompt"]
    # Paired by prompt: some divide any population, and their scatter would hide the change.
    first, second = (
        _prompts(rewards, **each).groupby(key, sort=False)["share"].mean()
        for each in (before, after)
    )
    change = (second - first).rename("change").reset_index()
    found = _means(change, "change", key[:2], how, differences=True)
    limits = ["estimate", "ci_low", "ci_high"]
    return found.assign(**100 * found[limits], unit="points")


def dependence(
    rewards: np.ndarray, varied: dict[str, list[Population]], **how: Unpack[gap.How]
) -> pd.DataFrame:
    """`heterogeneity` of several populations; ``varied`` names in a column ``varies`` what tells
    them apart.
    """
    expect(varied, "populations by what tells them apart", varied=varied)
    populations = [(name, each) for name, these in varied.items() for each in these]
    tables = [heterogeneity(rewards, each, **how).assign(varies=name) for name, each in populations]
    return pd.concat(tables)


def _means(
    table: pd.DataFrame,
    value: str,
    by: list[str],
    how: gap.How,
    *,
    differences: bool = False,
    unit: str = "share",
) -> pd.DataFrame:
    """Mean of ``value`` by group, a metric of its own, with an interval over prompts."""
    how = {"cluster": "prompt", **how}
    found = gap.means(table, value, by, differences=differences, unit=unit, **how)
    return found.assign(metric=value, unit=unit)


def _prompts(
    rewards: np.ndarray, alpha: float, n_users: int, seed: int, n_reward_models: int | None = None
) -> pd.DataFrame:
    """``prompt measure bin share``, shares of 0 or 1, for each set of reward models."""
    total, rng, parts = rewards.shape[-1], generator(seed), []
    size = total if n_reward_models is None else n_reward_models
    if not 1 <= size <= total:
        raise UserError(f"n_reward_models is {size}, but there are {total}: give 1 to {total}")
    most = len(_BIN) - 1
    expect(rewards.shape[1] <= most, f"{most} responses to a prompt at most", rewards=rewards)
    # Which reward models are left out matters as much as how many: hence several draws of them.
    for draw in range(1 if size == total else 10):
        chosen = np.sort(rng.permutation(total)[:size])
        # Columns of weights are sorted by name: these names keep the order of the rewards.
        weights = dirichlet(n_users, alpha, seed + draw, [f"{number:03d}" for number in chosen])
        shares = vote_shares(winners(weights, rewards[..., chosen]), rewards.shape[1])
        top, distinct = shares.max(axis=1), _BIN[(shares > 0).sum(axis=1)]
        # A share of exactly the cut may come out a little above it.
        hits = {("top_share", f"≤{cut}%"): 100 * top <= cut + 1e-9 for cut in (50, 75, 95)}
        hits |= {("distinct_winners", name): distinct == name for name in IN_PAPER}
        wide = pd.DataFrame(hits, pd.RangeIndex(len(shares), name="prompt")).astype(float)
        parts.append(wide.melt(var_name=["measure", "bin"], value_name="share", ignore_index=False))
    return pd.concat(parts).reset_index()


def wins(table: pd.DataFrame, shares: np.ndarray, **how: Unpack[gap.How]) -> pd.DataFrame:
    """Share of the votes that each response model wins, over prompts: `results` with the key
    ``response_model``.

    ``table`` is that of ``datasets.load_personalllm``, ``shares`` (prompts, responses) its
    ``users.vote_shares``. Over 15 prompts intervals of models that seldom win cover in 89–98 %,
    over 60 in 92–95 %.
    """
    require(table, "responses", "prompt", "response_model")
    votes = table[["prompt", "response_model"]].assign(share=shares.ravel())
    found = _means(votes, "share", ["response_model"], how)
    return found.sort_values("estimate", ascending=False, ignore_index=True)


def entropy(table: pd.DataFrame, shares: np.ndarray, **how: Unpack[gap.How]) -> pd.DataFrame:
    """Entropy of the votes by words of the prompt: `results` by ``kind keyword``, in nats.

    "subjective" prompts hold the word anywhere, "objective" ones begin with it; a prompt can be in
    several groups, or in "overall" alone. log 8 = 2.08 is the most that eight responses allow.
    """
    require(table, "responses", "prompt", "prompt_text")
    first = table.drop_duplicates("prompt")
    text = first["prompt_text"].str.lower()
    first = first.assign(entropy=stats.entropy(shares, axis=1))
    groups = {("overall", "overall"): text.notna()}
    groups |= {("subjective", word): text.str.contains(word, regex=False) for word in SUBJECTIVE}
    groups |= {("objective", word): text.str.match(rf"\W*{word}\b") for word in OBJECTIVE}
    # A lone prompt has no interval.
    parts = {group: first[inside] for group, inside in groups.items() if sum(inside) > 1}
    by = ["kind", "keyword"]
    table = pd.concat(parts, names=by).reset_index(by)
    return _means(table, "entropy", by, how, unit="nats")
