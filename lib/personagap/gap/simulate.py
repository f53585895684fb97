"""Simulated judgments with a known truth, for the examples of the docstrings and for validation.

The design is that of the released relevance judgments: each prompt is judged for four users, each
user occurs with several prompts, and errors have components shared by prompts and by users.
"""

import numpy as np
import pandas as pd

from personagap.results import random_generator


def simulate_relevance(
    *, stricter: float = 0.0, seed: int | np.random.Generator = 0
) -> pd.DataFrame:
    """Simulate 0/1 labels of a gold standard, ``human_majority``, and model judges ``a`` and ``b``.

    Parameters
    ----------
    stricter : logits by which judge b says yes less often than a; with 0 they differ by chance.
    seed : seed or generator of the labels.

    Returns
    -------
    DataFrame of judgments ``item prompt user rater rater_kind label``.

    Examples
    --------
    >>> simulate_relevance(stricter=1).groupby("rater")["label"].mean().round(2).to_dict()
    {'a': 0.51, 'b': 0.25, 'human_majority': 0.19}
    """
    rng = random_generator(seed)
    design = _design(rng, n_items=12)
    # −1.5 logits, and 2.1 more for a relevant item, give a prevalence of 19 % (18 % in the real
    # data) and judges that say yes far too often, as the real ones do.
    gold = draw_labels(rng, _shared(rng, design, 0.8) - 1.5)
    judges = {}
    for name, shift in (("a", 0.0), ("b", stricter)):
        judges[name] = draw_labels(rng, 2.1 * gold + _shared(rng, design, 0.8) - 0.5 - shift)
    return in_long_form(design, human_majority=gold, **judges)


def simulate_ratings(
    *, inflation: float = 0.0, mention: float = 0.0, seed: int | np.random.Generator = 0
) -> pd.DataFrame:
    """Simulate ratings of three humans and a model judge around true values of mean 3 and sd 0.7.

    Parameters
    ----------
    inflation : added to all ratings of the judge.
    mention : added by the judge where an answer mentions the user's attribute (40 % of answers).
    seed : seed or generator of the ratings.

    Returns
    -------
    DataFrame of judgments ``item prompt user rater rater_kind label mention``.

    Examples
    --------
    >>> ratings = simulate_ratings(inflation=0.4)
    >>> ratings.groupby("rater")["label"].mean().round(2).to_dict()
    {'human_0': 3.03, 'human_1': 2.97, 'human_2': 2.97, 'judge': 3.32}
    """
    rng = random_generator(seed)
    design = _design(rng, n_items=2)
    value, mentioned = 3 + _shared(rng, design, 0.7), rng.random(len(design)) < 0.4
    labels = {f"human_{i}": value + rng.normal(0, 1, len(design)) for i in range(3)}
    # Prompts and users share errors of the judge, so these do not average out over their items.
    shared_error, error = _shared(rng, design, 0.4), rng.normal(0, 0.7, len(design))
    labels["judge"] = value + inflation + mention * mentioned + shared_error + error
    judgments = in_long_form(design, **labels)
    return judgments.assign(mention=mentioned[judgments["item"]])


def draw_labels(rng: np.random.Generator, logit: np.ndarray) -> np.ndarray:
    """Draw 0/1 labels with the given log-odds of 1."""
    return (rng.random(len(logit)) < 1 / (1 + np.exp(-logit))).astype(int)


def _design(rng: np.random.Generator, *, n_items: int) -> pd.DataFrame:
    """Units ``item prompt user``: ``n_items`` of each of 21 prompts for four of 40 users."""
    cells = [(prompt, user) for prompt in range(21) for user in rng.choice(40, 4, replace=False)]
    units = pd.DataFrame(np.repeat(cells, n_items, axis=0), columns=["prompt", "user"])
    return units.rename_axis("item").reset_index()


def _shared(rng: np.random.Generator, design: pd.DataFrame, sd: float) -> np.ndarray:
    """Draw normal effects of standard deviation ``sd``, half the variance by prompt and by user."""
    sizes = 1 + design[["prompt", "user"]].max()
    prompt, user = (rng.normal(0, sd / 2**0.5, size) for size in sizes)
    return prompt[design["prompt"]] + user[design["user"]]


def in_long_form(design: pd.DataFrame, **labels: np.ndarray) -> pd.DataFrame:
    """Combine the labels of each rater on the units ``design`` to long judgments; NaN is kept."""
    kinds = ["human" if rater.startswith("human") else "model" for rater in labels]
    columns = {name: np.tile(design[name], len(labels)) for name in design}
    columns |= {"rater": np.repeat(list(labels), len(design))}
    columns |= {"rater_kind": np.repeat(kinds, len(design))}
    return pd.DataFrame(columns | {"label": np.concatenate(list(labels.values()))})
