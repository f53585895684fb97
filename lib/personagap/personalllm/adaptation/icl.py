"""In-context learning: whose examples a model is shown, and how they are written."""

import functools
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import pandas as pd
from sklearn.neighbors import NearestNeighbors
from sklearn.preprocessing import normalize

from personagap import prompts
from personagap.errors import UserError, expect, require_one_of
from personagap.formatting import word_table
from personagap.models import Formatted, Model
from personagap.models.rendering import user_chat
from personagap.personalllm import users

#: Arms that show the user's own examples → which responses of these they show.
STRATEGIES = {"own": "winning", "losing": "losing", "both": "both", "mislabelled": "mislabelled"}
#: Arms that show the favourites of others: of a different stranger for each example, of a single
#: stranger, of most users, and of user 0 for every user. As in the authors' code, the weights of
#: user 0 are multiplied with raw rewards in a different order of the reward models (P1).
CONTROLS = ("other people's", "a random user's", "the population's", "user 0's")
#: With the model's chat template, or with none, as in the authors' code (P8).
TEMPLATES = ("chat", "plain")
#: The order of the reward models in the authors' code, which user 0's weights are applied in.
_ORDERED = sorted(word_table("personalllm/reward_models"), key=lambda row: int(row["code_order"]))
CODE_ORDER = [row["name"] for row in _ORDERED]


@dataclass(frozen=True)
class Study:
    """Users with one test prompt each, as in the paper, and the stored responses to all prompts.

    Attributes
    ----------
    prompts : (n_prompts,) texts.
    responses : (n_prompts, 8) texts.
    rewards : (n_prompts, 8, n_models), normalised.
    raw : the same rewards, not normalised.
    weights : (n_users, n_models).
    models : names of the reward models.
    target : (n_users,) the test prompt of each user, a row of ``prompts``.
    train : rows of ``prompts`` that examples are taken from.
    reference : column of ``responses`` that win rates compare with (GPT-4o).
    unit : unit of the rewards.
    """

    prompts: np.ndarray
    responses: np.ndarray
    rewards: np.ndarray
    raw: np.ndarray
    weights: np.ndarray
    models: list[str]
    target: np.ndarray
    train: np.ndarray
    reference: int
    unit: str = "z units"

    def stored(self) -> np.ndarray:
        """Return each user's rewards of the stored responses to the test prompt: (n_users, 8)."""
        return np.einsum("ubr,ur->ub", self.rewards[self.target], self.weights)


class Examples(NamedTuple):
    """Examples of each user, most similar first, as (n_users, k) arrays: rows of ``Study.prompts``
    and the columns of the liked and the disliked response.
    """

    prompts: np.ndarray
    liked: np.ndarray
    disliked: np.ndarray


def plan_study(
    table: pd.DataFrame, weights: pd.DataFrame, normalization: str, reference: str, seed: int = 0
) -> Study:
    """Assign test prompts to users, a different one to each as long as there are enough.

    ``table`` is that of ``datasets.load_personalllm``, ``weights`` those of ``users.dirichlet``,
    ``normalization`` that of ``users.rewards``; ``reference`` is the end of the name of the
    response model that win rates compare with.
    """
    rewards = users.rewards(table, normalization), users.rewards(table, "raw")
    responses = table["text"].to_numpy().reshape(-1, table["response"].nunique())
    first = table.iloc[:: responses.shape[1]]
    names = table["response_model"].iloc[: responses.shape[1]]
    # Only the end must match: names on the Hub begin with an owner that a notebook need not know.
    matches = np.flatnonzero(names.str.endswith(str(reference)))
    if len(matches) != 1:
        raise UserError(
            f"reference {reference!r} ends {len(matches)} of the response models: "
            f"{', '.join(names)}"
        )
    test, train = (np.flatnonzero(first["split"] == split) for split in ("test", "train"))
    if not (len(test) and len(train)):
        remedy = "users need both, load all splits"
        raise UserError(f"{len(train)} training and {len(test)} test prompts: {remedy}")
    # With more users than prompts the prompts repeat in order, so that the numbers of users per
    # prompt differ by one at most.
    target = np.resize(np.random.default_rng(seed).permutation(test), len(weights))
    same_models = sorted(weights) == table.attrs["reward_models"]
    expect(same_models, "a column of weights for each reward model", weights=list(weights))
    weights = weights.sort_index(axis=1)
    texts, models = first["prompt_text"].to_numpy(), list(weights)
    unit = "raw units" if normalization == "raw" else "z units"
    data = texts, responses, *rewards, weights.to_numpy(), models
    return Study(*data, target, train, int(matches[0]), unit)


def nearest(queries: np.ndarray, database: np.ndarray, k: int) -> np.ndarray:
    """Return the ``k`` rows of ``database`` (n, d) nearest to each of ``queries`` (m, d) by cosine:
    (m, k).

    Memory does not grow with m × n. Double precision is needed, as cosines of short texts can
    differ by less than single precision resolves.
    """
    if not 1 <= k <= len(database):
        remedy = f"ask for 1 to {len(database)}"
        raise UserError(f"{k} examples or neighbours of only {len(database)}: {remedy}")
    # Unit vectors have the same order by cosine as by distance, and scikit-learn finds the nearest
    # by distance without sorting them all. A tree does not help in hundreds of dimensions.
    database, queries = (normalize(np.asarray(x, float)) for x in (database, queries))
    index = NearestNeighbors(n_neighbors=k, metric="euclidean", algorithm="brute").fit(database)
    return index.kneighbors(queries, return_distance=False)


def extremes(weights: np.ndarray, rewards: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return the best and the worst response (…) to users with ``weights`` (…, n_models), given
    ``rewards`` (…, 8, n_models).
    """
    scores = np.einsum("...br,...r->...b", rewards, weights)
    return scores.argmax(axis=-1), scores.argmin(axis=-1)


def favourites(study: Study, prompts: np.ndarray) -> list[np.ndarray]:
    """Return, for each of ``prompts``, the response that most users like best and the one that most
    like least.
    """
    distinct, where = np.unique(prompts, return_inverse=True)
    votes = (users.winners(study.weights, sign * study.rewards[distinct]) for sign in (1, -1))
    return [users.vote_shares(vote).argmax(axis=1)[where].reshape(prompts.shape) for vote in votes]


def source_arms(
    study: Study, vectors: np.ndarray, k: int, alpha: float, seed: int = 0
) -> dict[str, Examples]:
    """Return the examples of each arm of `STRATEGIES` and `CONTROLS`, all on the ``k`` training
    prompts most similar to the user's test prompt.

    Parameters
    ----------
    vectors : (n_prompts, d) embeddings of the prompts.
    alpha : parameter of the Dirichlet distribution of n_users · k strangers, each of whom chooses
        one example for a single user. If the users chose for one another instead, one user would be
        in the controls of many, and intervals that treat users as independent would cover 80 %
        instead of 95 %.
    """
    expect(k >= 1, "at least 1 (shots above 0): without examples nothing is compared", k=k)
    n, models = study.weights.shape
    prompts = study.train[nearest(vectors[study.target], vectors[study.train], k)]
    # A random stream of its own: with the bare seed the strangers would be the users themselves.
    strangers = users.dirichlet(n * k, alpha, [seed, 1], study.models).to_numpy()
    strangers = strangers.reshape(n, k, models)
    rewards = study.rewards[prompts]
    # For reward models that the authors' code lacks, the reverse order shows the same mistake.
    order = [study.models.index(name) for name in CODE_ORDER if name in study.models]
    order += [model for model in range(models)[::-1] if model not in order]
    labelled = {
        "own": extremes(study.weights[:, None], rewards),
        "other people's": extremes(strangers, rewards),
        "a random user's": extremes(strangers[:, :1], rewards),
        "the population's": favourites(study, prompts),
        "user 0's": extremes(study.weights[0], study.raw[prompts][..., order]),
    }
    arms = {name: Examples(prompts, *sides) for name, sides in labelled.items()}
    return dict.fromkeys(STRATEGIES, arms["own"]) | arms


def chats(
    study: Study, arm: str, shown: Examples | None, shots: int, max_characters: int = 24_000
) -> list:
    """Write one chat per user: ``shots`` examples, then the test prompt, worded as in
    ``data/prompts/icl_*.txt``.

    "mislabelled" presents the disliked responses as liked. If a prompt would exceed
    ``max_characters`` (about the authors' 7,000 tokens), its least similar examples are left out,
    so some prompts hold fewer than ``shots`` (P9).
    """
    if shown is None or shots == 0:
        return [user_chat(prompt) for prompt in study.prompts[study.target]]
    wording = {"losing": "losing", "both": "both"}.get(arm, "winning")
    head, example, tail = prompts.parts(prompts.template(f"icl_{wording}"))
    liked, disliked = (study.responses[shown.prompts, side] for side in shown[1:])
    # Tests whether a model follows the label of an example or its text.
    liked = disliked if arm == "mislabelled" else liked
    sides = (side[:, :shots].tolist() for side in (study.prompts[shown.prompts], liked, disliked))
    # Cached, as thousands of users are shown the same few hundred examples.
    written, fill = [], functools.cache(prompts.fill)
    for prompt, *rows in zip(study.prompts[study.target], *sides, strict=True):
        examples = zip(*rows, strict=True)
        parts = [fill(example, prompt=past, liked=up, disliked=down) for past, up, down in examples]
        closing = fill(tail, prompt=prompt)
        # The most similar example comes first, so popping removes the least similar one.
        while parts and len(head) + sum(map(len, parts)) + len(closing) > max_characters:
            parts.pop()
        written.append(user_chat("".join([head, *parts, closing])))
    return written


def reader(lm: Model, template: str) -> Model:
    """Return ``lm`` reading prompts through its chat template ("chat") or verbatim ("plain"), as in
    the authors' code (P8).
    """
    require_one_of(TEMPLATES, "template", template)
    if template == "chat":
        return lm
    if not isinstance(lm, Formatted):
        remedy = "use templates=['chat']"
        raise UserError(f"model {lm.id}: a server always applies the chat template; {remedy}")
    return lm.formatted(template)
