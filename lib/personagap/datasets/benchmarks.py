"""Readers of the five benchmarks: raw files, in their upstream formats, to tables of items."""

import re
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import pandas as pd

from personagap.datasets._reading import Rule, check, find_folder, from_hub, read_csv, read_jsonl, refuse, source
from personagap.errors import UserError

LETTERS = list("ABCD")
#: Other names of columns: of MMLU in the layout of its test split, of StrongREJECT on the Hub.
RENAMED = {**{f"choice{number}": letter for number, letter in enumerate(LETTERS)}, "prompt": "forbidden_prompt"}
OURS = "Apache-2.0 (written for this project)"
#: Columns of an item that most tasks leave empty.
EMPTY = {"item": "", "question": "", "choices": None, "answer": None, "tests": None, "setup": "", "group": ""}


class Benchmark(NamedTuple):
    """Where a data set comes from, what its columns must hold, and how its rows become items."""

    files: str
    licence: str
    hub: tuple[str, str | None, str]  # name, configuration, split
    schema: dict[str, Rule | None]
    items: Callable[[pd.DataFrame], dict[str, Any]]


def read(task: str, data: str | Path) -> pd.DataFrame | None:
    """Items of a task, ``attrs`` saying where they are from; None if ``data``, a folder, does not hold it.

    A question that is asked again, with the same choices or tests, counts as evidence twice, and is told: MMLU holds
    such a pair among its 285, a file joined to itself nothing else.
    """
    benchmark = BENCHMARKS[task]
    if str(data) == "hub":
        name, _, split = benchmark.hub
        where, tables = f"hub:{name}/{split}", {f"hub:{name}/{split}": _hub_rows(benchmark)}
    else:
        folder = find_folder(data)
        files = _files(task, folder)
        if not files:
            return None
        where = files[0] if files[0].parent == folder else files[0].parent
        tables = {str(file): _rows(file, subject=file.parent != folder) for file in files}
    for name, table in tables.items():
        tables[name] = table.rename(columns=RENAMED)
        check(tables[name], name, benchmark.schema)
    table = pd.concat(tables.values())
    items = pd.DataFrame({"task": task} | EMPTY | benchmark.items(table), table.index)
    items = items.astype({"item": "str", "question": "str"}).fillna({"setup": ""})
    refuse(items["item"].duplicated(), str(where), "an id used before", "give each item its own id")
    content = pd.DataFrame({name: items[name].astype("str") for name in ("question", "choices", "tests")})
    again = content.duplicated()
    if again.any():
        print(f"{where}: {again.sum()} repeated questions (first: row {again.idxmax()}), each counted as an item: why?")
    items.attrs = source(task, where, len(items), benchmark.licence) | {"repeated": int(again.sum())}
    if items.attrs["source"] == "demo":  # real questions, only nobody else's: a real model may be asked them
        items.attrs["licence"] = OURS
    return items


def _files(task: str, folder: Path) -> list[Path]:
    """The one file of a task; or those of MMLU by subject, of ``mmlu/dev``, else of ``mmlu/test``."""
    files = sorted(folder.glob(BENCHMARKS[task].files.split(" or ")[0]))
    if len(files) > 1:
        names = ", ".join(file.name for file in files)
        raise UserError(f"{folder}: several files for {task} ({names}): leave only the one to use")
    if task == "mmlu":
        files = files or sorted(folder.glob("mmlu/dev/*.csv")) or sorted(folder.glob("mmlu/test/*.csv"))
    return files


def _rows(file: Path, subject: bool) -> pd.DataFrame:
    if file.suffix == ".jsonl":
        return read_jsonl(file)
    table = read_csv(file)
    if not subject:
        return table
    if "question" not in table:  # upstream has no header
        if len(table.columns) != 6:
            wrong = f"{len(table.columns)} fields: question, four choices and answer are needed"
            raise UserError(f"{file}, row 1: {wrong}")
        table = read_csv(file, header=["question", *LETTERS, "answer"])
    return table.assign(subject=re.sub(r"_(dev|test|val)$", "", file.stem))


def _hub_rows(benchmark: Benchmark) -> pd.DataFrame:
    try:
        import datasets as hub
    except ImportError:
        raise UserError('data="hub" needs one more package: pip install "personagap[hub]"') from None
    name, configuration, split = benchmark.hub
    fetch = lambda: hub.load_dataset(name, configuration, split=split).to_pandas()  # noqa: E731
    table = from_hub(f"load {name} from the Hub", fetch)
    if "choices" in table:  # MMLU as a list
        table[LETTERS] = table["choices"].tolist()
    return table


# --- rows to items -----------------------------------------------------------------------------------


def _letter(answer: pd.Series) -> pd.Series:
    return answer.astype("str").str.strip().replace([*"0123"], LETTERS)


def _number(answer: pd.Series) -> pd.Series:
    """What follows "####"; labels hold thousands separators and signs (S4)."""
    label = answer.astype("str").str.extract(r"####(.*)$", flags=re.MULTILINE)[0].str.replace(",", "").str.strip()
    return label.where(label.str.fullmatch(r"-?\d+(\.\d+)?", na=False))


def _asserts(tests: Any) -> bool:
    return hasattr(tests, "__len__") and len(tests) > 0 and all(str(test).startswith("assert ") for test in tests)


def _position(table: pd.DataFrame) -> pd.Series:
    return pd.Series(range(len(table)), table.index)


def _mmlu(table: pd.DataFrame) -> dict[str, Any]:
    item = table["subject"] + "/" + table.groupby("subject").cumcount().astype("str")
    choices, answer = pd.Series(table[LETTERS].to_numpy().tolist(), table.index), _letter(table["answer"])
    known = {"item": item, "question": table["question"], "choices": choices}
    return known | {"answer": answer.astype(object), "group": table["subject"]}


def _gsm8k(table: pd.DataFrame) -> dict[str, Any]:
    answer = _number(table["answer"]).astype(object)
    return {"item": _position(table), "question": table["question"], "answer": answer}


def _mbpp(table: pd.DataFrame) -> dict[str, Any]:
    tests, setup = table["test_list"].map(list), table.get("test_setup_code", "")
    return {"item": table["task_id"], "question": table["text"], "tests": tests, "setup": setup}


def _safety(question: str, group: str, table: pd.DataFrame) -> dict[str, Any]:
    return {"item": table.get("id", _position(table)), "question": table[question], "group": table[group]}


ANSWER = Rule(lambda answer: _letter(answer).isin(LETTERS), "the answer is not one of A, B, C, D (or 0–3)")
SOLUTION = Rule(lambda answer: _number(answer).notna(), "the answer does not end in '#### number'")
TESTS = Rule(lambda tests: tests.map(_asserts), "test_list is not a list of assert statements")
CHOICE = Rule(lambda text: text.astype("str").str.strip() != "", "an empty choice", "fill it in or drop the row")
QUESTION = Rule(lambda text: text.astype("str").str.strip() != "", "an empty question", "fill it in or drop the row")

BENCHMARKS = {
    "mmlu": Benchmark(
        "mmlu*.csv or mmlu/{dev,test}/*.csv", "MIT", ("cais/mmlu", "all", "dev"),
        {"subject": None, "question": QUESTION, **dict.fromkeys(LETTERS, CHOICE), "answer": ANSWER}, _mmlu,
    ),
    "gsm8k": Benchmark(
        "gsm8k*.jsonl", "MIT", ("openai/gsm8k", "main", "test"), {"question": QUESTION, "answer": SOLUTION}, _gsm8k
    ),
    "mbpp": Benchmark(
        "mbpp*.jsonl", "CC-BY-4.0", ("google-research-datasets/mbpp", "full", "train+test+validation+prompt"),
        {"task_id": None, "text": QUESTION, "test_list": TESTS}, _mbpp,
    ),
    "do_not_answer": Benchmark(
        "do_not_answer*.csv", "Apache-2.0", ("LibrAI/do-not-answer", None, "train"),
        {"types_of_harm": None, "question": QUESTION}, partial(_safety, "question", "types_of_harm"),
    ),
    "strongreject": Benchmark(
        "strongreject*.csv", "MIT", ("walledai/StrongREJECT", None, "train"),
        {"category": None, "forbidden_prompt": QUESTION}, partial(_safety, "forbidden_prompt", "category"),
    ),
}  # fmt: skip
