"""Load OpinionQA (Santurkar et al. 2023): survey answers of people and models."""

from pathlib import Path
from typing import Literal, NamedTuple, overload

import numpy as np
import pandas as pd

from personagap._reading import Rule, check, find_folder, read_csv, refuse, source, sum_to_one
from personagap.errors import UserError
from personagap.paths import DEMO

FILES = "opinionqa/*_default_combined.csv"
#: Not released by the authors of PersonalLLM; ``users.score_responses`` says how to create it.
ANSWERS = "opinionqa/reward_model_answers.csv"
COLUMNS = ["qkey", "attribute", "group", "model_name", "ordinal", "D_H", "D_M"]


class Opinions(NamedTuple):
    """Answers to survey questions, named "<wave>/<qkey>" since keys recur in several waves.

    Attributes
    ----------
    people : ``question attribute group ordinal distribution``; ``ordinal`` is the position of each
        option on the scale and ``distribution`` the share of the group that chose it. Attribute
        "Overall" is the whole sample.
    models : ``model question distribution``, over the same options.
    answers : ``question reward_model answer``, where ``answer`` is the ordinal of the option that
        the reward model prefers; None if there is no file ``ANSWERS``.
    """

    people: pd.DataFrame
    models: pd.DataFrame
    answers: pd.DataFrame | None


@overload
def load_opinions(data: str | Path = "demo", missing_ok: Literal[False] = False) -> Opinions: ...
@overload
def load_opinions(data: str | Path = "demo", missing_ok: bool = False) -> Opinions | None: ...
def load_opinions(data: str | Path = "demo", missing_ok: bool = False) -> Opinions | None:
    """Read ``opinionqa/*_default_combined.csv``, as released, and the answers of reward models.

    ``people.attrs["sources"]`` lists what was read. With ``missing_ok``, None if there are no
    files.

    `UserError`: no file, a missing column, a distribution that does not sum to one, an answer that
    is not an option.
    """
    if missing_ok and data != "demo" and not any(Path(data).glob(FILES)):
        return None
    folder = find_folder(data, DEMO / "personalllm")
    files = sorted(folder.glob(FILES))
    if not files:
        remedy = "put OpinionQA's data/distributions there, or use data='demo'"
        raise UserError(f"no {FILES} in {folder}: {remedy}")
    table = pd.concat([_read(file) for file in files], ignore_index=True)
    people = table.drop_duplicates(["question", "attribute", "group"], ignore_index=True)
    # A file has a row for every pair of group and model, so both repeat.
    people = people[["question", "attribute", "group", "ordinal", "D_H"]]
    people = people.rename(columns={"D_H": "distribution"})
    models = table.drop_duplicates(["model_name", "question"], ignore_index=True)
    columns = ["model", "question", "distribution"]
    models = models[["model_name", "question", "D_M"]].set_axis(columns, axis=1)
    rows = people["question"].nunique()
    people.attrs["sources"] = [source("opinionqa", folder / FILES, rows, "see Pew Research Center")]
    return Opinions(people, models, _answers(folder / ANSWERS, people))


def _read(file: Path) -> pd.DataFrame:
    """Read and validate one file of distributions."""
    table, where = read_csv(file), str(file)
    check(table, where, COLUMNS)
    for column in COLUMNS[4:]:
        table[column] = table[column].map(_numbers)
        refuse(table[column].map(np.isnan).map(np.any), where, f"{column} holds no numbers")
    for column in COLUMNS[5:]:
        size = table[column].map(len) != table["ordinal"].map(len)
        refuse(size, where, f"{column} has not one share per option", "give as many as ordinal")
        wrong = f"the shares of {column} are negative or do not sum to one"
        refuse(~sum_to_one(table[column]), where, wrong, "normalise them")
    options = table["ordinal"].map(tuple)
    refuse(options.map(set).map(len) < 2, where, "ordinal has one place only", "drop the question")
    differs = options != options.groupby(table["qkey"]).transform("first")
    refuse(differs, where, "ordinal is not that of the question's first row", "give all the same")
    wave = file.name.removesuffix("_default_combined.csv").rpartition("_")[2]
    return table.assign(question=wave + "/" + table["qkey"])


def _numbers(text: str) -> np.ndarray:
    """Parse an array as printed by NumPy, "[0.2 0.8]"; NaN for anything that is not a number."""
    words = pd.Series(text.strip("[]").replace(",", " ").split())
    return pd.to_numeric(words, errors="coerce").to_numpy(dtype=float)


def _answers(file: Path, people: pd.DataFrame) -> pd.DataFrame | None:
    """Read and validate the answers of reward models."""
    if not file.exists():
        return None
    table, where = read_csv(file), str(file)
    options = people.drop_duplicates("question").set_index("question")["ordinal"]
    remedy = f"name it as in {FILES}: <wave>/<qkey>"
    known = Rule(lambda name: name.isin(options.index), "no such question", remedy)
    check(table, where, {"question": known, "reward_model": None, "answer": None})
    table["answer"] = pd.to_numeric(table["answer"], errors="coerce")
    wrong = [row.answer not in options[row.question] for row in table.itertuples()]
    refuse(pd.Series(wrong, table.index), where, "the answer is no option's ordinal")
    repeated = table.duplicated(["question", "reward_model"])
    refuse(repeated, where, "this reward model's second answer to the question", "leave one")
    return table[["question", "reward_model", "answer"]].reset_index(drop=True)
