"""Remedies for attributes that do not hold, and what they cost in content."""

from typing import Unpack

import numpy as np
import pandas as pd
from scipy.stats import rankdata

from personagap import gap
from personagap.embeddings import embed
from personagap.recentering.extraction import SAME, join_histories

#: Words that hedge a statement.
HEDGES = r"\b(?:may|might|could|likely|possibly|possible|perhaps|probably|maybe|seems?)\b"
#: The hedge that "hedge flagged" puts before an attribute.
HEDGE = "It is possible that "


def profiles(
    items: pd.DataFrame, refined: pd.Series, histories: pd.DataFrame, embeddings: str | None = None
) -> pd.DataFrame:
    """Apply each strategy to the flagged attributes, which are those in ``refined``, and measure
    what the profiles still say (R14).

    "hedge flagged" puts "It is possible that" before flagged attributes. It is no remedy but a
    control, which shows what a measure of acceptance alone would reward.

    Returns a DataFrame ``strategy user item attribute`` (None: dropped) ``hedged identifies
    covered``. ``hedged``: the attribute has a word like "might"; ``identifies``: the share of other
    users whose history it fits less well than that of its own user (0.5 is chance); ``covered``: an
    attribute in the new profile is similar (cosine ``SAME``) to the original.
    """
    old, flagged = items["attribute"].astype(object), items.index.isin(refined.index)
    changes = {
        "as extracted": old,
        "drop flagged": None,
        "hedge flagged": HEDGE + _in_mid_sentence(old),
        "refine flagged": refined,
    }
    # All texts are embedded together, so that terms have the same weights in histories and in
    # attributes.
    texts = join_histories(histories, items["user"], "\n")
    own, tables = texts.index.get_indexer(items["user"]), []
    for strategy, change in changes.items():
        new = old.mask(flagged, change)
        kept = new.notna()
        vectors = embed([*texts, *old, *new.fillna("")], embeddings)
        history, before, after = np.split(vectors, [len(texts), len(texts) + len(old)])
        # A statement true of anybody fits the user's own history no better than those of others.
        fit = rankdata(after @ history.T, axis=1)[np.arange(len(own)), own]
        # Only an attribute of the same user can cover an attribute.
        similar = (before @ after.T >= SAME) & (own[:, None] == own) & kept.to_numpy()
        table = items[["user", "item"]].assign(strategy=strategy, attribute=new)
        # Only the first letter is lower-cased: "Perhaps …" is a hedge, but "in May" is not.
        table["hedged"] = _in_mid_sentence(new).str.contains(HEDGES).where(kept).astype(float)
        table["identifies"] = pd.Series((fit - 1) / (len(texts) - 1), new.index).where(kept)
        table["covered"] = similar.any(axis=1)
        tables.append(table)
    return pd.concat(tables, ignore_index=True)


def compare(
    profiles: pd.DataFrame,
    judgments: pd.DataFrame,
    anew: pd.DataFrame | None = None,
    **how: Unpack[gap.How],
) -> pd.DataFrame:
    """Estimate what each strategy gains and costs: `results` with the key ``strategy``, shares.

    Parameters
    ----------
    profiles : the table that `profiles` returns.
    judgments : judgments of people, ``user item label``, of the extracted attributes.
    anew : judgments of people, ``strategy user item label``, of the changed attributes; a strategy
        that nobody judged has no acceptance.

    Returns
    -------
    ``accepted`` (of the judgments of kept attributes), ``useful`` (of *all* original attributes:
    now accepted by most people, and unhedged), ``covered`` (of the originals that most people
    accepted), ``identifies``, ``hedged`` and ``kept``. The strategy "as extracted" covers and keeps
    all by definition: an interval of width 0.
    """
    key = ["strategy", "user", "item"]
    judged = pd.concat([judgments.assign(strategy="as extracted"), anew])
    share = judged.assign(accepted=judged["label"] == "accepted").groupby(key)["accepted"].mean()
    table = profiles.join(share, on=key)
    # A share of all originals, so that dropping doubtful attributes is not free (R14).
    useful = (table["accepted"] > 0.5) & (table["hedged"] == 0)
    table["useful"] = useful.where(table["strategy"].isin(judged["strategy"]))
    # Losing an attribute that most people rejected is no loss.
    accepted = share[share > 0.5].xs("as extracted").index
    wanted = pd.MultiIndex.from_frame(table[["user", "item"]]).isin(accepted)
    table["covered"] = table["covered"].where(wanted)
    table["kept"] = table["attribute"].notna()
    metrics = ["accepted", "useful", "covered", "identifies", "hedged", "kept"]
    table[metrics] = table[metrics].astype(float)
    long = table.melt(["strategy", "user"], metrics, "metric")
    means = gap.means(long, "value", ["metric", "strategy"], unit="share", **how)
    trivial = (means["strategy"] == "as extracted") & means["metric"].isin(["covered", "kept"])
    means.loc[trivial & (means["estimate"] == 1), ["ci_low", "ci_high"]] = 1.0
    return means


def _in_mid_sentence(texts: pd.Series) -> pd.Series:
    """Lower-case the first letter of each text."""
    return texts.str[0].str.lower() + texts.str[1:]
