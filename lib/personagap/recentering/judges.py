"""Models as judges of relevance: which one is better, and whether one may replace people."""

from itertools import combinations
from typing import Unpack

import pandas as pd

from personagap import gap
from personagap.errors import UserError
from personagap.results import add_holm

#: Share of people's labels that `replacement` uses, with a model's labels of all pairs, to estimate
#: the mean of people's labels.
FEW_LABELS = 0.25


def _models(judgments: pd.DataFrame) -> list[str]:
    models = judgments.loc[judgments["rater_kind"] == "model", "rater"].unique().tolist()
    if not models:
        raise UserError("no judgments of rater_kind 'model' to hold against the people: add some")
    return models


def compare(judgments: pd.DataFrame, gold: str, **how: Unpack[gap.How]) -> pd.DataFrame:
    """Compute ``gap.paired_difference`` of every two models, and of each model and saying yes to
    everything; ``p_adjusted`` corrects over the differences of one metric.
    """
    models = _models(judgments)
    # Saying yes to everything has a higher F1 than a published baseline, so a model that does not
    # beat it is of no use (R5).
    pairs = [*combinations(models, 2), *((model, "select_all") for model in models)]
    tables = [gap.paired_difference(judgments, a, b, gold, **how) for a, b in pairs]
    return add_holm(pd.concat(tables), ["metric"])


def list_wise(paired: pd.DataFrame) -> pd.DataFrame:
    """Select from `compare` the contrasts of each model with itself when it sees all attributes on
    one page, as people did (R3).
    """
    sides = (contrast.split(" − ") for contrast in paired["contrast"])
    return paired.loc[[b == f"{a}_list" for a, b in sides]]


def replacement(
    judgments: pd.DataFrame, gold: str, **how: Unpack[gap.How]
) -> tuple[pd.DataFrame | None, pd.DataFrame | None, pd.DataFrame]:
    """Evaluate models as replacements of people.

    Returns
    -------
    replacement : ``gap.alternative_annotator_test``, whether a model may replace one of the people;
        None with a single person.
    latent : ``gap.latent_truth``, the accuracy of models against the truth behind people who err;
        None with fewer than three people, as two who disagree do not show who errs.
    few_labels : ``gap.prediction_powered_mean`` of each model, what a few labels of people are
        worth beside those of the model, with the share `FEW_LABELS` of the labels of ``gold``.
    """
    people = (
        gap.tables.without_majority(judgments).query("rater_kind == 'human'")["rater"].nunique()
    )
    replacement = gap.alternative_annotator_test(judgments, **how) if people > 1 else None
    latent = gap.latent_truth(judgments, **how) if people > 2 else None
    # The same labels for every model, so that the models can be compared.
    few = judgments[judgments["rater"] == gold]
    few = few.sample(frac=FEW_LABELS, random_state=how.get("seed", 0))
    few_labels = []
    for model in _models(judgments):
        both = pd.concat([few, judgments[judgments["rater"] == model]])
        few_labels.append(gap.prediction_powered_mean(both, model, gold=gold, **how))
    return replacement, latent, pd.concat(few_labels, ignore_index=True)
