"""What a run costs at most, told before its model is loaded, and what that buys."""

from personagap import prompts
from personagap.published import PAPERS, module_of
from personagap.runs.request import Request

#: Parameters that decide how fast requests are answered, and the fewest requests that tell how
#: fast.
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

    Each paper says it of its own experiments: ``costs.cost(parameters)`` in its package, if it has
    one.
    """
    before, folder = prompts.folder(), request.parameters.get("prompts")
    # As the notebook will.
    prompts.use(request.cwd / folder if folder else None)
    own = request.notebook.resolve().parent.name
    try:
        # The notebook's own paper first: another may have parameters of the same names.
        for paper in sorted(PAPERS, key=lambda paper: paper != own):
            costs = module_of(paper, "costs")
            if costs and (priced := costs.cost(request.parameters)):
                return priced
        return {}
    finally:
        prompts.use(before)


def expected(request: Request, generations: float, earlier: list[dict]) -> dict[str, float | str]:
    """How many ``seconds`` so many requests take at the ``pace`` of the latest of ``earlier`` runs
    (of `folder.runs`) in which the same model answered in the same way; {} without one.
    """
    asked = [request.parameters.get(name, "auto") for name in ALIKE]
    for facts in earlier:
        # A run of an earlier version lacks a parameter that came since.
        alike = asked == [facts["parameters"].get(name, "auto") for name in ALIKE]
        # Of few requests most of the time is not asking.
        if alike and facts.get("asked", 0) >= MEASURED and facts.get("asking_seconds"):
            each = facts["asking_seconds"] / facts["asked"]
            return {"seconds": generations * each, "pace": facts["id"]}
    return {}
