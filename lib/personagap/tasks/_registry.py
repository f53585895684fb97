"""The registry of tasks."""

import importlib
import pkgutil
from collections.abc import Sequence
from pathlib import Path

from personagap.errors import UserError, require_one_of
from personagap.tasks._task import Task


def _discover() -> list[Task]:
    """Return the `TASK` of every public module of this package, in order."""
    here = str(Path(__file__).parent)
    names = [module.name for module in pkgutil.iter_modules([here]) if module.name[0] != "_"]
    tasks = [importlib.import_module(f"{__package__}.{name}").TASK for name in names]
    return sorted(tasks, key=lambda task: (task.order, task.name))


def _names_of(dimension: str) -> tuple[str, ...]:
    return tuple(name for name, task in TASKS.items() if task.dimension == dimension)


#: All tasks by name, in order
TASKS: dict[str, Task] = {task.name: task for task in _discover()}
#: Names of the tasks of each dimension
UTILITY, SAFETY = _names_of("utility"), _names_of("safety")
#: Names of the tasks with a few possible answers, whose likelihood can be computed
WITH_CHOICES = tuple(name for name, task in TASKS.items() if task.choices)


def find(name: object) -> Task:
    """Return the task of a name; `UserError` if there is none.

    Examples
    --------
    >>> find("gsm8k").dimension
    'utility'
    """
    require_one_of(TASKS, "unknown task", name)
    return TASKS[str(name)]


def select(tasks: str | Sequence[str] = "all") -> list[Task]:
    """Return tasks by name ("all", a name or a list), without repetitions, in the order given.

    `UserError` for an unknown name or anything else.

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
