"""Load PersonalLLM (arXiv 2409.20296): prompts and responses, scored by ten reward models."""

import re
from collections.abc import Sequence
from itertools import count, product
from pathlib import Path

import numpy as np
import pandas as pd

from personagap._reading import (
    Rule,
    are_texts,
    check,
    from_hub,
    read_parquet,
    refuse,
    source,
    sum_to_one,
)
from personagap.errors import UserError, explained
from personagap.formatting import word_table
from personagap.paths import CACHE, DEMO

#: Data sets on the Hub; a local folder has subfolders of these names with the same Parquet files.
TABLE = "PersonalLLM"
EVALUATION = "PersonalLLM_Eval"
INTERACTIONS = "PersonalLLM_InteractionDatabase"
OWNER = "namkoong-lab"
#: The data card and the paper disagree (P14).
LICENCE = (
    "CC-BY-4.0 (card) or CC-BY-NC-4.0 (paper); terms of OpenAI and Anthropic for the responses"
)
#: The ten reward models of the paper → their Hub names, sorted by name like the weights of users
#: (P2). The chat template of the tokenizer formats the scored pair; without one it is "User:
#: …\nAssistant: …", also for beaver (P17). Which templates the tokenizers had when the data were
#: scored is not recorded.
REWARD_MODELS = {row["name"]: row["source"] for row in word_table("personalllm/reward_models")}
#: Placeholder of the authors for a response that failed (P16).
FAILED = "!!!ERROR"
BEST = [
    "best_response", "best_response_model", "best_response_reward", "gpt4o_response",
    "gpt4o_reward",
]  # fmt: skip


def load_personalllm(data: str | Path = "demo") -> pd.DataFrame:
    """Load the responses with their raw rewards, one row per prompt × response.

    Parameters
    ----------
    data : "demo" (simulated for this project), a folder that holds
        ``PersonalLLM/**/{train,test}-*.parquet`` as on the Hub, or "hub" (needs the network; 92 MB
        once).

    Returns
    -------
    DataFrame ``split prompt prompt_text response response_model text`` and a column of raw rewards
    per reward model, sorted by split, prompt and response. ``prompt`` identifies the row of the
    file (``prompt_id`` need not be unique over the sources), ``response`` is 0–7.
    ``attrs["reward_models"]`` lists the reward columns sorted by name, whatever their order in the
    file (P2); ``attrs["sources"]`` lists what was read. Prompts with a failed response (P16), and
    rows that repeat a prompt with all its responses, are dropped and counted there.

    `UserError`: no data, a missing or renamed column or reward model, a reward that is not a finite
    number; names the file, the row (from 1) and the remedy.
    """
    tables, sources = [], []
    for split, (where, wide) in _splits(TABLE, data).items():
        table, names = _long(wide, where, split)
        failed = table["prompt"].isin(table.loc[table["text"].str.startswith(FAILED), "prompt"])
        # A prompt that recurs with other responses is another observation, not a repetition.
        texts = ["prompt", *(f"response_{i}" for i in range(1, 9))]
        repeated = np.repeat(wide.duplicated(texts).to_numpy(), 8)
        tables.append(table[~failed & ~repeated])
        dropped = {"failed": int(failed.sum() // 8), "repeated": int(repeated.sum() // 8)}
        sources.append(source("personalllm", where, len(wide), LICENCE) | dropped)
    table = pd.concat(tables, ignore_index=True)
    table = table.sort_values(["split", "prompt", "response"], ignore_index=True)
    if table.isna().any(axis=None):
        remedy = "give both the same columns"
        raise UserError(f"{where}: its reward models are not those of the other split: {remedy}")
    table.attrs = {"sources": sources, "reward_models": names}
    return table


def load_interactions(data: str | Path = "demo") -> pd.DataFrame:
    """Load the historical users, one row each, as on the Hub.

    Returns a DataFrame ``person_id person_weight`` and, for each interaction j from 1, ``prompt_j
    response_j_a response_j_b chosen_j``; ``person_weight`` lists the weights of reward models
    sorted by name, ``chosen_j`` is "a" or "b". The released data have 1,000 users × 50 prompts, not
    10,000 (P27). ``attrs["sources"]`` lists what was read.

    `UserError`: no data, a missing column, a choice other than a and b, weights that do not sum to
    one.
    """
    return _load_users(INTERACTIONS, data)


def load_evaluation(data: str | Path = "demo") -> pd.DataFrame:
    """Load the test users, one row each, as on the Hub.

    Each has a history of 3–5 interactions (P27), a prompt and two stored responses. Returns a
    DataFrame like `load_interactions`, with ``user_history_length test_prompt best_response
    best_response_model best_response_reward gpt4o_response gpt4o_reward``; the two rewards are
    z-scored, unlike the raw scores (P2).
    """
    return _load_users(EVALUATION, data, ["user_history_length", "test_prompt", *BEST])


def _long(wide: pd.DataFrame, where: str, split: str) -> tuple[pd.DataFrame, list[str]]:
    """Return the table with one row per response, and the names of the reward models."""
    names, numbers = _reward_models(wide, where), range(1, 9)
    texts = ["prompt", *(f"response_{i}{end}" for i in numbers for end in ("", "_model"))]
    check(wide, where, {name: Rule(are_texts, f"a {name} that is no text") for name in texts})
    names_of_rows = [f"{split}-{position:05d}" for position in range(len(wide))]
    long = {"split": split, "prompt": np.repeat(names_of_rows, 8)}
    long["prompt_text"] = np.repeat(wide["prompt"].to_numpy(), 8)
    long["response"] = np.tile(range(8), len(wide))
    ends = {"response_model": "_model", "text": ""} | {name: f"_{name}" for name in names}
    for column, end in ends.items():
        long[column] = wide[[f"response_{i}{end}" for i in numbers]].to_numpy().ravel()
    table = pd.DataFrame(long, np.repeat(wide.index, 8))
    for name in names:
        table[name] = pd.to_numeric(table[name], errors="coerce").astype(float)
        wrong = f"a {name} reward is not a finite number"
        refuse(~np.isfinite(table[name]), where, wrong, "score it again")
    return table, names


def _reward_models(wide: pd.DataFrame, where: str) -> list[str]:
    """Return the reward models, sorted by name (P2); every response needs a reward of each.

    A reward model is recognized if at least four of the eight responses have its column.
    """
    counts = wide.columns.str.extract(r"^response_[1-8]_(?!model$)(.+)$")[0].value_counts()
    names = sorted(counts.index[counts >= 4])
    for name in REWARD_MODELS:
        if not names or (name not in names and set(names) & set(REWARD_MODELS)):
            raise UserError(
                f"{where}: no columns 'response_1_{name}' … of reward model {name}: give all "
                "of the paper"
            )
    if "response_9" in wide:
        raise UserError(f"{where}: more than eight responses to a prompt: leave eight")
    for i, name in product(range(1, 9), names):
        if f"response_{i}_{name}" not in wide:
            reason = "every response needs every reward"
            raise UserError(f"{where}: no column 'response_{i}_{name}': {reason}")
    return names


def _load_users(name: str, data: str | Path, more: Sequence[str] = ()) -> pd.DataFrame:
    """Read and validate a table of users that has the columns ``more`` as well."""
    # There is a single split, whose name has changed over time (P27).
    where, table = next(iter(_splits(name, data).values()))
    wrong = "the weights are negative or do not sum to one"
    unit = Rule(sum_to_one, wrong, "normalise person_weight")
    check(table, where, {"person_id": None, "person_weight": unit, **dict.fromkeys(more)})
    # Histories differ in length: the columns of later interactions are empty for some users.
    length = table.get("user_history_length", pd.Series(np.inf, table.index))
    for number in count(1):
        users = table[length >= number]
        if number > 1 and (users.empty or f"prompt_{number}" not in users):
            break
        chosen = Rule(lambda side: side.isin(["a", "b"]), f"chosen_{number} is neither a nor b")
        texts = [f"prompt_{number}", f"response_{number}_a", f"response_{number}_b"]
        check(users, where, dict.fromkeys(texts) | {f"chosen_{number}": chosen})
    table.attrs["sources"] = [source(name.lower(), where, len(table), LICENCE)]
    return table


def _splits(name: str, data: str | Path) -> dict[str, tuple[str, pd.DataFrame]]:
    """Return for each split where it was read, and its table with rows counted from 1."""
    hub, repo = str(data) == "hub", f"{OWNER}/{name}"
    root = DEMO / "personalllm" if str(data) == "demo" else Path(data)
    folder = _download(repo) if hub else root / name
    with explained(f"{folder}: cannot be read", "let its folders be listed"):
        files = pd.Series(sorted(folder.rglob("*.parquet")), dtype=object)
    if files.empty:
        remedy = f"download {repo} there, or use data='hub'"
        raise UserError(f"no {name}/**/*.parquet in {root}: {remedy}")
    splits = files.groupby(files.map(lambda file: re.split(r"[-.]", file.name)[0]))
    place = f"hub:{repo}" if hub else str(files[0].parent)
    return {name: (f"{place}/{name}*.parquet", read_parquet([*paths])) for name, paths in splits}


def _download(repo: str) -> Path:
    """Download the Parquet files of a data set of the Hub; return their folder."""
    from huggingface_hub import snapshot_download

    only = "*.parquet"
    with from_hub(f"download {repo}"):
        # Use the project's cache, which users can move to a larger disk.
        folder = snapshot_download(repo, repo_type="dataset", allow_patterns=only, cache_dir=CACHE)
    return Path(folder)
