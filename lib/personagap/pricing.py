"""Estimated costs of requests: their number, how many are stored, and tokens; none is sent."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Unpack

import pandas as pd

from personagap import ask, tasks
from personagap.models import Model, Sampling
from personagap.responses import ResponseStore

#: Rough numbers of tokens in a system prompt and the markers of a chat, and of characters in a
#: token of English.
FRAME_TOKENS, TOKEN_CHARACTERS = 20, 4


def of_answers(
    lm: Model | Mapping[str, Model],
    who: pd.DataFrame,
    items: pd.DataFrame,
    defences: Mapping[str, Callable[[list], list]] | None = None,
    **how: Unpack[ask.How],
) -> pd.DataFrame:
    """Return the costs of ``ask.ask``, or for several models of ``ask.by_condition``, with the same
    arguments.

    Returns
    -------
    One row ``requests stored to_ask max_tokens``. Equal requests, such as those of a control in
    several phrasings, count once; ``stored`` requests are answered already, ``max_tokens`` is what
    the others read and write if every answer has the maximal length.
    """
    models = lm if isinstance(lm, Mapping) else {"": lm}
    size = tokens(items, how.get("answers", "generate"), how.get("sampling"))
    # By key in the store, so that equal requests count once, as they are sent only once.
    cell_of: dict[str, tuple] = {}
    for name, model in models.items():
        options = how | {"defence": (defences or {}).get(name)}
        design, _, _, keys = ask.requests(model, who, items, **options)
        cell_of |= dict(zip(keys, zip(design["task"], design["item"], strict=True), strict=True))
    sizes = {key: size[cell] for key, cell in cell_of.items()}
    return of_requests(sizes, {model.id for model in models.values()})


def of_requests(sizes: Mapping[str, float], models: Iterable[str]) -> pd.DataFrame:
    """Return the row of `of_answers` for requests to the models with these ids; ``sizes`` maps the
    key of each request in the store to its tokens.
    """
    # The keys are looked up, since a store also holds answers to other requests.
    stored = {row[0] for name in models for row in ResponseStore(name).find(sizes)}
    to_ask = [size for key, size in sizes.items() if key not in stored]
    row = {"requests": len(sizes), "stored": len(stored), "to_ask": len(to_ask)}
    return pd.DataFrame([row | {"max_tokens": round(sum(to_ask))}])


def tokens(
    items: pd.DataFrame, answers: str = "generate", sampling: Sampling | None = None
) -> dict[tuple, float]:
    """Return the most tokens that a request for each item reads and writes, by task and item."""
    # Answers by likelihood generate no tokens.
    written = 0 if answers == "likelihood" else (sampling or Sampling()).max_tokens
    rows = items.itertuples()
    return {(item.task, item.item): request_tokens(tasks.prompt(item), written) for item in rows}


def request_tokens(prompt: str, written: float) -> float:
    """Return the tokens of a request: roughly those of ``prompt``, and the ``written`` ones."""
    return len(prompt) / TOKEN_CHARACTERS + FRAME_TOKENS + written


def of_texts(
    lm: Model,
    prompts: Sequence[str],
    temperature: float,
    seed: int,
    max_tokens: int = ask.MAX_TOKENS,
) -> pd.DataFrame:
    """Return the costs of ``ask.texts`` with the same arguments, a row as in `of_answers`."""
    _, keys, _ = ask.requests_of_texts(lm, prompts, temperature, seed, max_tokens)
    sizes = [request_tokens(prompt, max_tokens) for prompt in prompts]
    return of_requests(dict(zip(keys, sizes, strict=True)), [lm.id])
