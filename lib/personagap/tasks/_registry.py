"""Which tasks there are."""

import importlib
import pkgutil
from collections.abc import Sequence
from pathlib import Path

from personagap.errors import UserError, one_of
from personagap.tasks._task import Task


def _found() -> list[Task]:
    """The `TASK` of every module here but the machinery's, in reading order."""
    here = str(Path(__file__).parent)
    names = [module.name for module in pkgutil.iter_modules([here]) if module.name[0] != "_"]
    tasks = [importlib.import_module(f"{__package__}.{name}").TASK for name in names]
    return sorted(tasks, key=lambda task: (task.order, task.name))


def _of(dimension: str) -> tuple[str, ...]:
    return tuple(name for name, task in TASKS.items() if task.dimension == dimension)


#: By name, in reading order.
TASKS: dict[str, Task] = {task.name: task for task in _found()}
#: Names of the tasks of each dimension.
UTILITY, SAFETY = _of("utility"), _of("safety")
#: Names of the tasks whose answers have a likelihood.
WITH_CHOICES = tuple(name for name, task in TASKS.items() if task.choices)


def find(name: object) -> Task:
    """The task of that name; `UserError` if there is none.

    Examples
    --------
    >>> find("gsm8k").dimension
    'utility'
    """
    one_of(TASKS, "unknown task", name)
    return TASKS[str(name)]


def select(tasks: str | Sequence[str] = "all") -> list[Task]:
    """Tasks by name, each once, in the order of the names: "all", one, or a list; else `UserError`.

    Examples
    --------
    >>> [task.name for task in select(["gsm8k", "mmlu", "gsm8k"])]
    ['gsm8k', 'mmlu']
    """
    if tasks == "all":
        return list(TASKS.values())
    names = [tasks] if isinstance(tasks, str) else tasks
    if not isinstance(names, (list, tuple)) or not names:
        known = ", ".join(TASKS)
        raise UserError(f"tasks are {tasks!r}: give 'all' or a list of some of {known}")
    return list({task.name: task for task in map(find, names)}.values())
