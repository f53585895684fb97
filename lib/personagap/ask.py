"""Put every item to a model on behalf of every persona, asking only what is not answered yet."""

from collections.abc import Callable, Sequence
from dataclasses import asdict

import pandas as pd
from tqdm.auto import tqdm

from personagap import personas, tasks
from personagap.models import Sampling
from personagap.responses import ANSWER_COLUMNS, ResponseStore, digest

#: Requests per stored batch: what a kill can lose, and what a model may pack together.
BATCH = 1024
PLAN_COLUMNS = ["persona", "template", "task", "item", "run"]


def plan(who: pd.DataFrame, items: pd.DataFrame, runs: int = 3, templates: Sequence[str] = ("paper",)) -> pd.DataFrame:
    """Every request of a design, one row each: ``persona template task item run``.

    Requests that share a task, a phrasing and a persona are neighbours, so that a model can
    reuse the key-value cache of their common prefix.
    """
    tasks_items = items[["task", "item"]].drop_duplicates()
    design = pd.DataFrame({"template": list(templates)}).merge(who[["persona"]], how="cross")
    design = pd.concat(
        [design.merge(rows, how="cross") for _, rows in tasks_items.groupby("task", sort=False)], ignore_index=True
    )
    return design.merge(pd.DataFrame({"run": range(runs)}), how="cross")[PLAN_COLUMNS]


def ask(
    lm,
    who: pd.DataFrame,
    items: pd.DataFrame,
    *,
    runs: int = 3,
    seed: int = 0,
    templates: Sequence[str] = ("paper",),
    sampling: Sampling | None = None,
    defence: Callable[[list], list] | None = None,
    store: ResponseStore | None = None,
) -> pd.DataFrame:
    """Responses of ``lm`` to every item × persona × template × run.

    Parameters
    ----------
    lm : a model from ``models.load_model``.
    who : personas (``persona``), from ``personas.select``.
    items : items from ``datasets.load``.
    runs : independent answers per prompt.
    seed : together with model, prompt, sampling and run it determines each answer.
    templates : names of the phrasings that state the identity.
    sampling : decoding parameters (default: those of arXiv 2406.11107).
    defence : changes the messages before the model sees them, from ``defences.load``.
    store : where answers are kept (default ``data/cache/responses``).

    Returns
    -------
    The ``responses`` table. A request the model failed on has ``finish_reason`` "error" and no
    text; it is not stored, so the next call asks it again. ``.attrs["asked"]`` counts the
    requests put to the model by this call.
    """
    sampling = sampling or Sampling()
    store = ResponseStore(lm.id) if store is None else store  # an empty store is falsy
    design = plan(who, items, runs, templates)
    chats = _chats(design, who, items)
    if defence:
        chats = {request: defence(messages) for request, messages in chats.items()}
    prompts = {request: lm.render(messages) for request, messages in chats.items()}
    cells = list(zip(design["template"], design["persona"], design["task"], design["item"], strict=True))
    asked_of = [lm.id, lm.revision, asdict(sampling), seed]
    prompt_hash = {text: digest(text) for text in set(prompts.values())}
    design["prompt_hash"] = [prompt_hash[prompts[cell]] for cell in cells]
    design["key"] = [digest(asked_of, *pair) for pair in zip(design["prompt_hash"], design["run"], strict=True)]

    asked, failed = 0, []
    batches = range(0, len(design), BATCH)
    for start in tqdm(batches, desc=f"asking {lm.id}", unit="batch", disable=None):
        # Batches are cut from the whole plan, so a resumed run computes those of an undisturbed one.
        batch = design.iloc[start : start + BATCH].drop_duplicates("key")
        missing = batch[~batch["key"].isin(store.get(batch["key"]).index)]
        if missing.empty:
            continue
        requests = [chats[cells[row]] for row in missing.index]
        seeds = [int(key[:15], 16) for key in missing["key"]]
        answers = pd.DataFrame(lm.generate(requests, sampling, seeds), index=missing["key"], columns=ANSWER_COLUMNS)
        answers = answers.astype({"text": "str", "finish_reason": "str"})  # as the store reads them back
        asked += len(answers)
        errors = answers["finish_reason"] == "error"
        failed.append(answers[errors])
        if not errors.all():
            store.add(answers[~errors])
    store.compact()
    answers = pd.concat([store.get(design["key"]), *failed])
    responses = design.join(answers[~answers.index.duplicated()], on="key").drop(columns="key")
    responses.insert(0, "model", lm.id)
    responses.attrs["asked"] = asked
    return responses


def _chats(design: pd.DataFrame, who: pd.DataFrame, items: pd.DataFrame) -> dict[tuple, list[dict[str, str]]]:
    """Messages of each distinct (template, persona, task, item)."""
    phrase = dict(zip(who["persona"], who["phrase"], strict=True))
    question = {(row.task, row.item): tasks.prompt(row) for row in items.itertuples()}
    distinct = design[["template", "persona", "task", "item"]].drop_duplicates()
    return {
        (template, persona, task, item): personas.chat(
            persona, question[task, item], template=template, phrase=phrase[persona]
        )
        for template, persona, task, item in distinct.itertuples(index=False, name=None)
    }
