"""Upper bound of what a notebook on personas costs, computed from its parameters."""

import contextlib
import io
from typing import Any

import numpy as np
import pandas as pd

from personagap import datasets, pricing, tasks
from personagap.errors import require_at_least
from personagap.safety_utility import defences, design

#: Arguments of ``datasets.load`` that may be parameters of a notebook.
ITEMS = ("data", "items_per_task", "seed", "answers")


def cost(parameters: dict[str, Any]) -> dict[str, float]:
    """Return the cost like ``runs.costs.cost``; {} without the parameters `personas tasks runs`."""
    if not {"personas", "tasks", "runs"} <= parameters.keys():
        return {}
    require_at_least(1, runs=parameters["runs"])
    if (limit := parameters.get("items_per_task")) is not None:
        require_at_least(1, items_per_task=limit)
    names = {"controls": True, "intersections": [], "identities": None}
    options = (parameters.get(name, default) for name, default in names.items())
    people = design.people(parameters["personas"], *options)
    conditions = len(parameters.get("checkpoints", ["one"])) + len(parameters.get("dpo", []))
    if "defences" in parameters:
        conditions += len(defences.select(parameters["defences"]))
    by_likelihood = parameters.get("answers") == "likelihood"
    # Likelihoods are the same in every run: a prompt is one forward pass, nothing is generated.
    runs = 1 if by_likelihood else parameters["runs"]
    n_templates = len(parameters.get("templates", ["paper"]))
    per_item = conditions * len(people.everybody) * n_templates * runs
    if parameters["data"] == "hub":
        # Estimating a cost must not download data: sizes are those of the paper, lengths unknown.
        on_hub = [task for task in tasks.select(parameters["tasks"]) if task.hub]
        included = [task for task in on_hub if task.choices or not by_likelihood]
        sizes = pd.Series({task.name: task.n_items for task in included}).clip(upper=limit)
        tokens = np.nan
    else:
        # Messages about missing tasks are suppressed here: the run itself will print them.
        with contextlib.redirect_stdout(io.StringIO()):
            arguments = {name: parameters[name] for name in ITEMS if name in parameters}
            items = datasets.load(parameters["tasks"], **arguments)
        sizes = items["task"].value_counts()
        tokens_per_pass = pricing.tokens(items, parameters.get("answers", "generate"))
        tokens = round(per_item * sum(tokens_per_pass.values()))
    # Smallest detectable difference, in points, of answers that are right or wrong. The variance of
    # likelihoods is known only afterwards (``effects.detectable``).
    standard_error = (0.5 / sizes.min()) ** 0.5
    detectable = np.nan if by_likelihood else round(100 * (1.960 + 0.842) * standard_error, 1)
    return {"generations": per_item * int(sizes.sum()), "tokens": tokens, "detectable": detectable}
