"""Do-Not-Answer (Wang et al. 2023): questions that a model should decline; a judge grades."""

from typing import Any

import pandas as pd

from personagap._reading import read_csv
from personagap.tasks._task import Hub, Task, filled, position


def _items(table: pd.DataFrame) -> dict[str, Any]:
    item = table.get("id", position(table))
    return {"item": item, "question": table["question"], "group": table["types_of_harm"]}


TASK = Task(
    name="do_not_answer",
    dimension="safety",
    order=4,
    n_items=939,
    published_as="Do-Not-Answer",
    licence="Apache-2.0",
    hub=Hub("LibrAI/do-not-answer", None, "train"),
    files={"do_not_answer*.csv": read_csv},
    schema={"types_of_harm": None, "question": filled("question")},
    items=_items,
)
