"""What a run costs at most, told before its model is loaded, and what that buys."""

import contextlib
import io

import numpy as np
import pandas as pd

from personagap import ask, datasets, personas, pricing, prompts, tasks
from personagap.errors import at_least
from personagap.runs.request import Request
from personagap.safety_utility import defences

#: Parameters that decide how fast requests are answered, and the
#: fewest requests that tell how fast.
ALIKE, MEASURED = ("model", "checkpoints", "answers", "dtype", "device"), 100


def cost(request: Request) -> dict[str, float]:
    """What a run that asks a model costs at most, and what that buys.

    {} for a notebook that asks no model; which experiment it is, its parameters tell, so a copy is
    priced as well. Else ``generations`` (by likelihood, forward passes); ``tokens``, read and
    written, at most (every answer as long as allowed; not known before items are fetched from the
    Hub, whose numbers are taken to be those of arXiv 2406.11107, or before examples are found); and
    ``detectable``, the difference between an identity and the control, in points, that a two-sided
    5 % test finds with 80 % power in the task with the fewest items: ``100 (1.960 + 0.842) sqrt(2 p
    (1 - p) / n)`` at p = 1/2. That is the worst case for one identity: pairing by item and further
    runs help. It is NaN for answers by likelihood, and where it is not identities that are
    compared.
    """
    before, folder = prompts.folder(), request.parameters.get("prompts")
    prompts.use(request.cwd / folder if folder else None)  # as the notebook will
    try:
        return _cost(request)
    finally:
        prompts.use(before)


def _cost(request: Request) -> dict[str, float]:
    asked = request.parameters
    if {"personas", "tasks", "runs"} <= asked.keys():
        return _of_identities(request)
    if {"planted", "shots", "users"} <= asked.keys():
        return _of_examples(asked)
    if any(
        names <= asked.keys()
        for names in ({"gold", "judges"}, {"model", "verifier"}, {"model", "reward_device"})
    ):
        return _of_judgments(asked)
    return {}


def expected(request: Request, generations: float, earlier: list[dict]) -> dict[str, float | str]:
    """How many ``seconds`` so many requests take at the ``pace`` of the latest of ``earlier`` runs
    (of `folder.runs`) in which the same model answered in the same way; {} without one.
    """
    asked = [request.parameters.get(name, "auto") for name in ALIKE]
    for facts in earlier:
        # A run of an earlier version lacks a parameter that came since.
        alike = asked == [facts["parameters"].get(name, "auto") for name in ALIKE]
        if alike and facts.get("asked", 0) >= MEASURED and facts.get("asking_seconds"):
            return {
                "seconds": generations * facts["asking_seconds"] / facts["asked"],
                "pace": facts["id"],
            }
    return {}


def _of_judgments(asked: dict) -> dict[str, float]:
    """Of the notebooks of ``recentering``."""
    from personagap.recentering import attributes, extraction

    data, written, judges = asked["data"], ask.WRITTEN, 1
    if "judges" in asked:
        pairs, _ = datasets.load_relevance(data)
        texts = [text for mode in attributes.MODES for text in attributes.pages_of(pairs, mode)[1]]
        written, judges = (
            attributes.TOKENS,
            1 if isinstance(asked["judges"], str) else len(asked["judges"]),
        )
    elif not asked["model"]:
        texts = []
    elif "verifier" in asked:
        items, histories = (
            datasets.load_judgments("extraction", data)[0],
            datasets.load_histories(data),
        )
        # At most all are flagged, and sent back.
        steps = {"extract": histories, "verify": items, "refine": items}
        texts = [
            text
            for step, table in steps.items()
            for text in extraction.asked(step, table, histories)
        ]
    else:
        texts = extraction.asked("rate", datasets.load_judgments("response", data)[0])
    # Those that are alike are asked once.
    tokens = {text: pricing.length(text, written) for text in texts}
    priced = {
        "generations": judges * len(tokens),
        "tokens": round(judges * sum(tokens.values())),
        "detectable": np.nan,
    }
    return priced if judges and tokens else {}


def _of_examples(asked: dict) -> dict[str, float]:
    """Of the notebooks of ``personalllm`` that show examples to a model."""
    from personagap.personalllm import adaptation

    if asked["model"] == "simulated":
        return {}
    sizes, shots, templates = (
        asked.get("database_sizes"),
        asked["shots"],
        asked.get("templates", ["chat"]),
    )
    arms = len(adaptation.NEAR if sizes else (*adaptation.STRATEGIES, *adaptation.CONTROLS))
    cells = len(sizes) * (1 + arms) if sizes else (0 in shots) + arms * len({*shots} - {0})
    return {
        "generations": asked["users"] * cells * len({*templates}),
        "tokens": np.nan,
        "detectable": np.nan,
    }


def _of_identities(request: Request) -> dict[str, float]:
    """Of the notebooks of ``safety_utility``."""
    asked = request.parameters
    at_least(1, runs=asked["runs"])
    if (limit := asked.get("items_per_task")) is not None:
        at_least(1, items_per_task=limit)
    names = [asked["personas"]] if isinstance(asked["personas"], str) else asked["personas"]
    identities = asked.get("identities")
    # Those of the default are of the project's identities.
    crossed = (
        []
        if identities and "intersections" not in request.changed
        else asked.get("intersections", [])
    )
    parts = [part for name in crossed for part in name.split("+")]
    who = personas.select(
        [*names, *parts, *crossed], controls=asked.get("controls", True), identities=identities
    )
    conditions = len(asked.get("checkpoints", ["one"])) + len(asked.get("dpo", []))
    if "defences" in asked:
        conditions += len(defences.select(asked["defences"]))
    weighed = asked.get("answers") == "likelihood"  # one forward pass a prompt, nothing written
    askings = (
        conditions
        * len(who)
        * len(asked.get("templates", ["paper"]))
        * (1 if weighed else asked["runs"])
    )
    if asked["data"] == "hub":
        chosen = [task for task in tasks.select(asked["tasks"]) if task.choices or not weighed]
        sizes = pd.Series({task.name: task.n_items for task in chosen}).clip(upper=limit)
        tokens = np.nan
    else:
        options = {
            name: asked[name]
            for name in ("data", "items_per_task", "seed", "answers")
            if name in asked
        }
        # It says which tasks are absent; so will the run.
        with contextlib.redirect_stdout(io.StringIO()):
            items = datasets.load(asked["tasks"], **options)
        sizes = items["task"].value_counts()
        tokens = round(
            askings * sum(pricing.tokens(items, asked.get("answers", "generate")).values())
        )
    # Of an answer that is right or wrong; how far likelihoods vary is known
    # once they are had (``effects.detectable``).
    detectable = np.nan if weighed else round(100 * (1.960 + 0.842) * (0.5 / sizes.min()) ** 0.5, 1)
    return {"generations": askings * int(sizes.sum()), "tokens": tokens, "detectable": detectable}
