"""Compare measured numbers with those published in arXiv 2406.11107."""

from collections.abc import Sequence

import numpy as np
import pandas as pd

from personagap.published import compare
from personagap.tasks import TASKS

#: Tasks whose published noise floor we recomputed → their names there; and their item counts.
_PUBLISHED = {name: task.published_as for name, task in TASKS.items() if task.published_as}
_N_ITEMS = {name: task.n_items for name, task in TASKS.items()}


def personalization_bias(bias: pd.DataFrame, model: str) -> pd.DataFrame:
    """Compare PB and noise floors of a model with the published ones (``published.compare``).

    The published noise floors are our recomputation.
    """
    joint = _as_published(bias[bias["dimension"] == "joint"])
    # This is no replication: the models differ, and the paper does not say which two tasks its
    # joint PB is of.
    reason = f"{model} on {len(bias) - 1} tasks here; the paper's task pair is not recorded"
    extremes = ("model=GPT-4o;rank=lowest", "model=Llama-2-70B;rank=highest")
    floors = bias[bias["dimension"].isin(_PUBLISHED)]
    original = floors.assign(n_items=floors["dimension"].map(_N_ITEMS), n_runs=3, n_identities=31)
    # Noise floors are comparable across models, but only in the same design: they fall with the
    # number of items and runs (S12).
    design = ["n_items", "n_runs", "n_identities"]
    sizes = (table[design].astype("str") for table in (floors, original))
    here, there = (size[design[0]].str.cat(size[design[1:]], " × ") for size in sizes)
    why_not = here + " items × runs × identities here, " + there + " there"
    why_not = why_not.where(here != there, "")
    condition = "dataset=" + floors["dimension"].map(_PUBLISHED) + ";item_p=Beta(1 1)"
    noise = floors.assign(estimate=floors["noise_floor"], unit="points")
    noise = noise.assign(ci_low=np.nan, ci_high=np.nan)
    noise = noise.assign(quantity="pb_under_no_effect", condition=condition, why_not=why_not)
    joint = joint.assign(quantity="pb", why_not=reason)
    measured = [joint.assign(condition=condition) for condition in extremes]
    return compare(pd.concat([*measured, noise], ignore_index=True), "safety_utility")


def origin(bias: pd.DataFrame, tasks: Sequence[str]) -> pd.DataFrame:
    """Compare PB of utility before and after instruction tuning with two published model families.

    Parameters
    ----------
    bias : ``effects.personalization_bias`` of each stage, with a leading ``condition``; the first
        stage counts as before instruction tuning, the second as after it.
    tasks : the utility tasks. PB² and the ends of its interval are summed over them.
    """
    # PB² is additive over tasks, PB is not.
    utility = bias[bias["dimension"].isin(tasks)].assign(pb=lambda table: table["pb"] ** 2)
    squares = ["pb", "debiased_pb2", "ci_low", "ci_high"]
    stages = utility.groupby("condition", sort=False)[squares].sum()
    stages = _as_published(stages.assign(pb=stages["pb"] ** 0.5))
    tables = [
        stages.iloc[[place]].assign(
            quantity="pb_utility",
            condition=f"family={family} (name not found);stage={when} SFT/instruction tuning",
            why_not=f"stage {stages.index[place]} of another model here; models, tasks and "
            "prompt format are not known",
        )
        for place, when in enumerate(("before", "after")[: len(stages)])
        for family in "AB"
    ]
    return compare(pd.concat(tables, ignore_index=True), "safety_utility")


def mitigation(change: pd.DataFrame, prompt_defences: list[str], model: str) -> pd.DataFrame:
    """Compare the relative change of PB with those published for DPO and the best prompt defence.

    ``change`` is ``effects.paired_change`` of defended with undefended scores. The best prompt
    defence is chosen on the same answers.
    """
    percent = change[(change["task"] == "joint") & (change["metric"] == "pb_percent")]
    tuned = percent[percent["condition"] == "dpo-random"]
    # Chosen on the same answers, it looks better than on new ones; so does the published best.
    best = percent[percent["condition"].isin(prompt_defences)].nsmallest(1, "estimate")
    tables = [
        rows.assign(
            quantity="pb_relative_change",
            condition=published_condition,
            why_not=rows["condition"] + f" of {model} here; the paper's {unknown}",
        )
        for rows, published_condition, unknown in (
            (tuned, "model=not named", "model and variant are not known"),
            (best, "defence=D4 (best)", "model and wording are not known"),
        )
    ]
    return compare(pd.concat(tables, ignore_index=True).assign(unit="percent"), "safety_utility")


def _as_published(bias: pd.DataFrame) -> pd.DataFrame:
    """Return PB in points as the estimate, with an interval that includes the noise again."""
    # Published PB includes noise (S12), so the noise is added back to the debiased interval.
    noise = bias["pb"] ** 2 - bias["debiased_pb2"]
    ends = bias[["ci_low", "ci_high"]].add(noise, axis=0).clip(lower=0) ** 0.5
    return bias.assign(estimate=bias["pb"], unit="points", **ends)
