"""Where the three stages' simulated data lie, and what was planted in them."""

import pandas as pd

from personagap.paths import DEMO

FOLDER = DEMO / "recentering"


def planted_values(stage: str) -> pd.DataFrame:
    """Population values of a stage's simulated data: ``planted``, by ``quantity``, ``rater`` …"""
    return pd.read_csv(FOLDER / f"planted_{stage}.csv")
