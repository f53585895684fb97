"""Read the JSONL files of the annotation tool.

The tool is github.com/orange0629/personalize-annotation, 9d65d9e. Items, annotations and model
outputs of the three stages are files with one JSON object per line. The layout of a file is
recognized by a field (`LAYOUTS`), not by its name or folder.
"""

import re
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import pandas as pd

from personagap import _reading
from personagap._reading import Rule, check, read_jsonl
from personagap.errors import UserError, explained
from personagap.schema import MAJORITY

#: The field that identifies each layout, and its other required fields. The order matters: the
#: field of the last layout occurs in others too.
LAYOUTS = {
    # Stage 1: a user's attributes and conversations; one annotator's judgments of them,
    # ok / unsure / bad (task 4).
    "merged_attributes": ["user_id", "source", "item_index", "conversations"],
    "attr_judgments": ["task", "index", "annotator"],
    # Stage 2: true / false, by one annotator (task 5) or by a model.
    "relevance_judgments": ["task", "user_id", "prompt_index", "annotator"],
    "sample_index": ["user_id", "prompt_index", "model", "items"],
    # Stage 3: a generic and a personalized response; one annotator's 1–5 by attribute (task 6).
    "response_no_context": [
        "user_id", "prompt_id", "prompt_text", "model_tag", "item_index", "response_personalized",
        "attributes"
    ],
    "ratings": ["task", "index", "annotator"],
    # Stage 2: a user and a prompt.
    "profile_attributes": ["user_id", "prompt_index", "prompt_text"],
}  # fmt: skip
#: The types of fields that are not a text or a number, and of those that have to be a text.
TYPES: dict[str, Any] = {
    **dict.fromkeys(["merged_attributes", "attr_judgments", "relevance_judgments"], list),
    **dict.fromkeys(["items", "attributes", "profile_attributes", "conversations"], list),
    **{"ratings": dict, "source": str, "model_tag": str},
}
#: Types as they are named in JSON.
NAMES = {list: "a list", dict: "an object", str: "a text"}
#: The task number of each layout of annotations; pilot tasks share the layouts (R22).
TASKS = {"attr_judgments": "4", "relevance_judgments": "5", "ratings": "6"}
#: Data sets of conversations written by models; all others count as real.
SYNTHETIC = re.compile("cupid|prefeval|personalens|synthetic.*", re.IGNORECASE)
UNIT = ["user", "prompt", "item"]
LABELLED = [*UNIT, "rater", "rater_kind", "label", "file", "row"]
Tables = tuple[pd.DataFrame, pd.DataFrame]


def layout_errors(folder: str | Path) -> AbstractContextManager:
    """Report values of an unexpected type, such as a number for a list, in one line."""
    problem = f"{folder}: a *.jsonl is not in the annotation tool's layout"
    return explained(problem, "datasets.annotation_tool lists the layouts")


def refuse_rows(bad: pd.DataFrame, wrong: str, remedy: str) -> None:
    """Raise `UserError` about the first of the ``bad`` rows, naming its ``file`` and ``row``."""
    if len(bad):
        raise UserError(f"{bad['file'].iloc[0]}, row {bad['row'].iloc[0]}: {wrong}: {remedy}")


def records(folder: Path) -> dict[str, pd.DataFrame]:
    """Read all records by layout, with their ``file`` and ``row``.

    Files of other tools are ignored.
    """
    by_layout: dict[str, list[pd.DataFrame]] = {layout: [] for layout in LAYOUTS}
    for file in sorted(folder.rglob("*.jsonl")):
        table = read_jsonl(file)
        layout = next((name for name in LAYOUTS if name in table), None)
        if layout is None or "mode" in table:
            # A file of another tool, or model responses that are not judged.
            continue
        check(table, str(file), {name: _has_type(name) for name in (layout, *LAYOUTS[layout])})
        if layout in TASKS:
            pilot = table["task"].astype("str") != TASKS[layout]
            if pilot.any():
                print(f"{file}: {pilot.sum()} annotations of pilot tasks left out")
            table = table[~pilot]
        by_layout[layout].append(table.assign(file=str(file), row=table.index))
    tables = {}
    for name, parts in by_layout.items():
        # A missing layout gets an empty table with its columns, so that readers need no special
        # case.
        empty = pd.DataFrame(columns=[name, *LAYOUTS[name], "file", "row"])
        tables[name] = pd.concat(parts or [empty], ignore_index=True)
    return tables


def _has_type(field: str) -> Rule:
    """Return the rule that a field's values are of its type, by default a text or a number."""
    kind = TYPES.get(field, (str, int, float))
    wanted = NAMES.get(kind, "a text or a number")
    return Rule(
        lambda values: values.map(lambda value: isinstance(value, kind)),
        f"{field} is not {wanted}",
        "write the tool's layout",
    )


def _explode(records: pd.DataFrame, column: str, *fields: str) -> pd.DataFrame:
    """Explode a column of lists of objects into one row per object.

    Adds the position in the list (``item``) and the ``fields`` of the object as columns.
    """
    table = records[records[column].map(len) > 0].explode(column)
    table["item"] = table.groupby(level=0).cumcount().astype("str")
    bad = [not _has_fields(entry, fields) for entry in table[column]]
    if any(bad):
        wrong = f"{column}[{table['item'][bad].iloc[0]}]: not an object with {', '.join(fields)}"
        wrong += ", the attribute a text" * ("attribute" in fields)
        refuse_rows(table[bad], wrong, "write the tool's layout")
    values = [[entry[field] for field in fields] for entry in table[column]]
    return table.assign(**pd.DataFrame(values, table.index, fields, dtype=object).infer_objects())


def _has_fields(entry: Any, fields: tuple[str, ...]) -> bool:
    """Return whether an entry is an object with these fields, of which an attribute is a text."""
    named = isinstance(entry, dict) and set(fields) <= set(entry)
    return named and isinstance(entry.get("attribute", ""), str)


def conversation(conversation: list | dict) -> tuple[int, str]:
    """Return the number of user turns and the text of a conversation.

    A conversation is a list of messages ``role content``, or an object that contains one.
    """
    if isinstance(conversation, dict):
        lists = (value for value in conversation.values() if isinstance(value, list))
        conversation = next(lists, [])
    speakers = ["USER" if message.get("role") == "user" else "AI" for message in conversation]
    texts = [message.get("content", "") for message in conversation]
    lines = map(": ".join, zip(speakers, map(str, texts), strict=True))
    return speakers.count("USER"), "\n".join(lines)


def _is_true(values: pd.Series) -> pd.Series:
    """Return where values are true, also if written as text or number."""
    return _reading.normalize_labels(values).isin(["true", "yes", "1"])


def _refuse_repeated_index(items: pd.DataFrame, *keys: str) -> None:
    """Refuse files that use an ``item_index`` for two items: annotations refer to items by it."""
    unique = items.drop_duplicates(["item_index", *keys])
    remedy = "number the items of all files throughout"
    refuse_rows(
        unique[unique.duplicated("item_index")], "an earlier item has its item_index", remedy
    )


def extraction(records: dict[str, pd.DataFrame]) -> Tables:
    """Return the items and judgments of stage 1."""
    _refuse_repeated_index(records["merged_attributes"], "user_id")
    items = _explode(records["merged_attributes"], "merged_attributes", "attribute", "confidence")
    items = items.assign(user=items["user_id"].astype("str"), prompt="", dataset=items["source"])
    items["source"] = [
        "synthetic" if SYNTHETIC.fullmatch(name) else "real" for name in items["dataset"]
    ]
    items["reason"] = [entry.get("reason", "") for entry in items["merged_attributes"]]
    histories = items["conversations"]
    items["turns"] = [sum(conversation(chat)[0] for chat in chats) for chats in histories]
    # Judgments refer to an item of the file, which holds all attributes of one user.
    labels = _explode(records["attr_judgments"], "attr_judgments", "judgment")
    users = labels["index"].map(dict(zip(items["item_index"], items["user"], strict=True)))
    labels = labels.rename(columns={"annotator": "rater", "judgment": "label"})
    labels = labels.assign(user=users, prompt="", rater_kind="human")
    return items[["source", *UNIT, "dataset", "attribute", "confidence", "reason", "turns"]], labels


def relevance(records: dict[str, pd.DataFrame]) -> Tables:
    """Return the items and judgments of stage 2."""

    def units(layout: str, column: str, *fields: str) -> pd.DataFrame:
        table = _explode(records[layout], column, "attribute", *fields)
        names = {"user_id": "user", "prompt_index": "prompt"}
        return table.assign(**{ours: table[theirs].astype("str") for theirs, ours in names.items()})

    items = units("profile_attributes", "profile_attributes").assign(source="real")
    items = items[["source", *UNIT, "prompt_text", "attribute"]].reset_index(drop=True)
    human = units("relevance_judgments", "relevance_judgments", "relevant")
    human = human.rename(columns={"annotator": "rater"})
    model = units("sample_index", "items", "relevant").rename(columns={"model": "rater"})
    labels = pd.concat([human.assign(rater_kind="human"), model.assign(rater_kind="model")])
    labels = labels.rename(columns={"relevant": "label"})
    # Judgments are matched to items by text, not by position. A profile can contain a text twice
    # (R18): then the n-th judgment goes with the n-th item.
    about = ["user", "prompt", "attribute"]
    labels["nth"] = labels.groupby(["rater", *about]).cumcount()
    positions = items[[*UNIT, "attribute"]].assign(nth=items.groupby(about).cumcount())
    labels = labels.drop(columns="item").merge(positions, on=[*about, "nth"], how="left")
    relevant = _relevant(records)
    # Without judgments, use the attributes that stage 3 calls relevant; the rest are not (R21).
    if human.empty and len(relevant):
        keys, relevant_keys = map(pd.MultiIndex.from_frame, (items[about], relevant[about]))
        gold = items[UNIT].assign(label=keys.isin(relevant_keys), rater=MAJORITY)
        labels = pd.concat([gold.assign(rater_kind="human"), labels])
    return items, labels


def _relevant(records: dict[str, pd.DataFrame]) -> pd.DataFrame:
    """Return the attributes that each pair of responses of stage 3 was written with."""
    table = _explode(records["response_no_context"], "attributes", "attribute", "is_relevant")
    table = table[_is_true(table["is_relevant"])].astype({"user_id": "str", "prompt_id": "str"})
    pairs = zip(table["user_id"], table["prompt_id"], strict=True)
    prompts = [prompt.removeprefix(f"{user}_") for user, prompt in pairs]
    return table.assign(user=table["user_id"], prompt=prompts)


def response(records: dict[str, pd.DataFrame]) -> Tables:
    """Return the items and ratings of stage 3."""
    _refuse_repeated_index(records["response_no_context"], "user_id", "prompt_id", "model_tag")
    texts = {"model_tag": "generator", "response_no_context": "generic"}
    texts |= {"response_personalized": "personalized"}
    items = _relevant(records).rename(columns=texts).assign(source="real")
    items["item"] = items["generator"] + "/" + items["item"]
    units = {}
    for row in items.itertuples():
        units[row.item_index, row.attribute] = row.user, row.prompt, row.item
    labels = []
    ratings = records["ratings"]
    # By default the tool shows the personalized response on the right.
    sides = _is_true(ratings.get("personalized_first", pd.Series(False, ratings.index)))
    for row, first in zip(ratings.itertuples(), sides, strict=True):
        for text, rating in row.ratings.items():
            unit = units.get((row.index, text), (None, None, None))
            labels.append((*unit, row.annotator, "human", rating, row.file, row.row, first))
    columns = ["source", *UNIT, "generator", "prompt_text", "attribute", "generic", "personalized"]
    table = pd.DataFrame(labels, columns=[*LABELLED, "personalized_first"])
    # The tool's ratings above 3 prefer the second response: reverse them if that is the generic one
    # (R11).
    reversed_label = 6 - pd.to_numeric(table["label"], errors="coerce")
    reverse = table["personalized_first"].astype(bool) & reversed_label.notna()
    return items[columns], table.assign(label=table["label"].mask(reverse, reversed_label))
