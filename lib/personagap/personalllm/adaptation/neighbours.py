"""Users like a given one: embeddings, histories, examples from them, how good the retrieval is."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd
from scipy import sparse, stats
from sklearn.preprocessing import normalize

from personagap.errors import UserError
from personagap.gap.resampling import with_pseudo_clusters
from personagap.limits import student
from personagap.personalllm.adaptation.icl import Examples, Study, extremes, nearest
from personagap.results import result

KINDS = ("winning", "losing", "difference")
#: Arms: whose examples are shown.
NEAR = ["own history", "own history as coded", "random users", "oracle users"]
NEAR += map("similar by {}".format, KINDS)
#: Users of the database that similarities are correlated over: more would hardly narrow the
#: interval.
CORRELATED = 1000
#: Users whose pools are sorted at a time: their ranks fit the processor's cache.
POOLED = 64


def draw_histories(
    study: Study, weights: np.ndarray, length: int, seed: int, as_coded: bool = False
) -> Examples:
    """Random training prompts of each user (n_users, n_models), with the best and the worst of all
    responses.

    ``as_coded`` takes the better and the worse of two random ones, never the last, as the authors'
    code did for test users only: that makes the examples of Self-ICL weaker than those it competes
    with (P7).
    """
    if length > len(study.train):
        raise UserError(
            f"histories of {length} interactions from {len(study.train)} training prompts: "
            "shorten them"
        )
    rng = np.random.default_rng(seed)
    prompts = np.stack([rng.choice(study.train, length, replace=False) for _ in weights])
    if not as_coded:
        # One user at a time: the rewards of 10,000 histories at once would take 320 MB, and be
        # copied.
        each = zip(weights, prompts, strict=True)
        sides = [extremes(mine, study.rewards[own]) for mine, own in each]
        return Examples(prompts, *np.stack(sides, axis=1))
    # Two different ones of the first seven.
    pairs = rng.random((*prompts.shape, study.responses.shape[1] - 1)).argsort(axis=-1)[..., :2]
    told = extremes(weights[:, None], study.rewards[prompts[..., None], pairs])
    liked, disliked = (np.take_along_axis(pairs, side[..., None], -1)[..., 0] for side in told)
    return Examples(prompts, liked, disliked)


def pool_examples(
    study: Study, vectors: np.ndarray, owners: np.ndarray, histories: Examples, k: int
) -> Examples:
    """The ``k`` prompts in the histories of each user's ``owners`` (n_users, m) most similar to the
    user's prompt.

    ``vectors`` (n_prompts, d) are embeddings of the prompts. Where owners share a prompt, the
    nearest's counts.
    """
    pools = Examples(*(side[owners].reshape(len(owners), -1) for side in histories))
    targets, target = np.unique(study.target, return_inverse=True)
    # In double precision, as in `nearest`; stable, so that equals stay in the order of the file.
    likeness = vectors[targets].astype(float) @ vectors.astype(float).T
    order = np.argsort(-likeness, axis=1, kind="stable")
    # Small integers sort in linear time.
    ranks = np.argsort(order, axis=1).astype(np.min_scalar_type(len(vectors)))
    chosen = []
    for start in range(0, len(target), POOLED):
        some = slice(start, start + POOLED)
        pooled = np.take_along_axis(ranks[target[some]], pools.prompts[some], axis=1)
        # Of a prompt that owners share, the nearest owner's comes first.
        near = pooled.argsort(axis=1, kind="stable")
        first = np.diff(np.take_along_axis(pooled, near, axis=1), axis=1, prepend=-1) != 0
        chosen.append(near[first & (first.cumsum(axis=1) <= k)].reshape(-1, k))
    return Examples(*(np.take_along_axis(side, np.concatenate(chosen), axis=1) for side in pools))


def embed_users(vectors: np.ndarray, history: Examples, kind: str) -> np.ndarray:
    """Mean embedding (n_users, d) of the responses liked ("winning"), disliked ("losing"), or their
    difference (§4.2).

    Users share ``vectors`` (n_prompts · 8, d) of the responses, so that a history costs indices and
    not copies: 2 GB for 10,000 users × 50 interactions × 1,024 dimensions.
    """
    means = []
    shown = {"winning": [history.liked], "losing": [history.disliked], "difference": history[1:]}
    for side in shown[kind]:
        start = np.arange(0, side.size + 1, side.shape[1])
        share = np.full(side.size, 1 / side.shape[1], dtype=np.float32)
        rows = (history.prompts * 8 + side).ravel()
        of_users = sparse.csr_array((share, rows, start), shape=(len(side), len(vectors)))
        means.append(of_users @ vectors)
    return means[0] - means[1] if kind == "difference" else means[0]


def neighbour_arms(
    study: Study,
    database: pd.DataFrame,
    prompt_vectors: np.ndarray,
    response_vectors: np.ndarray,
    *,
    interactions: int = 50,
    own_interactions: int = 5,
    neighbours: int = 20,
    shots: int = 3,
    kinds: Sequence[str] = KINDS,
    seed: int = 0,
) -> tuple[dict[str, Examples], dict[str, tuple[np.ndarray, ...]]]:
    """Examples from users' own histories and from those of similar users, and who these are.

    Parameters
    ----------
    database : weights of the historical users, as of ``users.dirichlet``.
    prompt_vectors, response_vectors : (n_prompts, d), (n_prompts · 8, d) embeddings.
    interactions, own_interactions : lengths of the histories of historical users and of the
        study's.
    kinds : embeddings to find similar users by, of `KINDS`.

    Returns
    -------
    arms : "own history"; "own history as coded" (P7); "similar by winning", "… losing" and "…
        difference"; "random users" and "oracle users", the latter nearest by the true weights.
    similar : of each embedding the users found, and the vectors of the study's and of the
        historical users.
    """
    # With so many no pool lacks examples, however its owners' prompts overlap.
    if shots > min(interactions, own_interactions):
        shorter = f"{own_interactions} (own_interactions) and {interactions} (interactions)"
        raise UserError(f"{shots} examples from histories of {shorter}: show fewer")
    own, others, n = study.weights, database.to_numpy(), len(study.weights)
    history = draw_histories(study, others, interactions, seed)
    asked = study, own, own_interactions, seed + 1
    mine, coded = (draw_histories(*asked, as_coded=each) for each in (False, True))
    # Whoever they are, their examples show what any further examples do.
    random = np.random.default_rng(seed).integers(len(others), size=(n, neighbours))
    near = {"random users": random, "oracle users": nearest(own, others, neighbours)}
    similar: dict[str, tuple[np.ndarray, ...]] = {}
    for kind in kinds:
        own_looks, looks = (embed_users(response_vectors, each, kind) for each in (mine, history))
        near[f"similar by {kind}"] = nearest(own_looks, looks, neighbours)
        similar[kind] = near[f"similar by {kind}"], own_looks, looks
    themselves = np.arange(n)[:, None]
    pools = {"own history": (themselves, mine), "own history as coded": (themselves, coded)}
    pools |= {name: (owners, history) for name, owners in near.items()}
    given = study, prompt_vectors
    return {name: pool_examples(*given, *pool, shots) for name, pool in pools.items()}, similar


def quality(
    study: Study, database: pd.DataFrame, similar: dict[str, tuple[np.ndarray, ...]]
) -> pd.DataFrame:
    """`retrieval_quality` of each embedding of `neighbour_arms`: keys ``embedding users``."""
    weights = study.weights, database.to_numpy()
    tables = []
    for kind, (found, *looks) in similar.items():
        oracle = nearest(*weights, found.shape[1])
        tables.append(retrieval_quality(found, oracle, looks, weights).assign(embedding=kind))
    return result(pd.concat(tables).assign(users=len(database)), ["embedding", "users"])


def retrieval_quality(
    found: np.ndarray, oracle: np.ndarray, looks: Sequence, weights: tuple
) -> pd.DataFrame:
    """Whether users who look alike are alike: `results` with ``chance``, means over users with t
    intervals.

    "recall" is the share of the ``oracle``'s neighbours (n_users, k) among the ``found``; "rank
    correlation" is Spearman's, over `CORRELATED` users of the database, of the cosine similarities
    of two pairs (queries, database): ``looks`` holds embeddings, ``weights`` the truth.
    """
    k, size = oracle.shape[1], len(looks[1])
    recall = [len(np.intersect1d(*pair)) / k for pair in zip(found, oracle, strict=True)]
    similar = [
        normalize(queries) @ normalize(rows[-CORRELATED:]).T for queries, rows in (looks, weights)
    ]
    # Ties are rare, so that ranks by position do, which is much faster than averaging them.
    ranks = [stats.zscore(each.argsort(axis=1).argsort(axis=1), axis=1) for each in similar]
    values = np.array([recall, (ranks[0] * ranks[1]).mean(axis=1)])
    mean = values.mean(axis=1)
    error, least = stats.sem(values, axis=1), with_pseudo_clusters(0.0, 0.0, len(found))[1]
    # Of users who are all alike others may not be.
    error = np.where(error > 0, error, least)
    low, high = student(mean, error, len(found) - 1, 0.95, np.array([0, -1]), 1)
    table: dict[str, Any] = {"metric": ["recall", "rank correlation"], "unit": ["share", ""]}
    table |= {"estimate": mean, "ci_low": low, "ci_high": high, "chance": [k / size, 0.0]}
    return result(pd.DataFrame(table), [], n=len(found), method="t interval over users")
