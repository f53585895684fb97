"""Planted values of the simulated data of the three stages of arXiv 2606.06614.

``data/demo/build/make_{extraction,relevance,responses}.py`` drew the data and computed these
values.
"""

import pandas as pd

from personagap.paths import DEMO
from personagap.results import with_reference

FOLDER = DEMO / "recentering"


def planted(stage: str) -> pd.DataFrame:
    """Read the population values of a stage: ``planted``, by ``quantity`` or ``rater metric``."""
    return pd.read_csv(FOLDER / f"planted_{stage}.csv")


def truth(stage: str, *estimates: pd.DataFrame | None) -> pd.DataFrame:
    """Compare planted with estimated values of "relevance" or "response", by
    ``results.with_reference``.

    ``estimates`` are results of ``gap`` by ``rater`` or, for agreement, by ``pair``; None is
    ignored. Raters of ``latent_truth`` are named "… (latent)". Of ``alternative_annotator_test``
    only the rows of all annotators together are used.
    """
    measured = pd.concat(estimates, ignore_index=True)
    measured = measured.reindex(columns=[*dict.fromkeys([*measured, "pair", "truth", "annotator"])])
    measured["rater"] = measured["rater"].fillna(measured["pair"])
    latent = measured["truth"] == "latent"
    measured["rater"] = measured["rater"].mask(latent, measured["rater"] + " (latent)")
    all_annotators = measured["annotator"].isna() | (measured["annotator"] == "all")
    measured = measured[(latent | measured["truth"].isna()) & all_annotators]
    return with_reference(measured, planted(stage), ["rater", "metric"])
