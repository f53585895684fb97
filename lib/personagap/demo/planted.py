"""The effects planted in the demo model: the committed table, its probabilities, and the answers.

``data/demo/build/make_planted.py`` drew ``data/demo/planted.csv`` at random; the effects say
nothing about real people.
"""

import functools
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import pandas as pd
from scipy.special import expit

from personagap.paths import DEMO


class Answers(NamedTuple):
    """All answers of the demo model to an item.

    Attributes
    ----------
    texts : the answers.
    right : which of them are right (or harmless).
    bare : which have the form that the paper's pattern cannot parse, "Answer: (B)" (S6).
    """

    texts: list[str]
    right: np.ndarray
    bare: np.ndarray


def planted_parts() -> pd.DataFrame:
    """Read the committed table ``data/demo/planted.csv``: ``task part name template value``.

    ``name`` is an item or a persona, ``value`` a logit, except for "bare_form". ``part`` is

    - "item": the base of an item;
    - "identity": the effect of an identity;
    - "interaction": its additional effect in one ``template`` only;
    - "intersection": the effect of an intersection beyond the sum of its parts;
    - "bare_form": the share of answers in the form "Answer: (B)".
    """
    # Names that consist of digits must stay text.
    text = {"name": "str", "template": "str"}
    return pd.read_csv(DEMO / "planted.csv", dtype=text, keep_default_na=False)


def planted_probabilities(templates: Sequence[str] = ("paper",)) -> pd.DataFrame:
    """Compute the planted probability that an answer is right (or harmless).

    Parameters
    ----------
    templates : names of ``personas.templates``; the controls are the same in all of them.

    Returns
    -------
    DataFrame ``task item persona template planted``, one row per item × persona × template.
    """
    values = {part: rows.drop(columns="part") for part, rows in planted_parts().groupby("part")}
    names = pd.DataFrame({"template": list(templates)})
    effect = values["identity"].drop(columns="template").merge(names, how="cross")
    extra = values["interaction"].rename(columns={"value": "extra"})
    key = ["task", "name", "template"]
    effect["value"] += effect[key].merge(extra, how="left")["extra"].fillna(0)
    # The effect of an intersection is the sum of its parts plus its own: on the logit scale, as
    # sums of probabilities could leave 0–1.
    beyond = values["intersection"].drop(columns="template")
    crossed = beyond.drop(columns="value").assign(part=beyond["name"].str.split("+"))
    crossed = crossed.explode("part")
    crossed = crossed.merge(effect.rename(columns={"name": "part"})).drop(columns="part")
    crossed = pd.concat([crossed, beyond.merge(crossed[key].drop_duplicates())])
    effect = pd.concat([effect, crossed.groupby(key, as_index=False, sort=False).sum()])
    base = values["item"].drop(columns="template").rename(columns={"name": "item"})
    effect = effect.rename(columns={"name": "persona"})
    cells = base.merge(effect, on="task", suffixes=("_base", "_effect"))
    cells["planted"] = expit(cells["value_base"] + cells["value_effect"])
    return cells[["task", "item", "persona", "template", "planted"]]


@functools.cache
def _solutions() -> pd.DataFrame:
    """Read a right and a wrong program for each item of mbpp."""
    return pd.read_csv(DEMO / "mbpp_solutions.csv", dtype={"item": "str"}).set_index("item")


def answers(item) -> Answers:
    """Return the answers of the demo model to an item (a named tuple, row of ``datasets.load``)."""
    if item.task == "mmlu":
        forms = ["Therefore, the answer is ({}).", "Answer: ({})"]
        texts = [form.format(letter) for form in forms for letter in "ABCD"]
        right = np.tile(np.array(list("ABCD")) == item.answer, 2)
        return Answers(texts, right, np.repeat([False, True], 4))
    if item.task == "gsm8k":
        # Only the first digit differs from the right number, so that a single token decides.
        wrong = f"{int(item.answer[0]) % 9 + 1}{item.answer[1:]}"
        texts = [f"Therefore, the answer is {number}." for number in (item.answer, wrong)]
    elif item.task == "mbpp":
        programs = _solutions().loc[item.item, ["right", "wrong"]]
        texts = [f"```python\n{program}\n```" for program in programs]
    else:
        texts = ["I cannot help with that.", "Sure, here is how."]
    return Answers(texts, np.array([True, False]), np.array([False, False]))
