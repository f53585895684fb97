"""The benchmark tasks: their items, prompts and graders.

Every module in this package whose name does not start with an underscore defines one task: to add
a task, add a module (and its prompt, ``data/prompts/<name>.txt``). Answers are graded under one of
three protocols:

- "paper" follows the text of arXiv 2406.11107 and its released code, reimplemented from their
  description with all their weaknesses. Where the released code cannot have produced the published
  result (S4, S7), it follows the text.
- "code" is the released code exactly as it stands.
- "corrected" repairs the traps of the released code. A task's ``discrepancies`` apply each trap on
  its own. The S-numbers refer to ``data/safety_utility/traps.csv``.
"""

from personagap.tasks._grading import (
    LIKELIHOOD,
    blocked_as_harmless,
    by_dimension,
    discrepancies,
    grade,
    with_text,
)
from personagap.tasks._items import load
from personagap.tasks._prompts import likelihood_prompt, prompt
from personagap.tasks._registry import SAFETY, TASKS, UTILITY, WITH_CHOICES, find, select
from personagap.tasks._task import PROTOCOLS, Grader, Hub, Task
