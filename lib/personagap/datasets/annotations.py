"""Judgments of the three stages: the annotation tool's JSONL layouts, and anybody's in CSV.

The tool (github.com/orange0629/personalize-annotation, layouts as of 9d65d9e) keeps items, annotations and outputs of
models in files of one JSON object a line. A layout is known by a field (``LAYOUTS``), wherever the file lies.
A CSV of any name holds ``stage user prompt item rater rater_kind label`` and, if wanted, ``source`` and texts
(``personagap data --template STAGE`` writes an example);
``relevance_judgments*.csv`` one column per rater (`load_relevance`).
"""

import contextlib
import csv
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from personagap._reading import Rule, anonymous, check, find_folder, read_csv, read_jsonl, refuse, source
from personagap.errors import UserError, first_line
from personagap.paths import DEMO

#: The field that tells a layout, and what else it must have. The last one's field stands in other layouts too.
LAYOUTS = {
    # Stage 1: a user's attributes and conversations; what one annotator says of them, ok / unsure / bad (task 4).
    "merged_attributes": ["user_id", "source", "item_index", "conversations"],
    "attr_judgments": ["task", "index", "annotator"],
    # Stage 2: true / false, by one annotator (task 5) or by a model.
    "relevance_judgments": ["task", "user_id", "prompt_index", "annotator"],
    "sample_index": ["user_id", "prompt_index", "model", "items"],
    # Stage 3: a generic and a personalized response; one annotator's 1–5 by attribute (task 6).
    "response_no_context": [
        "user_id", "prompt_id", "prompt_text", "model_tag", "item_index", "response_personalized", "attributes"
    ],
    "ratings": ["task", "index", "annotator"],
    # Stage 2: a user and a prompt.
    "profile_attributes": ["user_id", "prompt_index", "prompt_text"],
}  # fmt: skip
#: Pilot tasks share the layouts of these (R22).
TASKS = {"attr_judgments": "4", "relevance_judgments": "5", "ratings": "6"}
#: Histories that models wrote for a benchmark; all others are taken for people's own.
SYNTHETIC = re.compile("cupid|prefeval|personalens|synthetic.*", re.IGNORECASE)
SCALES: dict[str, dict[str, Any]] = {
    "extraction": {"ok": "accepted", "unsure": "uncertain", "bad": "rejected"}
    | {label: label for label in ("accepted", "uncertain", "rejected")},
    "relevance": {"true": 1, "yes": 1, "1": 1, "false": 0, "no": 0, "0": 0},
    "response": {str(rating): rating for rating in range(1, 6)},
}
#: Columns that the long format needs where there are no other items.
TEXTS = {
    "extraction": ["attribute"],
    "relevance": ["prompt_text", "attribute"],
    "response": ["prompt_text", "attribute", "generic", "personalized"],
}
UNIT = ["user", "prompt", "item"]
LABELLED = [*UNIT, "rater", "rater_kind", "label", "file", "row"]
KINDS = ["human", "model"]
#: Columns of the long format, and the first ones of the wide one.
LONG = {
    "stage": Rule(lambda stage: stage.isin(SCALES), "an unknown stage", f"use one of {', '.join(SCALES)}"),
    **dict.fromkeys(["user", "item", "rater"]),
    "rater_kind": Rule(lambda kind: kind.isin(KINDS), "rater_kind is not human or model", "use one of them"),
    "label": None,
}
WIDE = ["prompt_id", "user", "attribute_index", "prompt", "attribute"]
Tables = tuple[pd.DataFrame, pd.DataFrame]


def load_judgments(stage: str, data: str | Path = "demo") -> Tables:
    """Items of one stage, and what people and models said of them.

    Users become u01, u02 …, human raters human_01 … What an annotator left open is no judgment, nor is a
    ``human_majority`` but of relevance.

    Parameters
    ----------
    stage : "extraction", "relevance" or "response".
    data : "demo" (simulated for this project) or a folder, searched with its sub-folders.

    Returns
    -------
    items : one row per judged thing, ``stage source user (prompt) item`` and its texts. Extraction: ``dataset
        attribute reason confidence turns`` (``turns``: messages of the user in the history, 0 if not stored).
        Response: ``generator prompt_text attribute generic personalized``, ``item`` "<generator>/<number>".
        ``attrs["sources"]`` says what was read.
    judgments : the same key and ``rater rater_kind label``: accepted / uncertain / rejected; 0/1; or 1–5, above 3
        where personalized is better, with ``personalized_first`` (which response stood on the left, R11).

    Raises
    ------
    UserError : an unknown stage; or names the file, the row and the remedy.
    """
    readers = {"extraction": _extraction, "relevance": _relevance, "response": _response}
    if stage not in readers:
        raise UserError(f"unknown stage {stage!r}: choose from {', '.join(readers)}")
    folder = find_folder(data, DEMO / "recentering")
    with _laid_out(folder):
        items, labels = readers[stage](_records(folder))
    for file in _long_files(folder):
        table = _long(file, stage)
        if items.empty and len(table):
            check(table, str(file), TEXTS[stage])
            items = table.drop(columns=[*LABELLED[3:], "personalized_first"]).drop_duplicates(UNIT, ignore_index=True)
        labels = pd.concat([labels, table])
    return _judged(stage, items, labels, folder, "*.jsonl, *.csv")


def load_relevance(data: str | Path = "demo") -> Tables:
    """Stage 2, should this attribute change the answer to this prompt, as of `load_judgments`.

    Every ``relevance_judgments*.csv`` of the folder is read, or else what `load_judgments` finds there. Its columns:
    ``prompt_id user attribute_index prompt attribute``, then one column per rater with true/false, yes/no or 1/0,
    empty where the rater did not judge. Raters whose name starts with "human" are human (``human_majority`` is
    their majority), all others are models.
    """
    folder = find_folder(data)
    files = [file for file in sorted(folder.glob("relevance_judgments*.csv")) if not _is_long(file)]
    if not files and not any(folder.rglob("*.jsonl")) and not _long_files(folder):
        raise UserError(
            f"no relevance_judgments*.csv in {folder}: give the folder that holds it, or {_example('relevance')}"
        )
    if not files:
        return load_judgments("relevance", folder)
    labels = pd.concat([_wide(file) for file in files], ignore_index=True)
    items = labels.drop_duplicates([*UNIT, "file"])[["source", *UNIT, "prompt_text", "attribute"]]
    return _judged("relevance", items, labels, folder, "relevance_judgments*.csv")


def load_histories(data: str | Path = "demo") -> pd.DataFrame:
    """Conversations of the users of stage 1, one row each: ``user text``, the users named as by `load_judgments`."""
    records = _records(find_folder(data, DEMO / "recentering"))["merged_attributes"]
    table = records[["user_id", "conversations"]].explode("conversations").dropna(ignore_index=True)
    if table.empty:
        raise UserError(f"no conversations in the stage 1 items of {data}: extraction needs 'conversations' in them")
    with _laid_out(data):
        text = table["conversations"].map(lambda conversation: _conversation(conversation)[1])
    return pd.DataFrame({"user": anonymous(table["user_id"].astype("str")), "text": text})


def _judged(stage: str, items: pd.DataFrame, labels: pd.DataFrame, folder: Path, files: str) -> Tables:
    """The tables of `load_judgments`: labels on the scale of the stage and of known items, names hidden."""
    labels = labels.assign(rater=labels["rater"].astype("str"))  # an annotator may be a number
    said = labels["label"].astype("str").str.strip().str.lower()
    labels = labels.assign(label=said.map(SCALES[stage]))[labels["label"].notna() & (said != "")]  # not left open
    if items.empty or labels.empty:
        known = "the annotation tool's *.jsonl (datasets.annotations lists the layouts)"
        raise UserError(f"no judgments of stage {stage!r} in {folder}: give {known} or {_example(stage)}")
    _refuse(labels[labels["label"].isna()], "a label outside the scale", f"use one of {', '.join(SCALES[stage])}")
    if items.duplicated(UNIT).any():
        raise UserError(f"{folder}: some items of stage {stage!r} stand in several files: leave one version of each")
    if stage != "relevance":  # there it is the reference; elsewhere it would count as one person more
        labels = labels[labels["rater"] != "human_majority"]
    people = (labels["rater_kind"] == "human") & (labels["rater"] != "human_majority")
    labels["rater"] = labels["rater"].mask(people, anonymous(labels["rater"][people], "human_"))
    columns = [*LABELLED, *["personalized_first"] * (stage == "response")]
    judgments = items[["source", *UNIT]].merge(labels[columns], on=UNIT, how="right")
    unknown = judgments[judgments["source"].isna()]
    _refuse(unknown, "judges what no file of items holds", "add the items, or drop the row")
    again = judgments[judgments.duplicated([*UNIT, "rater"])]
    _refuse(again, "judges what its rater judged before", "keep one of the two")
    items = items.merge(judgments[UNIT].drop_duplicates())  # what nobody judged is left out
    hidden = dict(zip(items["user"], anonymous(items["user"]), strict=True))
    for table in (items, judgments):
        table.insert(0, "stage", stage)
        table["user"] = table["user"].map(hidden)
    unused = ["file", "row", *["prompt"] * (stage == "extraction")]
    items, judgments = (table.drop(columns=unused, errors="ignore") for table in (items, judgments))
    items.attrs["sources"] = [source(stage, folder / files, len(items))]
    return items, judgments


@contextlib.contextmanager
def _laid_out(folder: str | Path) -> Iterator[None]:
    """Values of another kind than the tool writes (a number for a list, a text for an object) are told in one line."""
    try:
        yield
    except (TypeError, AttributeError, KeyError, ValueError, OverflowError) as error:
        problem = f"{folder}: a *.jsonl is not in the annotation tool's layout ({first_line(error)})"
        raise UserError(f"{problem}: datasets.annotations lists the layouts") from None


def _refuse(bad: pd.DataFrame, wrong: str, remedy: str) -> None:
    """One line about the first of bad rows, which say their ``file`` and ``row``."""
    if len(bad):
        raise UserError(f"{bad['file'].iloc[0]}, row {bad['row'].iloc[0]}: {wrong}: {remedy}")


# --- anybody's CSV -----------------------------------------------------------------------------------


def _example(stage: str) -> str:
    return f"a CSV such as `personagap data --template {stage}` writes"


def _long_files(folder: Path) -> list[Path]:
    """Those in the long format, under any name; one called judgments*.csv should be."""
    return [file for file in sorted(folder.rglob("*.csv")) if file.name.startswith("judgments") or _is_long(file)]


def _is_long(file: Path) -> bool:
    try:
        with file.open(encoding="utf-8-sig", newline="") as lines:
            return {*LONG} <= {*next(csv.reader(lines), [])}
    except (OSError, UnicodeDecodeError, csv.Error):  # told where a file is read in earnest
        return False


def _long(file: Path, stage: str) -> pd.DataFrame:
    """Rows of one stage of the long format, with defaults for columns that may be left out."""
    table, where = read_csv(file), str(file)
    check(table, where, LONG)
    others: dict[str, dict[str, Any]] = {
        "extraction": {"reason": "", "confidence": "", "turns": 0},
        "response": {"generator": ""},
    }
    defaults = {"source": "real", "prompt": "", "personalized_first": "false"} | others.get(stage, {})
    table = pd.DataFrame(defaults | dict(table.items())).assign(file=where, row=table.index)
    table["personalized_first"] = table["personalized_first"].str.lower() == "true"
    if stage == "extraction":
        table["dataset"] = table.get("dataset", table["source"])
        table[["confidence", "turns"]] = table[["confidence", "turns"]].apply(pd.to_numeric, errors="coerce")
    return table[table["stage"] == stage].drop(columns="stage")


def _wide(file: Path) -> pd.DataFrame:
    """One row per pair and rater of the format of `load_relevance`."""
    table, where = read_csv(file), str(file)
    if lacking := [name for name in WIDE if name not in table]:
        what = f"{where}: no column {lacking[0]!r}: the columns should be {' '.join(WIDE)} and one for each rater"
        raise UserError(f"{what}, or take {_example('relevance')}")
    check(table, where, WIDE)
    raters = table.columns[table.columns.get_loc("attribute") + 1 :]
    if raters.str.startswith("human").all():
        raise UserError(f"{file}: no column of a model's judgments after 'attribute': add one")
    for column in WIDE:
        refuse(table[column].str.strip() == "", where, f"column {column!r}: empty", "fill it in or drop the row")
    for rater in raters:
        said = table[rater].str.strip().str.lower()
        if (said == "").all():
            raise UserError(f"{file}: column {rater!r}: no judgment at all: fill it in or remove the column")
        good = said.isin(["", *SCALES["relevance"]])
        refuse(~good, where, f"column {rater!r}: a label outside the scale", "use true/false, yes/no or 1/0")
    refuse(table.duplicated(WIDE[:3]), where, f"repeats an earlier {' + '.join(WIDE[:3])}", "keep one")
    table = table.rename(columns=dict(zip(WIDE[:4], ["prompt", "user", "item", "prompt_text"], strict=True)))
    table = table.assign(source="synthetic" if file.parent == DEMO else "real", file=where, row=table.index)
    long = table.melt(table.columns.difference(raters), raters, "rater", "label")
    return long.assign(rater_kind=np.where(long["rater"].str.startswith("human"), "human", "model"))


# --- the annotation tool's JSONL ---------------------------------------------------------------------


def _records(folder: Path) -> dict[str, pd.DataFrame]:
    """Lines by layout, each with the ``file`` and ``row`` it came from; other files are passed over."""
    found: dict[str, list[pd.DataFrame]] = {layout: [] for layout in LAYOUTS}
    for file in sorted(folder.rglob("*.jsonl")):
        table = read_jsonl(file)
        layout = next((name for name in LAYOUTS if name in table), None)
        if layout is None or "mode" in table:  # nothing of ours, or a plain set of responses
            continue
        check(table, str(file), [layout, *LAYOUTS[layout]])
        if layout in TASKS:
            pilot = table["task"].astype("str") != TASKS[layout]
            if pilot.any():
                print(f"{file}: {pilot.sum()} annotations of pilot tasks left out")
            table = table[~pilot]
        found[layout].append(table.assign(file=str(file), row=table.index))
    none = {name: pd.DataFrame(columns=[name, *fields, "file", "row"]) for name, fields in LAYOUTS.items()}
    return {name: pd.concat(tables or [none[name]], ignore_index=True) for name, tables in found.items()}


def _each(records: pd.DataFrame, column: str, *fields: str) -> pd.DataFrame:
    """One row per element of lists of objects: what its record says, its place (``item``) and its ``fields``."""
    table = records[records[column].map(len) > 0].explode(column)
    table["item"] = table.groupby(level=0).cumcount().astype("str")
    bad = [not (isinstance(each, dict) and set(fields) <= set(each)) for each in table[column]]
    wrong = f"{column}[{table['item'][bad].iloc[0]}]: not an object with {', '.join(fields)}" if any(bad) else ""
    _refuse(table[bad], wrong, "write the tool's layout")
    found = [[each[field] for field in fields] for each in table[column]]
    return table.assign(**pd.DataFrame(found, table.index, fields, dtype=object).infer_objects())


def _conversation(conversation: list | dict) -> tuple[int, str]:
    """Turns of the user, and the text, of a list of messages ``role content``, or of an object that holds one."""
    if isinstance(conversation, dict):
        conversation = next((value for value in conversation.values() if isinstance(value, list)), [])
    who = ["USER" if message.get("role") == "user" else "AI" for message in conversation]
    lines = [f"{name}: {message.get('content', '')}" for name, message in zip(who, conversation, strict=True)]
    return who.count("USER"), "\n".join(lines)


def _extraction(records: dict[str, pd.DataFrame]) -> Tables:
    items = _each(records["merged_attributes"], "merged_attributes", "attribute", "confidence")
    items = items.assign(user=items["user_id"].astype("str"), prompt="", dataset=items["source"])
    items["source"] = ["synthetic" if SYNTHETIC.fullmatch(name) else "real" for name in items["dataset"]]
    items["reason"] = [each.get("reason", "") for each in items["merged_attributes"]]
    items["turns"] = [sum(_conversation(each)[0] for each in every) for every in items["conversations"]]
    labels = _each(records["attr_judgments"], "attr_judgments", "judgment")
    users = labels["index"].map(dict(zip(items["item_index"], items["user"], strict=True)))
    labels = labels.rename(columns={"annotator": "rater", "judgment": "label"})
    labels = labels.assign(user=users, prompt="", rater_kind="human")
    return items[["source", *UNIT, "dataset", "attribute", "confidence", "reason", "turns"]], labels


def _relevance(records: dict[str, pd.DataFrame]) -> Tables:
    def units(layout: str, column: str, *fields: str) -> pd.DataFrame:
        table = _each(records[layout], column, "attribute", *fields)
        return table.assign(user=table["user_id"].astype("str"), prompt=table["prompt_index"].astype("str"))

    items = units("profile_attributes", "profile_attributes").assign(source="real")
    items = items[["source", *UNIT, "prompt_text", "attribute"]].reset_index(drop=True)
    human = units("relevance_judgments", "relevance_judgments", "relevant").rename(columns={"annotator": "rater"})
    model = units("sample_index", "items", "relevant").rename(columns={"model": "rater"})
    labels = pd.concat([human.assign(rater_kind="human"), model.assign(rater_kind="model")])
    labels = labels.rename(columns={"relevant": "label"})
    # By text, not by place; a profile can hold one text twice (R18): then the first goes with the first.
    about = ["user", "prompt", "attribute"]
    labels["nth"] = labels.groupby(["rater", *about]).cumcount()
    places = items[[*UNIT, "attribute"]].assign(nth=items.groupby(about).cumcount())
    labels = labels.drop(columns="item").merge(places, on=[*about, "nth"], how="left")
    said = labels[(labels["rater_kind"] == "human") & labels["label"].notna()]
    gold = said.assign(label=said["label"].eq(True)).groupby(UNIT)["label"].mean().gt(0.5).reset_index()
    stated = _relevant(records)
    if human.empty and len(stated):  # what the stage 3 items state; what is absent there is irrelevant (R21)
        known = pd.MultiIndex.from_frame(items[about]).isin(pd.MultiIndex.from_frame(stated[about]))
        gold = items[UNIT].assign(label=known)
    return items, pd.concat([gold.assign(rater="human_majority", rater_kind="human"), labels])


def _relevant(records: dict[str, pd.DataFrame]) -> pd.DataFrame:
    """The attributes that each pair of responses of stage 3 was made with."""
    table = _each(records["response_no_context"], "attributes", "attribute", "is_relevant")
    table = table[table["is_relevant"].eq(True)].astype({"user_id": "str", "prompt_id": "str"})
    names = zip(table["user_id"], table["prompt_id"], strict=True)
    return table.assign(user=table["user_id"], prompt=[prompt.removeprefix(f"{user}_") for user, prompt in names])


def _response(records: dict[str, pd.DataFrame]) -> Tables:
    texts = {"model_tag": "generator", "response_no_context": "generic", "response_personalized": "personalized"}
    items = _relevant(records).rename(columns=texts).assign(source="real")
    items["item"] = items["generator"] + "/" + items["item"]
    units = {(one.item_index, one.attribute): (one.user, one.prompt, one.item) for one in items.itertuples()}
    labels = []
    for one in records["ratings"].itertuples():
        first = getattr(one, "personalized_first", False) is True  # the tool shows it on the right
        for text, rating in one.ratings.items():
            label = 6 - rating if first and isinstance(rating, int) else rating
            unit = units.get((one.index, text), (None, None, None))
            labels.append((*unit, one.annotator, "human", label, one.file, one.row, first))
    columns = ["source", *UNIT, "generator", "prompt_text", "attribute", "generic", "personalized"]
    return items[columns], pd.DataFrame(labels, columns=[*LABELLED, "personalized_first"])
