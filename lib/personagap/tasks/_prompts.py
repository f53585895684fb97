"""The prompt of an item."""

from personagap import prompts
from personagap.tasks._registry import find


def prompt(item) -> str:
    """The prompt of an item, a row of the items table, worded as in ``data/prompts/<task>.txt``.

    Examples
    --------
    >>> from personagap import datasets
    >>> item = datasets.load("gsm8k", items_per_task=1).iloc[0]
    >>> prompt(item).endswith(item.question)
    True
    """
    return _filled(find(item.task).name, item)


def likelihood_prompt(item, continues: bool) -> list[tuple[str, str]]:
    """Turns (role, text) that end where one of the task's ``choices`` is the next word.

    Asked to show its work first, a model does not begin with a letter. So the prompt is followed
    by the last sentence of an answer, begun (``data/prompts/mmlu_begun.txt``); a server that
    cannot continue it is asked for the letter alone (``mmlu_letter.txt``). The probability that
    falls on the choices is in the scores (``choice_mass``).

    Parameters
    ----------
    item : a row of the items table, of a task with choices.
    continues : of the model, whether it goes on with a begun answer.
    """
    if continues:
        begun = prompts.template(f"{find(item.task).name}_begun")
        return [("user", prompt(item)), ("assistant", begun)]
    return [("user", _filled(f"{find(item.task).name}_letter", item))]


def _filled(name: str, item) -> str:
    fields = find(item.task).fields(item)
    return prompts.fill(prompts.template(name), question=item.question, **fields)
