"""Upper bounds of a run's costs before its model is loaded, and its statistical power."""

from personagap import prompts
from personagap.papers import PAPERS, module_of
from personagap.runs.request import Request

#: Parameters that determine how fast requests are answered, and the fewest requests from which the
#: speed is estimated.
SPEED_PARAMETERS, MIN_REQUESTS = ("model", "checkpoints", "answers", "dtype", "device"), 100


def cost(request: Request) -> dict[str, float]:
    """Return the maximal costs of a run that asks a model, and its power.

    A notebook that asks no model has no costs, {}. The experiment is recognised by its parameters,
    so a copy of a notebook has costs too. They are ``generations`` (by likelihood, forward passes);
    ``tokens``, the most that are read and written (every answer as long as allowed; unknown before
    items are fetched from the Hub, whose numbers are taken from arXiv 2406.11107, or before
    examples are found); and ``detectable``, the difference between an identity and the control, in
    points, that a two-sided 5 % test finds with 80 % power in the task with the fewest items:
    ``100 (1.960 + 0.842) sqrt(2 p (1 - p) / n)`` at p = 1/2. That is the worst case for one
    identity: pairing by item and further runs help. It is NaN for answers by likelihood, and for
    experiments that do not compare identities.

    The package of each paper has a function ``costs.cost(parameters)`` for its own experiments, if
    they ask a model.
    """
    before, folder = prompts.folder(), request.parameters.get("prompts")
    # The notebook will use these prompts.
    prompts.use(request.cwd / folder if folder else None)
    own_paper = request.notebook.resolve().parent.name
    try:
        # The notebook's own paper comes first: others may use the same names of parameters.
        for paper in sorted(PAPERS, key=lambda paper: paper != own_paper):
            module = module_of(paper, "costs")
            if module and (costs := module.cost(request.parameters)):
                return costs
        return {}
    finally:
        prompts.use(before)


def expected_time(request: Request, generations: float, runs: list[dict]) -> dict[str, float | str]:
    """Return the expected ``seconds`` of the requests, and the earlier run with the ``pace``.

    That is the latest of ``runs`` (from `folder.runs`) in which the same model answered in the same
    way; without one, the result is {}.
    """
    # A run of an earlier version may lack a parameter that is new.
    settings = [request.parameters.get(name, "auto") for name in SPEED_PARAMETERS]
    for facts in runs:
        same = settings == [facts["parameters"].get(name, "auto") for name in SPEED_PARAMETERS]
        # With few requests, overhead dominates the time.
        if same and facts.get("asked", 0) >= MIN_REQUESTS and facts.get("asking_seconds"):
            seconds_per_request = facts["asking_seconds"] / facts["asked"]
            return {"seconds": generations * seconds_per_request, "pace": facts["id"]}
    return {}
