"""Judgments of the three stages: the annotation tool's JSONL layouts, and anybody's in one long CSV.

The tool (github.com/orange0629/personalize-annotation, layouts as of 9d65d9e) keeps items, annotations and outputs of
models in files of one JSON object a line. A layout is known by a field, wherever the file lies:

| field | layout | one line is |
|---|---|---|
| ``merged_attributes`` | stage 1 items | a user: attributes, conversations |
| ``attr_judgments`` | stage 1 annotations (task 4) | one annotator's ok / unsure / bad of those |
| ``relevance_judgments`` | stage 2 annotations (task 5) | one annotator's true / false |
| ``sample_index`` | stage 2 outputs of a model | the same of a model |
| ``response_no_context`` | stage 3 items | a generic and a personalized response |
| ``ratings`` | stage 3 annotations (task 6) | one annotator's 1–5 by attribute |
| ``profile_attributes`` | stage 2 items | a user and a prompt |

``judgments*.csv`` holds ``stage user prompt item rater rater_kind label`` and, if wanted, ``source`` and texts.
"""

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pandas as pd

from personagap.datasets._reading import anonymous, described, read_csv, read_jsonl, refuse, require
from personagap.errors import UserError
from personagap.paths import DEMO

#: The field that tells a layout, and what else it must have. The last one's field stands in other layouts too.
LAYOUTS = {
    "merged_attributes": ["user_id", "source", "item_index", "conversations"],
    "attr_judgments": ["task", "index", "annotator"],
    "relevance_judgments": ["task", "user_id", "prompt_index", "annotator"],
    "sample_index": ["user_id", "prompt_index", "model", "items"],
    "response_no_context": ["user_id", "prompt_id", "prompt_text", "model_tag", "item_index", "response_personalized"],
    "ratings": ["task", "index", "annotator"],
    "profile_attributes": ["user_id", "prompt_index", "prompt_text"],
}
#: Pilot tasks share the layouts of these (T22).
TASKS = {"attr_judgments": "4", "relevance_judgments": "5", "ratings": "6"}
#: Histories that models wrote for a benchmark; all others are taken for people's own.
SYNTHETIC = re.compile("cupid|prefeval|personalens|synthetic.*", re.IGNORECASE)
SCALES = {
    "extraction": dict(zip(["ok", "unsure", "bad"], ["accepted", "uncertain", "rejected"], strict=True))
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
LABELLED = [*UNIT, "rater", "rater_kind", "label", "personalized_first", "file", "row"]
Records = dict[str, pd.DataFrame]


def load_judgments(stage: str, data: str | Path = "demo") -> tuple[pd.DataFrame, pd.DataFrame]:
    """Items of one stage, and what people and models said of them.

    Users become u01, u02 …, human raters human_01 … What an annotator left open is no judgment.

    Parameters
    ----------
    stage : "extraction", "relevance" or "response".
    data : "demo" (simulated for this project) or a folder, searched with its sub-folders.

    Returns
    -------
    items : one row per judged thing, ``stage source user (prompt) item`` and its texts. Extraction: ``dataset
        attribute reason confidence turns`` (``turns``: messages of the user in the history, 0 if not stored).
        Response: ``generator prompt_text attribute generic personalized``, ``item`` "<generator>/<number>".
    judgments : the same key and ``rater rater_kind label``: accepted / uncertain / rejected; 0/1; or 1–5, above 3
        where personalized is better, with ``personalized_first`` (which response stood on the left, T11).

    Raises
    ------
    UserError : names the file, the row and the remedy.
    """
    folder = _folder(data)
    items, labels = {"extraction": _extraction, "relevance": _relevance, "response": _response}[stage](_records(folder))
    for file in sorted(folder.rglob("judgments*.csv")):
        table = _long(file, stage)
        if items.empty and len(table):
            require(table, str(file), TEXTS[stage])
            items = table.drop(columns=LABELLED[3:]).drop_duplicates(UNIT, ignore_index=True)
        labels = pd.concat([labels, table[LABELLED]])
    if items.empty or labels.empty:
        raise UserError(f"no judgments of stage {stage!r} in {folder}: datasets.annotations lists the layouts")
    if items.duplicated(UNIT).any():
        raise UserError(f"{folder}: some items of stage {stage!r} stand in several files: leave one version of each")
    judgments = items[["source", *UNIT]].merge(_on_scale(labels, stage), on=UNIT, how="right")
    if judgments["source"].isna().any():
        where = _where(judgments[judgments["source"].isna()])
        raise UserError(f"{where}: judges what no file of items holds: add the items, or drop the row")
    items = items.merge(judgments[UNIT].drop_duplicates())  # what nobody judged is left out
    hidden = dict(zip(items["user"], anonymous(items["user"]), strict=True))
    unused = ["file", "row", *["prompt"] * (stage == "extraction"), *["personalized_first"] * (stage != "response")]
    for table in (items, judgments):
        table.insert(0, "stage", stage)
        table["user"] = table["user"].map(hidden)
    items, judgments = (table.drop(columns=unused, errors="ignore") for table in (items, judgments))
    return described(items, stage, data, "*.jsonl, judgments*.csv"), judgments


def load_histories(data: str | Path = "demo") -> pd.DataFrame:
    """Conversations of the users of stage 1, one row each: ``user text``, the users named as by `load_judgments`."""
    rows = [
        (str(record.user_id), _conversation(conversation)[1])
        for record in _records(_folder(data))["merged_attributes"].itertuples()
        for conversation in record.conversations
    ]
    if not rows:
        raise UserError(f"no conversations in the stage 1 items of {data}: extraction needs 'conversations' in them")
    table = pd.DataFrame(rows, columns=["user", "text"])
    return table.assign(user=anonymous(table["user"]))


def _folder(data: str | Path) -> Path:
    folder = DEMO / "recentering" if str(data) == "demo" else Path(data)
    if not folder.is_dir():
        raise UserError(f"no folder {folder}: data is 'demo' or a folder with the judgments")
    return folder


def _records(folder: Path) -> Records:
    """Lines by layout, each with the ``file`` and ``row`` it came from; other files are passed over."""
    found = {layout: [pd.DataFrame()] for layout in LAYOUTS}
    for file in sorted(folder.rglob("*.jsonl")):
        table = read_jsonl(file)
        layout = next((name for name in LAYOUTS if name in table), None)
        if layout is None or "mode" in table:  # nothing of ours, or a plain set of responses
            continue
        require(table, str(file), [layout, *LAYOUTS[layout]])
        if layout in TASKS:
            pilot = table["task"].astype("str") != TASKS[layout]
            if pilot.any():
                print(f"{file}: {pilot.sum()} annotations of pilot tasks left out")
            table = table[~pilot]
        found[layout].append(table.assign(file=str(file), row=table.index))
    return {name: pd.concat(tables, ignore_index=True) for name, tables in found.items()}


def _each(records: pd.DataFrame, column: str, *fields: str) -> Iterator[tuple[Any, int, list]]:
    """Each element of a list of objects: its record, its place and its ``fields``."""
    for record in records.itertuples():
        for place, element in enumerate(getattr(record, column)):
            if not isinstance(element, dict) or not set(fields) <= set(element):
                where = f"{record.file}, row {record.row}: {column}[{place}]"
                raise UserError(f"{where}: not an object with {', '.join(fields)}: write the tool's layout")
            yield record, place, [element[field] for field in fields]


def _where(rows: pd.DataFrame) -> str:
    return f"{rows['file'].iloc[0]}, row {rows['row'].iloc[0]}"


def _on_scale(labels: pd.DataFrame, stage: str) -> pd.DataFrame:
    labels = labels[labels["label"].notna() & (labels["label"].astype("str") != "")]  # left open
    label = labels["label"].astype("str").str.strip().str.lower().map(SCALES[stage])
    if label.isna().any():
        where = _where(labels[label.isna()])
        raise UserError(f"{where}: a label outside the scale: use one of {', '.join(SCALES[stage])}")
    people = (labels["rater_kind"] == "human") & (labels["rater"] != "human_majority")
    return labels.assign(label=label, rater=labels["rater"].mask(people, anonymous(labels["rater"][people], "human_")))


def _conversation(conversation: list | dict) -> tuple[int, str]:
    """Turns of the user, and the text, of a list of messages ``role content``, or of an object that holds one."""
    if isinstance(conversation, dict):
        conversation = next((value for value in conversation.values() if isinstance(value, list)), [])
    who = ["USER" if message.get("role") == "user" else "AI" for message in conversation]
    lines = [f"{name}: {message.get('content', '')}" for name, message in zip(who, conversation, strict=True)]
    return who.count("USER"), "\n".join(lines)


def _extraction(records: Records) -> tuple[pd.DataFrame, pd.DataFrame]:
    items, users = [], {}
    for record, place, texts in _each(records["merged_attributes"], "merged_attributes", "attribute", "confidence"):
        user = users[record.item_index] = str(record.user_id)
        turns = sum(_conversation(conversation)[0] for conversation in record.conversations)
        source = "synthetic" if SYNTHETIC.fullmatch(record.source) else "real"
        reason = record.merged_attributes[place].get("reason", "")
        items.append((source, user, "", str(place), record.source, *texts, reason, turns))
    labels = [
        (users.get(record.index), "", str(place), record.annotator, "human", label, False, record.file, record.row)
        for record, place, (label,) in _each(records["attr_judgments"], "attr_judgments", "judgment")
    ]
    columns = ["source", *UNIT, "dataset", "attribute", "confidence", "reason", "turns"]
    return pd.DataFrame(items, columns=columns), pd.DataFrame(labels, columns=LABELLED)


def _relevance(records: Records) -> tuple[pd.DataFrame, pd.DataFrame]:
    def table(layout: str, column: str, rater: str, kind: str, *fields: str) -> pd.DataFrame:
        rows = [
            (str(one.user_id), str(one.prompt_index), str(place), getattr(one, rater), kind, one.file, one.row, *texts)
            for one, place, texts in _each(records[layout], column, "attribute", *fields)
        ]
        names = [*UNIT, "rater", "rater_kind", "file", "row", "attribute", "label"]
        return pd.DataFrame(rows, columns=names[: 8 + len(fields)]).assign(personalized_first=False)

    profile = table("profile_attributes", "profile_attributes", "prompt_text", "")
    items = profile.rename(columns={"rater": "prompt_text"}).assign(source="real")
    items = items[["source", *UNIT, "prompt_text", "attribute"]]
    human = table("relevance_judgments", "relevance_judgments", "annotator", "human", "relevant")
    labels = pd.concat([human, table("sample_index", "items", "model", "model", "relevant")])
    # By text, not by place; a profile can hold one text twice (T18): then the first goes with the first.
    about = ["user", "prompt", "attribute"]
    labels["nth"] = labels.groupby(["rater", *about]).cumcount()
    places = items[[*UNIT, "attribute"]].assign(nth=items.groupby(about).cumcount())
    labels = labels.drop(columns="item").merge(places, on=[*about, "nth"], how="left")
    said = labels[(labels["rater_kind"] == "human") & labels["label"].notna()]
    share = said.assign(label=said["label"] == True).groupby(UNIT)["label"].mean()  # noqa: E712
    gold = (share > 0.5).reset_index()
    stated = _each(records["response_no_context"], "attributes", "attribute", "is_relevant")
    relevant = [(str(one.user_id), _prompt(one), text) for one, _, (text, yes) in stated if yes]
    if human.empty and relevant:  # what the stage 3 items state; what is absent there is irrelevant (T21)
        gold = items[UNIT].assign(label=pd.MultiIndex.from_frame(items[about]).isin(relevant))
    gold = gold.assign(rater="human_majority", rater_kind="human", personalized_first=False, file="", row=0)
    return items, pd.concat([gold, labels])[LABELLED]


def _prompt(record: Any) -> str:
    return str(record.prompt_id).removeprefix(f"{record.user_id}_")


def _response(records: Records) -> tuple[pd.DataFrame, pd.DataFrame]:
    items, labels, units = [], [], {}
    for one, place, (text, relevant) in _each(records["response_no_context"], "attributes", "attribute", "is_relevant"):
        if relevant:
            unit = units[one.item_index, text] = (str(one.user_id), _prompt(one), f"{one.model_tag}/{place}")
            texts = (one.model_tag, one.prompt_text, text, one.response_no_context, one.response_personalized)
            items.append(("real", *unit, *texts))
    for one in records["ratings"].itertuples():
        first = getattr(one, "personalized_first", False) is True  # the tool shows it on the right
        for text, rating in one.ratings.items():
            label = 6 - rating if first and isinstance(rating, int) else rating
            unit = units.get((one.index, text), (None, None, None))
            labels.append((*unit, one.annotator, "human", label, first, one.file, one.row))
    columns = ["source", *UNIT, "generator", "prompt_text", "attribute", "generic", "personalized"]
    return pd.DataFrame(items, columns=columns), pd.DataFrame(labels, columns=LABELLED)


def _long(file: Path, stage: str) -> pd.DataFrame:
    """Rows of one stage of the long format, with defaults for columns that may be left out."""
    table, where = read_csv(file), str(file)
    require(table, where, ["stage", "user", "item", "rater", "rater_kind", "label"])
    refuse(table, where, ~table["stage"].isin(SCALES), "an unknown stage", f"use one of {', '.join(SCALES)}")
    kinds = table["rater_kind"].isin(["human", "model"])
    refuse(table, where, ~kinds, "rater_kind is not human or model", "use one of them")
    others = {"extraction": {"reason": "", "confidence": "", "turns": 0}, "response": {"generator": ""}}
    defaults = {"source": "real", "prompt": "", "personalized_first": "false"} | others.get(stage, {})
    table = pd.DataFrame(defaults | dict(table.items())).assign(file=where, row=table.index)
    table["personalized_first"] = table["personalized_first"].str.lower() == "true"
    if stage == "extraction":
        table["dataset"] = table.get("dataset", table["source"])
        table[["confidence", "turns"]] = table[["confidence", "turns"]].apply(pd.to_numeric, errors="coerce")
    return table[table["stage"] == stage].drop(columns="stage")
