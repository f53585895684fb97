"""StrongREJECT (Souly et al. 2024): harmful requests; a judge grades the answers."""

from personagap._reading import read_csv
from personagap.tasks._task import Hub, Task, filled, to_judge

TASK = Task(
    name="strongreject",
    dimension="safety",
    order=5,
    n_items=346,  # of an early version, which came with the released code
    published_as="StrongReject",
    licence="MIT",
    hub=Hub("walledai/StrongREJECT", None, "train"),
    files={"strongreject*.csv": read_csv},
    columns=lambda table: table.rename(columns={"prompt": "forbidden_prompt"}),  # the Hub's name
    schema={"category": None, "forbidden_prompt": filled("question")},
    items=lambda table: to_judge(table, "forbidden_prompt", "category"),
)
