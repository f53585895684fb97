"""What asking would cost: requests, those answered already, and tokens; nothing is asked."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Unpack

import pandas as pd

from personagap import ask, tasks
from personagap.models import Model, Sampling
from personagap.responses import ResponseStore

#: Tokens of a system prompt and a chat's markers, and characters of a token of English, roughly.
FRAME_TOKENS, TOKEN_CHARACTERS = 20, 4


def of_answers(
    lm: Model | Mapping[str, Model],
    who: pd.DataFrame,
    items: pd.DataFrame,
    defences: Mapping[str, Callable[[list], list]] | None = None,
    **how: Unpack[ask.How],
) -> pd.DataFrame:
    """What ``ask.ask``, or of several models ``ask.by_condition``, would ask with the same
    arguments; nothing is asked.

    Returns
    -------
    One row ``requests stored to_ask max_tokens``. Requests that are alike, as those of a control in
    several phrasings, are one; ``stored`` are answered already, ``max_tokens`` what the others read
    and write if every answer is as long as it may be.
    """
    models = lm if isinstance(lm, Mapping) else {"": lm}
    size = tokens(items, how.get("answers", "generate"), how.get("sampling"))
    # By key in the store, so that requests that are alike are one, as they are when they are asked.
    of: dict[str, tuple] = {}
    for name, model in models.items():
        mine = how | {"defence": (defences or {}).get(name)}
        design, _, _, keys = ask.requests(model, who, items, **mine)
        of |= dict(zip(keys, zip(design["task"], design["item"], strict=True), strict=True))
    sizes = {key: size[cell] for key, cell in of.items()}
    return of_requests(sizes, {model.id for model in models.values()})


def of_requests(sizes: Mapping[str, float], models: Iterable[str]) -> pd.DataFrame:
    """The row of `of_answers` for requests to models of these ids; ``sizes`` are their tokens by
    key in the store.
    """
    # Looked up, not counted: a store also holds answers to other questions.
    found = {row[0] for name in models for row in ResponseStore(name).find(sizes)}
    rest = [size for key, size in sizes.items() if key not in found]
    row = {"requests": len(sizes), "stored": len(found), "to_ask": len(rest)}
    return pd.DataFrame([row | {"max_tokens": round(sum(rest))}])


def tokens(
    items: pd.DataFrame, answers: str = "generate", sampling: Sampling | None = None
) -> dict[tuple, float]:
    """Tokens that one request for each item, by its task and name, reads and writes at most."""
    # Nothing is written where the choices are weighed.
    written = 0 if answers == "likelihood" else (sampling or Sampling()).max_tokens
    rows = items.itertuples()
    return {(item.task, item.item): length(tasks.prompt(item), written) for item in rows}


def length(prompt: str, written: float) -> float:
    """Tokens that a request reads, roughly, and writes."""
    return len(prompt) / TOKEN_CHARACTERS + FRAME_TOKENS + written


def of_texts(
    lm: Model, prompts: Sequence[str], temperature: float, seed: int, max_tokens: int = ask.WRITTEN
) -> pd.DataFrame:
    """What ``ask.texts`` would ask with the same arguments, a row as of `of_answers`."""
    _, keys, _ = ask.requests_of_texts(lm, prompts, temperature, seed, max_tokens)
    sizes = [length(prompt, max_tokens) for prompt in prompts]
    return of_requests(dict(zip(keys, sizes, strict=True)), [lm.id])
