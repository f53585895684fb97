"""Serving users: what a model is asked after each arm's examples, and what they get for it."""

import json
from collections.abc import Callable, Iterator, Sequence
from functools import cache, partial
from itertools import count, cycle, product

import numpy as np
import pandas as pd

from personagap import ask, pricing
from personagap.demo import personalllm as demo_rewards
from personagap.demo.selector import PLANTED, Selector
from personagap.errors import UserError, one_of
from personagap.models import Generation, Model, load_model
from personagap.personalllm import users
from personagap.personalllm.adaptation.icl import TEMPLATES, Examples, Study, chats, reader
from personagap.personalllm.adaptation.outcomes import of_scores
from personagap.responses import ResponseStore, complete, digest

#: Of an answer that is written, as in the authors' code.
TOKENS = 512


def serve(
    lm: Model,
    study: Study,
    arms: dict[str, Examples],
    respond: Callable,
    shots: Sequence[int],
    templates: Sequence[str],
) -> pd.DataFrame:
    """What users get from ``lm`` after each arm's examples: ``user prompt`` `METRICS`
    ``arm shots template unit``.

    Parameters
    ----------
    arms : of ``source_arms`` or ``neighbour_arms``.
    respond : `by_selection` or `by_generation`: model, chats of the users in turn → what each
        thinks of the answer.
    shots : numbers of examples; 0 is the arm "zero_shot".
    templates : "chat" (the model's) and "plain" (none, as in the authors' code, P8).
    """
    tables = []
    for template, model, cells, asked in _asked(lm, study, arms, shots, templates):
        got = np.split(respond(model, asked), len(cells))
        for (arm, k), scores in zip(cells, got, strict=True):
            tables.append(of_scores(study, scores, arm, k, template))
    return pd.concat(tables, ignore_index=True)


def cost(
    lm: Model,
    study: Study,
    arms: dict[str, Examples],
    shots: Sequence[int],
    templates: Sequence[str],
    evaluation: str = "select",
) -> pd.DataFrame:
    """What `serve` would ask, rows as of ``pricing.of_answers`` by ``template``; nothing is asked.

    ``evaluation`` is that of `open_model`, the other arguments are those of `serve`.
    """
    prices = {}
    for template, model, _, asked in _asked(lm, study, arms, shots, templates):
        texts = [chat[0]["content"] for chat in asked]
        if evaluation == "generate":
            price = pricing.of_texts(model, texts, 0.0, 0, TOKENS)
        else:
            choices = study.responses[study.target].tolist()
            # A model reads all the responses that it chooses from.
            read = [sum(map(len, row)) / pricing.TOKEN_CHARACTERS for row in choices]
            sizes = map(pricing.length, texts, cycle(read))
            requests = dict(zip(_keys(model, asked, choices), sizes, strict=True))
            price = pricing.of_requests(requests, [model.id])
        prices[template] = price
    return pd.concat(prices, names=["template"]).droplevel(1).reset_index()


def _asked(
    lm: Model,
    study: Study,
    arms: dict[str, Examples],
    shots: Sequence[int],
    templates: Sequence[str],
) -> Iterator[tuple]:
    """Of each template: the model that reads by it, its cells (arm, shots), the chats of each."""
    if not templates or not set(templates) <= set(TEMPLATES):
        raise UserError(f"templates is {templates!r}: give a list of {', '.join(TEMPLATES)}")
    # Each once, in the order given: twice the same would be one cell with two rows of each user.
    shots, templates = list(dict.fromkeys(shots)), list(dict.fromkeys(templates))
    cells = [("zero_shot", 0)] * (0 in shots) + list(product(arms, [k for k in shots if k]))
    for template in templates:
        asked = [chat for arm, k in cells for chat in chats(study, arm, arms.get(arm), k)]
        yield template, reader(lm, template), cells, asked


def _keys(lm: Model, asked: list, choices: list, stored: bool = True) -> list:
    """What the choice of each chat, of the users in turn, is stored under.

    Of what is not ``stored``: a running number, the same for the same.
    """
    # The simulated selector answers at once: hashing its prompts would take longer than it does.
    number = count()
    named = partial(digest, "choose", lm.id, lm.revision)
    key = cache(named if stored else lambda *_: next(number))
    return [key(lm.render(chat), tuple(mine)) for chat, mine in zip(asked, cycle(choices))]


def open_model(
    model: str,
    planted: str,
    study: Study,
    evaluation: str = "select",
    data: str = "demo",
    device: str = "auto",
) -> tuple[object, Callable]:
    """Who serves the study's users, and how: a model, and what `serve` takes as ``respond``.

    Parameters
    ----------
    model : "simulated" (`Selector` with what is ``planted``), or that of ``models.load_model``,
        whose answers are kept.
    evaluation : "select" among the stored responses, or "generate" and score: with the demo's
        rewards if ``data`` is the demo, else with the reward models.
    """
    one_of(PLANTED, "planted is", planted)
    one_of(["select", "generate"], "evaluation is", evaluation)
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
    """Serve the stored response that the model finds likeliest per byte; needs no reward model.

    Per byte, because a sum over tokens picks the shortest and a mean per token depends on the
    tokenizer (as ``acc_norm`` of lm-evaluation-harness). ``store`` keeps likelihoods, so that an
    interrupted run resumes.
    """
    choices, stored = study.responses[study.target].tolist(), study.stored()
    size = np.array([[len(text.encode()) for text in row] for row in choices])

    def respond(lm: Model, asked: list) -> np.ndarray:
        user = np.arange(len(asked)) % len(choices)
        keys = _keys(lm, asked, choices, stored=store is not None)

        def make(rows: np.ndarray, keep: Callable) -> None:
            def weighed(i: int, sums: np.ndarray) -> None:
                keep(i, Generation(json.dumps(sums.tolist()), "stop", 0, 0, 0.0))

            offered = [choices[user[row]] for row in rows]
            lm.choose([asked[row] for row in rows], offered, keep=weighed)

        sums = complete(store, keys, make, title=f"asking {lm.id}")["text"].map(json.loads)
        return stored[user, (np.stack(sums[keys]) / size[user]).argmax(axis=1)]

    return respond


def by_generation(study: Study, score: Callable) -> Callable:
    """Serve what the model writes (greedy, as in the paper).

    ``score`` adds to a table ``prompt_text text`` a column of raw rewards for each of
    ``study.models``: `reward_models`, or ``demo.personalllm.score``.
    """
    # How the study scaled the raw rewards of each model, to scale those of what is written alike.
    models = range(len(study.models))
    fits = [np.polyfit(study.raw[..., m].ravel(), study.rewards[..., m].ravel(), 1) for m in models]
    slope, shift = np.transpose(fits)

    def respond(lm: Model, asked: list) -> np.ndarray:
        texts = ask.texts(lm, [chat[0]["content"] for chat in asked], 0.0, 0, TOKENS)
        # A user without an answer has no reward; left out, arms would be compared on other users.
        if failed := texts.count(None):
            reason = "the answers of the others are kept"
            raise UserError(f"{failed} requests failed; run again: {reason}")
        user = np.arange(len(asked)) % len(study.target)
        written = pd.DataFrame({"prompt_text": study.prompts[study.target[user]], "text": texts})
        scores = score(written)[study.models].to_numpy()
        return ((scores * slope + shift) * study.weights[user]).sum(axis=1)

    return respond


def reward_models(study: Study, device: str = "cpu") -> Callable:
    """For `by_generation`: those of ``users.REWARD_MODELS`` that the study's rewards come from."""
    if unknown := sorted(set(study.models) - set(users.REWARD_MODELS)):
        known = ", ".join(users.REWARD_MODELS)
        raise UserError(
            f"no reward model {unknown[0]!r} to score what is written, only {known}: select instead"
        )
    sources = {name: users.REWARD_MODELS[name] for name in study.models}
    return partial(users.score_responses, models=sources, device=device)
