"""Simulated relevance judgments: raters and judges with stated error rates around a latent truth.

Everything here was written or drawn for this project; no text or label comes from anyone's data.
A pair (prompt, attribute) is truly relevant with a probability that its kind fixes (``RELEVANT``).
Given the truth, three human raters and two model judges label it independently of each other with
the sensitivities and false-alarm rates of ``RATERS``; judges raise more false alarms on open-ended
prompts than on factual ones, and one of them fewer where it sees all attributes at once ("_list").
So every population value has a closed form (``planted_relevance``).
"""

import numpy as np
import pandas as pd

from personagap.gap import METRICS, confusion_metrics
from personagap.paths import DEMO

SEED = 20260604
FILE = DEMO / "relevance_judgments.csv"
#: P(an attribute is truly relevant), by how it relates to the prompt.
RELEVANT = {"same topic": 0.80, "manner": 0.35, "other": 0.04}
#: rater: P(yes | relevant), P(yes | not relevant, factual prompt), the same for an open-ended prompt.
RATERS = {
    "human_1": (0.85, 0.05, 0.05),
    "human_2": (0.75, 0.04, 0.04),
    "human_3": (0.80, 0.08, 0.08),
    "judge_broad": (0.95, 0.20, 0.50),
    "judge_strict": (0.88, 0.12, 0.26),
    "judge_broad_list": (0.85, 0.08, 0.16),
}
USERS, TOPICS_PER_USER, USERS_PER_PROMPT = 24, 4, 4


def design(seed: int = SEED) -> pd.DataFrame:
    """Which pairs are judged: ``prompt_id user attribute_index prompt attribute kind open``.

    Each user has the attributes of four topics and two about manner (``relevance_texts.csv``); each
    prompt is put to two users whom its topic concerns and to two whom it does not.
    """
    rng = np.random.default_rng(seed)
    texts = pd.read_csv(DEMO / "relevance_texts.csv")
    attributes = texts[texts["kind"] == "attribute"].set_index("topic")["text"]
    topics = [topic for topic in attributes.index.unique() if topic != "manner"]
    # Topics in rotation, so that every topic has its users; the order within a profile is random.
    mine = [{topics[(3 * i + step) % len(topics)] for step in range(TOPICS_PER_USER)} for i in range(USERS)]
    profiles = []
    for chosen in mine:
        lines = [("manner", text) for text in rng.choice(attributes["manner"], 2, replace=False)]
        lines += [(topic, text) for topic in sorted(chosen) for text in attributes[topic]]
        profiles.append([lines[i] for i in rng.permutation(len(lines))])
    rows = []
    for prompt_id, (topic, kind, prompt) in enumerate(texts[texts["kind"] != "attribute"].itertuples(index=False)):
        groups = [[i for i in range(USERS) if (topic in mine[i]) == concerned] for concerned in (True, False)]
        for i in sorted(np.concatenate([rng.choice(group, USERS_PER_PROMPT // 2, replace=False) for group in groups])):
            for index, (about, attribute) in enumerate(profiles[i]):
                relation = {topic: "same topic", "manner": "manner"}.get(about, "other")
                rows.append((prompt_id, f"u{i + 1:02d}", index, prompt, attribute, relation, kind == "open"))
    columns = ["prompt_id", "user", "attribute_index", "prompt", "attribute", "kind", "open"]
    return pd.DataFrame(rows, columns=columns)


def relevance_judgments(seed: int = SEED) -> pd.DataFrame:
    """Draw the labels of the committed table: three humans, their majority and the judges, as true/false."""
    pairs = design()
    rng = np.random.default_rng([seed, 1])
    truth = rng.random(len(pairs)) < pairs["kind"].map(RELEVANT)
    drawn = {
        rater: rng.random(len(pairs)) < np.where(truth, hit, np.where(pairs["open"], alarm_open, alarm))
        for rater, (hit, alarm, alarm_open) in RATERS.items()
    }
    humans = [rater for rater in RATERS if rater.startswith("human")]
    majority = sum(drawn[rater].astype(int) for rater in humans) >= 2
    return pairs.drop(columns=["kind", "open"]).assign(human_majority=majority, **drawn)


def planted_relevance() -> pd.DataFrame:
    """Population values of the committed design: ``rater metric planted``, each against the human majority.

    Labels are independent given the truth, so the probability of each pair of labels is a sum over
    the two truths; summed over the pairs these are the expected counts of the four outcomes. The row
    "human–human", "kappa" is the mean of the three pairwise values.
    """
    pairs = design()
    relevant = pairs["kind"].map(RELEVANT).to_numpy()
    hit = {rater: np.full(len(pairs), rates[0]) for rater, rates in RATERS.items()}
    alarm = {rater: np.where(pairs["open"], rates[2], rates[1]) for rater, rates in RATERS.items()}
    humans = [rater for rater in RATERS if rater.startswith("human")]
    for yes in (hit, alarm):
        a, b, c = (yes[rater] for rater in humans)
        yes["human_majority"] = a * b + a * c + b * c - 2 * a * b * c

    def metrics(rater: str, gold: str) -> dict[str, float]:
        def both(x: float, y: float) -> float:
            """Expected number of pairs that ``rater`` labels x and ``gold`` y."""
            given = [np.abs(1 - x - yes[rater]) * np.abs(1 - y - yes[gold]) for yes in (hit, alarm)]
            return np.sum(relevant * given[0] + (1 - relevant) * given[1])

        values = confusion_metrics(both(1, 1), both(1, 0), both(0, 1), both(0, 0))
        return {name: float(value) for name, value in values.items()}

    rows = [
        (rater, metric, value)
        for rater in RATERS
        if rater not in humans
        for metric, value in metrics(rater, "human_majority").items()
    ]
    kappas = [metrics(a, b)["kappa"] for a, b in [humans[:2], humans[1:], humans[::2]]]
    rows.append(("human–human", "kappa", float(np.mean(kappas))))
    return pd.DataFrame(rows, columns=["rater", "metric", "planted"])


def recovered(metrics: pd.DataFrame, means: pd.DataFrame) -> pd.DataFrame:
    """What was planted beside what was estimated: ``rater metric planted estimated ci_low ci_high covered``.

    Parameters
    ----------
    metrics : ``gap.relevance_metrics`` of the demo judgments.
    means : ``gap.mean_agreement`` of the same.
    """
    kappas = means.rename(columns={"kappa": "estimated", "pair": "rater"}).assign(metric="kappa")
    names = {"estimated": "", "ci_low": "_low", "ci_high": "_high"}
    tables = [
        metrics[["rater"]].assign(metric=metric, **{name: metrics[metric + suffix] for name, suffix in names.items()})
        for metric in METRICS
    ]
    estimates = pd.concat([*tables, kappas])[["rater", "metric", *names]]
    table = planted_relevance().merge(estimates, on=["rater", "metric"])
    return table.assign(covered=table["planted"].between(table["ci_low"], table["ci_high"]))


def write() -> None:
    """Write the committed table anew."""
    relevance_judgments().to_csv(FILE, index=False, lineterminator="\n")
