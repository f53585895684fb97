"""An example of judgments in the long format, for those who bring their own: ``personagap data --template STAGE``."""

import csv
from pathlib import Path

from personagap.errors import UserError

#: Columns of every stage, and what they say.
COLUMNS = {
    "stage": "the same word in every row; rows of several stages may stand in one file",
    "source": "real or synthetic: the history that the user is known by (may be left out: real)",
    "user": "any name; reports show u01, u02 …",
    "prompt": "any name of a prompt; empty for extraction",
    "item": "any name of what is judged, by all raters the same",
    "rater": "any name; people are shown as human_01 …",
    "rater_kind": "human or model",
    "label": "",
}
#: By stage: what a label may be; columns of texts with an example; the labels of three raters for two items.
STAGES = {
    "extraction": (
        "ok, unsure or bad",
        {"attribute": "keeps bees"},
        [("ok", "ok", "ok"), ("bad", "unsure", "ok")],
    ),
    "relevance": (
        "true or false (yes/no, 1/0): should the attribute change the answer?",
        {"prompt_text": "What can I plant in March?", "attribute": "keeps bees"},
        [("true", "true", "true"), ("false", "false", "true")],
    ),
    "response": (
        "1 to 5: 5 where the personalized response is much better, 3 where they are alike",
        {
            "prompt_text": "What can I plant in March?",
            "attribute": "keeps bees",
            "generic": "Try peas and spinach.",
            "personalized": "Try crocus and clover, which feed bees early.",
        },
        [("4", "5", "5"), ("3", "2", "4")],
    ),
}
RATERS = [("ann", "human"), ("ben", "human"), ("judge-model", "model")]


def write(stage: str, folder: str | Path) -> tuple[Path, str]:
    """Write ``judgments_<stage>.csv`` into a folder; its path, and a line on each column."""
    label, texts, labels = STAGES[stage]
    path = Path(folder) / f"judgments_{stage}.csv"
    if path.exists():
        raise UserError(f"{path} is there already: move it, or name another folder")
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow([*COLUMNS, *texts])
        for number, said in enumerate(labels, start=1):
            prompt = "" if stage == "extraction" else "p1"
            for rater, each in zip(RATERS, said, strict=True):
                writer.writerow([stage, "real", f"user {number}", prompt, "a1", *rater, each, *texts.values()])
    meanings = COLUMNS | {"label": label} | dict.fromkeys(texts, "a text, the same wherever its item stands")
    return path, "\n".join(f"{name:13}{meaning}" for name, meaning in meanings.items())
