"""Heterogeneity of the votes of simulated users (arXiv 2409.20296, §3)."""

from typing import NotRequired, TypedDict, Unpack

import numpy as np
import pandas as pd
from scipy import stats

from personagap import gap
from personagap.errors import UserError, expect
from personagap.formatting import word_table
from personagap.personalllm.users.population import dirichlet, vote_shares, winners
from personagap.results import random_generator, require_columns

#: Bin of the number of distinct winners → the label of its bar in the paper, whose labels are off
#: by one bin (P3).
IN_PAPER = {
    row["bin"]: row["in_paper"]
    for row in word_table("personalllm/bins")
    if row["measure"] == "distinct_winners"
}
#: Bin of each number of distinct winners, 0 to 8.
_BINS = np.array(["", "1", "2–3", "2–3", "4", "5", "6", "7–8", "7–8"])
#: Keywords of the entropy analysis: anywhere in the prompt ("subjective") or at its beginning
#: ("objective").
SUBJECTIVE = ("imagine", "opinion", "poem", "taste")
OBJECTIVE = ("who", "what", "where", "when", "why")


class Population(TypedDict):
    """``alpha``, ``n_users`` and ``seed`` of ``users.dirichlet``, and optionally the number of
    reward models: then ten random sets of that size are drawn, and the result is the mean over the
    ten populations.
    """

    alpha: float
    n_users: int
    seed: int
    n_reward_models: NotRequired[int]


def heterogeneity(
    rewards: np.ndarray, population: Population, **how: Unpack[gap.How]
) -> pd.DataFrame:
    """Estimate the shares of prompts by the votes of the top response and by the number of distinct
    winners.

    Parameters
    ----------
    rewards : (prompts, responses, reward models), see ``users.rewards``.
    population : a dictionary, see `Population`.
    how : options of the intervals, which resample the prompts; users and sets of reward models stay
        as drawn.

    Returns
    -------
    `results`, with the keys ``alpha measure bin`` and ``n_users n_reward_models in_paper``. Measure
    "top_share" is the share of prompts whose top response has at most 50 %, 75 % or 95 % of the
    votes; "distinct_winners" is the share of prompts on which that many responses win a vote, and
    ``in_paper`` the label of that bar in the published figure (P3). Shares are in [0, 1]; ``n``
    counts prompts × sets of reward models.
    """
    table = _means(_prompt_shares(rewards, **population), "share", ["measure", "bin"], how)
    table.insert(0, "alpha", population["alpha"])
    size = population.get("n_reward_models", rewards.shape[-1])
    in_paper = table["bin"].replace(IN_PAPER)
    return table.assign(n_users=population["n_users"], n_reward_models=size, in_paper=in_paper)


def heterogeneity_change(
    rewards: np.ndarray, before: Population, after: Population, **how: Unpack[gap.How]
) -> pd.DataFrame:
    """Estimate the change of `heterogeneity` between two populations that vote on the same prompts.

    `results`, with the keys ``measure bin``: the difference of the shares, after − before, in
    points.
    """
    key = ["measure", "bin", "prompt"]
    # Paired by prompt: prompts differ in how much they divide any population, and the variation
    # between them would hide the change.
    first, second = (
        _prompt_shares(rewards, **population).groupby(key, sort=False)["share"].mean()
        for population in (before, after)
    )
    change = (second - first).rename("change").reset_index()
    table = _means(change, "change", key[:2], how, differences=True)
    limits = ["estimate", "ci_low", "ci_high"]
    return table.assign(**100 * table[limits], unit="points")


def dependence(
    rewards: np.ndarray, varied: dict[str, list[Population]], **how: Unpack[gap.How]
) -> pd.DataFrame:
    """Compute `heterogeneity` of several populations.

    ``varied`` maps what varies between populations, such as "n_users", to these populations; it is
    named in a column ``varies``.
    """
    expect(varied, "populations by what tells them apart", varied=varied)
    tables = []
    for name, populations in varied.items():
        tables += [heterogeneity(rewards, p, **how).assign(varies=name) for p in populations]
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
    """Return the mean of ``value``, which becomes the metric, by group, with an interval over
    prompts.
    """
    how = {"cluster": "prompt", **how}
    means = gap.means(table, value, by, differences=differences, unit=unit, **how)
    return means.assign(metric=value, unit=unit)


def _prompt_shares(
    rewards: np.ndarray, alpha: float, n_users: int, seed: int, n_reward_models: int | None = None
) -> pd.DataFrame:
    """Return ``prompt measure bin share`` for each set of reward models; on a single prompt a share
    is 0 or 1.
    """
    total, rng, parts = rewards.shape[-1], random_generator(seed), []
    size = total if n_reward_models is None else n_reward_models
    if not 1 <= size <= total:
        raise UserError(f"n_reward_models is {size}, but there are {total}: give 1 to {total}")
    most = len(_BINS) - 1
    expect(rewards.shape[1] <= most, f"{most} responses to a prompt at most", rewards=rewards)
    # Several draws, as which reward models are left out matters as much as how many.
    for draw in range(1 if size == total else 10):
        chosen = np.sort(rng.permutation(total)[:size])
        # Weights are sorted by name; zero-padded numbers keep them in the order of the rewards.
        weights = dirichlet(n_users, alpha, seed + draw, [f"{number:03d}" for number in chosen])
        shares = vote_shares(winners(weights, rewards[..., chosen]), rewards.shape[1])
        top, distinct = shares.max(axis=1), _BINS[(shares > 0).sum(axis=1)]
        # The tolerance is for rounding errors of shares that equal the cut exactly.
        hits = {("top_share", f"≤{cut}%"): 100 * top <= cut + 1e-9 for cut in (50, 75, 95)}
        hits |= {("distinct_winners", name): distinct == name for name in IN_PAPER}
        wide = pd.DataFrame(hits, pd.RangeIndex(len(shares), name="prompt")).astype(float)
        parts.append(wide.melt(var_name=["measure", "bin"], value_name="share", ignore_index=False))
    return pd.concat(parts).reset_index()


def wins(table: pd.DataFrame, shares: np.ndarray, **how: Unpack[gap.How]) -> pd.DataFrame:
    """Estimate the share of votes that each response model wins: `results` with the key
    ``response_model``.

    ``table`` is that of ``datasets.load_personalllm``, ``shares`` (prompts, responses) its
    ``users.vote_shares``. For models that seldom win, 95 % intervals cover in 89–98 % of
    simulations with 15 prompts, and in 92–95 % with 60.
    """
    require_columns(table, "responses", "prompt", "response_model")
    votes = table[["prompt", "response_model"]].assign(share=shares.ravel())
    table = _means(votes, "share", ["response_model"], how)
    return table.sort_values("estimate", ascending=False, ignore_index=True)


def entropy(table: pd.DataFrame, shares: np.ndarray, **how: Unpack[gap.How]) -> pd.DataFrame:
    """Estimate the entropy of the votes by keyword of the prompt: `results` with the keys
    ``kind keyword``, in nats.

    "subjective" prompts contain the keyword anywhere, "objective" ones begin with it; a prompt can
    be in several groups, or only in "overall". The maximum for eight responses is log 8 = 2.08.
    """
    require_columns(table, "responses", "prompt", "prompt_text")
    first = table.drop_duplicates("prompt")
    text = first["prompt_text"].str.lower()
    first = first.assign(entropy=stats.entropy(shares, axis=1))
    groups = {("overall", "overall"): text.notna()}
    groups |= {("subjective", word): text.str.contains(word, regex=False) for word in SUBJECTIVE}
    groups |= {("objective", word): text.str.match(rf"\W*{word}\b") for word in OBJECTIVE}
    # A mean over a single prompt has no interval.
    parts = {group: first[inside] for group, inside in groups.items() if sum(inside) > 1}
    by = ["kind", "keyword"]
    table = pd.concat(parts, names=by).reset_index(by)
    return _means(table, "entropy", by, how, unit="nats")
