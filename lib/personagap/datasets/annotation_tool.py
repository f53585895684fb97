"""The annotation tool's JSONL layouts of the three stages
(github.com/orange0629/personalize-annotation, 9d65d9e).

Items, annotations and outputs of models lie in files of one JSON object a line. A layout is known
by a field (`LAYOUTS`), wherever the file lies.
"""

import re
from contextlib import AbstractContextManager
from pathlib import Path

import pandas as pd

from personagap import _reading
from personagap._reading import check, read_jsonl
from personagap.errors import UserError, explained

#: The field that tells a layout, and what else it must have. The last one's field stands in other
#: layouts too.
LAYOUTS = {
    # Stage 1: a user's attributes and conversations; what one annotator says of them,
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
#: Pilot tasks share the layouts of these (R22).
TASKS = {"attr_judgments": "4", "relevance_judgments": "5", "ratings": "6"}
#: Histories that models wrote for a benchmark; all others are taken for people's own.
SYNTHETIC = re.compile("cupid|prefeval|personalens|synthetic.*", re.IGNORECASE)
UNIT = ["user", "prompt", "item"]
LABELLED = [*UNIT, "rater", "rater_kind", "label", "file", "row"]
Tables = tuple[pd.DataFrame, pd.DataFrame]


def laid_out(folder: str | Path) -> AbstractContextManager:
    """Values of another kind than the tool writes (a number for a list, a text for an object) are
    told in one line.
    """
    problem = f"{folder}: a *.jsonl is not in the annotation tool's layout"
    return explained(problem, "datasets.annotation_tool lists the layouts")


def refuse(bad: pd.DataFrame, wrong: str, remedy: str) -> None:
    """One line about the first of bad rows, which say their ``file`` and ``row``."""
    if len(bad):
        raise UserError(f"{bad['file'].iloc[0]}, row {bad['row'].iloc[0]}: {wrong}: {remedy}")


def records(folder: Path) -> dict[str, pd.DataFrame]:
    """Lines by layout, each with the ``file`` and ``row`` it came from; other files are left."""
    found: dict[str, list[pd.DataFrame]] = {layout: [] for layout in LAYOUTS}
    for file in sorted(folder.rglob("*.jsonl")):
        table = read_jsonl(file)
        layout = next((name for name in LAYOUTS if name in table), None)
        if layout is None or "mode" in table:
            # Some other tool's file, or responses that nobody judges here.
            continue
        check(table, str(file), [layout, *LAYOUTS[layout]])
        if layout in TASKS:
            pilot = table["task"].astype("str") != TASKS[layout]
            if pilot.any():
                print(f"{file}: {pilot.sum()} annotations of pilot tasks left out")
            table = table[~pilot]
        found[layout].append(table.assign(file=str(file), row=table.index))
    tables = {}
    for name, parts in found.items():
        # With its columns all the same, so that nobody need ask whether a stage is there.
        none = pd.DataFrame(columns=[name, *LAYOUTS[name], "file", "row"])
        tables[name] = pd.concat(parts or [none], ignore_index=True)
    return tables


def _each(records: pd.DataFrame, column: str, *fields: str) -> pd.DataFrame:
    """One row per element of lists of objects: what its record says, its place (``item``) and its
    ``fields``.
    """
    table = records[records[column].map(len) > 0].explode(column)
    table["item"] = table.groupby(level=0).cumcount().astype("str")
    bad = [not (isinstance(each, dict) and set(fields) <= set(each)) for each in table[column]]
    if any(bad):
        wrong = f"{column}[{table['item'][bad].iloc[0]}]: not an object with {', '.join(fields)}"
        refuse(table[bad], wrong, "write the tool's layout")
    found = [[each[field] for field in fields] for each in table[column]]
    return table.assign(**pd.DataFrame(found, table.index, fields, dtype=object).infer_objects())


def conversation(conversation: list | dict) -> tuple[int, str]:
    """Turns of the user, and the text, of a list of messages ``role content``, or of an object that
    holds one.
    """
    if isinstance(conversation, dict):
        lists = (value for value in conversation.values() if isinstance(value, list))
        conversation = next(lists, [])
    who = ["USER" if message.get("role") == "user" else "AI" for message in conversation]
    texts = [message.get("content", "") for message in conversation]
    lines = map(": ".join, zip(who, map(str, texts), strict=True))
    return who.count("USER"), "\n".join(lines)


def _yes(said: pd.Series) -> pd.Series:
    """Where true was said, though another tool may have written it as a text or a number."""
    return _reading.labels(said).isin(["true", "yes", "1"])


def _one_index(items: pd.DataFrame, *what: str) -> None:
    """An annotation names its item by an index, which in files of several may stand for two."""
    each = items.drop_duplicates(["item_index", *what])
    remedy = "number the items of all files throughout"
    refuse(each[each.duplicated("item_index")], "an earlier item has its item_index", remedy)


def extraction(records: dict[str, pd.DataFrame]) -> Tables:
    _one_index(records["merged_attributes"], "user_id")
    items = _each(records["merged_attributes"], "merged_attributes", "attribute", "confidence")
    items = items.assign(user=items["user_id"].astype("str"), prompt="", dataset=items["source"])
    items["source"] = [
        "synthetic" if SYNTHETIC.fullmatch(name) else "real" for name in items["dataset"]
    ]
    items["reason"] = [each.get("reason", "") for each in items["merged_attributes"]]
    turns = ([conversation(each)[0] for each in every] for every in items["conversations"])
    items["turns"] = list(map(sum, turns))
    # Judgments name the item of the file, which holds the attributes of one user.
    labels = _each(records["attr_judgments"], "attr_judgments", "judgment")
    users = labels["index"].map(dict(zip(items["item_index"], items["user"], strict=True)))
    labels = labels.rename(columns={"annotator": "rater", "judgment": "label"})
    labels = labels.assign(user=users, prompt="", rater_kind="human")
    return items[["source", *UNIT, "dataset", "attribute", "confidence", "reason", "turns"]], labels


def relevance(records: dict[str, pd.DataFrame]) -> Tables:
    def units(layout: str, column: str, *fields: str) -> pd.DataFrame:
        table = _each(records[layout], column, "attribute", *fields)
        names = {"user_id": "user", "prompt_index": "prompt"}
        return table.assign(**{ours: table[name].astype("str") for name, ours in names.items()})

    items = units("profile_attributes", "profile_attributes").assign(source="real")
    items = items[["source", *UNIT, "prompt_text", "attribute"]].reset_index(drop=True)
    human = units("relevance_judgments", "relevance_judgments", "relevant")
    human = human.rename(columns={"annotator": "rater"})
    model = units("sample_index", "items", "relevant").rename(columns={"model": "rater"})
    labels = pd.concat([human.assign(rater_kind="human"), model.assign(rater_kind="model")])
    labels = labels.rename(columns={"relevant": "label"})
    # By text, not by place; a profile can hold one text twice (R18): then the first goes with the
    # first.
    about = ["user", "prompt", "attribute"]
    labels["nth"] = labels.groupby(["rater", *about]).cumcount()
    places = items[[*UNIT, "attribute"]].assign(nth=items.groupby(about).cumcount())
    labels = labels.drop(columns="item").merge(places, on=[*about, "nth"], how="left")
    stated = _relevant(records)
    # What the stage 3 items state; what is absent there is irrelevant (R21).
    if human.empty and len(stated):
        known = pd.MultiIndex.from_frame(items[about]).isin(pd.MultiIndex.from_frame(stated[about]))
        gold = items[UNIT].assign(label=known, rater="human_majority", rater_kind="human")
        labels = pd.concat([gold, labels])
    return items, labels


def _relevant(records: dict[str, pd.DataFrame]) -> pd.DataFrame:
    """The attributes that each pair of responses of stage 3 was made with."""
    table = _each(records["response_no_context"], "attributes", "attribute", "is_relevant")
    table = table[_yes(table["is_relevant"])].astype({"user_id": "str", "prompt_id": "str"})
    names = zip(table["user_id"], table["prompt_id"], strict=True)
    prompts = [prompt.removeprefix(f"{user}_") for user, prompt in names]
    return table.assign(user=table["user_id"], prompt=prompts)


def response(records: dict[str, pd.DataFrame]) -> Tables:
    _one_index(records["response_no_context"], "user_id", "prompt_id", "model_tag")
    texts = {"model_tag": "generator", "response_no_context": "generic"}
    texts |= {"response_personalized": "personalized"}
    items = _relevant(records).rename(columns=texts).assign(source="real")
    items["item"] = items["generator"] + "/" + items["item"]
    units = {}
    for one in items.itertuples():
        units[one.item_index, one.attribute] = one.user, one.prompt, one.item
    labels = []
    ratings = records["ratings"]
    # Where nothing is said, the tool shows it on the right.
    sides = _yes(ratings.get("personalized_first", pd.Series(False, ratings.index)))
    for one, first in zip(ratings.itertuples(), sides, strict=True):
        for text, rating in one.ratings.items():
            unit = units.get((one.index, text), (None, None, None))
            labels.append((*unit, one.annotator, "human", rating, one.file, one.row, first))
    columns = ["source", *UNIT, "generator", "prompt_text", "attribute", "generic", "personalized"]
    table = pd.DataFrame(labels, columns=[*LABELLED, "personalized_first"])
    turned = 6 - pd.to_numeric(table["label"], errors="coerce")
    turns = table["personalized_first"].astype(bool) & turned.notna()
    return items[columns], table.assign(label=table["label"].mask(turns, turned))
