"""Similar users: their embeddings, histories and examples, and the quality of the retrieval."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd
from scipy import sparse, stats
from sklearn.preprocessing import normalize

from personagap.errors import UserError
from personagap.limits import t_interval, with_pseudo_clusters
from personagap.personalllm.adaptation.icl import Examples, Study, extremes, nearest
from personagap.results import result

KINDS = ("winning", "losing", "difference")
#: Arms, named after the users whose examples are shown.
NEAR = ["own history", "own history as coded", "random users", "oracle users"]
NEAR += map("similar by {}".format, KINDS)
#: Users of the database that similarities are correlated over; more would hardly narrow the
#: interval.
CORRELATION_USERS = 1000
#: Users whose pools are sorted at a time, so few that their ranks fit the processor's cache.
POOL_CHUNK = 64


def draw_histories(
    study: Study, weights: np.ndarray, length: int, seed: int, as_coded: bool = False
) -> Examples:
    """Draw random training prompts for each user, with the best and the worst of all responses.

    ``weights`` are (n_users, n_models). With ``as_coded`` the examples are the better and the worse
    of two random responses, never the last one, as in the authors' code for test users only: that
    makes the examples of Self-ICL weaker than those of the methods it is compared with (P7).
    """
    if length > len(study.train):
        raise UserError(
            f"histories of {length} interactions from {len(study.train)} training prompts: "
            "shorten them"
        )
    rng = np.random.default_rng(seed)
    prompts = np.stack([rng.choice(study.train, length, replace=False) for _ in weights])
    if not as_coded:
        # One user at a time, as indexing the rewards of 10,000 histories at once would copy 320 MB.
        histories = zip(weights, prompts, strict=True)
        sides = [extremes(user, study.rewards[history]) for user, history in histories]
        return Examples(prompts, *np.stack(sides, axis=1))
    # Two different responses of the first seven.
    pairs = rng.random((*prompts.shape, study.responses.shape[1] - 1)).argsort(axis=-1)[..., :2]
    places = extremes(weights[:, None], study.rewards[prompts[..., None], pairs])
    liked, disliked = (np.take_along_axis(pairs, place[..., None], -1)[..., 0] for place in places)
    return Examples(prompts, liked, disliked)


def pool_examples(
    study: Study, vectors: np.ndarray, owners: np.ndarray, histories: Examples, k: int
) -> Examples:
    """Return the ``k`` examples most similar to each user's test prompt from the pooled histories
    of that user's ``owners`` (n_users, m).

    ``vectors`` (n_prompts, d) are embeddings of the prompts. If several owners have the same
    prompt, the example of the nearest owner is used.
    """
    pools = Examples(*(side[owners].reshape(len(owners), -1) for side in histories))
    targets, target = np.unique(study.target, return_inverse=True)
    # Double precision, as in `nearest`; a stable sort keeps ties in the order of the file.
    similarity = vectors[targets].astype(float) @ vectors.astype(float).T
    order = np.argsort(-similarity, axis=1, kind="stable")
    # NumPy sorts small integers in linear time.
    ranks = np.argsort(order, axis=1).astype(np.min_scalar_type(len(vectors)))
    chosen = []
    for start in range(0, len(target), POOL_CHUNK):
        chunk = slice(start, start + POOL_CHUNK)
        pooled = np.take_along_axis(ranks[target[chunk]], pools.prompts[chunk], axis=1)
        # The stable sort puts the nearest owner's example of a shared prompt first.
        near = pooled.argsort(axis=1, kind="stable")
        first = np.diff(np.take_along_axis(pooled, near, axis=1), axis=1, prepend=-1) != 0
        chosen.append(near[first & (first.cumsum(axis=1) <= k)].reshape(-1, k))
    return Examples(*(np.take_along_axis(side, np.concatenate(chosen), axis=1) for side in pools))


def embed_users(vectors: np.ndarray, history: Examples, kind: str) -> np.ndarray:
    """Return the mean embedding (n_users, d) of the responses that each user liked ("winning"),
    disliked ("losing"), or the difference of the two ("difference"; §4.2).

    ``vectors`` (n_prompts · 8, d) are embeddings of all responses. A sparse matrix of indices into
    them stands for the histories: copies would take 2 GB for 10,000 users × 50 interactions × 1,024
    dimensions.
    """
    means = []
    sides = {"winning": [history.liked], "losing": [history.disliked], "difference": history[1:]}
    for side in sides[kind]:
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
    """Return examples from users' own histories and from those of similar users, and the similar
    users themselves.

    Parameters
    ----------
    database : weights of the historical users, as from ``users.dirichlet``.
    prompt_vectors, response_vectors : (n_prompts, d), (n_prompts · 8, d) embeddings.
    interactions, own_interactions : lengths of the histories of the historical users and of the
        study's users.
    kinds : the user embeddings to find similar users by, from `KINDS`.

    Returns
    -------
    arms : "own history"; "own history as coded" (P7); "similar by winning", "… losing" and "…
        difference"; "random users" and "oracle users", the latter nearest by the true weights.
    similar : for each kind of embedding, the users found and the embeddings of the study's and of
        the historical users.
    """
    # A single history already holds ``shots`` distinct prompts, so every pool has enough examples
    # however much the prompts of its owners overlap.
    if shots > min(interactions, own_interactions):
        shorter = f"{own_interactions} (own_interactions) and {interactions} (interactions)"
        raise UserError(f"{shots} examples from histories of {shorter}: show fewer")
    weights, db_weights, n = study.weights, database.to_numpy(), len(study.weights)
    db_history = draw_histories(study, db_weights, interactions, seed)
    own = draw_histories(study, weights, own_interactions, seed + 1)
    own_as_coded = draw_histories(study, weights, own_interactions, seed + 1, as_coded=True)
    # A control: the examples of random users show the effect of any additional examples.
    random = np.random.default_rng(seed).integers(len(db_weights), size=(n, neighbours))
    near = {"random users": random, "oracle users": nearest(weights, db_weights, neighbours)}
    similar: dict[str, tuple[np.ndarray, ...]] = {}
    for kind in kinds:
        queries, index = (embed_users(response_vectors, side, kind) for side in (own, db_history))
        near[f"similar by {kind}"] = nearest(queries, index, neighbours)
        similar[kind] = near[f"similar by {kind}"], queries, index
    themselves = np.arange(n)[:, None]
    pools = {"own history": (themselves, own), "own history as coded": (themselves, own_as_coded)}
    pools |= {name: (owners, db_history) for name, owners in near.items()}
    arms = {arm: pool_examples(study, prompt_vectors, *pool, shots) for arm, pool in pools.items()}
    return arms, similar


def quality(
    study: Study, database: pd.DataFrame, similar: dict[str, tuple[np.ndarray, ...]]
) -> pd.DataFrame:
    """Return `retrieval_quality` of each embedding in ``similar``, which `neighbour_arms` returns:
    `results` with the keys ``embedding users``.
    """
    weights = study.weights, database.to_numpy()
    tables = []
    for kind, (found, *embeddings) in similar.items():
        oracle = nearest(*weights, found.shape[1])
        tables.append(retrieval_quality(found, oracle, embeddings, weights).assign(embedding=kind))
    return result(pd.concat(tables).assign(users=len(database)), ["embedding", "users"])


def retrieval_quality(
    found: np.ndarray, oracle: np.ndarray, embeddings: Sequence, weights: tuple
) -> pd.DataFrame:
    """Measure whether users with similar embeddings have similar weights: `results` with
    ``chance``, means over users with t intervals.

    "recall" is the share of the ``oracle``'s neighbours (n_users, k) that are among the ``found``.
    "rank correlation" is Spearman's correlation, over `CORRELATION_USERS` users of the database,
    between the cosine similarities of ``embeddings`` and those of the true ``weights``; each of the
    two is a pair (queries, database).
    """
    k, size = oracle.shape[1], len(embeddings[1])
    recall = [len(np.intersect1d(*pair)) / k for pair in zip(found, oracle, strict=True)]
    similar = [normalize(x) @ normalize(y[-CORRELATION_USERS:]).T for x, y in (embeddings, weights)]
    # Ties are rare, so ordinal ranks suffice; averaging the ranks of ties would be much slower.
    ranks = [stats.zscore(cosines.argsort(axis=1).argsort(axis=1), axis=1) for cosines in similar]
    values = np.array([recall, (ranks[0] * ranks[1]).mean(axis=1)])
    mean = values.mean(axis=1)
    error, least = stats.sem(values, axis=1), with_pseudo_clusters(0.0, 0.0, len(found))[1]
    # Without any spread in the sample other users may still differ, so the error is never zero.
    error = np.where(error > 0, error, least)
    low, high = t_interval(mean, error, len(found) - 1, 0.95, np.array([0, -1]), 1)
    table: dict[str, Any] = {"metric": ["recall", "rank correlation"], "unit": ["share", ""]}
    table |= {"estimate": mean, "ci_low": low, "ci_high": high, "chance": [k / size, 0.0]}
    return result(pd.DataFrame(table), [], n=len(found), method="t interval over users")
