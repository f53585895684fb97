"""OpinionQA (Santurkar et al. 2023): how survey groups answer, how language models do, and how reward models choose."""

from pathlib import Path
from typing import NamedTuple

import numpy as np
import pandas as pd

from personagap.datasets._reading import read_csv, refuse, require
from personagap.errors import UserError
from personagap.paths import DEMO

FILES = "opinionqa/*_default_combined.csv"
#: Not released by the authors of PersonalLLM; see ``users.score_responses`` for how to make it.
ANSWERS = "opinionqa/reward_model_answers.csv"
COLUMNS = ["qkey", "attribute", "group", "model_name", "ordinal", "D_H", "D_M"]


class Opinions(NamedTuple):
    """Answers to survey questions; a question is "<file>/<qkey>", as a key recurs in several waves.

    Attributes
    ----------
    people : ``question attribute group ordinal distribution``; ``ordinal`` is the place of each option on the
        scale and ``distribution`` the share of the group that chose it. Attribute "Overall" is everybody.
    models : ``model question distribution``, over the same options.
    answers : ``question reward_model answer``, ``answer`` being the ordinal of the option that a reward model
        prefers; None where ``ANSWERS`` is absent.
    """

    people: pd.DataFrame
    models: pd.DataFrame
    answers: pd.DataFrame | None


def load_opinions(data: str | Path = "demo") -> Opinions:
    """Read ``opinionqa/*_default_combined.csv``, in the released columns, and the answers of reward models.

    ``people.attrs["sources"]`` says what was read.

    Raises
    ------
    UserError : no file, a column missing, a distribution that does not sum to one, an answer that is no option.
    """
    folder = DEMO / "personalllm" if str(data) == "demo" else Path(data)
    files = sorted(folder.glob(FILES))
    if not files:
        raise UserError(f"no {FILES} in {folder}: put OpinionQA's data/distributions there, or use data='demo'")
    table = pd.concat([_read(file) for file in files], ignore_index=True)
    people = table.drop_duplicates(["question", "attribute", "group"])
    people = people[["question", "attribute", "group", "ordinal", "D_H"]].rename(columns={"D_H": "distribution"})
    models = table.drop_duplicates(["model_name", "question"])
    models = models[["model_name", "question", "D_M"]].set_axis(["model", "question", "distribution"], axis=1)
    licence = "Apache-2.0 (simulated, written for this project)" if str(data) == "demo" else "see Pew Research Center"
    source = {"task": "opinionqa", "source": str(data), "licence": licence}
    people.attrs["sources"] = [source | {"file": str(folder / FILES), "rows": people["question"].nunique()}]
    return Opinions(people.reset_index(drop=True), models.reset_index(drop=True), _answers(folder / ANSWERS, people))


def _read(file: Path) -> pd.DataFrame:
    table, where = read_csv(file), str(file)
    require(table, where, COLUMNS)
    for column in ("ordinal", "D_H", "D_M"):  # arrays as NumPy prints them: "[0.2 0.8]"
        numbers = table[column].str.strip("[]").str.replace(",", " ").str.split()
        values = [pd.to_numeric(pd.Series(row), errors="coerce").to_numpy(dtype=float) for row in numbers]
        table[column] = pd.Series(values, index=table.index)
        refuse(table, where, table[column].map(lambda row: np.isnan(row).any()), f"{column} holds no numbers", "fix it")
    for column in ("D_H", "D_M"):
        size = table[column].map(len) != table["ordinal"].map(len)
        refuse(table, where, size, f"{column} has not one share per option", "give as many as ordinal")
        total = table[column].map(np.sum)
        refuse(table, where, (total - 1).abs() > 1e-3, f"the shares of {column} do not sum to one", "normalise them")
    wave = file.name.removesuffix("_default_combined.csv").rpartition("_")[2]
    return table.assign(question=wave + "/" + table["qkey"])


def _answers(file: Path, people: pd.DataFrame) -> pd.DataFrame | None:
    if not file.exists():
        return None
    table, where = read_csv(file), str(file)
    require(table, where, ["question", "reward_model", "answer"])
    options = people.drop_duplicates("question").set_index("question")["ordinal"]
    known = table["question"].isin(options.index)
    refuse(table, where, ~known, "no such question", f"name it as in {FILES}: <wave>/<qkey>")
    table["answer"] = pd.to_numeric(table["answer"], errors="coerce")
    wrong = [row.answer not in options[row.question] for row in table.itertuples()]
    refuse(table, where, pd.Series(wrong, index=table.index), "the answer is no option's ordinal", "correct it")
    return table[["question", "reward_model", "answer"]].reset_index(drop=True)
