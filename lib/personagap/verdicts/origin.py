"""Verdicts on the stage of training at which personalization bias arises."""

import pandas as pd

from personagap.verdicts import wording


def origin(bias: pd.DataFrame, change: pd.DataFrame, *, alpha: float = 0.05) -> pd.DataFrame:
    """Answers to the questions of the origin notebook: ``question answer``.

    Parameters
    ----------
    bias : ``effects.personalization_bias`` of each stage, with a leading ``condition``, in the order of training.
    change : ``effects.paired_change`` between neighbouring stages.
    alpha : level of the tests, after Holm's correction over the steps.
    """
    answers = [(f"Does the stage {row.condition} show a bias?", _stage(row, alpha)) for row in _joint(bias)]
    joint = change[(change["dimension"] == "joint") & (change["measure"] == "pb_corrected")]
    for row in joint.itertuples():
        answers.append((f"Does bias change from {row.compared_with} to {row.condition}?", _step(row, alpha)))
        means = change[(change["condition"] == row.condition) & (change["measure"] == "mean")]
        answers.append((f"Do scores change from {row.compared_with} to {row.condition}?", _means(means, alpha)))
    return wording.table(answers)


def describe_origin(bias: pd.DataFrame) -> str:
    """The text alternative of ``figures.origin``."""
    rows = [f"{row.condition} {row.pb:.2f} (noise floor {row.noise_floor:.2f})" for row in _joint(bias)]
    return "Joint personalization bias in points by stage of training: " + ", ".join(rows)


def _joint(bias: pd.DataFrame) -> list:
    return list(bias[bias["dimension"] == "joint"].itertuples())


def _stage(row, alpha: float) -> str:
    low, high = (max(value, 0) ** 0.5 for value in (row.ci_low, row.ci_high))
    numbers = (
        f"joint PB {row.pb:.2f} points where no effect would give {row.noise_floor:.2f} ({wording.p(row.p_value)}); "
        f"corrected for noise {max(row.debiased_pb2, 0) ** 0.5:.2f} [{low:.2f}, {high:.2f}]"
    )
    return f"Yes: {numbers}." if row.p_value < alpha else f"Not distinguishable from noise: {numbers}."


def _step(row, alpha: float) -> str:
    numbers = (
        f"{row.before:.2f} to {row.after:.2f} points, {row.estimate:+.2f} [{row.ci_low:+.2f}, {row.ci_high:+.2f}], "
        f"Holm {wording.p(row.p_holm)}"
    )
    if row.p_holm < alpha:
        return f"It {'rises' if row.estimate > 0 else 'falls'}: {numbers}."
    return f"Not shown: {numbers}."


def _means(means: pd.DataFrame, alpha: float) -> str:
    parts = [
        f"{row.dimension.replace('_', ' ')} {row.estimate:+.1f} [{row.ci_low:+.1f}, {row.ci_high:+.1f}]"
        for row in means.itertuples()
    ]
    changed = means["p_holm"].lt(alpha).sum()
    return f"On {changed} of {len(means)} tasks (points, all identities): {', '.join(parts)}."
