"""What a simulated in-context learner truly gains from its examples, beside what a study finds."""

import numpy as np
import pandas as pd

from personagap.demo.selector import Selector
from personagap.gap.resampling import resample
from personagap.personalllm.adaptation import Examples, Study, by_selection, serve
from personagap.results import beside


def truth(
    lm: Selector, crowd: Study, arms: dict[str, Examples], paired: pd.DataFrame
) -> pd.DataFrame:
    """Planted, true and estimated differences in persona reward between ``arms``.

    True is the mean over endlessly many users of that distribution on these test prompts, with the
    same training prompts, historical users and model. A ``crowd`` gives it up to ``true_se``, the
    standard error over its users within prompts (unknown with one user each). Where what is planted
    does not depend on whose the examples are, it is how the model's noise falls on these prompts.
    The intervals of ``paired`` resample test prompts as well, so they cover that and the planted 0.

    Parameters
    ----------
    crowd : many times the users of ``paired``.
    arms : of the crowd; contrasts of ``paired`` (``adaptation.compare``) with others are left out.

    Returns
    -------
    ``quantity shots planted true_se true estimated ci_low ci_high difference covered coverage``;
    ``covered`` allows for the error of ``true``. ``coverage`` is the share of studies, cut from the
    crowd and as large as that of ``paired``, whose intervals cover the truth.
    """
    rows = paired[paired["metric"] == "persona_reward"]
    rows = rows[rows["template"] == paired["template"].iloc[0]]
    contrasted = rows["contrast"].str.split(" − ", expand=True)
    known = contrasted.isin(list(arms)).all(axis=1)
    rows, contrasted = rows[known].reset_index(drop=True), contrasted[known]
    shown = {name: arms[name] for name in np.unique(contrasted)}
    shots, templates = rows["shots"].unique(), rows["template"].unique()
    served = serve(lm, crowd, shown, by_selection(crowd, None), shots, templates)
    served = served.set_index(["prompt", "user", "arm", "shots"])
    rewards = served["persona_reward"].unstack(["arm", "shots"])
    columns = [pd.MultiIndex.from_arrays([contrasted[end], rows["shots"]]) for end in (0, 1)]
    first, second = (rewards[arm].to_numpy() for arm in columns)
    difference = pd.DataFrame(first - second, rewards.index)
    # Within prompts, as the truth is of these very prompts: only users are drawn.
    error = np.sqrt(difference.groupby("prompt").var().mean() / len(difference))
    known = rows[["contrast", "shots"]].assign(true_se=error, true=difference.mean())
    table = beside(rows, known, ["contrast", "shots"]).rename(columns={"contrast": "quantity"})
    table.insert(2, "planted", "follows its examples" if lm.planted == "benefit" else "0")
    # The truth is itself an estimate, of a crowd: its error widens what counts as covered.
    reach = np.hypot(table["ci_high"] - table["estimated"], 1.96 * table["true_se"].fillna(0))
    table["covered"] = table["difference"].abs() <= reach
    coverage = _coverage(difference, table["true"].to_numpy(), rows["n"].iloc[0])
    return table.assign(coverage=coverage)


def _coverage(difference: pd.DataFrame, true: np.ndarray, n_users: int) -> np.ndarray:
    """Share of the studies of ``n_users`` in ``difference`` (contrasts in columns) that cover."""
    covered = []
    for _, rows in difference.groupby(difference.index.get_level_values("user") // n_users):
        drawn = resample(rows.index, cluster="prompt", n_bootstrap=500)
        means = np.stack([drawn.ratio(each) for each in rows.to_numpy().T], axis=1)
        low, high = drawn.interval(means)
        covered.append((low <= true) & (true <= high))
    return np.mean(covered, axis=0)
