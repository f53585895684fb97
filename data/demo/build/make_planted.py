"""Draw the planted effects that the demo model is trained on.

The logit of a right (or harmless) answer is ``item base + identity effect``. One task has an
additional identity effect in a single template, and an identity that is only hinted at has part of
its effect. The effects are random and say nothing about real people: a few identities are clearly
affected, most hardly. They are scaled so that PB (arXiv 2406.11107) equals ``TARGET_PB``, up to the
rounding of the table. The effect of an intersection is the sum of its parts' effects, except for
two with an interaction.
"""

from pathlib import Path

import numpy as np
import pandas as pd
from scipy.optimize import brentq
from scipy.special import expit
from scipy.stats import norm

from personagap import datasets, personas
from writing import target, write_table

SEED = 1
#: Mean and standard deviation over items of the base, in logits.
BASE = {
    "mmlu": (0.8, 0.9), "gsm8k": (0.9, 0.8), "mbpp": (0.7, 0.8), "do_not_answer": (1.1, 0.9),
    "strongreject": (1.0, 0.9),
}  # fmt: skip
#: PB in points with the template "paper"; 0 is a null task.
TARGET_PB = {"mmlu": 6.0, "gsm8k": 4.0, "mbpp": 0.0, "do_not_answer": 5.0, "strongreject": 2.0}
#: Logits that every identity loses compared with the controls, which PB cannot detect (S14).
UNIFORM_DROP = {"gsm8k": 0.6}
#: Task, template and standard deviation (logits) of the effect that exists in one template only.
INTERACTION = ("strongreject", "profile", 0.3)
#: Template in which the identity is only hinted at, and the share of its effect there.
INDIRECT, INDIRECT_SHARE = "indirect", 0.5
INTERSECTIONS = (
    "jewish+man", "muslim+woman", "christian+republican", "hindu+middle_aged", "asian+teenager",
    "african_american+gay", "physically_disabled+senior_citizen", "non_binary+democrat",
)  # fmt: skip
#: By task, the logits that one randomly drawn intersection has beyond the sum of its parts.
BEYOND_PARTS = {"mmlu": -1.5, "do_not_answer": 1.5}
#: Category whose identities get a share of answers in a form that the paper's pattern cannot parse
#: (S6), and that share.
BARE_CATEGORY, BARE_SHARE = "age", 0.12


def planted_parts() -> pd.DataFrame:
    """Draw the table that ``personagap.demo.planted.planted_parts`` reads."""
    rng = np.random.default_rng(SEED)
    items = datasets.load("all", data="demo", graded=False)
    who = personas.select("all")
    is_identity = ~who["persona"].isin(personas.CONTROLS)
    identities, parts = who["persona"][is_identity], []
    for task, rows in items.groupby("task", sort=False):
        mean, spread = BASE[task]
        base = mean + spread * norm.ppf((rng.permutation(len(rows)) + 0.5) / len(rows))
        # Two uncorrelated sets of heavy-tailed effects with mean 0 and variance 1, exactly.
        draws = rng.standard_normal((is_identity.sum(), 2))
        draws *= abs(draws)
        shape, other_shape = np.linalg.qr(draws - draws.mean(axis=0))[0].T * np.sqrt(len(draws))
        drop = UNIFORM_DROP.get(task, 0.0)
        effect = np.zeros(len(who))
        effect[is_identity] = _scale_to_pb(base - drop, shape, TARGET_PB[task]) * shape - drop
        parts += [
            _part(task, "item", rows["item"], base),
            _part(task, "identity", who["persona"], effect),
        ]
        reduction = (INDIRECT_SHARE - 1) * effect[is_identity]
        parts.append(_part(task, "interaction", identities, reduction, INDIRECT))
        if task == INTERACTION[0]:
            _, template, spread = INTERACTION
            parts.append(_part(task, "interaction", identities, spread * other_shape, template))
        beyond = np.zeros(len(INTERSECTIONS))
        beyond[rng.integers(len(beyond))] = BEYOND_PARTS.get(task, 0.0)
        parts.append(_part(task, "intersection", pd.Series(INTERSECTIONS), beyond))
    share = BARE_SHARE * (who["category"] == BARE_CATEGORY)
    parts.append(_part("mmlu", "bare_form", who["persona"], share.to_numpy()))
    return pd.concat(parts, ignore_index=True)


def _scale_to_pb(base: np.ndarray, shape: np.ndarray, goal: float) -> float:
    """Return the factor for identity effects ``shape`` (logits) that makes PB ``goal`` points."""

    def pb(scale: float) -> float:
        return 100 * expit(base + scale * shape[:, None]).mean(axis=1).std()

    return brentq(lambda scale: pb(scale) - goal, 0, 2) if goal else 0.0


def _part(
    task: str,
    part: str,
    names: pd.Series,
    values: np.ndarray,
    template: str = "",
) -> pd.DataFrame:
    """Return rows of the planted table."""
    table = pd.DataFrame({"task": task, "part": part, "name": names.to_numpy()})
    # Adding 0 turns −0 into 0, so that no minus is written.
    return table.assign(template=template, value=values.round(4) + 0.0)


def write(folder: Path) -> None:
    """Write the table; the items must exist already."""
    write_table(folder / "planted.csv", planted_parts())


if __name__ == "__main__":
    write(target())
