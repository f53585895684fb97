"""The ten reward models of the demo, and what is planted in its users and its survey.

A reward model counts something in the text, per 100 words, and adds a stated liking for length, as
real ones have (P29); so each reward can be recomputed from the response alone.
``data/demo/build/make_personalllm.py`` wrote the prompts, responses, users and survey.
"""

import math
import re

import numpy as np
import pandas as pd

from personagap.paths import DEMO
from personagap.personalllm.users import dirichlet, heterogeneity, vote_shares, winners
from personagap.personalllm.users.heterogeneity import Population
from personagap.results import beside

FOLDER = DEMO / "personalllm"
#: Reward model: what it counts per 100 words, and its liking for each doubling of the length.
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
    """How often a response holds what a reward model counts."""
    return len(re.findall(REWARDS[name][0], text, re.IGNORECASE))


def reward(text: str, name: str) -> float:
    """What a reward model of the demo thinks of a response.

    Examples
    --------
    >>> reward("What a lovely idea!", "enthusiasm")  # 100 × 1/4 + 3 × log2(4)
    31.0
    """
    words = len(text.split())
    return 100 * occurrences(text, name) / words + REWARDS[name][1] * math.log2(words)


def score(table: pd.DataFrame) -> pd.DataFrame:
    """``table`` (``text``) with a column per reward model, as of ``users.score_responses``."""
    # The reward models count per word, and an empty text has none.
    texts = table["text"].str.strip().replace("", "-")
    return table.assign(**{name: [reward(text, name) for text in texts] for name in REWARDS})


def population() -> tuple[np.ndarray, list[str]]:
    """Rewards of 1,500 more prompts, drawn like the demo's: (prompts, 8, reward models); writers.

    ``population.parquet`` holds the length of each response and what each reward model counts in
    it, which is far smaller than the texts.
    """
    table = pd.read_parquet(FOLDER / "population.parquet")
    writers = table.pop("response_model").unique().tolist()
    # Stored in a byte each, which 100 × would overflow.
    counts = table.astype(int)
    words, doublings = counts["words"], counts["words"].map(math.log2)
    values = [100 * counts[name] / words + REWARDS[name][1] * doublings for name in sorted(REWARDS)]
    return np.stack(values, axis=1).reshape(-1, len(writers), len(REWARDS)), writers


def planted_representativeness() -> pd.DataFrame:
    """Representativeness of the stand-ins for language models: ``model distance planted``."""
    return pd.read_csv(FOLDER / "planted_representativeness.csv")


def truth(
    diversity: pd.DataFrame, wins: pd.DataFrame, opinions: pd.DataFrame, alpha: float, seed: int
) -> pd.DataFrame:
    """Planted or true values beside estimates of ``users.heterogeneity wins representativeness``,
    see `beside`.

    The true votes are those of the same users (``alpha seed``) on the prompts of `population`,
    z-scored.
    """
    values, writers = population()
    values = (values - values.mean((0, 1))) / values.std((0, 1))
    n = int(diversity["n_users"].iloc[0])
    alphas = diversity["alpha"].unique()
    drawn = [Population(alpha=each, n_users=n, seed=seed) for each in alphas]
    # Of the fewest resamples, since nothing but the shares is used.
    votes = pd.concat(heterogeneity(values, each, n_bootstrap=20) for each in drawn)
    shares = vote_shares(winners(dirichlet(n, alpha, seed, list(REWARDS)), values)).mean(axis=0)
    won = pd.DataFrame({"response_model": writers, "true": shares})
    near = planted_representativeness()
    reference = [
        _named_votes(votes.assign(true=votes["estimate"])),
        _named_wins(won),
        _named_opinions(near.assign(true=near["planted"])),
    ]
    overall = opinions[opinions["attribute"] == "Overall"]
    measured = pd.concat([_named_votes(diversity), _named_wins(wins), _named_opinions(overall)])
    columns = ["quantity", "planted", "true"]
    return beside(measured, pd.concat(reference)[columns], ["quantity"])


def _named_votes(table: pd.DataFrame) -> pd.DataFrame:
    place = " at α = " + table["alpha"].map("{:g}".format)
    return table.assign(quantity=table["measure"] + " " + table["bin"] + place)


def _named_wins(table: pd.DataFrame) -> pd.DataFrame:
    return table.assign(quantity="wins of " + table["response_model"])


def _named_opinions(table: pd.DataFrame) -> pd.DataFrame:
    whose = table["model"] + " (" + table["distance"] + ")"
    return table.assign(quantity="representativeness of " + whose)
