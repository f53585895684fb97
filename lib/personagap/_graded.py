"""Graded answers in files of lm-evaluation-harness or inspect_ai, or in anybody's table.

Each reader takes a file, the persona that its place names, and ``columns`` of `personagap.scores`,
and gives a dictionary for each answer.
"""

import functools
import json
import re
import struct
import zipfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow

from personagap import personas
from personagap._reading import read_csv, read_jsonl, read_text
from personagap.errors import UserError, one_of
from personagap.paths import regular

COLUMNS = ["model", "persona", "template", "task", "item", "run", "score", "valid", "truncated"]
#: Words for a score: those of inspect_ai (correct, partially, incorrect, no answer), and of
#: anybody's table.
VALUES = {"C": 1.0, "P": 0.5, "I": 0.0, "N": 0.0, "true": 1.0, "yes": 1.0, "false": 0.0, "no": 0.0}
#: Names of what a persona is read from, if it is not a field.
SYSTEM, FILE = "system prompt", "file"
_SAMPLES = re.compile(r"samples_(.+)_(\d{4}-\d\d-\d\dT[\d.:-]+)\.jsonl")
# A method of ZIP that Python's own library reads from 3.14 on.
_ZSTANDARD = 93
Wanted = Mapping[str, str]


def _score(value: Any, file: Path | str, what: str) -> float:
    text = str(value).strip()
    if not 0 <= (number := _number(text)) <= 1:
        remedy = "choose another, rescale it, or leave out what was not answered"
        raise UserError(f"{file}: {what} is {text[:40]!r}, no score between 0 and 1: {remedy}")
    return number


@functools.lru_cache(maxsize=1024)
def _number(text: str) -> float:
    """Kept, for a table of many rows has few different scores; NaN of what is no number."""
    return float(pd.to_numeric(VALUES.get(text, VALUES.get(text.lower(), text)), errors="coerce"))


def _field(fields: Mapping[str, Any], name: str, file: Path) -> str:
    if fields.get(name) is None:
        known = ", ".join(key for key, value in fields.items() if isinstance(value, (str, int)))
        raise UserError(f"{file}: no field {name!r}: choose from {known}")
    return str(fields[name])


def _who(
    columns: Wanted, system: str | None, persona: str, fields: Mapping[str, Any], file: Path
) -> dict[str, str]:
    """Persona and template of an answer."""
    asked, named, template = columns.get("persona", SYSTEM), "none", "paper"
    if system is not None:
        named, template = _stated().get(system, (" ".join(system.split()), "paper"))
    if asked != SYSTEM:
        named = persona if asked == FILE else _field(fields, asked, file)
    return {"persona": str(named), "template": template}


@functools.cache
def _stated() -> dict[str, tuple[str, str]]:
    """System prompt → persona and template, of those that the project words."""
    who = personas.select("all", controls=list(personas.CONTROLS))["persona"]
    texts = personas.templates()
    direct = texts.index[texts.str.contains("{phrase}", regex=False)]
    direct = [name for name in direct if not personas.asks_first(name)]
    # Where two phrasings word a prompt alike, as for a control, the first of them has the last
    # word.
    return {
        personas.system_prompt(name, template=each): (name, each)
        for each in direct[::-1]
        for name in who[1:]
    }


def of_lm_eval(file: Path, persona: str, columns: Wanted) -> Iterator[dict[str, Any]]:
    named = _SAMPLES.fullmatch(file.name)
    task, date = named.groups() if named else (file.stem.removeprefix("samples_"), "")
    results = file.with_name(f"results_{date}.json")
    told = json.loads(read_text(results)) if results.exists() else {}
    samples = read_jsonl(file).to_dict("records")
    metrics = {f"{name},{each['filter']}": name for each in samples for name in each["metrics"]}
    asked = columns.get("score", next(iter(metrics)))
    chosen = next((name for name in metrics if asked in (name, metrics[name])), None)
    if chosen is None:
        raise UserError(f"{file}: no metric {asked!r}: choose from {', '.join(metrics)}")
    for sample in samples:
        if sample["filter"] != chosen.rpartition(",")[2]:
            continue
        document = sample["doc"] if isinstance(sample["doc"], dict) else {}
        fields = {**document, "doc_id": sample["doc_id"]}
        yield {
            "model": told.get("model_name") or file.parent.name,
            **_who(columns, told.get("system_instruction"), persona, fields, file),
            "task": task,
            "item": _field(fields, columns.get("item", "doc_id"), file),
            "score": _score(sample[metrics[chosen]], file, f"metric {metrics[chosen]!r}"),
            "valid": "[invalid]" not in sample["filtered_resps"],
            "truncated": False,
        }


def of_inspect(file: Path, persona: str, columns: Wanted) -> Iterator[dict[str, Any]]:
    header, samples = _opened(file)
    if header is None:
        # It is some other JSON of the folder.
        return
    told = header["eval"]
    kept = [sample for sample in samples if sample.get("scores") and not sample.get("error")]
    answers = any(score.get("answer") for sample in kept for score in sample["scores"].values())
    # Runs are counted in the order of rows.
    for sample in sorted(kept, key=lambda sample: sample["epoch"]):
        scorer, _, key = columns.get("score", next(iter(sample["scores"]))).partition(",")
        one_of(sample["scores"], f"{file}: no scorer", scorer)
        score = sample["scores"][scorer]
        value = score["value"][key] if key else score["value"]
        named = told.get("task_args"), told.get("metadata"), sample.get("metadata")
        fields = {name: value for each in named if each for name, value in each.items()}
        fields["id"] = sample["id"]
        reasons = [choice.get("stop_reason") for choice in sample["output"].get("choices", [])]
        yield {
            "model": told["model"],
            **_who(columns, _system(sample), persona, fields, file),
            "task": told["task"].rpartition("/")[2],
            "item": _field(fields, columns.get("item", "id"), file),
            "score": _score(value, file, f"scorer {scorer!r}"),
            "valid": value != "N" and (bool(score.get("answer")) or not answers),
            "truncated": bool({"max_tokens", "model_length"} & {*reasons}),
        }


def _opened(file: Path) -> tuple[dict[str, Any] | None, list[dict[str, Any]]]:
    """The head of a log and its samples."""
    if file.suffix == ".json":
        log = json.loads(read_text(file))
        return (log, log.get("samples") or []) if "eval" in log else (None, [])
    with zipfile.ZipFile(regular(file)) as archive:
        names = archive.namelist()
        if "header.json" not in names:
            remedy = "run `inspect eval-retry` on it"
            raise UserError(f"{file}: the evaluation did not come to its end: {remedy}")
        inside = (name for name in names if name.startswith("samples/"))
        samples = [json.loads(_member(archive, name)) for name in inside]
        return json.loads(_member(archive, "header.json")), samples


def _member(archive: zipfile.ZipFile, name: str) -> bytes:
    told = archive.getinfo(name)
    if told.compress_type != _ZSTANDARD:
        return archive.read(name)
    with open(str(archive.filename), "rb") as file:
        # Where the local header has the lengths of name and extra field, which may be others than
        # in the directory.
        file.seek(told.header_offset + 26)
        # Past its name and extra field.
        file.seek(sum(struct.unpack("<HH", file.read(4))), 1)
        packed = file.read(told.compress_size)
    return pyarrow.CompressedInputStream(pyarrow.py_buffer(packed), "zstd").read()


def _system(sample: dict[str, Any]) -> str | None:
    """The text of a sample's system message, if there is one."""
    messages = sample.get("messages") or sample["input"]
    if not isinstance(messages, list):
        # A text is the user's turn alone.
        return None
    texts = [message["content"] for message in messages if message["role"] == "system"]
    if not texts or isinstance(texts[0], str):
        return texts[0] if texts else None
    return "".join(part.get("text", "") for part in texts[0])


def of_csv(file: Path, persona: str, columns: Wanted) -> Iterator[dict[str, Any]]:
    table = read_csv(file)
    named = {name: columns.get(name, name) for name in COLUMNS}
    here = {name: theirs for name, theirs in named.items() if theirs in table}
    defaults = {"model": "", "template": "paper", "task": file.stem}
    defaults |= {"valid": "true", "truncated": "false"}
    if named["persona"] == FILE and "persona" not in here:
        defaults["persona"] = persona
    for name in ("persona", "item", "score", *columns):
        if name not in here and not (name == "persona" and name in defaults):
            header = ", ".join(table.columns)
            remedy = f"say which of {header} it is in columns"
            raise UserError(f"{file}: no column {named[name]!r} for {name}: {remedy}")
    if twice := [name for name in here.values() if (table.columns == name).sum() > 1]:
        raise UserError(f"{file}: two columns {twice[0]!r}: leave one")
    for row, told in zip(table.index, table.to_dict("records"), strict=True):
        values = defaults | {name: told[theirs].strip() for name, theirs in here.items()}
        if not values["score"]:
            continue
        where = f"{file}, row {row}"
        for name in ("persona", "task", "item"):
            if not values[name]:
                raise UserError(f"{where}: no {name}: fill it in or drop the row")
        flags = {name: bool(_score(values[name], where, name)) for name in ("valid", "truncated")}
        yield {**values, "score": _score(values["score"], where, named["score"]), **flags}
