"""Ask a model every item as every persona, sending only requests that are not answered yet."""

import itertools
import json
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict
from typing import Any, TypedDict, Unpack

import numpy as np
import pandas as pd

from personagap import personas, tasks
from personagap.errors import Unanswered, UserError, require_at_least, require_one_of
from personagap.hashing import digest, digests
from personagap.models import Generation, Model, Sampling
from personagap.models.answers import parse_answer
from personagap.models.rendering import user_chat
from personagap.responses import ResponseStore, complete

#: Requests per batch, which a model may pack together. These answers are short.
BATCH = 1024
#: The same for answers by likelihood, each a forward pass of a complete prompt.
LIKELIHOOD_BATCH = 256
ANSWERS = ("generate", "likelihood")
#: Default for the maximal number of tokens of a generated text.
MAX_TOKENS = 2048
PLAN_COLUMNS = ["persona", "template", "task", "item", "run"]
RESPONSE_COLUMNS = ["text", "reasoning", "outcome", "finish_reason"]
RESPONSE_COLUMNS += ["prompt_tokens", "output_tokens", "seconds"]


def plan(
    who: pd.DataFrame, items: pd.DataFrame, runs: int = 3, templates: Sequence[str] = ("paper",)
) -> pd.DataFrame:
    """Return the requests of a design, one per row: ``persona template task item run``.

    Rows of the same task, phrasing and persona are adjacent, so that a model can reuse the cache of
    their common prefix; if the phrasing puts the question first, rows of the same item are.
    """
    by_task = items[["task", "item"]].drop_duplicates().groupby("task", sort=False)
    people, parts = who[["persona"]], []
    for (_, rows), template in itertools.product(by_task, dict.fromkeys(templates)):
        outer, inner = (rows, people) if personas.asks_first(template) else (people, rows)
        parts.append(outer.merge(inner, how="cross").assign(template=template))
    design = pd.concat(parts, ignore_index=True)
    return design.merge(pd.DataFrame({"run": range(runs)}), how="cross")[PLAN_COLUMNS]


class How(TypedDict, total=False):
    """Keyword arguments of `ask`, `by_condition` and ``pricing.of_answers``.

    answers : "generate" (default), or "likelihood": the probability of each of the task's choices
        as the next words, in one forward pass and without sampling noise.
    runs : independent answers per prompt, default 3; there is one answer by likelihood.
    seed : together with model, prompt, sampling and run it determines each answer. Default 0.
    templates : phrasings that state the identity, default the paper's.
    sampling : default the sampling of arXiv 2406.11107.
    defence : changes the messages before the model sees them, from ``defences.load_defence``.
    """

    answers: str
    runs: int
    seed: int
    templates: Sequence[str]
    sampling: Sampling | None
    defence: Callable[[list], list] | None


def ask(
    lm: Model,
    who: pd.DataFrame,
    items: pd.DataFrame,
    *,
    store: ResponseStore | None = None,
    **how: Unpack[How],
) -> pd.DataFrame:
    """Return the responses of ``lm`` to every item × persona × template × run.

    Parameters
    ----------
    lm, who, items : from ``models.load_model``, ``personas.select`` and ``datasets.load``.
    store : default ``data/cache/responses``.
    **how : see `How`.

    Returns
    -------
    The ``responses`` table; ``text`` is what the user sees, ``outcome`` one of ``schema.OUTCOMES``.
    A request on which the model failed has the outcome "failed" and no text; it is not stored, so
    the next call sends it again. ``.attrs["asked"]`` counts the requests that this call sent, in
    ``.attrs["asking_seconds"]``; ``.attrs["unanswered"]`` those that failed, ``.attrs["older"]``,
    if any, stored answers of older versions, with reasoning in their text and without outcome.

    Raises
    ------
    Unanswered : fewer than two items of a task have an answer for every persona.
    UserError : an item has no choices whose likelihood could be computed.
    """
    design, chats, choices, keys = requests(lm, who, items, **how)
    # Not `or`: an empty store is falsy.
    store = ResponseStore(lm.id) if store is None else store
    if how.get("answers") == "likelihood":
        answers = _weigh(lm, chats, choices, keys, store, LIKELIHOOD_BATCH)
    else:
        answers = _generate(lm, chats, keys, how.get("sampling") or Sampling(), store, batch=BATCH)
    responses = design.join(answers.reindex(keys).reset_index(drop=True)[RESPONSE_COLUMNS])
    responses.insert(0, "model", lm.id)
    if failed := int(responses["outcome"].eq("failed").sum()):
        _require_answers(lm, unanswered(responses))
    responses.attrs |= answers.attrs | {"unanswered": failed}
    if older := int(responses["outcome"].isna().sum()):
        responses.attrs["older"] = older
    return responses


def requests(
    lm: Model,
    who: pd.DataFrame,
    items: pd.DataFrame,
    *,
    answers: str = "generate",
    runs: int = 3,
    seed: int = 0,
    templates: Sequence[str] = ("paper",),
    sampling: Sampling | None = None,
    defence: Callable[[list], list] | None = None,
) -> tuple[pd.DataFrame, list, list, list[str]]:
    """Return the requests of `ask`: the table of `plan` with a column ``prompt_hash``, and for each
    row the chat, the choices and the key in the store.
    """
    require_one_of(ANSWERS, "answers are", answers)
    by_likelihood = answers == "likelihood"
    choices = {name: tasks.find(name).choices for name in items["task"].unique()}
    if by_likelihood and (open_ended := [name for name, words in choices.items() if not words]):
        remedy = f"ask for {', '.join(tasks.WITH_CHOICES)}, or generate answers"
        raise UserError(f"{open_ended[0]} has no choices to weigh by likelihood: {remedy}")
    require_at_least(1, runs=runs)
    require_at_least(0, seed=seed)
    known = personas.templates().index
    if not templates or isinstance(templates, str) or not set(templates) <= set(known):
        raise UserError(f"templates are {templates!r}: give a list of some of {', '.join(known)}")
    # The likelihood is the same in every run.
    design = plan(who, items, 1 if by_likelihood else runs, templates)
    # As lists: iterating over a column of texts takes ten times as long.
    cells = list(zip(*(design[name].tolist() for name in PLAN_COLUMNS[:-1]), strict=True))
    phrases = who.set_index("persona")[["phrase", "hint"]].to_dict("index")
    turns, chats = {}, {}
    for row in items.itertuples():
        likelihood_turns = by_likelihood and tasks.likelihood_prompt(row, lm.continues)
        turns[row.task, row.item] = likelihood_turns or [("user", tasks.prompt(row))]
    # The runs of a cell share their prompt, which is built and rendered once.
    for cell in dict.fromkeys(cells):
        persona, template, *item = cell
        (_, question), *rest = turns[*item]
        messages = personas.chat(persona, question, template=template, **phrases[persona])
        messages = defence(messages) if defence else messages
        chats[cell] = [*messages, *({"role": role, "content": content} for role, content in rest)]
    # Hashes of what the model finally reads: personas and phrasings with the same prompt, such as
    # those of a control, are one request, while a changed chat template makes a new request.
    hash_of = {cell: digest(lm.render(messages)) for cell, messages in chats.items()}
    design["prompt_hash"] = hashes = [hash_of[cell] for cell in cells]
    row_chats, row_choices = [chats[cell] for cell in cells], [choices[cell[2]] for cell in cells]
    if by_likelihood:
        return design, row_chats, row_choices, _likelihood_keys(lm, hashes, row_choices)
    settings = [lm.id, lm.revision, asdict(sampling or Sampling()), seed]
    keys = digests(settings, zip(hashes, design["run"].tolist(), strict=True))
    return design, row_chats, row_choices, keys


def unanswered(responses: pd.DataFrame) -> pd.DataFrame:
    """Count the failed requests of each task: ``task requests failed items complete``.

    An item is ``complete`` if every persona has an answer to it in every phrasing (and condition,
    if there are several); ``effects`` compares identities on complete items only.
    """
    failed = responses["outcome"] == "failed"
    cell = ["task", "item", "persona", "template", *responses.columns.intersection(["condition"])]
    # One answer out of several runs is enough: it estimates the same mean, with less precision.
    lacking = failed.groupby([responses[name] for name in cell], sort=False).all()
    complete = ~lacking.groupby(["task", "item"], sort=False).any()
    requests = failed.groupby(responses["task"], sort=False).agg(requests="size", failed="sum")
    return requests.join(complete.groupby("task").agg(items="size", complete="sum")).reset_index()


def _require_answers(lm: Model, counts: pd.DataFrame) -> None:
    # An interval needs two items; a task with a single item needs that one.
    if len(incomplete := counts[counts["complete"] < counts["items"].clip(upper=2)]):
        # The model of a server records why it failed.
        cause = f" ({reason})" if (reason := getattr(lm, "failure", None)) else ""
        failed, requests = counts["failed"].sum(), counts["requests"].sum()
        raise Unanswered(
            f"{failed:,} of {requests:,} requests to {lm.id} failed{cause}, and only "
            f"{incomplete['complete'].iloc[0]} items of {incomplete['task'].iloc[0]} were answered "
            "for everybody: run again, the other answers are kept"
        )


def by_condition(
    models: Mapping[str, Model],
    who: pd.DataFrame,
    items: pd.DataFrame,
    defences: Mapping[str, Callable[[list], list]] | None = None,
    **how: Any,
) -> pd.DataFrame:
    """Return the tables of `ask` under several conditions, after a column ``condition``.

    Parameters
    ----------
    models : condition → model, in the order of the rows; `UserError` for fewer than two.
    defences : condition → defence, for those that have one.
    **how : see `How`, and further arguments of `ask`, the same for all conditions.
    """
    if len(models) < 2:
        only = f"only {', '.join(models)}" if models else "none"
        raise UserError(f"conditions are compared, but there is {only}: name at least two")
    tables = {}
    for name, lm in models.items():
        tables[name] = ask(lm, who, items, defence=(defences or {}).get(name), **how)
    responses = pd.concat(tables, names=["condition"]).droplevel(1).reset_index()
    for name in ("asked", "asking_seconds", "unanswered"):
        responses.attrs[name] = round(sum(table.attrs[name] for table in tables.values()), 1)
    return responses


def texts(
    lm: Model, prompts: Sequence[str], temperature: float, seed: int, max_tokens: int = MAX_TOKENS
) -> list[str | None]:
    """Return one answer per prompt, None where the model failed; stored answers are reused."""
    chats, keys, sampling = requests_of_texts(lm, prompts, temperature, seed, max_tokens)
    answers = _generate(lm, chats, keys, sampling, ResponseStore(lm.id))["text"].dropna().to_dict()
    return [answers.get(key) for key in keys]


def requests_of_texts(
    lm: Model, prompts: Sequence[str], temperature: float, seed: int, max_tokens: int
) -> tuple[list, list[str], Sampling]:
    """Return the chats, their keys in the store and the sampling for the arguments of `texts`."""
    sampling = Sampling(temperature=temperature, top_k=0, max_tokens=max_tokens)
    chats = [user_chat(prompt) for prompt in prompts]
    settings = [lm.id, lm.revision, asdict(sampling), seed]
    return chats, digests(settings, ([lm.render(chat)] for chat in chats)), sampling


def weigh(
    lm: Model,
    chats: Sequence,
    choices: Sequence[Sequence[str]],
    known: Callable[[list[str]], dict] | None = None,
) -> list[np.ndarray]:
    """Return ``lm.choose`` of each chat and its choices, where not ``known`` (by key) or stored."""
    keys = _likelihood_keys(lm, [digest(lm.render(chat)) for chat in chats], choices)
    weights = known(keys) if known else {}
    if rest := [i for i, key in enumerate(keys) if key not in weights]:
        requests = [chats[i] for i in rest], [choices[i] for i in rest], [keys[i] for i in rest]
        texts = _weigh(lm, *requests, ResponseStore(lm.id), LIKELIHOOD_BATCH * 16)["text"]
        weights |= {key: np.array(list(json.loads(text).values())) for key, text in texts.items()}
    return [weights[key] for key in keys]


def _likelihood_keys(lm: Model, hashes: list[str], choices: Iterable[Sequence[str]]) -> list[str]:
    """Return the keys of answers by likelihood: hashes of everything that determines them."""
    pairs = ([prompt, list(words)] for prompt, words in zip(hashes, choices, strict=True))
    return digests([lm.id, lm.revision], pairs)


def _generate(
    lm: Model, chats: list, keys: list[str], sampling: Sampling, store: ResponseStore, **how: int
) -> pd.DataFrame:
    def make(rows, keep: Callable) -> None:
        batch, kept = [chats[row] for row in rows], set()

        def on_answer(i: int, answer: Generation) -> None:
            kept.add(i)
            keep(i, parse_answer(answer, lm.render(batch[i])))

        # 15 hexadecimal digits are 60 bits: servers accept seeds of 63 bits.
        seeds = [int(keys[row][:15], 16) for row in rows]
        for i, answer in enumerate(lm.generate(batch, sampling, seeds, keep=on_answer)):
            if i not in kept:
                # A model that answers all requests at once need not call `keep`.
                on_answer(i, answer)

    return complete(store, keys, make, title=f"asking {lm.id}", **how)


def _weigh(
    lm: Model, chats: list, choices: list, keys: list, store: ResponseStore, batch: int
) -> pd.DataFrame:
    def make(rows, keep: Callable) -> None:
        start, numbers = time.perf_counter(), itertools.count(1)

        def scored(i: int, scores) -> None:
            text = json.dumps(dict(zip(choices[rows[i]], scores.tolist(), strict=True)))
            # The average so far, since the choices of a batch are scored together.
            seconds = (time.perf_counter() - start) / next(numbers)
            keep(i, Generation(text, tasks.LIKELIHOOD, None, 0, seconds, outcome="answered"))

        lm.choose([chats[row] for row in rows], [list(choices[row]) for row in rows], keep=scored)

    return complete(store, keys, make, title=f"asking {lm.id}", batch=batch)
