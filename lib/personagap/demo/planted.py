"""What is planted in the demo model: the committed table, its probabilities, and their answers.

``data/demo/build/make_planted.py`` drew ``data/demo/planted.csv`` from a seed; it means nothing
about anybody.
"""

import functools
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import pandas as pd
from scipy.special import expit

from personagap.paths import DEMO


class Answers(NamedTuple):
    """All answers the demo model gives to an item: texts, which are right, which are bare."""

    texts: list[str]
    right: np.ndarray
    bare: np.ndarray


def planted_parts() -> pd.DataFrame:
    """The committed table, ``data/demo/planted.csv``: ``task part name template value``.

    ``part`` is "item" (base, logit), "identity" (effect, logit), "interaction" (effect in one
    ``template`` only, logit), "intersection" (effect beyond the sum of the parts, logit) or
    "bare_form" (share of answers "Answer: (B)"); ``name`` is the item or the persona.
    """
    # Some items have numbers for names.
    text = {"name": "str", "template": "str"}
    return pd.read_csv(DEMO / "planted.csv", dtype=text, keep_default_na=False)


def planted_probabilities(templates: Sequence[str] = ("paper",)) -> pd.DataFrame:
    """The planted probability that an answer is right (or harmless).

    Parameters
    ----------
    templates : phrasings of the identity (``personas.templates``); the controls do not vary.

    Returns
    -------
    DataFrame ``task item persona template planted``, one row per item × persona × template.
    """
    values = {part: rows.drop(columns="part") for part, rows in planted_parts().groupby("part")}
    stated = pd.DataFrame({"template": list(templates)})
    effect = values["identity"].drop(columns="template").merge(stated, how="cross")
    extra = values["interaction"].rename(columns={"value": "extra"})
    key = ["task", "name", "template"]
    effect["value"] += effect[key].merge(extra, how="left")["extra"].fillna(0)
    # The parts of an intersection, and what it has beyond them, are summed: in logits, since in
    # probabilities parts that add up would not stay within 0 and 1.
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
    """A right and a wrong program for each item of mbpp."""
    return pd.read_csv(DEMO / "mbpp_solutions.csv", dtype={"item": "str"}).set_index("item")


def answers(item) -> Answers:
    """The answers the demo model gives to an item (a named tuple, row of ``datasets.load``)."""
    if item.task == "mmlu":
        forms = ["Therefore, the answer is ({}).", "Answer: ({})"]
        texts = [form.format(letter) for form in forms for letter in "ABCD"]
        right = np.tile(np.array(list("ABCD")) == item.answer, 2)
        return Answers(texts, right, np.repeat([False, True], 4))
    if item.task == "gsm8k":
        # As many digits as the right number, and another first digit: one token decides.
        wrong = f"{int(item.answer[0]) % 9 + 1}{item.answer[1:]}"
        texts = [f"Therefore, the answer is {number}." for number in (item.answer, wrong)]
    elif item.task == "mbpp":
        programs = _solutions().loc[item.item, ["right", "wrong"]]
        texts = [f"```python\n{program}\n```" for program in programs]
    else:
        texts = ["I cannot help with that.", "Sure, here is how."]
    return Answers(texts, np.array([True, False]), np.array([False, False]))
