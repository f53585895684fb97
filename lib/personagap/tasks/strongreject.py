"""StrongREJECT (Souly et al. 2024): harmful requests, graded by a judge."""

from personagap._reading import read_csv
from personagap.tasks._task import Hub, Task, filled, to_judge

TASK = Task(
    name="strongreject",
    dimension="safety",
    order=5,
    # The size of the early version that came with the released code; upstream now has 313.
    n_items=346,
    published_as="StrongReject",
    licence="MIT",
    hub=Hub("walledai/StrongREJECT", None, "train"),
    files={"strongreject*.csv": read_csv},
    # The column is called "prompt" on the Hub.
    columns=lambda table: table.rename(columns={"prompt": "forbidden_prompt"}),
    schema={"category": None, "forbidden_prompt": filled("question")},
    items=lambda table: to_judge(table, "forbidden_prompt", "category"),
)
