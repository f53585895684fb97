"""Readers of the five benchmarks: raw files, in their upstream formats, to tables of items."""

import functools
import re
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import pandas as pd

from personagap.datasets._reading import read_csv, read_jsonl, read_rows, refuse, require
from personagap.errors import UserError
from personagap.paths import DEMO

LETTERS = list("ABCD")


class Benchmark(NamedTuple):
    """Where a data set comes from, and how its rows become items."""

    files: str
    licence: str
    hub: tuple[str, str | None, str]  # name, configuration, split
    renamed: dict[str, str]  # column names of the Hub copy -> of the original file
    items: Callable[[pd.DataFrame, str], pd.DataFrame]


def from_folder(task: str, folder: Path) -> pd.DataFrame | None:
    """Items of a task in a folder, or None if it is not there. ``attrs``: ``task source licence file``."""
    benchmark = BENCHMARKS[task]
    files = sorted(folder.glob(benchmark.files.split(" or ")[0]))
    if len(files) > 1:
        names = ", ".join(file.name for file in files)
        raise UserError(f"{folder}: several files for {task} ({names}): leave only the one to use")
    if files:
        read = read_jsonl if files[0].suffix == ".jsonl" else read_csv
        where, table = str(files[0]), read(files[0])
    else:
        where, table = _read_mmlu_splits(folder) if task == "mmlu" else ("", None)
    if table is None:
        return None
    licence = "Apache-2.0 (simulated, written for this project)" if folder == DEMO else benchmark.licence
    return _finish(task, table, where, source="demo" if folder == DEMO else "folder", licence=licence)


def from_hub(task: str) -> pd.DataFrame:
    """Items of a task from the Hugging Face Hub (needs the network and the extra ``hub``)."""
    try:
        import datasets as hub
    except ImportError:
        raise UserError('data="hub" needs one more package: pip install "personagap[hub]"') from None
    benchmark = BENCHMARKS[task]
    name, configuration, split = benchmark.hub
    try:
        table = hub.load_dataset(name, configuration, split=split).to_pandas()
    except Exception as error:  # the network stack below raises a dozen unrelated types
        cause = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise UserError(
            f"{task}: cannot load {name} from the Hub ({cause}): check the network and your access, or use a folder"
        ) from error
    table = table.rename(columns=benchmark.renamed)
    if "choices" in table:  # MMLU as a list
        table[LETTERS] = table["choices"].tolist()
    return _finish(task, table, f"hub:{name}/{split}", source=f"hub:{name}", licence=benchmark.licence)


def _finish(task: str, table: pd.DataFrame, where: str, **attrs: str) -> pd.DataFrame:
    if table.empty:
        raise UserError(f"{where}: the file has no rows: replace it with the full file, or remove it")
    items = BENCHMARKS[task].items(table, where)
    items.insert(0, "task", task)
    items["setup"] = items["setup"].fillna("")
    refuse(table, where, items["question"].str.strip() == "", "an empty question", "fill it in or drop the row")
    refuse(table, where, items["item"].duplicated(), "an id used before", "give each item its own id")
    items.attrs = {"task": task, "file": where, **attrs}
    return items


def _items(item, question, choices=None, answer=None, tests=None, setup="", group="") -> pd.DataFrame:
    columns = {"item": item.astype("str"), "question": question.astype("str"), "choices": choices, "answer": answer}
    return pd.DataFrame(columns | {"tests": tests, "setup": setup, "group": group})


# --- raw files ---------------------------------------------------------------------------------------


def _read_mmlu_splits(folder: Path) -> tuple[str, pd.DataFrame | None]:
    """The per-subject files of ``mmlu/dev``, else of ``mmlu/test``."""
    for split in ["dev", "test"]:
        files = sorted((folder / "mmlu" / split).glob("*.csv"))
        if files:
            tables = [_mmlu_columns(_read_mmlu_subject(file), str(file)) for file in files]
            return str(folder / "mmlu" / split), pd.concat(tables)
    return "", None


def _read_mmlu_subject(file: Path) -> pd.DataFrame:
    """One subject, with the header of the test layout or without one (upstream)."""
    rows = read_rows(file)
    if "question" in rows[0]:
        table = read_csv(file)
    elif len(rows[0]) == 6:
        table = pd.DataFrame(rows, columns=["question", *LETTERS, "answer"], index=range(1, len(rows) + 1))
    else:
        raise UserError(f"{file}, row 1: {len(rows[0])} fields: question, four choices and answer are needed")
    return table.assign(subject=re.sub(r"_(dev|test|val)$", "", file.stem))


# --- rows to items -----------------------------------------------------------------------------------


def _mmlu_columns(table: pd.DataFrame, where: str) -> pd.DataFrame:
    """The layouts of MMLU as ``subject question A B C D answer``, the answer a letter."""
    table = table.rename(columns={f"choice{number}": letter for number, letter in enumerate(LETTERS)})
    require(table, where, ["subject", "question", *LETTERS, "answer"])
    answer = table["answer"].astype("str").str.strip()
    letter = answer.replace({str(number): letter for number, letter in enumerate(LETTERS)})
    refuse(table, where, ~letter.isin(LETTERS), "the answer is not one of A, B, C, D (or 0–3)", "correct it")
    return table.assign(answer=letter)


def _mmlu_items(table: pd.DataFrame, where: str) -> pd.DataFrame:
    table = _mmlu_columns(table, where)
    item = table["subject"] + "/" + table.groupby("subject").cumcount().astype("str")
    choices = pd.Series(table[LETTERS].to_numpy().tolist(), index=table.index)
    return _items(item, table["question"], choices, table["answer"].astype(object), group=table["subject"])


def _gsm8k_items(table: pd.DataFrame, where: str) -> pd.DataFrame:
    require(table, where, ["question", "answer"])
    # T4: labels hold thousands separators and signs; as numbers they would be text otherwise.
    label = table["answer"].astype("str").str.extract(r"####(.*)$", flags=re.MULTILINE)[0]
    answer = label.str.replace(",", "").str.strip()
    bad = ~answer.str.fullmatch(r"-?\d+(\.\d+)?").fillna(False).astype(bool)
    refuse(table, where, bad, "the answer does not end in '#### number'", "correct it")
    return _items(_positions(table), table["question"], answer=answer.astype(object))


def _mbpp_items(table: pd.DataFrame, where: str) -> pd.DataFrame:
    require(table, where, ["task_id", "text", "test_list"])
    tests = table["test_list"].map(lambda tests: list(tests) if hasattr(tests, "__len__") else [])
    bad = ~tests.map(lambda tests: len(tests) > 0 and all(str(test).startswith("assert ") for test in tests))
    refuse(table, where, bad, "test_list is not a list of assert statements", "correct it")
    return _items(table["task_id"], table["text"], tests=tests, setup=table.get("test_setup_code", ""))


def _safety_items(table: pd.DataFrame, where: str, question: str, group: str) -> pd.DataFrame:
    require(table, where, [group, question])
    return _items(table.get("id", _positions(table)), table[question], group=table[group])


def _positions(table: pd.DataFrame) -> pd.Series:
    return pd.Series(range(len(table)), index=table.index)


BENCHMARKS = {
    "mmlu": Benchmark("mmlu*.csv or mmlu/{dev,test}/*.csv", "MIT", ("cais/mmlu", "all", "dev"), {}, _mmlu_items),
    "gsm8k": Benchmark("gsm8k*.jsonl", "MIT", ("openai/gsm8k", "main", "test"), {}, _gsm8k_items),
    "mbpp": Benchmark(
        "mbpp*.jsonl",
        "CC-BY-4.0",
        ("google-research-datasets/mbpp", "full", "train+test+validation+prompt"),
        {},
        _mbpp_items,
    ),
    "do_not_answer": Benchmark(
        "do_not_answer*.csv",
        "Apache-2.0",
        ("LibrAI/do-not-answer", None, "train"),
        {},
        functools.partial(_safety_items, question="question", group="types_of_harm"),
    ),
    "strongreject": Benchmark(
        "strongreject*.csv",
        "MIT",
        ("walledai/StrongREJECT", None, "train"),
        {"prompt": "forbidden_prompt"},
        functools.partial(_safety_items, question="forbidden_prompt", group="category"),
    ),
}
