"""What was planted in the simulated data of the three stages of arXiv 2606.06614.

``data/demo/build/make_{extraction,relevance,responses}.py`` drew the data and computed these
values.
"""

import pandas as pd

from personagap.paths import DEMO
from personagap.results import beside

FOLDER = DEMO / "recentering"


def planted(stage: str) -> pd.DataFrame:
    """Population values of a stage: ``planted``, by
    ``quantity``, or by ``rater`` and ``metric``.
    """
    return pd.read_csv(FOLDER / f"planted_{stage}.csv")


def truth(stage: str, *estimates: pd.DataFrame | None) -> pd.DataFrame:
    """Planted beside estimated values, see ``results.beside``, of "relevance" or "response".

    ``estimates`` are results of ``gap`` by ``rater`` or, of agreement, by ``pair``; None where
    there is none. Of ``latent_truth`` the raters are called "… (latent)"; of
    ``alternative_annotator_test`` all people count, not each.
    """
    measured = pd.concat(estimates, ignore_index=True)
    measured = measured.reindex(columns=[*dict.fromkeys([*measured, "pair", "truth", "annotator"])])
    measured["rater"] = measured["rater"].fillna(measured["pair"])
    latent = measured["truth"] == "latent"
    measured["rater"] = measured["rater"].mask(latent, measured["rater"] + " (latent)")
    everybody = measured["annotator"].isna() | (measured["annotator"] == "all")
    measured = measured[(latent | measured["truth"].isna()) & everybody]
    return beside(measured, planted(stage), ["rater", "metric"])
