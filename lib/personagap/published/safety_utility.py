"""Measured beside published numbers of arXiv 2406.11107."""

from collections.abc import Sequence

import pandas as pd

from personagap.published.numbers import beside

#: Items of each task in the paper's code and data; with 31 identities, one control and 3 runs, 370,848 generations.
ITEMS = {"mmlu": 285, "gsm8k": 1319, "mbpp": 974, "do_not_answer": 939, "strongreject": 346}


def personalization_bias(bias: pd.DataFrame, model: str) -> pd.DataFrame:
    """Measured PB and noise floors beside those of arXiv 2406.11107 and their recomputation; see ``beside``.

    The interval of a measured PB is that of the debiased PB² with the noise put back, as published
    values hold it.

    Parameters
    ----------
    bias : ``effects.personalization_bias``.
    model : what was measured.
    """
    joint = bias[bias["dimension"] == "joint"].iloc[0]
    noise = joint["pb"] ** 2 - joint["debiased_pb2"]
    low, high = (max(joint[bound] + noise, 0) ** 0.5 for bound in ("ci_low", "ci_high"))
    reason = f"{model} on {len(bias) - 1} tasks here; the paper's task pair is not recorded"
    extremes = ("model=GPT-4o;rank=lowest", "model=Llama-2-70B;rank=highest")
    rows = [("pb", condition, joint["pb"], low, high, reason) for condition in extremes]
    names = {
        "mmlu": "MMLU-dev",
        "gsm8k": "GSM8K",
        "do_not_answer": "Do-Not-Answer",
        "strongreject": "StrongReject",
    }
    for row in bias.itertuples():
        if row.dimension in names:
            name, n = names[row.dimension], ITEMS[row.dimension]
            why_not = (
                ""
                if (row.n_items, row.n_runs, row.n_identities) == (n, 3, 31)
                else f"{row.n_items} items here, {n} there"
            )
            condition = f"dataset={name};item_p=Beta(1 1)"
            rows.append(("pb_under_no_effect", condition, row.noise_floor, None, None, why_not))
    columns = ["quantity", "condition", "measured", "ci_low", "ci_high", "why_not"]
    return beside(pd.DataFrame(rows, columns=columns).astype({"ci_low": float, "ci_high": float}), "safety_utility")


def origin(bias: pd.DataFrame, tasks: Sequence[str]) -> pd.DataFrame:
    """PB of utility before and after instruction tuning, beside those of two model families; see ``beside``.

    Parameters
    ----------
    bias : ``effects.personalization_bias`` of each stage, with a leading ``condition``; the first stage is taken
        for the one before instruction tuning, the second for the one after.
    tasks : the tasks of utility. Where there are several, PB² is their sum.
    """
    rows = []
    utility = bias[bias["dimension"].isin(tasks)].groupby("condition", sort=False)
    measured = utility[["pb", "debiased_pb2", "ci_low", "ci_high"]].agg(
        {"pb": lambda pb: (pb**2).sum() ** 0.5, "debiased_pb2": "sum", "ci_low": "sum", "ci_high": "sum"}
    )
    for stage, row in zip(("before", "after"), measured.itertuples(), strict=False):
        noise = row.pb**2 - row.debiased_pb2
        interval = [max(bound + noise, 0) ** 0.5 for bound in (row.ci_low, row.ci_high)]
        for family in "AB":
            condition = f"family={family} (name not found);stage={stage} SFT/instruction tuning"
            reason = f"stage {row.Index} of another model here; models, tasks and prompt format are not known"
            rows.append(("pb_utility", condition, row.pb, *interval, reason))
    columns = ["quantity", "condition", "measured", "ci_low", "ci_high", "why_not"]
    return beside(pd.DataFrame(rows, columns=columns), "safety_utility")


def mitigation(change: pd.DataFrame, prompt_defences: list[str], model: str) -> pd.DataFrame:
    """Relative change of PB beside that published of DPO and of the best prompt defence; see ``beside``.

    Parameters
    ----------
    change : ``effects.paired_change`` of defended with undefended scores.
    prompt_defences : which conditions are prompt defences; the best of them on these very answers is shown.
    model : what was measured.
    """
    percent = change[(change["dimension"] == "joint") & (change["measure"] == "pb_percent")].set_index("condition")
    prompts = percent[percent.index.isin(prompt_defences)]
    best = prompts[prompts["estimate"] == prompts["estimate"].min()].head(1)
    tuned = percent[percent.index == "dpo-random"]
    rows = [
        (
            "pb_relative_change",
            condition,
            row.estimate,
            row.ci_low,
            row.ci_high,
            f"{row.Index} of {model} here; {there}",
        )
        for found, condition, there in (
            (tuned, "model=not named", "the paper's model and variant are not known"),
            (best, "defence=D4 (best)", "the paper's model and wording are not known"),
        )
        for row in found.itertuples()
    ]
    columns = ["quantity", "condition", "measured", "ci_low", "ci_high", "why_not"]
    return beside(pd.DataFrame(rows, columns=columns), "safety_utility")
