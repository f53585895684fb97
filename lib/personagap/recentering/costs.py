"""What a notebook that asks models for judgments costs at most, told by its parameters."""

from typing import Any

import numpy as np

from personagap import ask, datasets, pricing


def cost(asked: dict[str, Any]) -> dict[str, float]:
    """As of ``runs.costs.cost``; {} for the parameters of no notebook of this paper."""
    written, judges = ask.WRITTEN, 1
    # Imports here: a plan of other notebooks does without them.
    if {"gold", "judges"} <= asked.keys():
        from personagap.recentering import attributes

        written = attributes.TOKENS
        judges = 1 if isinstance(asked["judges"], str) else len(asked["judges"])
        pairs, _ = datasets.load_relevance(asked["data"])
        texts = [text for mode in attributes.MODES for text in attributes.pages_of(pairs, mode)[1]]
    elif asked.get("model") and asked.keys() & {"verifier", "reward_device"}:
        texts = _of_conversations(asked)
    else:
        return {}
    # Prompts that are alike are asked once.
    tokens = {text: pricing.length(text, written) for text in texts}
    if not (judges and tokens):
        return {}
    total = round(judges * sum(tokens.values()))
    return {"generations": judges * len(tokens), "tokens": total, "detectable": np.nan}


def _of_conversations(asked: dict[str, Any]) -> list[str]:
    from personagap.recentering import extraction

    if "verifier" not in asked:
        return extraction.asked("rate", datasets.load_judgments("response", asked["data"])[0])
    items, _ = datasets.load_judgments("extraction", asked["data"])
    histories = datasets.load_histories(asked["data"])
    # At most all are flagged, and sent back.
    steps = {"extract": histories, "verify": items, "refine": items}
    return [text for step in steps for text in extraction.asked(step, steps[step], histories)]
