"""Who is asked: identities, controls, intersections with what they are held against; and how."""

from collections.abc import Sequence
from typing import NamedTuple

import pandas as pd

from personagap import personas
from personagap.ask import How
from personagap.models import Sampling

#: Those that are asked unless others are listed.
INTERSECTIONS = ["christian+republican", "hindu+middle_aged"]


class People(NamedTuple):
    """Tables of ``personas.select``: ``who`` is compared, ``group`` tells whether intersections
    (``crossed``, their names) add up: these, their parts, and the control.
    """

    who: pd.DataFrame
    group: pd.DataFrame
    crossed: list[str]

    @property
    def everybody(self) -> pd.DataFrame:
        """Each persona once: of a part that is in both tables the answers are the same."""
        return pd.concat([self.who, self.group]).drop_duplicates("persona")


def people(
    names: str | list[str] = "all",
    controls: bool | list[str] = True,
    intersections: Sequence[str] = (),
    identities: str | None = None,
) -> People:
    """The people of a design; arguments of ``personas.select``, and the intersections by persona or
    category.

    Examples
    --------
    >>> design = people("gender", intersections=["jewish+woman"])
    >>> [len(table) for table in design], len(design.everybody)
    ([7, 4, 1], 9)
    """
    if identities and list(intersections) == INTERSECTIONS:
        # The default is of the project's identities, which this file lacks.
        intersections = []
    who = personas.select(names, controls=controls, identities=identities)
    crossed = personas.select([*intersections], controls=False, identities=identities)["persona"]
    parts = crossed.str.split("+").explode()
    group = personas.select([*crossed, *parts], controls=["none"], identities=identities)
    return People(who, group, crossed.tolist())


def drawn(
    answers: str, runs: int, seed: int, top_k: int, templates: Sequence[str] = ("paper",)
) -> How:
    """How answers are drawn, by a notebook's parameters: arguments of ``ask`` and ``pricing``."""
    sampling = Sampling(top_k=top_k)
    return How(answers=answers, runs=runs, seed=seed, templates=templates, sampling=sampling)
