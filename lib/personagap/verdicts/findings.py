"""Verdicts on the findings: a headline for each question, and what stands behind it."""

import pandas as pd

from personagap.claims import DEPENDS, NOISE, STANDS
from personagap.published import load
from personagap.spelling import words
from personagap.verdicts.wording import (
    ALPHA,
    correction,
    debiased,
    interval,
    p,
    table,
    tested,
    unasked,
)


def real_persona_effects(bias: pd.DataFrame, by_protocol: pd.DataFrame) -> pd.DataFrame:
    """Does a real model serve people differently (``findings.bias``), and what several graders and
    judges make of the same answers: ``question answer``.
    """
    found = bias[bias["p_adjusted"] < ALPHA]
    shown = (
        f"Yes, a real model's answers depend on the persona in {len(found)} of {len(bias)} designs"
    )
    headline = f"{shown}: {_designs(found)}."
    if found.empty:
        # A design that sees nothing says no more than what it could have seen: the best of them.
        none = f"No persona effect of a real model is shown in any of {len(bias)} designs"
        headline = f"{none}; most sensitive: {_designs(bias.nsmallest(1, 'smallest_pb'))}."
    # As papers have it, PB with its noise: what the released graders would have reported.
    told = by_protocol[by_protocol["metric"] == "pb"]
    papers = "; ".join(
        f"{row.model}, {row.task}, {row.protocol or 'judge ' + row.judge}: PB {row.estimate:.2f}, "
        f"{tested(row)}"
        for row in told[told["task"] != "joint"].fillna("").itertuples()
    )
    answers = [
        ("Does a real model serve people differently?", headline),
        ("What does each design show?", f"{_designs(bias)}."),
        ("What would the paper's protocol have found on the same answers?", f"{papers}."),
    ]
    return table(answers)


def _designs(bias: pd.DataFrame) -> str:
    """PB of each design, and the smallest that it finds with 80 % power."""
    return "; ".join(
        f"{row.dimension}: {debiased(row, what='PB ')} points, {tested(row)}, "
        f"would find {row.smallest_pb:.2f} (n = {row.n_items:,})"
        for row in bias.itertuples()
    )


def real_remedies(remedies: pd.DataFrame) -> pd.DataFrame:
    """Do remedies work on it, by paired changes under each (``findings.remedies``): ``question
    answer``.
    """
    of_bias = remedies["metric"].str.startswith("PB")
    changes, means = remedies[of_bias], remedies[~of_bias]
    falls = changes[(changes["p_adjusted"] < ALPHA) & (changes["ci_high"] < 0)]["condition"]
    # A spread is cut by serving everybody worse, too (S13).
    lost = falls.isin(means[(means["p_adjusted"] < ALPHA) & (means["ci_high"] < 0)]["condition"])
    prices = {name: unasked(means[means["condition"] == name]) for name in falls[~lost]}
    answer = f"None of {len(changes)} is shown to lower PB without loss"
    if works := [name for name, price in prices.items() if not price]:
        answer = f"PB is shown to fall by {', '.join(works)}"
    answer += "".join(
        f"; it falls by {name}, but {price}" for name, price in prices.items() if price
    )
    if lost.any():
        answer += f"; it is cut by serving everybody worse by {', '.join(falls[lost])}"
    # All are told, for of many changes the best looks well also where none works.
    rows = [
        f"{row.condition} ({words(row.task)}) {interval(row, form='+.2f')}, {p(row.p_adjusted)}"
        + "".join(
            f", mean of {mean.task} {interval(mean, form='+.1f')}"
            for mean in means[means["condition"] == row.condition].itertuples()
        )
        for row in changes.itertuples()
    ]
    told = f"Change of PB in points (p: {correction(changes['family'])}): {'; '.join(rows)}."
    return table([("Do remedies work on it?", f"{answer}. {told}")])


def real_relevance(relevance: pd.DataFrame) -> pd.DataFrame:
    """Do models pick what people find relevant: ``question answer``.

    ``relevance`` has the metrics of each classifier and model, and their paired differences
    (``versus``), a row for each draw of the folds.
    """
    f1 = relevance[relevance["metric"] == "f1"].fillna({"versus": "", "folds": ""})
    # The mean over the draws: F1 moves by some 0.05 with which prompts share a fold.
    alone = f1[f1["versus"] == ""].groupby(["classifier", "folds"], sort=False)["estimate"].mean()
    unseen = alone.xs("prompt-disjoint", level="folds")
    combined = unseen.index.str.startswith("combined")
    # A combination has the models' own answers in it, so it is no rival of theirs.
    best, others = unseen[~combined].idxmax(), unseen[combined].index
    rivals = f1.loc[(f1["classifier"] == best) & (f1["folds"] == "prompt-disjoint"), "versus"]
    models = alone.xs("", level="folds")
    rival = models[models.index.isin(rivals)].idxmax()

    def above(name: str) -> tuple[float, str]:
        rows = f1[(f1["classifier"] == name) & (f1["folds"] == "prompt-disjoint")]
        rows = rows[rows["versus"] == rival]
        won = int((rows["ci_low"] > 0).sum())
        draws = ", ".join(interval(row, form="+.3f") for row in rows.itertuples())
        than = f"above {rival} (F1 {models[rival]:.3f})"
        counted = f"in {won} of {len(rows)} draws of the folds, each by itself"
        return won / len(rows), f"{than} {counted}: {draws}"

    won, draws = above(best)
    answer = f"Not better than {rival}, as far as is shown"
    if won:
        surely = "Yes" if won == 1 else "Perhaps"
        answer = f"{surely}, a trained classifier does better"
    reached = f"On unseen prompts the best classifier, {best}, reaches F1 {unseen[best]:.3f}"
    answers = [("Do models pick what people find relevant?", f"{answer}. {reached}, {draws}.")]
    if len(others):
        together = (f"{name}: F1 {unseen[name]:.3f}, {above(name)[1]}." for name in others)
        answers.append(("What do classifier and models know together?", " ".join(together)))
    # The same classifier on a split by pairs: how much of a published F1 may be such a leak (R7).
    leaks = alone.xs("random (leaks)", level="folds")
    both = f"{leaks[best]:.3f} where pairs of a prompt are on both sides"
    told = f"{best}: F1 {unseen[best]:.3f} on unseen prompts, {both}"
    numbers = load("recentering").query("experiment == 'stage2' and quantity == 'f1'")
    tuned = numbers.set_index("condition")["value"]
    tuned = tuned[["method=RoBERTa trained", "method=Qwen3-4B + GRPO"]]
    published = f"Published are {' and '.join(map(str, tuned))}, of splits that are not known (R19)"
    adds = f"{leaks[best] - unseen[best]:+.3f}. {told}. {published}."
    return table([*answers, ("How much does a split that leaks add?", adds)])


def published_claims(found: pd.DataFrame, numbers: pd.DataFrame) -> pd.DataFrame:
    """How much of the published results is noise, of ``claims.claims`` and ``claims.numbers``:
    ``question answer``.
    """
    counts = found["verdict"].value_counts().reindex([STANDS, DEPENDS, NOISE], fill_value=0)
    biases = numbers[numbers["metric"] == "PB"]
    told = int((biases["ci_low"] > 0).sum())
    headline = (
        f"Of {len(found)} claims {counts[STANDS]} stand, {counts[NOISE]} could be noise and "
        f"{counts[DEPENDS]} depend on what was not published: which tasks, how many runs, which "
        "rows were tested."
    )
    lowest = biases.loc[biases["estimate"].idxmin()]
    noise = f"noise alone gives {lowest['floor_low']:.1f} to {lowest['floor_high']:.1f}"
    bias = (
        f"{told} of {len(biases)} exceed it under every design that fits. The lowest is "
        f"{lowest['estimate']:.2f} points, where {noise}."
    )
    answers = [
        ("How much of a published result is noise?", headline),
        ("How many published PB exceed their noise floors?", bias),
    ]
    for verdict, question in ((STANDS, "Which claims stand?"), (NOISE, "Which could be noise?")):
        named = found[found["verdict"] == verdict]
        answers.append((question, "; ".join(map(_claim, named.itertuples())) + " points."))
    return table(answers)


def _claim(row) -> str:
    # Of a PB held against none the interval is that of the true PB, which lies below the published.
    of = "true PB " if row.estimate > row.ci_high else ""
    return f"{row.claim}: {row.estimate:.1f}, {of}[{row.ci_low:.1f}, {row.ci_high:.1f}]"
