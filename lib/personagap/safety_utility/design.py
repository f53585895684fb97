"""The design of an experiment: who is asked (identities, controls, intersections), and how."""

from collections.abc import Sequence
from typing import NamedTuple

import pandas as pd

from personagap import personas
from personagap.ask import How
from personagap.models import Sampling

#: The intersections included by default.
INTERSECTIONS = ["christian+republican", "hindu+middle_aged"]


class People(NamedTuple):
    """The personas of a design, as tables of ``personas.select``.

    Attributes
    ----------
    who : the personas that are compared.
    group : the intersections, their parts and the control, to test whether effects add up.
    crossed : the names of the intersections.
    """

    who: pd.DataFrame
    group: pd.DataFrame
    crossed: list[str]

    @property
    def everybody(self) -> pd.DataFrame:
        """Each persona once: a part in both tables needs to be asked only once."""
        return pd.concat([self.who, self.group]).drop_duplicates("persona")


def people(
    names: str | list[str] = "all",
    controls: bool | list[str] = True,
    intersections: Sequence[str] = (),
    identities: str | None = None,
) -> People:
    """Select the personas of a design.

    Takes the arguments of ``personas.select``, and ``intersections`` by persona or category.

    Examples
    --------
    >>> design = people("gender", intersections=["jewish+woman"])
    >>> [len(table) for table in design], len(design.everybody)
    ([7, 4, 1], 9)
    """
    if identities and list(intersections) == INTERSECTIONS:
        # The default intersections are of the project's identities, which a user's file lacks.
        intersections = []
    who = personas.select(names, controls=controls, identities=identities)
    crossed = personas.select([*intersections], controls=False, identities=identities)["persona"]
    parts = crossed.str.split("+").explode()
    group = personas.select([*crossed, *parts], controls=["none"], identities=identities)
    return People(who, group, crossed.tolist())


def drawn(
    answers: str, runs: int, seed: int, top_k: int, templates: Sequence[str] = ("paper",)
) -> How:
    """Return how answers are drawn, as keyword arguments of ``ask`` and ``pricing``."""
    sampling = Sampling(top_k=top_k)
    return How(answers=answers, runs=runs, seed=seed, templates=templates, sampling=sampling)
