"""Draw the scores of a simulated evaluation, an example for ``scores.from_csv``.

Each answer is right with the planted probability of its item and persona
(``demo.planted_probabilities``).
"""

from pathlib import Path

import numpy as np

from personagap import personas
from personagap.demo.planted import planted_probabilities
from writing import target, write_table

SEED = 4


def write(folder: Path) -> None:
    """Write ``scores.csv``."""
    who = personas.select(["religion", "gender", "age"])["persona"]
    cells = planted_probabilities()
    cells = cells[cells["task"].isin(["mmlu", "do_not_answer"]) & cells["persona"].isin(who)]
    right = np.random.default_rng(SEED).random(len(cells)) < cells["planted"]
    scores = cells[["task", "persona", "item"]].assign(score=right.astype(int))
    write_table(folder / "scores.csv", scores)


if __name__ == "__main__":
    write(target())
