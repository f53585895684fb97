"""End-to-end jobs of the size that the papers have, and the time that they may take."""

import timeit

import numpy as np
import pandas as pd

from personagap import effects
from personagap.personalllm import users
from personagap.personalllm.adaptation import icl, neighbours


def whole_jobs() -> pd.DataFrame:
    """Run each job once, on random data, and return ``work seconds target``; targets are seconds on
    two cores.
    """
    rng = np.random.default_rng(0)
    # The number of items of MMLU, the largest benchmark.
    scores = effects.simulate_scores(np.zeros(31), n_items=14_042, n_runs=3)
    rewards = rng.normal(size=(9402, 8, 10))
    voters = users.dirichlet(1000, 0.05, 0, [f"model{i}" for i in range(10)])
    vectors = rng.normal(size=(20_000, 1024)).astype("float32")  # 2,500 prompts × 8 responses
    seen = rng.integers(0, len(vectors) // 8, (11_000, 50))
    liked, disliked = rng.integers(0, 8, (2, 11_000, 50))

    def bias() -> None:
        effects.personalization_bias(scores, n_permutations=10_000, n_bootstrap=10_000)

    def votes() -> None:
        users.winners(voters, rewards)

    def similar_users() -> None:
        examples = icl.Examples(seen, liked, disliked)
        embedded = neighbours.embed_users(vectors, examples, "difference")
        icl.nearest(embedded[:1000], embedded[1000:], 20)

    jobs = [
        ("PB, 10,000 permutations and 10,000 bootstraps, 31 × 14,042 × 3", 15, bias),
        ("votes of 1,000 users on 9,402 × 8 × 10", 5, votes),
        ("neighbours of 1,000 users among 10,000 × 50 × 1,024", 20, similar_users),
    ]
    timed = [(work, timeit.timeit(job, number=1), target) for work, target, job in jobs]
    return pd.DataFrame(timed, columns=["work", "seconds", "target"])
