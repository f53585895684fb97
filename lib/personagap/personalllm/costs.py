"""Upper bound on the cost of a notebook that shows users' examples to a model."""

from typing import Any

import numpy as np


def cost(parameters: dict[str, Any]) -> dict[str, float]:
    """Return the costs that ``runs.costs.cost`` describes, from a notebook's parameters.

    The dictionary is empty for a notebook without the parameters `planted`, `shots` and `users`.
    """
    if not {"planted", "shots", "users"} <= parameters.keys() or parameters["model"] == "simulated":
        return {}
    # Imported here because planning a run of any other notebook does not need it.
    from personagap.personalllm import adaptation

    if sizes := parameters.get("database_sizes"):
        cells = len(sizes) * (1 + len(adaptation.NEAR))
    else:
        # Without examples all arms send the same prompts, so zero shots is a single cell.
        arms, shots = len(adaptation.STRATEGIES) + len(adaptation.CONTROLS), {*parameters["shots"]}
        cells = (0 in shots) + arms * len(shots - {0})
    generations = parameters["users"] * cells * len({*parameters.get("templates", ["chat"])})
    # Tokens are unknown: most of a prompt is its examples, which have not been retrieved yet.
    return {"generations": generations, "tokens": np.nan, "detectable": np.nan}
