"""Relevance judgments (Re-Centering, stage 2): should this attribute change the answer to this prompt?"""

from pathlib import Path

import pandas as pd

from personagap.datasets._reading import anonymous, described, read_csv, refuse
from personagap.datasets.annotations import load_judgments
from personagap.errors import UserError
from personagap.paths import DEMO

KEY = ["prompt_id", "user", "attribute_index"]
TEXT = ["prompt", "attribute"]
LABELS = {"true": 1, "yes": 1, "1": 1, "false": 0, "no": 0, "0": 0}


def load_relevance(data: str | Path = "demo") -> tuple[pd.DataFrame, pd.DataFrame]:
    """Read every ``relevance_judgments*.csv`` of a folder, or else the annotation tool's layouts there.

    Columns: ``prompt_id user attribute_index prompt attribute``, then one column per rater with
    true/false, yes/no or 1/0, empty where the rater did not judge. Raters whose name starts with
    "human" are human (``human_majority`` is their majority), all others are models. User ids are
    replaced by u01, u02 … in order of appearance unless they have that form already.

    Parameters
    ----------
    data : "demo" (simulated for this project) or a folder.

    Returns
    -------
    pairs : one row per prompt × user × attribute: ``stage source user prompt item prompt_text attribute``;
        ``attrs["sources"]`` says what was read.
    judgments : one row per label: ``stage source user prompt item rater rater_kind label``, label 0/1.

    Raises
    ------
    UserError : names the file, the row (the header is row 1) and the remedy.
    """
    folder = DEMO if str(data) == "demo" else Path(data)
    files = sorted(folder.glob("relevance_judgments*.csv"))
    if not files and any(folder.rglob("*.jsonl")):
        return load_judgments("relevance", folder)
    if not files:
        raise UserError(f"no relevance_judgments*.csv in {folder}: give the folder that holds it, or 'demo'")
    table = pd.concat([_read(file) for file in files], ignore_index=True)
    twice = table.duplicated(KEY)
    if twice.any():
        where = table[twice].iloc[0]
        raise UserError(f"{where['file']}, row {where['row']}: repeats an earlier {' + '.join(KEY)}: keep one")
    table["user"] = anonymous(table["user"])
    table = table.rename(columns={"prompt": "prompt_text", "prompt_id": "prompt", "attribute_index": "item"})
    table = table.assign(stage="relevance", source="synthetic" if folder == DEMO else "real")
    key = ["stage", "source", "user", "prompt", "item"]
    pairs = table[[*key, "prompt_text", "attribute"]]
    raters = [column for column in table if column not in {*pairs.columns, "file", "row"}]
    judgments = table.melt(key, raters, "rater", "label").dropna(subset="label", ignore_index=True)
    judgments["rater_kind"] = judgments["rater"].str.startswith("human").map({True: "human", False: "model"})
    pairs = described(pairs, "relevance", data, ", ".join(file.name for file in files))
    return pairs, judgments.astype({"label": int})[[*key, "rater", "rater_kind", "label"]]


def _read(file: Path) -> pd.DataFrame:
    table, where = read_csv(file), str(file)
    missing = [column for column in [*KEY, *TEXT] if column not in table]
    if missing:
        raise UserError(f"{file}: no column {missing[0]!r}: the columns are {', '.join([*KEY, *TEXT])} and the raters")
    raters = list(table.columns[list(table.columns).index("attribute") + 1 :])
    if table.empty:
        raise UserError(f"{file}: no rows under the header: add judgments")
    if all(rater.startswith("human") for rater in raters):
        raise UserError(f"{file}: no column of a model's judgments after 'attribute': add one")
    for column in [*KEY, *TEXT]:
        refuse(table, where, table[column].str.strip() == "", f"column {column!r}: empty", "fill it in or drop the row")
    for rater in raters:
        text = table[rater].str.strip().str.lower()
        label = text.map(LABELS)
        problem = f"column {rater!r}: a label outside the scale"
        refuse(table, where, label.isna() & (text != ""), problem, "use true/false, yes/no or 1/0")
        table[rater] = label
    return table[[*KEY, *TEXT, *raters]].assign(file=where, row=table.index)
