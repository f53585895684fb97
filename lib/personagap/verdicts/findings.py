"""Verdicts on the findings: a headline for each question, and the numbers behind it."""

import pandas as pd

from personagap.claims import DEPENDS, NOISE, STANDS
from personagap.formatting import humanize
from personagap.published import load
from personagap.verdicts.wording import (
    ALPHA,
    correction,
    debiased,
    interval,
    p,
    p_text,
    price_not_asked,
    table,
)


def real_persona_effects(bias: pd.DataFrame, by_protocol: pd.DataFrame) -> pd.DataFrame:
    """Answer whether a real model serves people differently: ``question answer``.

    ``bias`` is ``findings.bias``; ``by_protocol`` has PB of the same answers by several graders and
    judges.
    """
    significant = bias[bias["p_adjusted"] < ALPHA]
    count = f"{len(significant)} of {len(bias)} designs"
    shown = f"Yes, a real model's answers depend on the persona in {count}"
    headline = f"{shown}: {_designs(significant)}."
    if significant.empty:
        # A null result means only what the design could have detected: name the most sensitive one.
        none = f"No persona effect of a real model is shown in any of {len(bias)} designs"
        headline = f"{none}; most sensitive: {_designs(bias.nsmallest(1, 'smallest_pb'))}."
    # PB with its noise, as published: what the released graders would have reported.
    raw = by_protocol[by_protocol["metric"] == "pb"]
    papers = "; ".join(
        f"{row.model}, {row.task}, {row.protocol or 'judge ' + row.judge}: PB {row.estimate:.2f}, "
        f"{p_text(row)}"
        for row in raw[raw["task"] != "joint"].fillna("").itertuples()
    )
    answers = [
        ("Does a real model serve people differently?", headline),
        ("What does each design show?", f"{_designs(bias)}."),
        ("What would the paper's protocol have found on the same answers?", f"{papers}."),
    ]
    return table(answers)


def _designs(bias: pd.DataFrame) -> str:
    """List PB of each design, and the smallest PB that it detects with 80 % power."""
    return "; ".join(
        f"{row.dimension}: {debiased(row, what='PB ')} points, {p_text(row)}, "
        f"would find {row.smallest_pb:.2f} (n = {row.n_items:,})"
        for row in bias.itertuples()
    )


def real_remedies(remedies: pd.DataFrame) -> pd.DataFrame:
    """Answer whether remedies work, by their paired changes (``findings.remedies``).

    Returns a table ``question answer``.
    """
    of_bias = remedies["metric"].str.startswith("PB")
    changes, means = remedies[of_bias], remedies[~of_bias]
    falls = changes[(changes["p_adjusted"] < ALPHA) & (changes["ci_high"] < 0)]["condition"]
    # Serving everybody worse reduces the spread as well (S13).
    lost = falls.isin(means[(means["p_adjusted"] < ALPHA) & (means["ci_high"] < 0)]["condition"])
    prices = {name: price_not_asked(means[means["condition"] == name]) for name in falls[~lost]}
    answer = f"None of {len(changes)} is shown to lower PB without loss"
    if effective := [name for name, price in prices.items() if not price]:
        answer = f"PB is shown to fall by {', '.join(effective)}"
    answer += "".join(
        f"; it falls by {name}, but {price}" for name, price in prices.items() if price
    )
    if lost.any():
        answer += f"; it is cut by serving everybody worse by {', '.join(falls[lost])}"
    # All changes are listed: the best of many looks good even if no remedy works.
    rows = [
        f"{row.condition} ({humanize(row.task)}) {interval(row, form='+.2f')}, {p(row.p_adjusted)}"
        + "".join(
            f", mean of {mean.task} {interval(mean, form='+.1f')}"
            for mean in means[means["condition"] == row.condition].itertuples()
        )
        for row in changes.itertuples()
    ]
    details = f"Change of PB in points (p: {correction(changes['family'])}): {'; '.join(rows)}."
    return table([("Do remedies work on it?", f"{answer}. {details}")])


def real_relevance(relevance: pd.DataFrame) -> pd.DataFrame:
    """Answer whether models pick what people find relevant: ``question answer``.

    ``relevance`` has the metrics of each classifier and model, and paired differences to the rater
    ``versus``, one row for each draw of the folds.
    """
    f1 = relevance[relevance["metric"] == "f1"].fillna({"versus": "", "folds": ""})
    # Averaged over draws: F1 varies by some 0.05 with the assignment of prompts to folds.
    alone = f1[f1["versus"] == ""].groupby(["classifier", "folds"], sort=False)["estimate"].mean()
    unseen = alone.xs("prompt-disjoint", level="folds")
    combined = unseen.index.str.startswith("combined")
    # A combination uses the models' own answers, so comparing it with them would be unfair.
    best, combinations = unseen[~combined].idxmax(), unseen[combined].index
    rivals = f1.loc[(f1["classifier"] == best) & (f1["folds"] == "prompt-disjoint"), "versus"]
    models = alone.xs("", level="folds")
    rival = models[models.index.isin(rivals)].idxmax()

    def compare(name: str) -> tuple[float, str]:
        """Return the share of draws in which a classifier beats ``rival``, and the differences."""
        rows = f1[(f1["classifier"] == name) & (f1["folds"] == "prompt-disjoint")]
        rows = rows[rows["versus"] == rival]
        n_better = int((rows["ci_low"] > 0).sum())
        differences = ", ".join(interval(row, form="+.3f") for row in rows.itertuples())
        than = f"above {rival} (F1 {models[rival]:.3f})"
        count = f"in {n_better} of {len(rows)} draws of the folds, each by itself"
        return n_better / len(rows), f"{than} {count}: {differences}"

    share_better, comparison = compare(best)
    answer = f"Not better than {rival}, as far as is shown"
    if share_better:
        certainty = "Yes" if share_better == 1 else "Perhaps"
        answer = f"{certainty}, a trained classifier does better"
    reached = f"On unseen prompts the best classifier, {best}, reaches F1 {unseen[best]:.3f}"
    answers = [("Do models pick what people find relevant?", f"{answer}. {reached}, {comparison}.")]
    if len(combinations):
        together = (f"{name}: F1 {unseen[name]:.3f}, {compare(name)[1]}." for name in combinations)
        answers.append(("What do classifier and models know together?", " ".join(together)))
    # Splitting by pair lets prompts leak into the test folds, perhaps in published F1 as well (R7).
    leaky = alone.xs("random (leaks)", level="folds")
    both_sides = f"{leaky[best]:.3f} where pairs of a prompt are on both sides"
    details = f"{best}: F1 {unseen[best]:.3f} on unseen prompts, {both_sides}"
    numbers = load("recentering").query("experiment == 'stage2' and quantity == 'f1'")
    tuned = numbers.set_index("condition")["value"]
    tuned = tuned[["method=RoBERTa trained", "method=Qwen3-4B + GRPO"]]
    published = f"Published are {' and '.join(map(str, tuned))}, of splits that are not known (R19)"
    leak = f"{leaky[best] - unseen[best]:+.3f}. {details}. {published}."
    return table([*answers, ("How much does a split that leaks add?", leak)])


def published_claims(found: pd.DataFrame, numbers: pd.DataFrame) -> pd.DataFrame:
    """Answer how much of the published results is noise: ``question answer``.

    ``found`` is ``claims.claims``, ``numbers`` is ``claims.numbers``.
    """
    counts = found["verdict"].value_counts().reindex([STANDS, DEPENDS, NOISE], fill_value=0)
    biases = numbers[numbers["metric"] == "PB"]
    n_above = int((biases["ci_low"] > 0).sum())
    headline = (
        f"Of {len(found)} claims {counts[STANDS]} stand, {counts[NOISE]} could be noise and "
        f"{counts[DEPENDS]} depend on what was not published: which tasks, how many runs, which "
        "rows were tested."
    )
    lowest = biases.loc[biases["estimate"].idxmin()]
    noise = f"noise alone gives {lowest['floor_low']:.1f} to {lowest['floor_high']:.1f}"
    bias = (
        f"{n_above} of {len(biases)} exceed it under every design that fits. The lowest is "
        f"{lowest['estimate']:.2f} points, where {noise}."
    )
    answers = [
        ("How much of a published result is noise?", headline),
        ("How many published PB exceed their noise floors?", bias),
    ]
    for verdict, question in ((STANDS, "Which claims stand?"), (NOISE, "Which could be noise?")):
        rows = found[found["verdict"] == verdict]
        answers.append((question, "; ".join(map(_claim, rows.itertuples())) + " points."))
    return table(answers)


def _claim(row) -> str:
    """Format a claim with its estimate and interval."""
    # For a PB tested against none, the interval is that of the true PB, below the published one.
    prefix = "true PB " if row.estimate > row.ci_high else ""
    return f"{row.claim}: {row.estimate:.1f}, {prefix}[{row.ci_low:.1f}, {row.ci_high:.1f}]"
