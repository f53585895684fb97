"""The tasks: their items, prompts and grades.

Every module here whose name does not begin with "_" is one task: to add a task, add a file (and
its prompt, ``data/prompts/<name>.txt``). Answers are graded under three protocols. "paper" is what
the text of arXiv 2406.11107 and its released code say, re-written from their description,
weaknesses included; where the released code cannot have produced a result (S4, S7) it does what
the text says. "code" is the released code as it stands. "corrected" repairs the traps, each of
which a task's ``discrepancies`` also hold by itself; S-numbers name them
(``data/safety_utility/traps.csv``).
"""

from personagap.tasks._grading import (
    LIKELIHOOD,
    SCORE_COLUMNS,
    blocked_as_harmless,
    by_dimension,
    discrepancies,
    grade,
    spoken,
)
from personagap.tasks._items import load
from personagap.tasks._prompts import likelihood_prompt, prompt
from personagap.tasks._registry import SAFETY, TASKS, UTILITY, WITH_CHOICES, find, select
from personagap.tasks._task import PROTOCOLS, Grader, Hub, Task
