"""Put every item to a model on behalf of every persona, asking only what is not answered yet."""

import itertools
import json
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict
from typing import Any, TypedDict, Unpack

import numpy as np
import pandas as pd

from personagap import personas, tasks
from personagap.errors import Unanswered, UserError, at_least, one_of
from personagap.models import Generation, Model, Sampling
from personagap.models.answers import take_apart
from personagap.models.rendering import user_says
from personagap.responses import ResponseStore, complete, digest, digests

#: Requests put to a model at a time: what it may pack together. These answers are short.
BATCH = 1024
#: The same of answers by likelihood, each a forward pass of a whole prompt.
WEIGHED = 256
ANSWERS = ("generate", "likelihood")
#: Tokens of a text that is written, unless somebody says otherwise.
WRITTEN = 2048
PLANNED = ["persona", "template", "task", "item", "run"]
ANSWERED = ["text", "reasoning", "outcome", "finish_reason"]
ANSWERED += ["prompt_tokens", "output_tokens", "seconds"]


def plan(
    who: pd.DataFrame, items: pd.DataFrame, runs: int = 3, templates: Sequence[str] = ("paper",)
) -> pd.DataFrame:
    """Every request of a design, one row each: ``persona template task item run``.

    Those of one task, phrasing and persona are neighbours, so that a model can reuse the cache of
    their common prefix; those of one item instead, where the phrasing puts the question first.
    """
    by_task = items[["task", "item"]].drop_duplicates().groupby("task", sort=False)
    people, parts = who[["persona"]], []
    for (_, rows), template in itertools.product(by_task, dict.fromkeys(templates)):
        outer, inner = (rows, people) if personas.asks_first(template) else (people, rows)
        parts.append(outer.merge(inner, how="cross").assign(template=template))
    design = pd.concat(parts, ignore_index=True)
    return design.merge(pd.DataFrame({"run": range(runs)}), how="cross")[PLANNED]


class How(TypedDict, total=False):
    """How questions are put: keyword arguments of `ask`, `by_condition` and ``pricing.of_answers``.

    answers : "generate" (default), or "likelihood": of each of the task's choices, as the next
        words, in one forward pass and without sampling noise.
    runs : independent answers per prompt, default 3; by likelihood there is one.
    seed : together with model, prompt, sampling and run it determines each answer. Default 0.
    templates : phrasings that state the identity, default the paper's.
    sampling : default that of arXiv 2406.11107.
    defence : changes the messages before the model sees them, of ``defences.load_defence``.
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
    """Responses of ``lm`` to every item × persona × template × run.

    Parameters
    ----------
    lm, who, items : of ``models.load_model``, ``personas.select`` and ``datasets.load``.
    store : default ``data/cache/responses``.
    **how : of `How`.

    Returns
    -------
    The ``responses`` table; ``text`` is what the user sees, ``outcome`` one of
    ``models.answers.OUTCOMES``. A request the model failed on has the outcome "failed" and no text;
    it is not stored, so the next call asks it again. ``.attrs["asked"]`` counts the requests put to
    the model by this call, which took ``.attrs["asking_seconds"]``, ``.attrs["unanswered"]`` those
    that failed, ``.attrs["older"]``, if any, stored answers of older versions: they are as they
    were, whole and without an outcome.

    Raises
    ------
    Unanswered : so many requests failed that no two items of a task were answered for everybody.
    UserError : an item has no choices to weigh.
    """
    design, chats, listed, keys = requests(lm, who, items, **how)
    # Not `or`: an empty store is falsy.
    store = ResponseStore(lm.id) if store is None else store
    if how.get("answers") == "likelihood":
        made = _weigh(lm, chats, listed, keys, store)
    else:
        made = _generate(lm, chats, keys, how.get("sampling") or Sampling(), store, batch=BATCH)
    responses = design.join(made.reindex(keys).reset_index(drop=True)[ANSWERED])
    responses.insert(0, "model", lm.id)
    if failed := int(responses["outcome"].eq("failed").sum()):
        _require_answers(lm, unanswered(responses))
    responses.attrs |= made.attrs | {"unanswered": failed}
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
    """Of the arguments of `ask`: `plan` with ``prompt_hash``; of each row chat, choices and key."""
    one_of(ANSWERS, "answers are", answers)
    weigh = answers == "likelihood"
    choices = {name: tasks.find(name).choices for name in items["task"].unique()}
    if weigh and (others := [name for name, words in choices.items() if not words]):
        remedy = f"ask for {', '.join(tasks.WITH_CHOICES)}, or generate answers"
        raise UserError(f"{others[0]} has no choices to weigh by likelihood: {remedy}")
    at_least(1, runs=runs)
    at_least(0, seed=seed)
    known = personas.templates().index
    if not templates or isinstance(templates, str) or not set(templates) <= set(known):
        raise UserError(f"templates are {templates!r}: give a list of some of {', '.join(known)}")
    # A likelihood is the same in every run.
    design = plan(who, items, 1 if weigh else runs, templates)
    # As lists: to step through a column of texts takes ten times as long.
    cells = list(zip(*(design[name].tolist() for name in PLANNED[:-1]), strict=True))
    stated = who.set_index("persona")[["phrase", "hint"]].to_dict("index")
    turns, chats = {}, {}
    for row in items.itertuples():
        of_weights = weigh and tasks.likelihood_prompt(row, lm.continues)
        turns[row.task, row.item] = of_weights or [("user", tasks.prompt(row))]
    # Runs of a cell share their prompt, which is made and rendered once.
    for cell in dict.fromkeys(cells):
        persona, template, *item = cell
        (_, question), *begun = turns[*item]
        messages = personas.chat(persona, question, template=template, **stated[persona])
        messages = defence(messages) if defence else messages
        chats[cell] = [*messages, *({"role": role, "content": content} for role, content in begun)]
    # By what the model reads in the end: personas and phrasings that become the same prompt, as a
    # control's do, are one request, and a changed chat template is another.
    hash_of = {cell: digest(lm.render(messages)) for cell, messages in chats.items()}
    design["prompt_hash"] = hashes = [hash_of[cell] for cell in cells]
    asked, listed = [chats[cell] for cell in cells], [choices[task] for _, _, task, _ in cells]
    if weigh:
        return design, asked, listed, _keys_of_weights(lm, hashes, listed)
    asked_of = [lm.id, lm.revision, asdict(sampling or Sampling()), seed]
    keys = digests(asked_of, zip(hashes, design["run"].tolist(), strict=True))
    return design, asked, listed, keys


def unanswered(responses: pd.DataFrame) -> pd.DataFrame:
    """What failed requests cost each task: ``task requests failed items complete``.

    An item is ``complete`` if everybody got an answer to it in every phrasing (and condition, where
    there are several); ``effects`` compares identities on those items alone.
    """
    failed = responses["outcome"] == "failed"
    cell = ["task", "item", "persona", "template", *responses.columns.intersection(["condition"])]
    # One answer of several runs is enough: its mean is known, only less exactly.
    lacking = failed.groupby([responses[name] for name in cell], sort=False).all()
    complete = ~lacking.groupby(["task", "item"], sort=False).any()
    requests = failed.groupby(responses["task"], sort=False).agg(requests="size", failed="sum")
    return requests.join(complete.groupby("task").agg(items="size", complete="sum")).reset_index()


def _require_answers(lm: Model, counts: pd.DataFrame) -> None:
    # Two items make an interval; of a task with one, that one is needed.
    if len(short := counts[counts["complete"] < counts["items"].clip(upper=2)]):
        # A server tells why it failed.
        cause = f" ({reason})" if (reason := getattr(lm, "failure", None)) else ""
        failed, requests = counts["failed"].sum(), counts["requests"].sum()
        raise Unanswered(
            f"{failed:,} of {requests:,} requests to {lm.id} failed{cause}, and only "
            f"{short['complete'].iloc[0]} items of {short['task'].iloc[0]} were answered for "
            "everybody: run again, the other answers are kept"
        )


def by_condition(
    models: Mapping[str, Model],
    who: pd.DataFrame,
    items: pd.DataFrame,
    defences: Mapping[str, Callable[[list], list]] | None = None,
    **how: Any,
) -> pd.DataFrame:
    """The same questions under several conditions: `ask` of each, after a column ``condition``.

    Parameters
    ----------
    models : condition → model, in the order of the rows.
    defences : condition → defence, of those that have one.
    **how : of `How` and further arguments of `ask`, the same for all.

    ``UserError`` for a single condition, which there is nothing to compare with.
    """
    if len(models) < 2:
        only = f"only {', '.join(models)}" if models else "none"
        raise UserError(f"conditions are compared, but there is {only}: name at least two")
    of = (defences or {}).get
    answers = {name: ask(lm, who, items, defence=of(name), **how) for name, lm in models.items()}
    responses = pd.concat(answers, names=["condition"]).droplevel(1).reset_index()
    for name in ("asked", "asking_seconds", "unanswered"):
        responses.attrs[name] = round(sum(part.attrs[name] for part in answers.values()), 1)
    return responses


def texts(
    lm: Model, prompts: Sequence[str], temperature: float, seed: int, max_tokens: int = WRITTEN
) -> list[str | None]:
    """One answer per prompt, None where the model failed; what is stored is not asked again."""
    chats, keys, sampling = requests_of_texts(lm, prompts, temperature, seed, max_tokens)
    found = _generate(lm, chats, keys, sampling, ResponseStore(lm.id))["text"].dropna().to_dict()
    return [found.get(key) for key in keys]


def requests_of_texts(
    lm: Model, prompts: Sequence[str], temperature: float, seed: int, max_tokens: int
) -> tuple[list, list[str], Sampling]:
    """Of the arguments of `texts`: the chats, their keys in the store, how they are answered."""
    sampling = Sampling(temperature=temperature, top_k=0, max_tokens=max_tokens)
    chats = [user_says(prompt) for prompt in prompts]
    rendered = ([lm.render(chat)] for chat in chats)
    keys = digests([lm.id, lm.revision, asdict(sampling), seed], rendered)
    return chats, keys, sampling


def weigh(
    lm: Model,
    chats: Sequence,
    choices: Sequence[Sequence[str]],
    known: Callable[[list[str]], dict] | None = None,
) -> list[np.ndarray]:
    """``lm.choose`` of each chat's own choices; what ``known`` or the store has is not weighed."""
    keys = _keys_of_weights(lm, [digest(lm.render(chat)) for chat in chats], choices)
    weights = known(keys) if known else {}
    if rest := [i for i, key in enumerate(keys) if key not in weights]:
        asked = [chats[i] for i in rest], [choices[i] for i in rest], [keys[i] for i in rest]
        found = _weigh(lm, *asked, ResponseStore(lm.id), WEIGHED * 16)["text"]
        weights |= {key: np.array(list(json.loads(text).values())) for key, text in found.items()}
    return [weights[key] for key in keys]


def _keys_of_weights(lm: Model, hashes: list[str], choices: Iterable[Sequence[str]]) -> list[str]:
    """What an answer by likelihood is stored under: all that determines it."""
    pairs = ([prompt, list(words)] for prompt, words in zip(hashes, choices, strict=True))
    return digests([lm.id, lm.revision], pairs)


def _generate(
    lm: Model, chats: list, keys: list[str], sampling: Sampling, store: ResponseStore, **how: int
) -> pd.DataFrame:
    def make(rows, keep: Callable) -> None:
        asked, kept = [chats[row] for row in rows], set()

        def told(i: int, answer: Generation) -> None:
            kept.add(i)
            keep(i, take_apart(answer, lm.render(asked[i])))

        # 15 hexadecimal digits are 60 bits: servers take seeds of 63.
        seeds = [int(keys[row][:15], 16) for row in rows]
        for i, answer in enumerate(lm.generate(asked, sampling, seeds, keep=told)):
            if i not in kept:
                # A model that answers all at once may not tell of each.
                told(i, answer)

    return complete(store, keys, make, title=f"asking {lm.id}", **how)


def _weigh(
    lm: Model, chats: list, choices: list, keys: list, store: ResponseStore, batch: int = WEIGHED
) -> pd.DataFrame:
    def make(rows, keep: Callable) -> None:
        start, told = time.perf_counter(), itertools.count(1)

        def weighed(i: int, scores) -> None:
            text = json.dumps(dict(zip(choices[rows[i]], scores.tolist(), strict=True)))
            seconds = (time.perf_counter() - start) / next(told)
            keep(i, Generation(text, tasks.LIKELIHOOD, None, 0, seconds, outcome="answered"))

        lm.choose([chats[row] for row in rows], [list(choices[row]) for row in rows], keep=weighed)

    return complete(store, keys, make, title=f"asking {lm.id}", batch=batch)
