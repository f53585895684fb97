"""Judgments of the three stages: the annotation tool's JSONL layouts (`annotation_tool`), and
anybody's in CSV.

A CSV of any name holds ``stage user prompt item rater rater_kind label`` and, if wanted, ``source``
and texts (``personagap data --template STAGE`` writes an example); ``relevance_judgments*.csv`` one
column per rater (`load_relevance`).
"""

import csv
import re
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from personagap import _reading
from personagap._reading import Rule, anonymous, check, find_folder, read_csv, refuse, source
from personagap.datasets import annotation_tool as tool
from personagap.datasets.annotation_tool import LABELLED, UNIT, Tables
from personagap.errors import UserError, one_of
from personagap.paths import DEMO, regular

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
KINDS = ["human", "model"]
#: Columns of the long format, and the first ones of the wide one.
LONG = {
    "stage": Rule(
        lambda stage: stage.isin(SCALES), "an unknown stage", f"use one of {', '.join(SCALES)}"
    ),
    **dict.fromkeys(["user", "item", "rater"]),
    "rater_kind": Rule(
        lambda kind: kind.isin(KINDS), "rater_kind is not human or model", "use one of them"
    ),
    "label": None,
}
WIDE = ["prompt_id", "user", "attribute_index", "prompt", "attribute"]


def load_judgments(stage: str, data: str | Path = "demo") -> Tables:
    """Items of one stage, and what people and models said of them.

    Users become u01, u02 …, human raters human_01 … What an annotator left open is no judgment, nor
    is a ``human_majority`` but of relevance.

    Parameters
    ----------
    stage : "extraction", "relevance" or "response".
    data : "demo" (simulated for this project) or a folder, searched with its sub-folders.

    Returns
    -------
    items : one row per judged thing, ``stage source user (prompt) item`` and its texts. Extraction:
        ``dataset attribute reason confidence turns`` (``turns``: messages of the user in the
        history, 0 if not stored). Response: ``generator prompt_text attribute generic
        personalized``, ``item`` "<generator>/<number>". ``attrs["sources"]`` says what was read.
    judgments : the same key and ``rater rater_kind label``: accepted / uncertain / rejected; 0/1;
        or 1–5, above 3 where personalized is better, with ``personalized_first`` (which response
        stood on the left, R11).

    `UserError`: an unknown stage; or names the file, the row and the remedy.
    """
    readers = {"extraction": tool.extraction, "relevance": tool.relevance}
    readers["response"] = tool.response
    one_of(readers, "unknown stage", stage)
    folder = find_folder(data, DEMO / "recentering")
    with tool.laid_out(folder):
        items, labels = readers[stage](tool.records(folder))
    tables = [table for file in _long_files(folder) if len(table := _long(file, stage))]
    labels = pd.concat([labels, *tables], ignore_index=True)
    if items.empty and tables:
        # Where there are no items of the tool, a row states its item with every judgment of it.
        for table in tables:
            check(table, table["file"].iloc[0], TEXTS[stage])
        items = pd.concat(tables).drop_duplicates([*UNIT, *TEXTS[stage]], ignore_index=True)
        other = items[items.duplicated(UNIT)]
        tool.refuse(other, "an earlier row of its item has other texts", "give all the same")
        items = items.drop(columns=[*LABELLED[3:], "personalized_first"])
    return _judged(stage, items, labels, folder, "*.jsonl, *.csv")


def load_relevance(data: str | Path = "demo") -> Tables:
    """Stage 2, should this attribute change the answer to this prompt, as of `load_judgments`.

    Every ``relevance_judgments*.csv`` of the folder is read, or else what `load_judgments` finds
    there. Its columns: ``prompt_id user attribute_index prompt attribute``, then one column per
    rater with true/false, yes/no or 1/0, empty where the rater did not judge. Raters whose name
    starts with "human" are human (``human_majority`` is their majority, which is counted where it
    is not given), all others are models.
    """
    folder = find_folder(data)
    files = [file for file in sorted(folder.glob("relevance_judgments*.csv")) if not _is_long(file)]
    if not files and not any(folder.rglob("*.jsonl")) and not _long_files(folder):
        remedy = f"give the folder that holds it, or {_example('relevance')}"
        raise UserError(f"no relevance_judgments*.csv in {folder}: {remedy}")
    if not files:
        return load_judgments("relevance", folder)
    labels = pd.concat([_wide(file) for file in files], ignore_index=True)
    items = labels.drop_duplicates([*UNIT, "file"])[["source", *UNIT, "prompt_text", "attribute"]]
    return _judged("relevance", items, labels, folder, ", ".join(file.name for file in files))


def load_histories(data: str | Path = "demo") -> pd.DataFrame:
    """Conversations of the users of stage 1, one row each: ``user text``, the users named as by
    `load_judgments`.
    """
    found = tool.records(find_folder(data, DEMO / "recentering"))
    table = found["merged_attributes"][["user_id", "conversations"]]
    table = table.explode("conversations").dropna(ignore_index=True)
    if table.empty:
        reason = "extraction needs 'conversations' in them"
        raise UserError(f"no conversations in the stage 1 items of {data}: {reason}")
    users = table["user_id"].astype("str")
    with tool.laid_out(data):
        text = table["conversations"].map(lambda conversation: tool.conversation(conversation)[1])
        # Numbered there as they have attributes, which need not be those with conversations.
        named = pd.concat([tool.extraction(found)[0]["user"], users], ignore_index=True)
    return pd.DataFrame({"user": users.map(_hidden(named)), "text": text})


def _hidden(users: pd.Series) -> dict[str, str]:
    """The names that users go by."""
    return dict(zip(users, anonymous(users), strict=True))


def _judged(
    stage: str, items: pd.DataFrame, labels: pd.DataFrame, folder: Path, files: str
) -> Tables:
    """The tables of `load_judgments`: labels on the stage's scale, of known items, names hidden."""
    # An annotator may be a number.
    labels = labels.assign(rater=labels["rater"].astype("str"))
    said = _reading.labels(labels["label"])
    # Not left open.
    labels = labels.assign(label=said.map(SCALES[stage]))[labels["label"].notna() & (said != "")]
    if items.empty or labels.empty:
        known = "the annotation tool's *.jsonl (datasets.annotation_tool lists the layouts)"
        remedy = f"give {known} or {_example(stage)}"
        raise UserError(f"no judgments of stage {stage!r} in {folder}: {remedy}")
    scale = f"use one of {', '.join(SCALES[stage])}"
    tool.refuse(labels[labels["label"].isna()], "a label outside the scale", scale)
    if stage == "relevance" and "human_majority" not in set(labels["rater"]):
        share = labels[labels["rater_kind"] == "human"].groupby(UNIT)["label"].mean()
        # An even split is no majority.
        gold = share.gt(0.5).astype(int).reset_index()
        gold = gold.assign(rater="human_majority", rater_kind="human")
        labels = pd.concat([gold, labels], ignore_index=True)
    if items.duplicated(UNIT).any():
        remedy = "leave one version of each"
        raise UserError(f"{folder}: some items of stage {stage!r} stand in several files: {remedy}")
    # There it is the reference; elsewhere it would count as one person more.
    if stage != "relevance":
        labels = labels[labels["rater"] != "human_majority"]
    people = (labels["rater_kind"] == "human") & (labels["rater"] != "human_majority")
    labels["rater"] = labels["rater"].mask(people, anonymous(labels["rater"][people], "human_"))
    columns = [*LABELLED, *["personalized_first"] * (stage == "response")]
    judgments = items[["source", *UNIT]].merge(labels[columns], on=UNIT, how="right")
    unknown = judgments[judgments["source"].isna()]
    tool.refuse(unknown, "judges what no file of items holds", "add the items, or drop the row")
    again = judgments[judgments.duplicated([*UNIT, "rater"])]
    tool.refuse(again, "judges what its rater judged before", "keep one of the two")
    # Before what nobody judged is left out: whose histories these are does not hang on that.
    hidden = _hidden(items["user"])
    items = items.merge(judgments[UNIT].drop_duplicates())
    for table in (items, judgments):
        table.insert(0, "stage", stage)
        table["user"] = table["user"].map(hidden)
    unused = ["file", "row", *["prompt"] * (stage == "extraction")]
    items, judgments = (table.drop(columns=unused, errors="ignore") for table in (items, judgments))
    items.attrs["sources"] = [source(stage, folder / files, len(items))]
    return items, judgments


# --- anybody's CSV
# -----------------------------------------------------------------------------------


def _example(stage: str) -> str:
    return f"a CSV such as `personagap data --template {stage}` writes"


def _long_files(folder: Path) -> list[Path]:
    """Those in the long format, under any name; one called judgments*.csv should be."""
    files = sorted(folder.rglob("*.csv"))
    return [file for file in files if file.name.startswith("judgments") or _is_long(file)]


def _is_long(file: Path) -> bool:
    try:
        with regular(file).open(encoding="utf-8-sig", errors="replace", newline="") as lines:
            header = next(csv.reader(lines), [])
        # What separates its fields is told there, too.
        return {*LONG} <= {*(re.split("[;\t|]", header[0]) if len(header) == 1 else header)}
    except (OSError, csv.Error):
        # What is wrong with it is told where it is read in earnest.
        return False


def _long(file: Path, stage: str) -> pd.DataFrame:
    """Rows of one stage of the long format, with defaults for columns that may be left out."""
    table, where = read_csv(file), str(file)
    check(table, where, LONG)
    defaults: dict[str, Any] = {"source": "real", "prompt": "", "personalized_first": "false"}
    if stage == "extraction":
        defaults |= {"reason": "", "confidence": "", "turns": 0}
    if stage == "response":
        defaults["generator"] = ""
    table = pd.DataFrame(defaults | dict(table.items())).assign(file=where, row=table.index)
    known = table["source"].isin(["real", "synthetic"])
    refuse(~known, where, "source is not real or synthetic", "use one of them")
    table["personalized_first"] = table["personalized_first"].str.lower() == "true"
    if stage == "extraction":
        table["dataset"] = table.get("dataset", table["source"])
        numbers = ["confidence", "turns"]
        table[numbers] = table[numbers].apply(pd.to_numeric, errors="coerce")
    return table[table["stage"] == stage].drop(columns="stage")


def _wide(file: Path) -> pd.DataFrame:
    """One row per pair and rater of the format of `load_relevance`."""
    table, where = read_csv(file), str(file)
    table.columns = [re.sub("(?i)^human.*", lambda name: name[0].lower(), each) for each in table]
    if lacking := [name for name in WIDE if name not in table]:
        what = (
            f"{where}: no column {lacking[0]!r}: the columns should be {' '.join(WIDE)} and "
            "one for each rater"
        )
        raise UserError(f"{what}, or take {_example('relevance')}")
    check(table, where, WIDE)
    raters = table.columns[table.columns.get_loc("attribute") + 1 :]
    if raters.str.startswith("human").all():
        raise UserError(f"{file}: no column of a model's judgments after 'attribute': add one")
    for column in WIDE:
        empty = table[column].str.strip() == ""
        refuse(empty, where, f"column {column!r}: empty", "fill it in or drop the row")
    for rater in raters:
        if not rater.strip():
            remedy = "name the rater, or remove it"
            raise UserError(f"{file}: a column after 'attribute' has no name: {remedy}")
        said = _reading.labels(table[rater])
        if (said == "").all():
            remedy = "fill it in or remove the column"
            raise UserError(f"{file}: column {rater!r}: no judgment at all: {remedy}")
        outside = ~said.isin(["", *SCALES["relevance"]])
        wrong = f"column {rater!r}: a label outside the scale"
        refuse(outside, where, wrong, "use true/false, yes/no or 1/0")
    other = table["prompt"] != table.groupby("prompt_id")["prompt"].transform("first")
    wrong = "an earlier row of this prompt_id has another prompt"
    refuse(other, where, wrong, "number the prompts through all users")
    again = table.duplicated(WIDE[:3])
    refuse(again, where, f"repeats an earlier {' + '.join(WIDE[:3])}", "keep one")
    named = zip(WIDE[:4], ["prompt", "user", "item", "prompt_text"], strict=True)
    # Here the source is not of a row but of the file: the demo's is simulated.
    kind = "synthetic" if file.parent == DEMO else "real"
    table = table.rename(columns=dict(named)).assign(source=kind, file=where, row=table.index)
    long = table.melt(table.columns.difference(raters), raters, "rater", "label")
    return long.assign(rater_kind=np.where(long["rater"].str.startswith("human"), "human", "model"))
