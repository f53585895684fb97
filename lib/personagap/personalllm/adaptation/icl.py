"""Whose examples a model is shown, and how they are written."""

import functools
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import pandas as pd
from sklearn.neighbors import NearestNeighbors
from sklearn.preprocessing import normalize

from personagap import prompts
from personagap.errors import UserError, expect, one_of
from personagap.models import Formatted, Model
from personagap.models.rendering import user_says
from personagap.personalllm import users
from personagap.spelling import entries

#: Arm → what of the user's own examples it shows.
STRATEGIES = {"own": "winning", "losing": "losing", "both": "both", "mislabelled": "mislabelled"}
#: Arms that show others' winners: of a stranger for each example, of one stranger, of most users,
#: and of user 0 for everybody, whose weights meet raw rewards in another order, as in the authors'
#: code (P1).
CONTROLS = ("other people's", "a random user's", "the population's", "user 0's")
#: The model's chat template; none, as in the authors' code (P8).
TEMPLATES = ("chat", "plain")
#: Reward models as the authors' code has them, where user 0's weights meet them.
_ORDERED = sorted(entries("personalllm/reward_models"), key=lambda row: int(row["code_order"]))
CODE_ORDER = [row["name"] for row in _ORDERED]


@dataclass(frozen=True)
class Study:
    """Users with one test prompt each, as in the paper, and the stored responses to all prompts."""

    prompts: np.ndarray  # (n_prompts,) texts
    responses: np.ndarray  # (n_prompts, 8) texts
    rewards: np.ndarray  # (n_prompts, 8, n_models) normalised
    raw: np.ndarray  # the same, not normalised
    weights: np.ndarray  # (n_users, n_models)
    models: list[str]  # names of the reward models
    target: np.ndarray  # (n_users,) each user's test prompt, a row of prompts
    train: np.ndarray  # rows of prompts that examples come from
    reference: int  # column of responses that win rates are against (GPT-4o)
    unit: str = "z units"  # of rewards

    def stored(self) -> np.ndarray:
        """(n_users, 8) what each user thinks of the stored responses to the test prompt."""
        return np.einsum("ubr,ur->ub", self.rewards[self.target], self.weights)


class Examples(NamedTuple):
    """(n_users, k) rows of ``Study.prompts``, and columns of the responses shown; most similar
    first.
    """

    prompts: np.ndarray
    liked: np.ndarray
    disliked: np.ndarray


def plan_study(
    table: pd.DataFrame, weights: pd.DataFrame, normalization: str, reference: str, seed: int = 0
) -> Study:
    """Deal test prompts to users, different ones as far as they go.

    ``table`` is of ``datasets.load_personalllm``, ``weights`` of ``users.dirichlet``,
    ``normalization`` of ``users.rewards``; ``reference`` ends the name of the response model that
    win rates are against.
    """
    rewards = users.rewards(table, normalization), users.rewards(table, "raw")
    responses = table["text"].to_numpy().reshape(-1, table["response"].nunique())
    first = table.iloc[:: responses.shape[1]]
    names = table["response_model"].iloc[: responses.shape[1]]
    # Its end, as names on the Hub begin with an owner, which a notebook should not have to know.
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
    # More users than prompts start over, so that no prompt has two more users than another.
    target = np.resize(np.random.default_rng(seed).permutation(test), len(weights))
    named = sorted(weights) == table.attrs["reward_models"]
    expect(named, "a column of weights for each reward model", weights=list(weights))
    weights = weights.sort_index(axis=1)
    texts, models = first["prompt_text"].to_numpy(), list(weights)
    unit = "raw units" if normalization == "raw" else "z units"
    given = texts, responses, *rewards, weights.to_numpy(), models
    return Study(*given, target, train, int(matches[0]), unit)


def nearest(queries: np.ndarray, database: np.ndarray, k: int) -> np.ndarray:
    """Rows of ``database`` (n, d) nearest to ``queries`` (m, d) by cosine: (m, k). Memory does not
    grow with m × n.

    In double precision: cosines of short texts differ by less than single precision tells apart.
    """
    if not 1 <= k <= len(database):
        remedy = f"ask for 1 to {len(database)}"
        raise UserError(f"{k} examples or neighbours of only {len(database)}: {remedy}")
    # Of unit vectors the nearest by cosine are those by distance, which scikit-learn finds without
    # sorting them all. A tree does not help in hundreds of dimensions.
    units = [normalize(np.asarray(each, float)) for each in (database, queries)]
    index = NearestNeighbors(n_neighbors=k, metric="euclidean", algorithm="brute").fit(units[0])
    return index.kneighbors(units[1], return_distance=False)


def extremes(weights: np.ndarray, rewards: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Best and worst response (…) by ``weights`` (…, n_models) of ``rewards`` (…, 8, n_models)."""
    scores = np.einsum("...br,...r->...b", rewards, weights)
    return scores.argmax(axis=-1), scores.argmin(axis=-1)


def favourites(study: Study, prompts: np.ndarray) -> list[np.ndarray]:
    """Response that most users like best, and that most like least, of each of ``prompts``."""
    distinct, where = np.unique(prompts, return_inverse=True)
    votes = (users.winners(study.weights, sign * study.rewards[distinct]) for sign in (1, -1))
    return [users.vote_shares(each).argmax(axis=1)[where].reshape(prompts.shape) for each in votes]


def source_arms(
    study: Study, vectors: np.ndarray, k: int, alpha: float, seed: int = 0
) -> dict[str, Examples]:
    """The ``k`` training prompts most similar to each user's, with the user's examples and those of
    `CONTROLS`.

    Parameters
    ----------
    vectors : (n_prompts, d) embeddings of the prompts.
    alpha : of the Dirichlet distribution of n_users · k strangers, each of whom chooses one example
        for one user alone. Did the users choose for each other, one of them would be in the
        controls of many, and intervals that take users for independent would cover 80 % instead of
        95 %.
    """
    expect(k >= 1, "at least 1 (shots above 0): without examples nothing is compared", k=k)
    n, models = study.weights.shape
    prompts = study.train[nearest(vectors[study.target], vectors[study.train], k)]
    # A stream of their own beside the seed: strangers must not be the users themselves.
    others = users.dirichlet(n * k, alpha, [seed, 1], study.models).to_numpy().reshape(n, k, models)
    rewards = study.rewards[prompts]
    # Of other reward models than the paper's any other order shows what the mistake does.
    order = [study.models.index(name) for name in CODE_ORDER if name in study.models]
    order += [model for model in range(models)[::-1] if model not in order]
    labelled = {
        "own": extremes(study.weights[:, None], rewards),
        "other people's": extremes(others, rewards),
        "a random user's": extremes(others[:, :1], rewards),
        "the population's": favourites(study, prompts),
        "user 0's": extremes(study.weights[0], study.raw[prompts][..., order]),
    }
    arms = {name: Examples(prompts, *sides) for name, sides in labelled.items()}
    return dict.fromkeys(STRATEGIES, arms["own"]) | arms


def chats(
    study: Study, arm: str, shown: Examples | None, shots: int, max_characters: int = 24_000
) -> list:
    """One chat per user: ``shots`` examples, then the test prompt, worded as in
    ``data/prompts/icl_*.txt``.

    "mislabelled" shows the disliked responses as liked. The farthest examples are left out of a
    prompt that would exceed ``max_characters`` (about the authors' 7,000 tokens), so some hold
    fewer than ``shots`` (P9).
    """
    if shown is None or shots == 0:
        return [user_says(prompt) for prompt in study.prompts[study.target]]
    wording = {"losing": "losing", "both": "both"}.get(arm, "winning")
    head, example, tail = prompts.parts(prompts.template(f"icl_{wording}"))
    liked, disliked = (study.responses[shown.prompts, side] for side in shown[1:])
    # In the words for what was liked: does a model take the words, or the texts?
    liked = disliked if arm == "mislabelled" else liked
    sides = (each[:, :shots].tolist() for each in (study.prompts[shown.prompts], liked, disliked))
    # Thousands of users are shown some hundred examples.
    written, fill = [], functools.cache(prompts.fill)
    for prompt, *rows in zip(study.prompts[study.target], *sides, strict=True):
        examples = zip(*rows, strict=True)
        parts = [fill(example, prompt=past, liked=up, disliked=down) for past, up, down in examples]
        closing = fill(tail, prompt=prompt)
        # The nearest stand first, so that the least alike are left out.
        while parts and len(head) + sum(map(len, parts)) + len(closing) > max_characters:
            parts.pop()
        written.append(user_says("".join([head, *parts, closing])))
    return written


def reader(lm: Model, template: str) -> Model:
    """``lm``, reading by its chat template ("chat") or by none ("plain"), as in the authors' code
    (P8).
    """
    one_of(TEMPLATES, "template", template)
    if template == "chat":
        return lm
    if not isinstance(lm, Formatted):
        remedy = "use templates=['chat']"
        raise UserError(f"model {lm.id}: a server always applies the chat template; {remedy}")
    return lm.formatted(template)
