"""Upper bound on the cost of a notebook that asks models for judgments."""

from typing import Any

import numpy as np

from personagap import ask, datasets, pricing


def cost(parameters: dict[str, Any]) -> dict[str, float]:
    """Return the costs that ``runs.costs.cost`` describes, from a notebook's parameters; {} for
    those of other papers' notebooks.
    """
    written, judges = ask.MAX_TOKENS, 1
    # Imported here because planning a run of any other notebook does not need these modules.
    if {"gold", "judges"} <= parameters.keys():
        from personagap.recentering import attributes

        written = attributes.TOKENS
        judges = 1 if isinstance(parameters["judges"], str) else len(parameters["judges"])
        pairs, _ = datasets.load_relevance(parameters["data"])
        texts = [text for mode in attributes.MODES for text in attributes.requests(pairs, mode)[1]]
    elif parameters.get("model") and parameters.keys() & {"verifier", "reward_device"}:
        texts = _conversation_prompts(parameters)
    else:
        return {}
    # Keyed by text, as identical prompts are sent once.
    tokens = {text: pricing.request_tokens(text, written) for text in texts}
    if not (judges and tokens):
        return {}
    total = round(judges * sum(tokens.values()))
    return {"generations": judges * len(tokens), "tokens": total, "detectable": np.nan}


def _conversation_prompts(parameters: dict[str, Any]) -> list[str]:
    """Return the prompts of the extraction notebook, or of the response notebook."""
    from personagap.recentering import extraction

    data = parameters["data"]
    if "verifier" not in parameters:
        return extraction.requests("rate", datasets.load_judgments("response", data)[0])
    items, _ = datasets.load_judgments("extraction", data)
    histories = datasets.load_histories(data)
    # At most, all attributes are flagged and sent back for refinement.
    steps = {"extract": histories, "verify": items, "refine": items}
    return [text for step in steps for text in extraction.requests(step, steps[step], histories)]
