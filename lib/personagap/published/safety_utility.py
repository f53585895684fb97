"""Measured beside published numbers of arXiv 2406.11107."""

import pandas as pd

from personagap.published.numbers import beside


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
    sizes = {
        "mmlu": ("MMLU-dev", 285),
        "gsm8k": ("GSM8K", 1319),
        "do_not_answer": ("Do-Not-Answer", 939),
        "strongreject": ("StrongReject", 346),
    }
    for row in bias.itertuples():
        if row.dimension in sizes:
            name, n = sizes[row.dimension]
            why_not = (
                ""
                if (row.n_items, row.n_runs, row.n_identities) == (n, 3, 31)
                else f"{row.n_items} items here, {n} there"
            )
            condition = f"dataset={name};item_p=Beta(1 1)"
            rows.append(("pb_under_no_effect", condition, row.noise_floor, None, None, why_not))
    columns = ["quantity", "condition", "measured", "ci_low", "ci_high", "why_not"]
    return beside(pd.DataFrame(rows, columns=columns).astype({"ci_low": float, "ci_high": float}), "safety_utility")
