"""What a notebook that asks on behalf of identities costs at most, told by its parameters."""

import contextlib
import io
from typing import Any

import numpy as np
import pandas as pd

from personagap import datasets, pricing, tasks
from personagap.errors import at_least
from personagap.safety_utility import defences, design

#: Arguments of ``datasets.load`` that a notebook may have as parameters.
ITEMS = ("data", "items_per_task", "seed", "answers")


def cost(asked: dict[str, Any]) -> dict[str, float]:
    """As of ``runs.costs.cost``; {} for other parameters than `personas`, `tasks`, `runs`."""
    if not {"personas", "tasks", "runs"} <= asked.keys():
        return {}
    at_least(1, runs=asked["runs"])
    if (limit := asked.get("items_per_task")) is not None:
        at_least(1, items_per_task=limit)
    names = {"controls": True, "intersections": [], "identities": None}
    others = (asked.get(name, default) for name, default in names.items())
    people = design.people(asked["personas"], *others)
    conditions = len(asked.get("checkpoints", ["one"])) + len(asked.get("dpo", []))
    if "defences" in asked:
        conditions += len(defences.select(asked["defences"]))
    weighed = asked.get("answers") == "likelihood"
    # By likelihood every run would say the same: a prompt is one forward pass, nothing is written.
    runs = 1 if weighed else asked["runs"]
    phrasings = len(asked.get("templates", ["paper"]))
    askings = conditions * len(people.everybody) * phrasings * runs
    if asked["data"] == "hub":
        # Nothing is downloaded to tell a price: sizes are those of the paper, lengths unknown.
        there = [task for task in tasks.select(asked["tasks"]) if task.hub]
        chosen = [task for task in there if task.choices or not weighed]
        sizes = pd.Series({task.name: task.n_items for task in chosen}).clip(upper=limit)
        tokens = np.nan
    else:
        # What it says of absent tasks, the run itself will say.
        with contextlib.redirect_stdout(io.StringIO()):
            given = {name: asked[name] for name in ITEMS if name in asked}
            items = datasets.load(asked["tasks"], **given)
        sizes = items["task"].value_counts()
        each = pricing.tokens(items, asked.get("answers", "generate"))
        tokens = round(askings * sum(each.values()))
    # Of an answer that is right or wrong; how far likelihoods vary is known once they are had
    # (``effects.detectable``).
    detectable = np.nan if weighed else round(100 * (1.960 + 0.842) * (0.5 / sizes.min()) ** 0.5, 1)
    return {"generations": askings * int(sizes.sum()), "tokens": tokens, "detectable": detectable}
