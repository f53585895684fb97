"""Load judgments of the three stages.

They come from the JSONL files of the annotation tool (`annotation_tool`) or from CSV files.

In the long format a CSV of any name has the columns ``stage user prompt item rater rater_kind
label`` and optionally ``source`` and texts (``personagap data --template STAGE`` writes an
example). In the wide format, ``relevance_judgments*.csv``, it has one column per rater
(`load_relevance`).
"""

import csv
import re
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from personagap import _reading
from personagap._reading import Rule, check, find_folder, pseudonymize, read_csv, refuse, source
from personagap.datasets import annotation_tool as tool
from personagap.datasets.annotation_tool import LABELLED, UNIT, Tables
from personagap.errors import UserError, alike, require_one_of
from personagap.paths import DEMO, regular_file
from personagap.schema import MAJORITY

#: Labels of each stage, as written in files → as stored in tables.
SCALES: dict[str, dict[str, Any]] = {
    "extraction": {"ok": "accepted", "unsure": "uncertain", "bad": "rejected"}
    | {label: label for label in ("accepted", "uncertain", "rejected")},
    "relevance": {"true": 1, "yes": 1, "1": 1, "false": 0, "no": 0, "0": 0},
    "response": {str(rating): rating for rating in range(1, 6)},
}
#: Text columns that the long format needs if no file of items exists.
TEXTS = {
    "extraction": ["attribute"],
    "relevance": ["prompt_text", "attribute"],
    "response": ["prompt_text", "attribute", "generic", "personalized"],
}
KINDS = ["human", "model"]
#: Required columns of the long format, and the first columns of the wide one.
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
    """Load the items of one stage and the judgments of people and models.

    Names are anonymized: users become u01, u02 …, human raters human_01 … Empty labels are dropped,
    and so are those of a ``human_majority``, except for relevance.

    Parameters
    ----------
    stage : "extraction", "relevance" or "response".
    data : "demo" (simulated for this project) or a folder, searched recursively.

    Returns
    -------
    items : one row per judged item, ``stage source user (prompt) item`` and its texts. Extraction:
        ``dataset attribute reason confidence turns`` (``turns``: messages of the user in the
        history, 0 if not stored). Response: ``generator prompt_text attribute generic
        personalized``, with ``item`` "<generator>/<number>". ``attrs["sources"]`` lists what was
        read.
    judgments : the same keys and ``rater rater_kind label``, where the label is accepted /
        uncertain / rejected (extraction), 0/1 (relevance), or 1–5, above 3 if the personalized
        response is better (response), with ``personalized_first``: whether that response was shown
        on the left (R11).

    `UserError`: an unknown stage; invalid data, with the file, the row and the remedy.
    """
    readers = {"extraction": tool.extraction, "relevance": tool.relevance}
    readers["response"] = tool.response
    require_one_of(readers, "unknown stage", stage)
    folder = find_folder(data, DEMO / "recentering")
    with tool.layout_errors(folder):
        items, labels = readers[stage](tool.records(folder))
    tables = [table for file in _long_files(folder) if len(table := _long(file, stage))]
    labels = pd.concat([labels, *tables], ignore_index=True)
    if items.empty and tables:
        # Without item files of the tool, the rows of judgments contain the texts of their items.
        for table in tables:
            check(table, table["file"].iloc[0], TEXTS[stage])
        items = pd.concat(tables).drop_duplicates([*UNIT, *TEXTS[stage]], ignore_index=True)
        conflicting = items[items.duplicated(UNIT)]
        tool.refuse_rows(
            conflicting, "an earlier row of its item has other texts", "give all the same"
        )
        items = items.drop(columns=[*LABELLED[3:], "personalized_first"])
    return _tables(stage, items, labels, folder, "*.jsonl, *.csv")


def load_relevance(data: str | Path = "demo") -> Tables:
    """Load stage 2, like `load_judgments`: should this attribute change the answer to this prompt?

    Reads every ``relevance_judgments*.csv`` of the folder or, without one, what `load_judgments`
    finds there. The columns are ``prompt_id user attribute_index prompt attribute``, then one
    column per rater with true/false, yes/no or 1/0, empty where the rater did not judge. Raters
    whose name starts with "human" are human, all others are models. ``human_majority`` is the
    majority of people; it is computed if not given.
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
    return _tables("relevance", items, labels, folder, ", ".join(file.name for file in files))


def load_histories(data: str | Path = "demo") -> pd.DataFrame:
    """Load the conversations of stage 1, one row each: ``user text``.

    Users have the same anonymous names as in `load_judgments`.
    """
    records = tool.records(find_folder(data, DEMO / "recentering"))
    table = records["merged_attributes"][["user_id", "conversations"]]
    table = table.explode("conversations").dropna(ignore_index=True)
    if table.empty:
        reason = "extraction needs 'conversations' in them"
        raise UserError(f"no conversations in the stage 1 items of {data}: {reason}")
    users = table["user_id"].astype("str")
    with tool.layout_errors(data):
        text = table["conversations"].map(lambda conversation: tool.conversation(conversation)[1])
        # `load_judgments` numbers the users with attributes, so these come first here as well.
        everyone = pd.concat([tool.extraction(records)[0]["user"], users], ignore_index=True)
    return pd.DataFrame({"user": users.map(_anonymous_names(everyone)), "text": text})


def _anonymous_names(users: pd.Series) -> dict[str, str]:
    """Return the anonymous name of each user."""
    return dict(zip(users, pseudonymize(users), strict=True))


def _tables(
    stage: str, items: pd.DataFrame, labels: pd.DataFrame, folder: Path, files: str
) -> Tables:
    """Return the tables of `load_judgments`: validated, labels on the stage's scale, anonymized."""
    # Annotators may be stored as numbers.
    labels = labels.assign(rater=labels["rater"].astype("str"))
    texts = _reading.normalize_labels(labels["label"])
    given = labels["label"].notna() & (texts != "")
    labels = labels.assign(label=texts.map(SCALES[stage]))[given]
    if items.empty or labels.empty:
        known = "the annotation tool's *.jsonl (datasets.annotation_tool lists the layouts)"
        remedy = f"give {known} or {_example(stage)}"
        raise UserError(f"no judgments of stage {stage!r} in {folder}: {remedy}")
    scale = f"use one of {', '.join(SCALES[stage])}"
    tool.refuse_rows(labels[labels["label"].isna()], "a label outside the scale", scale)
    if stage == "relevance" and MAJORITY not in set(labels["rater"]):
        share = labels[labels["rater_kind"] == "human"].groupby(UNIT)["label"].mean()
        # A tie is no majority, so it counts as not relevant.
        gold = share.gt(0.5).astype(int).reset_index()
        gold = gold.assign(rater=MAJORITY, rater_kind="human")
        labels = pd.concat([gold, labels], ignore_index=True)
    if items.duplicated(UNIT).any():
        remedy = "leave one version of each"
        raise UserError(f"{folder}: some items of stage {stage!r} stand in several files: {remedy}")
    # Relevance uses the majority as reference; in other stages it would count as another person.
    if stage != "relevance":
        labels = labels[labels["rater"] != MAJORITY]
    people = (labels["rater_kind"] == "human") & (labels["rater"] != MAJORITY)
    labels["rater"] = labels["rater"].mask(people, pseudonymize(labels["rater"][people], "human_"))
    columns = [*LABELLED, *["personalized_first"] * (stage == "response")]
    judgments = items[["source", *UNIT]].merge(labels[columns], on=UNIT, how="right")
    unknown = judgments[judgments["source"].isna()]
    tool.refuse_rows(
        unknown, "judges what no file of items holds", "add the items, or drop the row"
    )
    repeated = judgments[judgments.duplicated([*UNIT, "rater"])]
    tool.refuse_rows(repeated, "judges what its rater judged before", "keep one of the two")
    # Number the users before dropping items without judgments, as `load_histories` does.
    names = _anonymous_names(items["user"])
    items = items.merge(judgments[UNIT].drop_duplicates())
    for table in (items, judgments):
        table.insert(0, "stage", stage)
        table["user"] = table["user"].map(names)
    unused = ["file", "row", *["prompt"] * (stage == "extraction")]
    items, judgments = (table.drop(columns=unused, errors="ignore") for table in (items, judgments))
    items.attrs["sources"] = [source(stage, folder / files, len(items))]
    return items, judgments


# --- CSV files ------------------------------------------------------------------------------------


def _example(stage: str) -> str:
    return f"a CSV such as `personagap data --template {stage}` writes"


def _long_files(folder: Path) -> list[Path]:
    """Return the files in the long format, and all judgments*.csv, so that their faults show."""
    files = sorted(folder.rglob("*.csv"))
    return [file for file in files if file.name.startswith("judgments") or _is_long(file)]


def _is_long(file: Path) -> bool:
    """Return whether a file has the columns of the long format."""
    try:
        with regular_file(file).open(encoding="utf-8-sig", errors="replace", newline="") as lines:
            header = next(csv.reader(lines), [])
        # A header with another separator counts as well: reading it reports the separator.
        return {*LONG} <= {*(re.split("[;\t|]", header[0]) if len(header) == 1 else header)}
    except (OSError, csv.Error):
        # A file that is read later reports its own errors.
        return False


def _long(file: Path, stage: str) -> pd.DataFrame:
    """Return the rows of one stage of the long format, with defaults for optional columns."""
    table, where = read_csv(file), str(file)
    check(table, where, LONG)
    defaults: dict[str, Any] = {"source": "real", "prompt": "", "personalized_first": "false"}
    if stage == "extraction":
        defaults |= {"reason": "", "confidence": "", "turns": 0}
    if stage == "response":
        defaults["generator"] = ""
    table = pd.DataFrame(defaults | dict(table.items())).assign(file=where, row=table.index)
    valid = table["source"].isin(["real", "synthetic"])
    refuse(~valid, where, "source is not real or synthetic", "use one of them")
    table["personalized_first"] = table["personalized_first"].str.lower() == "true"
    if stage == "extraction":
        table["dataset"] = table.get("dataset", table["source"])
        numbers = ["confidence", "turns"]
        table[numbers] = table[numbers].apply(pd.to_numeric, errors="coerce")
    return table[table["stage"] == stage].drop(columns="stage")


def _wide(file: Path) -> pd.DataFrame:
    """Return a file of the wide format (`load_relevance`) with one row per pair and rater."""
    table, where = read_csv(file), str(file)
    table.columns = [re.sub("(?i)^human.*", lambda match: match[0].lower(), name) for name in table]
    if missing := [name for name in WIDE if name not in table]:
        problem = f"{where}: no column {missing[0]!r}{alike(missing[0], table)}"
        problem += f": the columns should be {' '.join(WIDE)} and one for each rater"
        raise UserError(f"{problem}, or take {_example('relevance')}")
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
        texts = _reading.normalize_labels(table[rater])
        if (texts == "").all():
            remedy = "fill it in or remove the column"
            raise UserError(f"{file}: column {rater!r}: no judgment at all: {remedy}")
        outside = ~texts.isin(["", *SCALES["relevance"]])
        wrong = f"column {rater!r}: a label outside the scale"
        refuse(outside, where, wrong, "use true/false, yes/no or 1/0")
    conflicting = table["prompt"] != table.groupby("prompt_id")["prompt"].transform("first")
    wrong = "an earlier row of this prompt_id has another prompt"
    refuse(conflicting, where, wrong, "number the prompts through all users")
    repeated = table.duplicated(WIDE[:3])
    refuse(repeated, where, f"repeats an earlier {' + '.join(WIDE[:3])}", "keep one")
    names = zip(WIDE[:4], ["prompt", "user", "item", "prompt_text"], strict=True)
    # In this format the source belongs to the file: only the demo's is synthetic.
    kind = "synthetic" if file.parent == DEMO else "real"
    table = table.rename(columns=dict(names)).assign(source=kind, file=where, row=table.index)
    long = table.melt(table.columns.difference(raters), raters, "rater", "label")
    return long.assign(rater_kind=np.where(long["rater"].str.startswith("human"), "human", "model"))
