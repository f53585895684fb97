"""Draw simulated relevance judgments by raters with known error rates, given a latent truth.

Everything here was written or drawn for this project; no text or label comes from real data. The
probability that a pair (prompt, attribute) is truly relevant depends on its kind (``RELEVANT``).
Given the truth, three human raters and two model judges label it independently, with the
sensitivities and false-alarm rates of ``RATERS``. Judges have more false alarms on open-ended than
on factual prompts, and one of them has fewer if it sees all attributes at once ("_list"). So every
population value has a closed form (``planted_relevance``).
"""

from itertools import combinations
from pathlib import Path

import numpy as np
import pandas as pd

from personagap.gap import confusion_metrics
from personagap.paths import DEMO
from writing import target, write_planted, write_table

SEED = 20260604
#: P(an attribute is truly relevant), by how it relates to the prompt.
RELEVANT = {"same topic": 0.80, "manner": 0.35, "other": 0.04}
#: Rater → P(yes | relevant), P(yes | irrelevant, factual prompt), P(yes | irrelevant, open prompt).
RATERS = {
    "human_1": (0.85, 0.05, 0.05),
    "human_2": (0.75, 0.04, 0.04),
    "human_3": (0.80, 0.08, 0.08),
    "judge_broad": (0.95, 0.20, 0.50),
    "judge_strict": (0.88, 0.12, 0.26),
    "judge_broad_list": (0.85, 0.08, 0.16),
}
HUMANS = [rater for rater in RATERS if rater.startswith("human")]
USERS, TOPICS_PER_USER, USERS_PER_PROMPT = 24, 4, 4


def judged_pairs() -> pd.DataFrame:
    """Draw the judged pairs: ``prompt_id user attribute_index prompt attribute kind open``.

    Each user has the attributes of four topics and two about manner (``relevance_texts.csv``). Each
    prompt is assigned to two users with attributes of its topic and to two without.
    """
    rng = np.random.default_rng(SEED)
    texts = pd.read_csv(DEMO / "relevance_texts.csv")
    attributes = texts[texts["kind"] == "attribute"].set_index("topic")["text"]
    topics = [topic for topic in attributes.index.unique() if topic != "manner"]
    # Topics rotate, so that every topic has users; the order within a profile is random.
    steps = range(TOPICS_PER_USER)
    user_topics = [{topics[(3 * i + step) % len(topics)] for step in steps} for i in range(USERS)]
    profiles = []
    for chosen in user_topics:
        lines = [("manner", text) for text in rng.choice(attributes["manner"], 2, replace=False)]
        lines += [(topic, text) for topic in sorted(chosen) for text in attributes[topic]]
        profiles.append([lines[i] for i in rng.permutation(len(lines))])
    rows, prompts = [], texts[texts["kind"] != "attribute"]
    for prompt_id, (topic, kind, prompt) in enumerate(prompts.itertuples(index=False)):
        concerned = [i for i in range(USERS) if topic in user_topics[i]]
        others = [i for i in range(USERS) if topic not in user_topics[i]]
        half = USERS_PER_PROMPT // 2
        assigned = [rng.choice(group, half, replace=False) for group in (concerned, others)]
        for i in sorted(np.concatenate(assigned)):
            for index, (about, attribute) in enumerate(profiles[i]):
                relation = {topic: "same topic", "manner": "manner"}.get(about, "other")
                user = f"u{i + 1:02d}"
                rows.append((prompt_id, user, index, prompt, attribute, relation, kind == "open"))
    columns = ["prompt_id", "user", "attribute_index", "prompt", "attribute", "kind", "open"]
    return pd.DataFrame(rows, columns=columns)


def _yes_rates(pairs: pd.DataFrame) -> dict[str, np.ndarray]:
    """Return P(yes) of each rater if the attribute is relevant, and if it is not: (2, pairs)."""
    return {
        rater: np.stack([np.full(len(pairs), hit), np.where(pairs["open"], alarm_open, alarm)])
        for rater, (hit, alarm, alarm_open) in RATERS.items()
    }


def relevance_judgments(seed: int = SEED) -> pd.DataFrame:
    """Draw the true/false labels of humans, of their majority, and of judges."""
    pairs, rng = judged_pairs(), np.random.default_rng([seed, 1])
    relevant = rng.random(len(pairs)) < pairs["kind"].map(RELEVANT)
    rates = {rater: np.where(relevant, *yes) for rater, yes in _yes_rates(pairs).items()}
    drawn = {rater: rng.random(len(pairs)) < rate for rater, rate in rates.items()}
    majority = np.sum([drawn[rater] for rater in HUMANS], axis=0) >= 2
    return pairs.drop(columns=["kind", "open"]).assign(human_majority=majority, **drawn)


def planted_relevance() -> pd.DataFrame:
    """Compute population values of the design, by the human majority: ``rater metric planted``.

    Labels are independent given the truth, so the probability of each pair of labels is a sum over
    the two truths; summed over the pairs these are the expected counts of the four outcomes. The
    row "human–human", "kappa" is the mean of the three pairwise values. Raters named "… (latent)"
    are compared with the truth itself. In the alternative annotator test, a judge loses to a person
    if the three people agree and the judge does not.
    """
    pairs = judged_pairs()
    yes, relevant = _yes_rates(pairs), pairs["kind"].map(RELEVANT)
    a, b, c = (yes[rater] for rater in HUMANS)
    yes["human_majority"] = a * b + a * c + b * c - 2 * a * b * c
    yes["truth"] = np.stack([np.ones(len(pairs)), np.zeros(len(pairs))])

    def metrics(rater: str, gold: str) -> dict[str, float]:
        labels = [(x, y) for x in (yes[rater], 1 - yes[rater]) for y in (yes[gold], 1 - yes[gold])]
        return confusion_metrics(*(np.sum([relevant, 1 - relevant] * x * y) for x, y in labels))

    judges = [rater for rater in RATERS if rater not in HUMANS]
    table = pd.DataFrame({judge: metrics(judge, "human_majority") for judge in judges}, dtype=float)
    table = table.rename_axis("metric").reset_index()
    table = table.melt("metric", var_name="rater", value_name="planted")
    kappa = np.mean([metrics(*pair)["kappa"] for pair in combinations(HUMANS, 2)])
    more = [("human–human", "kappa", kappa), ("people (latent)", "prevalence", relevant.mean())]
    for human in HUMANS:
        hit, alarm, _ = RATERS[human]
        rates = {"sensitivity": hit, "specificity": 1 - alarm}
        more += [(f"{human} (latent)", metric, rate) for metric, rate in rates.items()]
    for judge in judges:
        latent, m = metrics(judge, "truth"), yes[judge]
        names = ("precision", "recall", "f1")
        more += [(f"{judge} (latent)", metric, float(latent[metric])) for metric in names]
        lost = a * b * c * (1 - m) + (1 - a) * (1 - b) * (1 - c) * m
        chance = ([relevant, 1 - relevant] * lost).sum(axis=0)
        more.append((judge, "mean advantage probability", 1 - chance.mean()))
    columns = ["rater", "metric", "planted"]
    return pd.concat([table[columns], pd.DataFrame(more, columns=columns)], ignore_index=True)


def write(folder: Path) -> None:
    """Write the judgments of stage 2 and their population values."""
    write_table(folder / "relevance_judgments.csv", relevance_judgments())
    write_planted(folder / "recentering" / "planted_relevance.csv", planted_relevance())


if __name__ == "__main__":
    write(target())
