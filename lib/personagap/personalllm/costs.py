"""What a notebook that shows users' examples to a model costs at most, told by its parameters."""

from typing import Any

import numpy as np


def cost(asked: dict[str, Any]) -> dict[str, float]:
    """As of ``runs.costs.cost``; {} for other parameters than `planted`, `shots`, `users`."""
    if not {"planted", "shots", "users"} <= asked.keys() or asked["model"] == "simulated":
        return {}
    # Here: a plan of other notebooks does without what this imports.
    from personagap.personalllm import adaptation

    if sizes := asked.get("database_sizes"):
        cells = len(sizes) * (1 + len(adaptation.NEAR))
    else:
        # Without an example all arms are alike, and asked once.
        arms, shots = len(adaptation.STRATEGIES) + len(adaptation.CONTROLS), {*asked["shots"]}
        cells = (0 in shots) + arms * len(shots - {0})
    generations = asked["users"] * cells * len({*asked.get("templates", ["chat"])})
    # The length of a prompt is that of its examples, which are yet to be found.
    return {"generations": generations, "tokens": np.nan, "detectable": np.nan}
