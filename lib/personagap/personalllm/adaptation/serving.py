"""Serving users: prompts with each arm's examples, a model's responses, and their rewards."""

import json
from collections.abc import Callable, Iterator, Sequence
from functools import cache, partial
from itertools import cycle, product

import numpy as np
import pandas as pd

from personagap import ask, pricing
from personagap.demo import personalllm as demo_rewards
from personagap.demo.selector import PLANTED, Selector
from personagap.errors import UserError, require_one_of
from personagap.hashing import digest
from personagap.models import Generation, Model, load_model
from personagap.personalllm import users
from personagap.personalllm.adaptation.icl import TEMPLATES, Examples, Study, chats, reader
from personagap.personalllm.adaptation.outcomes import score_outcomes
from personagap.responses import ResponseStore, complete

#: Maximum length of a generated answer, as in the authors' code.
TOKENS = 512


def serve(
    lm: Model,
    study: Study,
    arms: dict[str, Examples],
    respond: Callable,
    shots: Sequence[int],
    templates: Sequence[str],
) -> pd.DataFrame:
    """Return the outcomes of serving users with ``lm`` after each arm's examples: ``user prompt``
    `METRICS` ``arm shots template unit``.

    Parameters
    ----------
    arms : examples from ``source_arms`` or ``neighbour_arms``.
    respond : `by_selection` or `by_generation`, a function of a model and a list of chats (of all
        users in turn, once for each arm and number of shots) that returns each user's reward.
    shots : numbers of examples; 0 is the arm "zero_shot".
    templates : "chat" (the model's) and "plain" (none, as in the authors' code, P8).
    """
    tables = []
    for template, model, cells, prompts in _requests(lm, study, arms, shots, templates):
        rewards = np.split(respond(model, prompts), len(cells))
        for (arm, k), scores in zip(cells, rewards, strict=True):
            tables.append(score_outcomes(study, scores, arm, k, template))
    return pd.concat(tables, ignore_index=True)


def cost(
    lm: Model,
    study: Study,
    arms: dict[str, Examples],
    shots: Sequence[int],
    templates: Sequence[str],
    evaluation: str = "select",
) -> pd.DataFrame:
    """Price the requests of `serve` without sending any: rows like those of ``pricing.of_answers``,
    by ``template``.

    ``evaluation`` is that of `open_model`, the other arguments are those of `serve`.
    """
    prices = {}
    for template, model, _, prompts in _requests(lm, study, arms, shots, templates):
        texts = [chat[0]["content"] for chat in prompts]
        if evaluation == "generate":
            prices[template] = pricing.of_texts(model, texts, 0.0, 0, TOKENS)
        else:
            choices = study.responses[study.target].tolist()
            # A model also reads all the responses that it chooses from.
            tokens = [sum(map(len, row)) / pricing.TOKEN_CHARACTERS for row in choices]
            sizes = map(pricing.request_tokens, texts, cycle(tokens))
            requests = dict(zip(_keys(model, prompts, choices), sizes, strict=True))
            prices[template] = pricing.of_requests(requests, [model.id])
    return pd.concat(prices, names=["template"]).droplevel(1).reset_index()


def _requests(
    lm: Model,
    study: Study,
    arms: dict[str, Examples],
    shots: Sequence[int],
    templates: Sequence[str],
) -> Iterator[tuple]:
    """Yield for each template: its name, the model that uses it, its cells (arm, shots), and the
    chats of all users for one cell after the other.
    """
    if not templates or not set(templates) <= set(TEMPLATES):
        raise UserError(f"templates is {templates!r}: give a list of {', '.join(TEMPLATES)}")
    # Duplicates are dropped, as a repeated value would give two rows per user in one cell.
    shots, templates = list(dict.fromkeys(shots)), list(dict.fromkeys(templates))
    cells = [("zero_shot", 0)] * (0 in shots) + list(product(arms, [k for k in shots if k]))
    for template in templates:
        prompts = [chat for arm, k in cells for chat in chats(study, arm, arms.get(arm), k)]
        yield template, reader(lm, template), cells, prompts


def _keys(lm: Model, prompts: list, choices: list) -> list[str]:
    """Return the key in the store for the choice of each chat; ``choices`` are those of each user,
    and ``prompts`` go through the users in turn.
    """
    key = cache(partial(digest, "choose", lm.id, lm.revision))
    return [key(lm.render(chat), tuple(row)) for chat, row in zip(prompts, cycle(choices))]


def open_model(
    model: str,
    planted: str,
    study: Study,
    evaluation: str = "select",
    data: str = "demo",
    device: str = "auto",
) -> tuple[object, Callable]:
    """Open the model that serves the study's users, and the function `serve` takes as ``respond``.

    Parameters
    ----------
    model : "simulated" (`Selector` with the effect ``planted``), or a name for
        ``models.load_model``, whose answers are stored.
    evaluation : "select" one of the stored responses, or "generate" one and score it: with the
        rewards of the demo if ``data`` is "demo", else with the reward models.
    """
    require_one_of(PLANTED, "planted is", planted)
    require_one_of(["select", "generate"], "evaluation is", evaluation)
    lm: Model
    if model == "simulated":
        lm, store = Selector(planted, study.responses, study.rewards), None
    else:
        lm = load_model(model, device=device)
        store = ResponseStore(lm.id)
    if evaluation == "select":
        return lm, by_selection(study, store)
    score = demo_rewards.score if data == "demo" else reward_models(study, device)
    return lm, by_generation(study, score)


def by_selection(study: Study, store: ResponseStore | None) -> Callable:
    """Serve the stored response with the highest log-likelihood per byte; needs no reward model.

    Per byte, like ``acc_norm`` of lm-evaluation-harness, because a sum over tokens favours the
    shortest response and a mean per token depends on the tokenizer. ``store`` keeps likelihoods, so
    that an interrupted run resumes; None keeps nothing.
    """
    choices, rewards = study.responses[study.target].tolist(), study.stored()
    size = np.array([[len(text.encode()) for text in row] for row in choices])

    def log_likelihoods(lm: Model, prompts: list) -> list:
        user = np.arange(len(prompts)) % len(choices)
        if store is None:
            return lm.choose(prompts, [choices[i] for i in user])
        keys = _keys(lm, prompts, choices)

        def make(rows: np.ndarray, keep: Callable) -> None:
            def keep_likelihoods(i: int, sums: np.ndarray) -> None:
                keep(i, Generation(json.dumps(sums.tolist()), "stop", 0, 0, 0.0))

            options = [choices[user[row]] for row in rows]
            lm.choose([prompts[row] for row in rows], options, keep=keep_likelihoods)

        sums = complete(store, keys, make, title=f"asking {lm.id}")["text"].map(json.loads)
        return sums[keys].tolist()

    def respond(lm: Model, prompts: list) -> np.ndarray:
        user = np.arange(len(prompts)) % len(choices)
        per_byte = np.array(log_likelihoods(lm, prompts)) / size[user]
        return rewards[user, per_byte.argmax(axis=1)]

    return respond


def by_generation(study: Study, score: Callable) -> Callable:
    """Serve a generated response (greedy decoding, as in the paper).

    ``score`` is `reward_models` or ``demo.personalllm.score``: it adds a column of raw rewards for
    each of ``study.models`` to a table ``prompt_text text``.
    """
    # Recovers the linear scale of the study's rewards, to put new raw rewards on the same scale.
    models = range(len(study.models))
    fits = [np.polyfit(study.raw[..., m].ravel(), study.rewards[..., m].ravel(), 1) for m in models]
    slope, shift = np.transpose(fits)

    def respond(lm: Model, prompts: list) -> np.ndarray:
        texts = ask.texts(lm, [chat[0]["content"] for chat in prompts], 0.0, 0, TOKENS)
        # Users without an answer have no reward; dropping them would pair arms on different users.
        if failed := texts.count(None):
            reason = "the answers of the others are kept"
            raise UserError(f"{failed} requests failed; run again: {reason}")
        user = np.arange(len(prompts)) % len(study.target)
        written = pd.DataFrame({"prompt_text": study.prompts[study.target[user]], "text": texts})
        scores = score(written)[study.models].to_numpy()
        return ((scores * slope + shift) * study.weights[user]).sum(axis=1)

    return respond


def reward_models(study: Study, device: str = "cpu") -> Callable:
    """Return the function ``score`` of `by_generation` that runs the study's reward models, which
    must be among ``users.REWARD_MODELS``.
    """
    if unknown := sorted(set(study.models) - set(users.REWARD_MODELS)):
        known = ", ".join(users.REWARD_MODELS)
        raise UserError(
            f"no reward model {unknown[0]!r} to score what is written, only {known}: select instead"
        )
    sources = {name: users.REWARD_MODELS[name] for name in study.models}
    return partial(users.score_responses, models=sources, device=device)
