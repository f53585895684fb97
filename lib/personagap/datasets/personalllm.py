"""PersonalLLM (arXiv 2409.20296): prompts, eight responses each, and what ten reward models think of them."""

import re
from collections import Counter
from itertools import product
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow

from personagap.datasets._reading import refuse, require
from personagap.errors import UserError
from personagap.paths import CACHE, DEMO

#: Data sets of the Hub; in a folder, a subfolder of that name holds the same Parquet files.
TABLE, EVALUATION, INTERACTIONS = "PersonalLLM", "PersonalLLM_Eval", "PersonalLLM_InteractionDatabase"
OWNER = "namkoong-lab"
#: The card and the paper disagree (T14).
LICENCE = "CC-BY-4.0 (card) or CC-BY-NC-4.0 (paper); terms of OpenAI and Anthropic for the responses"
#: In canonical order, that of the weights: by name (T2).
REWARD_MODELS = (
    "beaver_7b", "gemma_2b", "gemma_7b", "llama3_sfairx", "mistral_raft", "mistral_ray", "mistral_weqweasdas",
    "oasst_deberta_v3", "oasst_pythia_1b", "oasst_pythia_7b",
)  # fmt: skip
#: What the authors wrote for a response that they could not get (T16).
FAILED = "!!!ERROR"


def load_personalllm(data: str | Path = "demo") -> pd.DataFrame:
    """One row per prompt × response, with its raw rewards.

    Parameters
    ----------
    data : "demo" (simulated for this project), a folder that holds ``PersonalLLM/**/{train,test}-*.parquet``
        as on the Hub, or "hub" (needs the network; 92 MB once).

    Returns
    -------
    DataFrame ``split prompt prompt_text response response_model text`` and a column of raw rewards per reward
    model, sorted by split, prompt and response. ``prompt`` names the row of the file (``prompt_id`` need not be
    unique over the sources), ``response`` is 0–7. ``attrs["reward_models"]`` lists the reward columns sorted by
    name, whatever their order in the file (T2); ``attrs["sources"]`` what was read. Prompts with a failed
    response (T16) are left out and counted there.

    Raises
    ------
    UserError : no data, a missing or renamed column, a reward model missing, a reward that is not a finite
        number; names the file, the row (from 1) and the remedy.
    """
    tables, sources = [], []
    for split, (where, wide) in _files(TABLE, data).items():
        table, names = _long(wide, where, split)
        failed = table["prompt"].isin(table.loc[table["text"].str.startswith(FAILED), "prompt"])
        tables.append(table[~failed])
        sources.append(_source("personalllm", data, where, len(wide)) | {"failed": int(failed.sum() // 8)})
    table = pd.concat(tables, ignore_index=True).sort_values(["split", "prompt", "response"], ignore_index=True)
    if table.isna().any(axis=None):
        raise UserError(f"{where}: its reward models are not those of the other split: give both the same columns")
    table.attrs = {"sources": sources, "reward_models": names}
    return table


def load_interactions(data: str | Path = "demo") -> pd.DataFrame:
    """Historical users, one row each, as on the Hub.

    Returns
    -------
    DataFrame ``person_id person_weight`` and, for each interaction j from 1, ``prompt_j response_j_a response_j_b
    chosen_j``; ``person_weight`` lists weights of reward models sorted by name, ``chosen_j`` is "a" or "b". The
    released set has 1,000 users × 50 prompts, not 10,000 (T27). ``attrs["sources"]`` says what was read.

    Raises
    ------
    UserError : no data, a column missing, a choice other than a and b, weights that do not sum to one.
    """
    table = _people(INTERACTIONS, data)
    _history(table, table.attrs["sources"][0]["file"], pd.Series(np.inf, index=table.index))
    return table


def load_evaluation(data: str | Path = "demo") -> pd.DataFrame:
    """Test users, one row each, as on the Hub: a history of 3–5 interactions (T27), a prompt, two stored responses.

    Returns
    -------
    DataFrame like `load_interactions`, with ``user_history_length test_prompt best_response best_response_model
    best_response_reward gpt4o_response gpt4o_reward``; unlike the raw scores the two rewards are z-scored (T2).
    """
    table = _people(EVALUATION, data)
    where = table.attrs["sources"][0]["file"]
    extra = ["best_response", "best_response_model", "best_response_reward", "gpt4o_response", "gpt4o_reward"]
    require(table, where, ["user_history_length", "test_prompt", *extra])
    _history(table, where, table["user_history_length"])
    return table


def _long(wide: pd.DataFrame, where: str, split: str) -> tuple[pd.DataFrame, list[str]]:
    """One row per response, and the names of the reward models."""
    names, numbers = _reward_models(wide, where), range(1, 9)
    require(wide, where, ["prompt", *(f"response_{i}{end}" for i in numbers for end in ("", "_model"))])
    row = [f"{split}-{position:05d}" for position in range(len(wide))]
    long = {"split": split, "prompt": np.repeat(row, 8), "prompt_text": np.repeat(wide["prompt"].to_numpy(), 8)}
    long["response"] = np.tile(range(8), len(wide))
    for column, end in ({"response_model": "_model", "text": ""} | {name: f"_{name}" for name in names}).items():
        long[column] = wide[[f"response_{i}{end}" for i in numbers]].to_numpy().ravel()
    table = pd.DataFrame(long, np.repeat(wide.index, 8))
    for name in names:
        table[name] = pd.to_numeric(table[name], errors="coerce").astype(float)
        refuse(table, where, ~np.isfinite(table[name]), f"a {name} reward is not a finite number", "score it again")
    return table, names


def _reward_models(wide: pd.DataFrame, where: str) -> list[str]:
    """Those that most responses have, which every response needs; sorted by name (T2)."""
    found = [re.fullmatch(r"response_[1-8]_(?!model$)(.+)", column) for column in wide.columns]
    counts = Counter(match[1] for match in found if match)
    names = sorted(name for name, count in counts.items() if count >= 4)
    for name in REWARD_MODELS:
        if not names or (name not in names and set(names) & set(REWARD_MODELS)):
            raise UserError(f"{where}: no columns 'response_1_{name}' … of reward model {name}: give all of the paper")
    for i, name in product(range(1, 9), names):
        if f"response_{i}_{name}" not in wide:
            raise UserError(f"{where}: no column 'response_{i}_{name}': every response needs every reward")
    return names


def _people(name: str, data: str | Path) -> pd.DataFrame:
    where, table = next(iter(_files(name, data).values()))  # the name of its only split has changed (T27)
    require(table, where, ["person_id", "person_weight"])
    total = table["person_weight"].map(np.sum)
    refuse(table, where, (total - 1).abs() > 1e-3, "the weights do not sum to one", "normalise person_weight")
    refuse(table, where, table["person_weight"].map(np.min) < 0, "a negative weight", "give weights of 0 to 1")
    table.attrs["sources"] = [_source(name.lower(), data, where, len(table))]
    return table


def _history(table: pd.DataFrame, where: str, length: pd.Series) -> None:
    number = 1
    while number == 1 or f"prompt_{number}" in table:
        columns = [f"prompt_{number}", f"response_{number}_a", f"response_{number}_b", f"chosen_{number}"]
        require(table[length >= number], where, columns)
        wrong = (length >= number) & ~table[columns[-1]].isin(["a", "b"])
        refuse(table, where, wrong, f"{columns[-1]} is neither a nor b", "correct it")
        number += 1


def _files(name: str, data: str | Path) -> dict[str, tuple[str, pd.DataFrame]]:
    """Split → where it was read, and its table with rows counted from 1."""
    if str(data) == "hub":
        folder = _download(name)
    else:
        folder = (DEMO / "personalllm" if str(data) == "demo" else Path(data)) / name
    splits: dict[str, list[Path]] = {}
    for file in sorted(folder.rglob("*.parquet")):
        splits.setdefault(file.name.split("-")[0].removesuffix(".parquet"), []).append(file)
    if not splits:
        raise UserError(f"no {name}/**/*.parquet in {folder.parent}: download {OWNER}/{name} there, or use data='demo'")
    return {split: (str(files[0].parent / f"{split}*.parquet"), _read(files)) for split, files in splits.items()}


def _read(files: list[Path]) -> pd.DataFrame:
    try:
        table = pd.concat([pd.read_parquet(file) for file in files], ignore_index=True)
    except (pyarrow.ArrowException, OSError) as error:
        cause = str(error).splitlines()[0]
        raise UserError(f"{files[0].parent}: not whole Parquet files ({cause}): download them again") from None
    if table.empty:
        raise UserError(f"{files[0]}: no rows: download it again")
    return table.set_index(pd.RangeIndex(1, len(table) + 1))


def _download(name: str) -> Path:
    from huggingface_hub import snapshot_download

    try:
        path = snapshot_download(f"{OWNER}/{name}", repo_type="dataset", allow_patterns="*.parquet", cache_dir=CACHE)
    except Exception as error:  # the network stack below raises a dozen unrelated types
        cause = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise UserError(f"cannot download {OWNER}/{name} ({cause}): check the network, or use a folder") from None
    return Path(path)


def _source(task: str, data: str | Path, where: str, rows: int) -> dict:
    demo = str(data) == "demo"
    source = "demo (simulated)" if demo else f"hub:{OWNER}" if str(data) == "hub" else "folder"
    licence = "Apache-2.0 (simulated, written for this project)" if demo else LICENCE
    return {"task": task, "source": source, "licence": licence, "file": where, "rows": rows}
