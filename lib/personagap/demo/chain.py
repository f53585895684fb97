"""Checkpoints trained from the demo model with other planted effects: ``data/demo/chain``.

``planted.csv`` says for each checkpoint and condition what becomes of the demo model's planted table:

    logit p = item base + shift + scale × identity effect

"base" (asked as a base model, in plain text), "sft" (the demo model itself) and "preference" are a chain of
training stages whose PB rises and falls; "instructed" follows the prompt defences of ``data/defences.csv``.
``python -m personagap.demo.chain`` trains all of them anew, to be run whenever the demo model changes.
"""

import sys
from collections.abc import Callable, Mapping

import numpy as np
import pandas as pd
import torch
from scipy.special import expit, logit

from personagap import defences, demo, models, personas
from personagap.demo import planting, training
from personagap.paths import DEMO

FOLDER = DEMO / "chain"
#: Optimizer steps of each checkpoint; "sft" is the demo model.
STEPS = {"base": 500, "preference": 400, "instructed": 800}


def table() -> pd.DataFrame:
    """What is planted: ``checkpoint condition scale shift``."""
    return pd.read_csv(FOLDER / "planted.csv")


def planted(checkpoint: str, condition: str = "undefended") -> pd.DataFrame | None:
    """``task item persona template planted`` of a checkpoint in a condition; None where nothing is planted."""
    rows = table().query("checkpoint == @checkpoint and condition == @condition")
    if rows.empty:
        return None
    cells = planting.planted().merge(personas.select("all")[["persona"]])
    base = cells[cells["persona"] == "none"][["task", "item", "planted"]]
    base = logit(cells[["task", "item"]].merge(base, how="left")["planted"])
    scale, shift = rows[["scale", "shift"]].iloc[0]
    return cells.assign(planted=expit(base + shift + scale * (logit(cells["planted"]) - base)))


def train(checkpoint: str) -> None:
    """Train a checkpoint from the demo model and save it; repeatable with one thread."""
    torch.manual_seed(0)
    lm = models.load_model("demo", device="cpu", prompt_format="base" if checkpoint == "base" else "chat")
    by_task: dict[str, list] = {}
    for condition in table().query("checkpoint == @checkpoint")["condition"]:
        defence = None if condition == "undefended" else defences.load(condition)
        cells = training.planted_cells(lm.tokenizer, planted(checkpoint, condition), defence)
        for task, contexts in cells.items():
            by_task.setdefault(task, []).extend(contexts)
    training.fit(lm.model.train(), by_task, steps=STEPS[checkpoint], learning_rate=1.5e-3, seed=0)
    if checkpoint == "base":
        lm.tokenizer.chat_template = None  # as base models have none
    training.save(lm.model.eval(), lm.tokenizer, FOLDER / checkpoint)


def truth(
    models: Mapping[str, object],
    who: pd.DataFrame,
    items: pd.DataFrame,
    bias: pd.DataFrame,
    applied: Mapping[str, Callable[[list], list]] | None = None,
) -> pd.DataFrame:
    """``demo.truth`` of each condition, with a leading ``condition``.

    Parameters
    ----------
    models : condition → model; a checkpoint of this chain, or one trained from it.
    who, items : as in ``demo.true_scores``.
    bias : ``effects.personalization_bias`` with a leading ``condition``.
    applied : condition → defence applied to the messages.

    Returns
    -------
    The columns of ``demo.truth`` after ``condition``; ``planted`` is NaN where nothing was (DPO, neutralization).
    """
    tables = []
    for condition, lm in models.items():
        checkpoint = "sft" if lm.id == "demo" else lm.id.removeprefix("demo:")
        defence = (applied or {}).get(condition)
        cells = planted(checkpoint, condition if defence else "undefended")
        if cells is None:
            cells = planting.planted().assign(planted=np.nan)
        cells = demo.true_scores(lm, who, items, defence=defence, planted_cells=cells)
        table = demo.truth(cells, bias[bias["condition"] == condition])
        table.insert(0, "condition", condition)
        tables.append(table)
    return pd.concat(tables, ignore_index=True)


if __name__ == "__main__":
    torch.set_num_threads(1)
    for name in sys.argv[1:] or STEPS:
        train(name)
        print(f"wrote {FOLDER / name}", flush=True)
