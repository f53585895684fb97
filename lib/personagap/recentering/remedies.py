"""What becomes of attributes that do not hold, by strategy, and what that costs in substance."""

from typing import Unpack

import numpy as np
import pandas as pd
from scipy.stats import rankdata

from personagap import gap
from personagap.embeddings import embed
from personagap.recentering.extraction import SAME, join_histories

HEDGES = r"\b(?:may|might|could|likely|possibly|possible|perhaps|probably|maybe|seems?)\b"
HEDGE = "It is possible that "


def profiles(
    items: pd.DataFrame, refined: pd.Series, histories: pd.DataFrame, embeddings: str | None = None
) -> pd.DataFrame:
    """What becomes of flagged attributes, those in ``refined``, and what profiles still say (R14).

    "hedge flagged" puts "It is possible that" before them: no remedy, but a control that shows what
    a measure of acceptance alone rewards.

    DataFrame ``strategy user item attribute`` (None: dropped) ``hedged identifies covered``.
    ``hedged``: it has a word like "might"; ``identifies``: share of other users whose history it
    fits less well than its own user's (0.5 is chance); ``covered``: something in the new profile is
    alike (cosine ``SAME``) to the original.
    """
    old, flagged = items["attribute"].astype(object), items.index.isin(refined.index)
    changes = {
        "as extracted": old,
        "drop flagged": None,
        "hedge flagged": HEDGE + _in_mid_sentence(old),
        "refine flagged": refined,
    }
    # All embedded together, or terms would weigh differently in histories and in attributes.
    texts = join_histories(histories, items["user"], "\n")
    own, tables = texts.index.get_indexer(items["user"]), []
    for strategy, change in changes.items():
        new = old.mask(flagged, change)
        kept = new.notna()
        vectors = embed([*texts, *old, *new.fillna("")], embeddings)
        history, before, after = np.split(vectors, [len(texts), len(texts) + len(old)])
        # A statement that holds of anybody fits the user's history no better than those of others.
        fit = rankdata(after @ history.T, axis=1)[np.arange(len(own)), own]
        # Of the same user: what another's profile covers is no comfort.
        alike = (before @ after.T >= SAME) & (own[:, None] == own) & kept.to_numpy()
        table = items[["user", "item"]].assign(strategy=strategy, attribute=new)
        # Of capitals the first alone is lowered: "Perhaps …" is a hedge, "in May" is none.
        table["hedged"] = _in_mid_sentence(new).str.contains(HEDGES).where(kept).astype(float)
        table["identifies"] = pd.Series((fit - 1) / (len(texts) - 1), new.index).where(kept)
        table["covered"] = alike.any(axis=1)
        tables.append(table)
    return pd.concat(tables, ignore_index=True)


def compare(
    profiles: pd.DataFrame,
    judgments: pd.DataFrame,
    anew: pd.DataFrame | None = None,
    **how: Unpack[gap.How],
) -> pd.DataFrame:
    """What each strategy gains and what it costs: `results` with the key ``strategy``, shares.

    Parameters
    ----------
    profiles : of `profiles`.
    judgments : of people, ``user item label``, of what was extracted.
    anew : of people, ``strategy user item label``, of what became of it; a strategy nobody judged
        has no acceptance.

    Returns
    -------
    ``accepted`` (judgments of what is kept), ``useful`` (of *all* originals: now accepted by most,
    and unhedged), ``covered`` (of the originals that most accepted), ``identifies``, ``hedged`` and
    ``kept``. What was extracted covers and keeps itself by definition: an interval of width 0.
    """
    key = ["strategy", "user", "item"]
    said = pd.concat([judgments.assign(strategy="as extracted"), anew])
    share = said.assign(accepted=said["label"] == "accepted").groupby(key)["accepted"].mean()
    table = profiles.join(share, on=key)
    # Of all originals, so that dropping the doubtful ones costs what it gains (R14).
    useful = (table["accepted"] > 0.5) & (table["hedged"] == 0)
    table["useful"] = useful.where(table["strategy"].isin(said["strategy"]))
    # What most rejected is no loss.
    accepted = share[share > 0.5].xs("as extracted").index
    wanted = pd.MultiIndex.from_frame(table[["user", "item"]]).isin(accepted)
    table["covered"] = table["covered"].where(wanted)
    table["kept"] = table["attribute"].notna()
    metrics = ["accepted", "useful", "covered", "identifies", "hedged", "kept"]
    table[metrics] = table[metrics].astype(float)
    long = table.melt(["strategy", "user"], metrics, "metric")
    found = gap.means(long, "value", ["metric", "strategy"], unit="share", **how)
    itself = (found["strategy"] == "as extracted") & found["metric"].isin(["covered", "kept"])
    found.loc[itself & (found["estimate"] == 1), ["ci_low", "ci_high"]] = 1.0
    return found


def _in_mid_sentence(texts: pd.Series) -> pd.Series:
    return texts.str[0].str.lower() + texts.str[1:]
