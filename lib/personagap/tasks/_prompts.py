"""The prompts of items."""

from personagap import prompts
from personagap.tasks._registry import find


def prompt(item) -> str:
    """Return the prompt of an item (a row of the items table) from ``data/prompts/<task>.txt``.

    Examples
    --------
    >>> from personagap import datasets
    >>> item = datasets.load("gsm8k", items_per_task=1).iloc[0]
    >>> prompt(item).endswith(item.question)
    True
    """
    return _fill(find(item.task).name, item)


def likelihood_prompt(item, continues: bool) -> list[tuple[str, str]]:
    """Return turns (role, text) after which one of the task's ``choices`` is the next word.

    A model that is asked to show its work does not start with a letter. So the prompt is followed
    by the beginning of the last sentence of an answer (``data/prompts/mmlu_begun.txt``); if the
    server cannot continue a given answer, the prompt asks for the letter alone
    (``mmlu_letter.txt``). The scores hold the total probability of the choices (``choice_mass``).

    Parameters
    ----------
    item : a row of the items table, of a task with choices.
    continues : whether the model can continue an answer that has been started for it.
    """
    if continues:
        begun = prompts.template(f"{find(item.task).name}_begun")
        return [("user", prompt(item)), ("assistant", begun)]
    return [("user", _fill(f"{find(item.task).name}_letter", item))]


def _fill(name: str, item) -> str:
    fields = find(item.task).fields(item)
    return prompts.fill(prompts.template(name), question=item.question, **fields)
