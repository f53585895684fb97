"""Readers of graded answers in files of lm-evaluation-harness, inspect_ai, or in a CSV.

Each reader takes a file, the persona named by its path, and ``columns`` of `personagap.scores`, and
yields a dictionary per answer.
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
from personagap.errors import UserError, require_one_of
from personagap.paths import regular_file
from personagap.schema import CONTROLS, SCORE_COLUMNS

#: What a file may state; the outcome is derived.
COLUMNS = [name for name in SCORE_COLUMNS if name != "outcome"]
#: Words for scores: those of inspect_ai (correct, partially, incorrect, no answer) and of CSVs.
VALUES = {"C": 1.0, "P": 0.5, "I": 0.0, "N": 0.0, "true": 1.0, "yes": 1.0, "false": 0.0, "no": 0.0}
#: Sources of the persona that are not fields.
SYSTEM, FILE = "system prompt", "file"
_SAMPLES = re.compile(r"samples_(.+)_(\d{4}-\d\d-\d\dT[\d.:-]+)\.jsonl")
# ZIP compression method that zipfile supports only from Python 3.14 on.
_ZSTANDARD = 93
#: Column of ``scores`` → where to find it.
ColumnMap = Mapping[str, str]


def _to_score(value: Any, file: Path | str, what: str) -> float:
    """Convert a value to a score in [0, 1]; otherwise raise `UserError`."""
    text = str(value).strip()
    if not 0 <= (number := _to_number(text)) <= 1:
        remedy = "choose another, rescale it, or leave out what was not answered"
        raise UserError(f"{file}: {what} is {text[:40]!r}, no score between 0 and 1: {remedy}")
    return number


@functools.lru_cache(maxsize=1024)
def _to_number(text: str) -> float:
    """Convert a text to a number, or NaN. Cached, as large tables have few distinct scores."""
    return float(pd.to_numeric(VALUES.get(text, VALUES.get(text.lower(), text)), errors="coerce"))


def _field(fields: Mapping[str, Any], name: str, file: Path) -> str:
    if fields.get(name) is None:
        choices = ", ".join(key for key, value in fields.items() if isinstance(value, (str, int)))
        raise UserError(f"{file}: no field {name!r}: choose from {choices}")
    return str(fields[name])


def _persona_and_template(
    columns: ColumnMap, system: str | None, persona: str, fields: Mapping[str, Any], file: Path
) -> dict[str, str]:
    """Persona and template of an answer."""
    source, name, template = columns.get("persona", SYSTEM), "none", "paper"
    if system is not None:
        name, template = _known_prompts().get(system, (" ".join(system.split()), "paper"))
    if source != SYSTEM:
        name = persona if source == FILE else _field(fields, source, file)
    return {"persona": str(name), "template": template}


@functools.cache
def _known_prompts() -> dict[str, tuple[str, str]]:
    """System prompt → persona and template, for the prompts of this project."""
    who = personas.select("all", controls=list(CONTROLS))["persona"]
    texts = personas.templates()
    direct = texts.index[texts.str.contains("{phrase}", regex=False)]
    direct = [template for template in direct if not personas.asks_first(template)]
    # In reverse order, so that the first of several phrasings with the same prompt (as for a
    # control) takes precedence.
    return {
        personas.system_prompt(name, template=template): (name, template)
        for template in direct[::-1]
        for name in who[1:]
    }


def lm_eval_answers(file: Path, persona: str, columns: ColumnMap) -> Iterator[dict[str, Any]]:
    """Yield the graded answers of a samples file of lm-evaluation-harness."""
    match = _SAMPLES.fullmatch(file.name)
    task, date = match.groups() if match else (file.stem.removeprefix("samples_"), "")
    results = file.with_name(f"results_{date}.json")
    run = json.loads(read_text(results)) if results.exists() else {}
    samples = read_jsonl(file).to_dict("records")
    # Full name ("exact_match,strict-match") → metric.
    metrics = {f"{name},{row['filter']}": name for row in samples for name in row["metrics"]}
    wanted = columns.get("score", next(iter(metrics)))
    chosen = next((name for name in metrics if wanted in (name, metrics[name])), None)
    if chosen is None:
        raise UserError(f"{file}: no metric {wanted!r}: choose from {', '.join(metrics)}")
    for sample in samples:
        if sample["filter"] != chosen.rpartition(",")[2]:
            continue
        document = sample["doc"] if isinstance(sample["doc"], dict) else {}
        fields = {**document, "doc_id": sample["doc_id"]}
        yield {
            "model": run.get("model_name") or file.parent.name,
            **_persona_and_template(columns, run.get("system_instruction"), persona, fields, file),
            "task": task,
            "item": _field(fields, columns.get("item", "doc_id"), file),
            "score": _to_score(sample[metrics[chosen]], file, f"metric {metrics[chosen]!r}"),
            "valid": "[invalid]" not in sample["filtered_resps"],
            "truncated": False,
        }


def inspect_answers(file: Path, persona: str, columns: ColumnMap) -> Iterator[dict[str, Any]]:
    """Yield the graded answers of a log of inspect_ai; nothing for any other JSON file."""
    header, samples = _read_log(file)
    if header is None:
        return
    run = header["eval"]
    graded = [sample for sample in samples if sample.get("scores") and not sample.get("error")]
    # A missing answer is invalid only if the scorers report answers at all.
    reported = any(score.get("answer") for sample in graded for score in sample["scores"].values())
    # Runs are numbered in the order of rows.
    for sample in sorted(graded, key=lambda sample: sample["epoch"]):
        scorer, _, key = columns.get("score", next(iter(sample["scores"]))).partition(",")
        require_one_of(sample["scores"], f"{file}: no scorer", scorer)
        score = sample["scores"][scorer]
        value = score["value"][key] if key else score["value"]
        sources = run.get("task_args"), run.get("metadata"), sample.get("metadata")
        fields = {name: field for source in sources if source for name, field in source.items()}
        fields["id"] = sample["id"]
        reasons = {choice.get("stop_reason") for choice in sample["output"].get("choices", [])}
        yield {
            "model": run["model"],
            **_persona_and_template(columns, _system_text(sample), persona, fields, file),
            "task": run["task"].rpartition("/")[2],
            "item": _field(fields, columns.get("item", "id"), file),
            "score": _to_score(value, file, f"scorer {scorer!r}"),
            "valid": value != "N" and (bool(score.get("answer")) or not reported),
            "truncated": bool({"max_tokens", "model_length"} & reasons),
        }


def _read_log(file: Path) -> tuple[dict[str, Any] | None, list[dict[str, Any]]]:
    """Return the header of a log of inspect_ai, and its samples."""
    if file.suffix == ".json":
        log = json.loads(read_text(file))
        return (log, log.get("samples") or []) if "eval" in log else (None, [])
    with zipfile.ZipFile(regular_file(file)) as archive:
        names = archive.namelist()
        if "header.json" not in names:
            remedy = "run `inspect eval-retry` on it"
            raise UserError(f"{file}: the evaluation did not come to its end: {remedy}")
        members = (name for name in names if name.startswith("samples/"))
        samples = [json.loads(_read_member(archive, name)) for name in members]
        return json.loads(_read_member(archive, "header.json")), samples


def _read_member(archive: zipfile.ZipFile, name: str) -> bytes:
    """Return the content of a file in a ZIP archive, also if it is compressed by Zstandard."""
    info = archive.getinfo(name)
    if info.compress_type != _ZSTANDARD:
        return archive.read(name)
    with open(str(archive.filename), "rb") as file:
        # Byte 26 of the local header holds the lengths of name and extra field, which may differ
        # from those in the central directory; the data follow both.
        file.seek(info.header_offset + 26)
        file.seek(sum(struct.unpack("<HH", file.read(4))), 1)
        packed = file.read(info.compress_size)
    return pyarrow.CompressedInputStream(pyarrow.py_buffer(packed), "zstd").read()


def _system_text(sample: dict[str, Any]) -> str | None:
    """Return the text of a sample's system message, if any."""
    messages = sample.get("messages") or sample["input"]
    if not isinstance(messages, list):
        # A plain string is a user message.
        return None
    texts = [message["content"] for message in messages if message["role"] == "system"]
    if not texts or isinstance(texts[0], str):
        return texts[0] if texts else None
    return "".join(part.get("text", "") for part in texts[0])


def csv_answers(file: Path, persona: str, columns: ColumnMap) -> Iterator[dict[str, Any]]:
    """Yield the graded answers of a CSV; rows without a score are skipped."""
    table = read_csv(file)
    sources = {name: columns.get(name, name) for name in COLUMNS}
    present = {name: source for name, source in sources.items() if source in table}
    defaults = {"model": "", "template": "paper", "task": file.stem}
    defaults |= {"valid": "true", "truncated": "false"}
    if sources["persona"] == FILE and "persona" not in present:
        defaults["persona"] = persona
    for name in ("persona", "item", "score", *columns):
        if name not in present and not (name == "persona" and name in defaults):
            header = ", ".join(table.columns)
            remedy = f"say which of {header} it is in columns"
            raise UserError(f"{file}: no column {sources[name]!r} for {name}: {remedy}")
    if repeated := [name for name in present.values() if (table.columns == name).sum() > 1]:
        raise UserError(f"{file}: two columns {repeated[0]!r}: leave one")
    for row, record in zip(table.index, table.to_dict("records"), strict=True):
        values = defaults | {name: record[source].strip() for name, source in present.items()}
        if not values["score"]:
            continue
        where = f"{file}, row {row}"
        for name in ("persona", "task", "item"):
            if not values[name]:
                raise UserError(f"{where}: no {name}: fill it in or drop the row")
        flags = {
            flag: bool(_to_score(values[flag], where, flag)) for flag in ("valid", "truncated")
        }
        yield {**values, "score": _to_score(values["score"], where, sources["score"]), **flags}
