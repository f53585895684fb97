"""Preference pairs of the demo, to tune its model with."""

import numpy as np
import pandas as pd

from personagap import personas, tasks
from personagap.demo.planting import answers
from personagap.errors import UserError


def preference_pairs(items: pd.DataFrame, n: int, seed: int = 0) -> pd.DataFrame:
    """A right (or harmless) answer preferred to a wrong one, whoever asks.

    Parameters
    ----------
    items : demo items of ``datasets.load``.
    n : pairs; items take turns, in random order.
    seed : determines order and answers.

    Returns
    -------
    DataFrame ``system question chosen rejected`` of n rows, for ``tuning.dpo.tune``.
    """
    if items.empty:
        raise UserError("no demo items are left to train on: set items_per_task below the number there is")
    rng = np.random.default_rng(seed)
    asked, rows = list(items.itertuples()), []
    for place in rng.permutation(np.resize(np.arange(len(asked)), n)):
        given = answers(asked[place])
        chosen, rejected = (rng.choice(np.flatnonzero(kind & ~given.bare)) for kind in (given.right, ~given.right))
        texts = (given.texts[chosen], given.texts[rejected])
        rows.append((personas.ASSISTANT_PROMPT, tasks.prompt(asked[place]), *texts))
    return pd.DataFrame(rows, columns=["system", "question", "chosen", "rejected"])
