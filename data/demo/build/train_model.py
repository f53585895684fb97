"""Train the demo model and save it, reproducibly on one machine, with one thread.

A step takes about 0.7 seconds on one core, so all 4,200 take most of an hour.
"""

from pathlib import Path

import torch

import training
from writing import target


def write(folder: Path) -> None:
    """Write ``model/``; the items and ``planted.csv`` must exist already."""
    torch.set_num_threads(1)
    model, tokenizer, _ = training.train()
    training.save(model, tokenizer, folder / "model")


if __name__ == "__main__":
    write(target())
