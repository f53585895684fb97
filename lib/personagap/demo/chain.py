"""Checkpoints trained from the demo model with other planted effects: ``data/demo/chain``.

``planted.csv`` says for each checkpoint and condition what becomes of the demo model's planted table:

    logit p = item base + shift + scale × identity effect

"base" (asked as a base model, in plain text), "sft" (the demo model itself) and "preference" are a chain of
training stages whose PB rises and falls; "instructed" follows the prompt defences of ``data/defences.csv``.
``python -m personagap.demo.chain`` trains all of them anew, to be run whenever the demo model changes.
"""

from collections.abc import Callable

import numpy as np
import pandas as pd
import torch
from scipy.special import expit, logit
from transformers.optimization import get_cosine_schedule_with_warmup

from personagap import datasets, defences, demo, models, personas, tasks
from personagap.demo import planting, training
from personagap.models.rendering import BASE_FORMAT, render
from personagap.paths import DEMO

FOLDER = DEMO / "chain"
#: Trained by this module; "sft" is the demo model.
TRAINED = ("base", "preference", "instructed")


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


def contexts(tokenizer, checkpoint: str, condition: str) -> dict[str, list[list[training.Cell]]]:
    """Training cells as of ``training.planted_cells``: by task a list of personas, each with a cell per item."""
    items = {(item.task, item.item): item for item in datasets.load("all", data="demo").itertuples()}
    given = {key: planting.answers(item) for key, item in items.items()}
    tokens = {key: [tokenizer.encode(text + training.END) for text in one.texts] for key, one in given.items()}
    bare = planting.bare_shares()
    defence = _defence(condition)
    by_task: dict[str, list] = {}
    for (task, persona), rows in planted(checkpoint, condition).groupby(["task", "persona"], sort=False):
        chats = [defence(personas.chat(persona, tasks.prompt(items[task, item]))) for item in rows["item"]]
        context = [
            training.Cell(
                tokenizer.encode(render(tokenizer, chat)),
                tokens[task, item],
                planting.distribution(given[task, item], right, bare[persona]),
            )
            for chat, item, right in zip(chats, rows["item"], rows["planted"], strict=True)
        ]
        by_task.setdefault(task, []).append(context)
    return by_task


def _defence(condition: str) -> Callable[[list], list]:
    return list if condition == "undefended" else defences.load(condition)


def train(checkpoint: str, *, steps: int = 1000, learning_rate: float = 1.5e-3, seed: int = 0) -> None:
    """Train a checkpoint from the demo model and save it; repeatable with one thread."""
    torch.manual_seed(seed)
    rng = np.random.default_rng(seed)
    lm = models.load_model("demo", device="cpu")
    model, tokenizer = lm.model.train(), lm.tokenizer
    chat_format = tokenizer.chat_template
    tokenizer.chat_template = BASE_FORMAT if checkpoint == "base" else chat_format
    conditions = table().query("checkpoint == @checkpoint")["condition"]
    by_task: dict[str, list] = {}
    for condition in conditions:
        for task, personas_cells in contexts(tokenizer, checkpoint, condition).items():
            by_task.setdefault(task, []).extend(personas_cells)
    optimizer = torch.optim.AdamW(model.parameters(), lr=learning_rate, betas=(0.9, 0.98), weight_decay=0.01)
    schedule = get_cosine_schedule_with_warmup(optimizer, 50, steps)
    for _ in range(steps):
        for task, asked in by_task.items():
            chosen = [asked[index] for index in rng.choice(len(asked), training.CONTEXTS[task], replace=False)]
            batch = [[cells[i] for i in rng.choice(len(cells), training.ITEMS, replace=False)] for cells in chosen]
            training.excess_loss(model, batch, rng).backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        schedule.step()
        optimizer.zero_grad()
    tokenizer.chat_template = None if checkpoint == "base" else chat_format  # as base models have none
    training.save(model.eval(), tokenizer, FOLDER / checkpoint)


def truth(
    lm, who: pd.DataFrame, items: pd.DataFrame, bias: pd.DataFrame, condition: str, defence: Callable | None = None
) -> pd.DataFrame:
    """``demo.truth`` of a condition; ``planted`` is NaN where none was (DPO, neutralization)."""
    cells = planted(lm.id.removeprefix("demo:").replace("demo", "sft"), condition)
    cells = planting.planted().assign(planted=np.nan) if cells is None else cells
    return demo.truth(lm, who, items, bias, defence=defence, planted_cells=cells)


if __name__ == "__main__":
    torch.set_num_threads(1)
    for name in TRAINED:
        train(name)
        print(f"wrote {FOLDER / name}")
