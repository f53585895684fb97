"""The true gain of a simulated in-context learner, compared with a study's estimate."""

import numpy as np
import pandas as pd

from personagap.demo.selector import Selector
from personagap.gap.resampling import resample
from personagap.personalllm.adaptation import Examples, Study, by_selection, serve
from personagap.results import with_reference


def truth(
    lm: Selector, crowd: Study, arms: dict[str, Examples], paired: pd.DataFrame
) -> pd.DataFrame:
    """Compare planted, true and estimated differences in persona reward between ``arms``.

    The true difference is the mean over infinitely many users of the same distribution on these
    test prompts, with the same training prompts, historical users and model. It is estimated from a
    large ``crowd``, with ``true_se`` as standard error over users within prompts (unknown with one
    user per prompt). If the planted effect does not depend on whose examples are shown, the true
    difference is due to the model's noise on these prompts alone; the intervals of ``paired``
    resample test prompts as well, so they should cover both it and the planted 0.

    Parameters
    ----------
    crowd : a study with many times the users of ``paired``.
    arms : the examples of the crowd; contrasts of ``paired`` (``adaptation.compare``) with other
        arms are left out.

    Returns
    -------
    ``quantity shots planted true_se true estimated ci_low ci_high difference covered coverage``;
    ``covered`` allows for the standard error of ``true``. ``coverage`` is the share of studies as
    large as that of ``paired``, drawn from the crowd, whose intervals cover the truth.
    """
    rows = paired[paired["metric"] == "persona_reward"]
    rows = rows[rows["template"] == paired["template"].iloc[0]]
    pairs = rows["contrast"].str.split(" − ", expand=True)
    available = pairs.isin(list(arms)).all(axis=1)
    rows, pairs = rows[available].reset_index(drop=True), pairs[available]
    examples = {name: arms[name] for name in np.unique(pairs)}
    shots, templates = rows["shots"].unique(), rows["template"].unique()
    served = serve(lm, crowd, examples, by_selection(crowd, None), shots, templates)
    served = served.set_index(["prompt", "user", "arm", "shots"])
    rewards = served["persona_reward"].unstack(["arm", "shots"])
    columns = [pd.MultiIndex.from_arrays([pairs[end], rows["shots"]]) for end in (0, 1)]
    first, second = (rewards[arm].to_numpy() for arm in columns)
    difference = pd.DataFrame(first - second, rewards.index)
    # Standard error within prompts: the truth refers to these prompts, only users are sampled.
    error = np.sqrt(difference.groupby("prompt").var().mean() / len(difference))
    reference = rows[["contrast", "shots"]].assign(true_se=error, true=difference.mean())
    table = with_reference(rows, reference, ["contrast", "shots"]).rename(
        columns={"contrast": "quantity"}
    )
    table.insert(2, "planted", "follows its examples" if lm.planted == "benefit" else "0")
    # The truth is itself estimated, so its error widens the range that counts as covered.
    half_width = np.hypot(table["ci_high"] - table["estimated"], 1.96 * table["true_se"].fillna(0))
    table["covered"] = table["difference"].abs() <= half_width
    coverage = _coverage(difference, table["true"].to_numpy(), rows["n"].iloc[0])
    return table.assign(coverage=coverage)


def _coverage(difference: pd.DataFrame, true: np.ndarray, n_users: int) -> np.ndarray:
    """Return the share of studies of ``n_users`` whose intervals cover ``true``, per contrast.

    ``difference`` has the users of all studies as rows and the contrasts as columns.
    """
    covered = []
    for _, rows in difference.groupby(difference.index.get_level_values("user") // n_users):
        drawn = resample(rows.index, cluster="prompt", n_bootstrap=500)
        means = np.stack([drawn.ratio(values) for values in rows.to_numpy().T], axis=1)
        low, high = drawn.interval(means)
        covered.append((low <= true) & (true <= high))
    return np.mean(covered, axis=0)
