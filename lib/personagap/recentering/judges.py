"""Models as judges of relevance: which is better, and may one stand in for people?"""

from itertools import combinations
from typing import Unpack

import pandas as pd

from personagap import gap
from personagap.errors import UserError
from personagap.results import corrected

#: Share of people's labels from which, with a model's on all pairs, their mean is estimated.
FEW = 0.25


def _models(judgments: pd.DataFrame) -> list[str]:
    models = judgments.loc[judgments["rater_kind"] == "model", "rater"].unique().tolist()
    if not models:
        raise UserError("no judgments of rater_kind 'model' to hold against the people: add some")
    return models


def compare(judgments: pd.DataFrame, gold: str, **how: Unpack[gap.How]) -> pd.DataFrame:
    """``gap.paired_difference`` of every two models, and of each and yes to everything;
    ``p_adjusted`` corrects over those of one metric.
    """
    models = _models(judgments)
    # Yes to everything has a higher F1 than a published baseline: who does not beat it knows
    # nothing (R5).
    pairs = [*combinations(models, 2), *((model, "select_all") for model in models)]
    tables = [gap.paired_difference(judgments, a, b, gold, **how) for a, b in pairs]
    return corrected(pd.concat(tables), ["metric"])


def list_wise(paired: pd.DataFrame) -> pd.DataFrame:
    """Of `compare`, each model beside itself with all attributes on a page, as for people (R3)."""
    sides = (contrast.split(" − ") for contrast in paired["contrast"])
    return paired.loc[[other == f"{single}_list" for single, other in sides]]


def stand_in(
    judgments: pd.DataFrame, gold: str, **how: Unpack[gap.How]
) -> tuple[pd.DataFrame | None, pd.DataFrame | None, pd.DataFrame]:
    """Whether a model may replace one of the people, what models get right of the truth behind
    people who err, and what few labels of people are worth beside a model's.

    ``gap.alternative_annotator_test`` (None with one person), ``gap.latent_truth`` (None with
    fewer than three: two who disagree do not tell who errs), and of each model
    ``gap.prediction_powered_mean``, with the share `FEW` of the labels of ``gold``.
    """
    people = gap.tables.individuals(judgments)
    people = people.loc[people["rater_kind"] == "human", "rater"].nunique()
    replacement = gap.alternative_annotator_test(judgments, **how) if people > 1 else None
    latent = gap.latent_truth(judgments, **how) if people > 2 else None
    # The same labels for every model, so that these can be compared.
    few = judgments[judgments["rater"] == gold].sample(frac=FEW, random_state=how.get("seed", 0))
    worth = []
    for model in _models(judgments):
        known = pd.concat([few, judgments[judgments["rater"] == model]])
        worth.append(gap.prediction_powered_mean(known, model, gold=gold, **how))
    return replacement, latent, pd.concat(worth, ignore_index=True)
