"""The model that serves a study's users, real or simulated, and how its answers are judged."""

from collections.abc import Callable

from personagap.demo.personalllm import score
from personagap.demo.selector import PLANTED, Selector
from personagap.errors import UserError
from personagap.models import Model, load_model
from personagap.personalllm.adaptation.icl import Study
from personagap.personalllm.adaptation.outcomes import by_generation, by_selection, reward_models
from personagap.responses import ResponseStore


def open_model(
    model: str,
    planted: str,
    study: Study,
    evaluation: str = "select",
    data: str = "demo",
    device: str = "auto",
) -> tuple[object, Callable]:
    """Who serves the study's users, and how: a model, and what ``serve`` takes as ``respond``.

    Parameters
    ----------
    model : "simulated" (`Selector` with what is ``planted``), or that of ``models.load_model``,
        whose answers are kept.
    evaluation : "select" among the stored responses, or "generate" and score: with the demo's
        rewards if ``data`` is the demo, else with the reward models.
    """
    for name, value, known in (
        ("planted", planted, PLANTED),
        ("evaluation", evaluation, ("select", "generate")),
    ):
        if value not in known:
            raise UserError(f"{name} is {value!r}: choose from {', '.join(known)}")
    simulated = model == "simulated"
    lm: Model = Selector(planted, study.responses, study.rewards) if simulated else load_model(model, device=device)
    store = None if simulated else ResponseStore(lm.id)
    if evaluation == "select":
        return lm, by_selection(study, store)
    return lm, by_generation(study, score if data == "demo" else reward_models(study, device))
