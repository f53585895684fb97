"""The ten reward models of the demo, and the values planted in its users and its survey.

A reward model counts a feature of the text, per 100 words, and adds a fixed weight of its length,
as real ones have (P29). So each reward can be recomputed from the response alone.
``data/demo/build/make_personalllm.py`` wrote the prompts, responses, users and survey.
"""

import math
import re

import numpy as np
import pandas as pd

from personagap.paths import DEMO
from personagap.personalllm.users import dirichlet, heterogeneity, vote_shares, winners
from personagap.personalllm.users.heterogeneity import Population
from personagap.results import with_reference

FOLDER = DEMO / "personalllm"
#: Reward model → the pattern it counts per 100 words, and its reward for each doubling of length.
REWARDS = {
    "brevity": (r"$^", -3.0),
    "caution": (r"\b(?:perhaps|might|could|may|possibly)\b", 5.0),
    "enthusiasm": (r"!", 3.0),
    "evidence": (r"\d+(?!\.)\b", 10.0),
    "examples": (r"\b(?:for example|such as)\b", 8.0),
    "formality": (r"\b(?:furthermore|therefore|consequently|moreover|considerable)\b", 9.0),
    "questions": (r"\?", 3.0),
    "structure": (r"(?m)^(?:-|\d\.) ", 7.0),
    "vocabulary": (r"\b\w{7,}\b", 8.0),
    "warmth": (r"\b(?:glad|kind|lovely|hope|joy|comfort|friend|enjoy)\b", 7.0),
}


def occurrences(text: str, name: str) -> int:
    """Count the matches of a reward model's pattern in a response."""
    return len(re.findall(REWARDS[name][0], text, re.IGNORECASE))


def reward(text: str, name: str) -> float:
    """Compute the reward of a response by a reward model of the demo.

    Examples
    --------
    >>> reward("What a lovely idea!", "enthusiasm")  # 100 × 1/4 + 3 × log2(4)
    31.0
    """
    words = len(text.split())
    return 100 * occurrences(text, name) / words + REWARDS[name][1] * math.log2(words)


def score(table: pd.DataFrame) -> pd.DataFrame:
    """Add a column per reward model to a table with ``text``, like ``users.score_responses``."""
    # Rewards are per word, so an empty text needs a placeholder.
    texts = table["text"].str.strip().replace("", "-")
    return table.assign(**{name: [reward(text, name) for text in texts] for name in REWARDS})


def population() -> tuple[np.ndarray, list[str]]:
    """Return rewards of 1,500 more prompts like the demo's, and the names of the response models.

    The shape of the rewards is (prompts, 8, reward models).

    ``population.parquet`` stores the length and the counts of each response, which are far smaller
    than the texts.
    """
    table = pd.read_parquet(FOLDER / "population.parquet")
    writers = table.pop("response_model").unique().tolist()
    # Counts are stored in bytes, which multiplying by 100 would overflow.
    counts = table.astype(int)
    words, doublings = counts["words"], counts["words"].map(math.log2)
    values = [100 * counts[name] / words + REWARDS[name][1] * doublings for name in sorted(REWARDS)]
    return np.stack(values, axis=1).reshape(-1, len(writers), len(REWARDS)), writers


def planted_representativeness() -> pd.DataFrame:
    """Read the representativeness of the simulated language models: ``model distance planted``."""
    return pd.read_csv(FOLDER / "planted_representativeness.csv")


def truth(
    diversity: pd.DataFrame, wins: pd.DataFrame, opinions: pd.DataFrame, alpha: float, seed: int
) -> pd.DataFrame:
    """Compare estimates of ``users.heterogeneity wins representativeness`` with the truth.

    Returns a table of ``results.with_reference``. The true votes are those of the same users
    (``alpha seed``) on the prompts of `population`, z-scored.
    """
    values, writers = population()
    values = (values - values.mean((0, 1))) / values.std((0, 1))
    n = int(diversity["n_users"].iloc[0])
    alphas = diversity["alpha"].unique()
    populations = [Population(alpha=value, n_users=n, seed=seed) for value in alphas]
    # As few resamples as possible: only the estimates are used.
    votes = pd.concat(heterogeneity(values, people, n_bootstrap=20) for people in populations)
    shares = vote_shares(winners(dirichlet(n, alpha, seed, list(REWARDS)), values)).mean(axis=0)
    true_wins = pd.DataFrame({"response_model": writers, "true": shares})
    survey = planted_representativeness()
    reference = [
        _named_votes(votes.assign(true=votes["estimate"])),
        _named_wins(true_wins),
        _named_opinions(survey.assign(true=survey["planted"])),
    ]
    overall = opinions[opinions["attribute"] == "Overall"]
    measured = pd.concat([_named_votes(diversity), _named_wins(wins), _named_opinions(overall)])
    columns = ["quantity", "planted", "true"]
    return with_reference(measured, pd.concat(reference)[columns], ["quantity"])


def _named_votes(table: pd.DataFrame) -> pd.DataFrame:
    alpha = " at α = " + table["alpha"].map("{:g}".format)
    return table.assign(quantity=table["measure"] + " " + table["bin"] + alpha)


def _named_wins(table: pd.DataFrame) -> pd.DataFrame:
    return table.assign(quantity="wins of " + table["response_model"])


def _named_opinions(table: pd.DataFrame) -> pd.DataFrame:
    model = table["model"] + " (" + table["distance"] + ")"
    return table.assign(quantity="representativeness of " + model)
