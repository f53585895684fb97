"""Checkpoints trained from the demo model with other planted effects: ``data/demo/chain``.

``planted.csv`` there says how each checkpoint and condition changes the planted table:

    logit p = item base + shift + scale × identity effect

"base" (asked as a base model, in plain text), "sft" (the demo model itself) and "preference" are a
chain of training stages whose PB rises and falls; "instructed" follows the prompt defences of
``data/safety_utility/defences.csv``. ``data/demo/build/train_checkpoints.py`` trained them.
"""

from collections.abc import Callable, Mapping

import numpy as np
import pandas as pd
from scipy.special import expit, logit

from personagap import demo, personas
from personagap.demo import planted
from personagap.models import Model
from personagap.paths import DEMO


def changes() -> pd.DataFrame:
    """Read the changes of the planted effects: ``checkpoint condition scale shift``."""
    return pd.read_csv(DEMO / "chain" / "planted.csv")


def planted_probabilities(checkpoint: str, condition: str = "undefended") -> pd.DataFrame | None:
    """Compute ``task item persona template planted`` of a checkpoint; None if none were planted."""
    rows = changes().query("checkpoint == @checkpoint and condition == @condition")
    if rows.empty:
        return None
    cells = planted.planted_probabilities().merge(personas.select("all")[["persona"]])
    # The control has no effect, so its probability is the base of the item.
    base = cells[cells["persona"] == "none"][["task", "item", "planted"]]
    base = logit(cells[["task", "item"]].merge(base, how="left")["planted"])
    scale, shift = rows[["scale", "shift"]].iloc[0]
    return cells.assign(planted=expit(base + shift + scale * (logit(cells["planted"]) - base)))


def truth(
    models: Mapping[str, Model],
    who: pd.DataFrame,
    items: pd.DataFrame,
    bias: pd.DataFrame,
    applied: Mapping[str, Callable[[list], list]] | None = None,
) -> pd.DataFrame:
    """Return ``demo.truth`` of each condition, with a leading ``condition``.

    ``models`` maps conditions to checkpoints of this chain or models trained from one, ``applied``
    conditions to defences; ``bias`` has a leading ``condition``. ``planted`` is NaN where nothing
    was planted (DPO, neutralization).
    """
    tables = []
    for condition, lm in models.items():
        checkpoint = "sft" if lm.id == "demo" else lm.id.removeprefix("demo:")
        defence = (applied or {}).get(condition)
        cells = planted_probabilities(checkpoint, condition if defence else "undefended")
        # Even where nothing was planted, the true probabilities of the model can be computed.
        if cells is None:
            cells = planted.planted_probabilities().assign(planted=np.nan)
        cells = demo.true_scores(lm, who, items, defence=defence, planted_cells=cells)
        table = demo.truth(cells, bias[bias["condition"] == condition])
        table.insert(0, "condition", condition)
        tables.append(table)
    return pd.concat(tables, ignore_index=True)
