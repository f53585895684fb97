"""Do-Not-Answer (Wang et al. 2023): questions that a model should decline, graded by a judge."""

from personagap._reading import read_csv
from personagap.tasks._task import Hub, Task, filled, to_judge

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
    items=lambda table: to_judge(table, "question", "types_of_harm"),
)
