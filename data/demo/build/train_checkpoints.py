"""Train the checkpoints of ``chain/`` from the demo model; run again whenever that changes.

``chain/planted.csv``, written by hand, says how each checkpoint and condition changes the planted
effects. Training is reproducible on one machine, with one thread.
"""

from pathlib import Path

import torch

import training
from personagap import models
from personagap.demo import chain
from personagap.safety_utility import defences
from writing import target

#: Optimizer steps of each checkpoint; "sft" is the demo model itself.
STEPS = {"base": 500, "preference": 400, "instructed": 800}
LEARNING_RATE = 1.5e-3


def write(folder: Path, checkpoint: str) -> None:
    """Write ``chain/<checkpoint>/``, trained from the committed demo model."""
    torch.set_num_threads(1)
    torch.manual_seed(0)
    form = "base" if checkpoint == "base" else "chat"
    lm = models.load_model("demo", device="cpu", prompt_format=form)
    by_task: dict[str, list] = {}
    for condition in chain.changes().query("checkpoint == @checkpoint")["condition"]:
        defence = None if condition == "undefended" else defences.load_defence(condition)
        planted = chain.planted_probabilities(checkpoint, condition)
        for task, contexts in training.planted_cells(lm.tokenizer, planted, defence).items():
            by_task.setdefault(task, []).extend(contexts)
    how = {"steps": STEPS[checkpoint], "learning_rate": LEARNING_RATE, "seed": 0}
    training.fit(lm.model.train(), by_task, **how)
    # Base models have no chat template.
    if checkpoint == "base":
        lm.tokenizer.chat_template = None
    # The saved files must not depend on whether the environment was offline.
    lm.tokenizer.init_kwargs["local_files_only"] = False
    training.save(lm.model.eval(), lm.tokenizer, folder / "chain" / checkpoint)


if __name__ == "__main__":
    for name in STEPS:
        write(target(), name)
