"""Verdicts: the answers, in sentences, to the questions of the three notebooks."""

import pandas as pd

from personagap.recentering.judges import list_wise
from personagap.verdicts.wording import (
    OPEN,
    correction,
    interval,
    list_estimates,
    p,
    p_text,
    shown_side,
    side,
    table,
)

#: Patterns of names in the tables → what sentences call them.
READABLE = {r"\bbm25\b": "BM25", r"\btfidf\b": "TF-IDF"}
READABLE |= {r"_list\b": " list-wise", r"\bselect_all\b": "yes to all"}
#: Covariates of ``gap.rating_effects`` → what sentences call them.
EFFECTS = {
    "mention": "naming the attribute",
    "log2_length": "twice the length",
    "second": "standing second",
}


def relevance(
    metrics: pd.DataFrame,
    means: pd.DataFrame,
    paired: pd.DataFrame,
    scored: pd.DataFrame,
    versus: pd.DataFrame,
) -> pd.DataFrame:
    """Answer the questions of the relevance notebook: ``question answer``.

    ``metrics``, ``means`` and ``scored`` (of retrieval) are those of ``gap.relevance_metrics``,
    ``mean_agreement`` and ``scored_metrics``, ``paired`` is ``judges.compare`` and ``versus``
    ``classifiers.compare``.
    """
    over = _by_rater(metrics, "over_selection")
    models = over[over["rater_kind"] == "model"].iterrows()
    answers = [
        ("Do models select the attributes that people would?", _headline(metrics, means)),
        ("How well do raters agree, beyond chance?", _agreement(means)),
        *((f"Does {rater} select too much?", _selection(row, metrics)) for rater, row in models),
        *_judges(paired[paired["metric"] == "f1"]),
        ("How well does retrieval find the relevant attributes?", _retrieval(scored)),
        *_presentation(paired[paired["metric"] == "over_selection"]),
        *_trained(versus),
    ]
    return table(answers).replace(READABLE, regex=True)


def _by_rater(metrics: pd.DataFrame, metric: str) -> pd.DataFrame:
    """Return the rows of a metric, indexed by rater."""
    return metrics[metrics["metric"] == metric].set_index("rater", drop=False)


def _headline(metrics: pd.DataFrame, means: pd.DataFrame) -> str:
    """State over-selection, the best model by F1, and agreement among people and with models."""
    f1, models = _by_rater(metrics, "f1"), metrics[metrics["rater_kind"] == "model"]
    over = _by_rater(models, "over_selection")
    best = f1.loc[_by_rater(models, "f1")["estimate"].idxmax()]
    least = over.loc[over["estimate"].idxmin()]
    # Reports the model that selects least, so that the sentence is true of every model.
    answer = "No, all select too much" if (over["ci_low"] > 1).all() else OPEN
    kappa = means[means["n"] > 0].set_index("pair")
    kappa = kappa.loc[[pair for pair in ("human–human", "human–model") if pair in kappa.index]]
    agreement = "".join(f"; κ {pair} {interval(row, form='.2f')}" for pair, row in kappa.iterrows())
    return (
        f"{answer}: even {least['rater']} says yes {interval(least, form='.2f')} times as often "
        f"as the human majority. Best is {best['rater']}, F1 {interval(best, form='.2f')} (yes to "
        f"everything: {f1.loc['select_all', 'estimate']:.2f}; n = {best['n']:,}{agreement})."
    )


def _agreement(means: pd.DataFrame) -> str:
    rows = [f"{row.pair} {interval(row)}" for row in means[means["n"] > 0].itertuples()]
    return "Mean pairwise κ: " + "; ".join(rows) + "."


def _selection(over: pd.Series, metrics: pd.DataFrame) -> str:
    ratio = f"it says yes {interval(over, form='.2f')} times as often as the human majority"
    rate = metrics[metrics["rater"] == over["rater"]].set_index("metric")["estimate"]
    cost = f"recall {rate['recall']:.2f} comes with precision {rate['precision']:.2f}"
    too_much = f"Yes: {ratio}; {cost}."
    return side(over, too_much, f"No, too little: {ratio}.", f"Not shown: {ratio}.", than=1)


def _judges(f1: pd.DataFrame) -> list[tuple[str, str]]:
    """Compare each model with saying yes to everything, then the models with each other."""
    select_all = f1["contrast"].str.endswith(" − select_all")
    answers = []
    for row in pd.concat([f1[select_all], f1[~select_all]]).itertuples():
        a, b = row.contrast.split(" − ")
        other = "saying yes to everything" if b == "select_all" else b
        answers.append((f"Which is better, {a} or {other}?", _f1_difference(row)))
    return answers


def _difference(row) -> str:
    return f"{interval(row, form='+.3f')}, {p_text(row)}"


def _f1_difference(row) -> str:
    """State a difference with the better rater first, so that it is positive."""
    (a, b), values = row.contrast.split(" − "), (row.value_a, row.value_b)
    if row.estimate < 0:
        a, b, values = b, a, values[::-1]
        row = row._replace(estimate=-row.estimate, ci_low=-row.ci_high, ci_high=-row.ci_low)
    answer = shown_side(row, f"{a} is better", f"{b} is better", "Not resolved by these data")
    difference = f"paired difference {_difference(row)}"
    return f"{answer}: F1 {values[0]:.3f} ({a}) and {values[1]:.3f} ({b}), {difference}."


def _presentation(paired: pd.DataFrame) -> list[tuple[str, str]]:
    """Compare, for each model that judged in both ways, single attributes with whole lists."""
    answers = []
    for row in list_wise(paired).itertuples():
        # Models saw single attributes and people whole pages, which may explain part of the gap.
        a = row.contrast.split(" − ")[0]
        question = f"Does {a} select less when it sees all attributes at once, as people did (R3)?"
        difference = f"{-row.estimate:+.2f} [{-row.ci_high:+.2f}, {-row.ci_low:+.2f}]"
        answer = (
            f"{side(row, 'Yes', 'No, more', 'Not shown')}: it says yes {row.value_b:.2f} instead "
            f"of {row.value_a:.2f} times as often as the human majority ({difference})."
        )
        answers.append((question, answer))
    return answers


def _trained(versus: pd.DataFrame) -> list[tuple[str, str]]:
    """Compare classifiers with the best model, alone and confirming it, and with a random split."""
    versus_models = versus[(versus["metric"] == "f1") & (versus["compared"] == "a model")]
    classifier = versus_models["contrast"].str.split(" − ").str[0]
    # Each classifier is compared with the best of the models.
    best = versus_models.loc[versus_models.groupby(classifier, sort=False)["value_b"].idxmax()]
    differences = [(" & " in row.contrast, _f1_difference(row)) for row in best.itertuples()]
    alone = " ".join(difference for confirms, difference in differences if not confirms)
    confirming = " ".join(difference for confirms, difference in differences if confirms)
    leaks = versus[versus["compared"] == "its disjoint split"]
    leaks = leaks[leaks["metric"].isin(["f1", "auprc"])]
    flattered = []
    for contrast, rows in leaks.groupby("contrast", sort=False):
        gains = [f"{row.metric.upper()} {_difference(row)}" for row in rows.itertuples()]
        flattered.append(f"{contrast}: {', '.join(gains)}.")
    caveat = "With the folds of this seed, on which it depends: "
    beats = "Does a trained classifier beat the best model, on prompts or users new to it?"
    helps = "Does a model gain where the classifier must confirm its yes?"
    return [
        (beats, caveat + alone),
        (helps, caveat + confirming),
        ("How much does a random split flatter it (R7)?", " ".join(flattered)),
    ]


def _retrieval(scored: pd.DataFrame) -> str:
    ranked = _by_rater(scored, "auprc")
    # The AUPRC of a random ranking is the share of relevant pairs.
    chance = _by_rater(scored, "prevalence")["estimate"].iloc[0]
    auprc = ", ".join(f"{row.rater} {interval(row)}" for row in ranked.itertuples())
    better = f"{(ranked['ci_low'] > chance).sum()} of {len(ranked)} do better than chance"
    return f"{better}: AUPRC {auprc} where chance gives {chance:.3f}."


def may_replace(
    replacement: pd.DataFrame | None,
    latent: pd.DataFrame | None = None,
    few_labels: pd.DataFrame | None = None,
) -> pd.DataFrame:
    """Answer whether models may replace people: ``question answer``; arguments that are None are
    skipped.

    The arguments are the tables of ``judges.replacement``.
    """
    answers = []
    if replacement is not None:
        rates = replacement[replacement["metric"] == "winning rate"].set_index("rater")
        means = _by_rater(replacement, "mean advantage probability")
        parts = [
            f"{rater}: {'yes' if row.estimate >= 0.5 else 'not shown'}, as good as "
            f"{row.estimate * row.n:.0f} of {row.n:.0f} (advantage probability "
            f"{interval(means.loc[rater], form='.2f')})"
            for rater, row in rates.iterrows()
        ]
        answers.append(("May a model stand in for one of the people?", "; ".join(parts) + "."))
    if latent is not None:
        f1 = latent[(latent["metric"] == "f1") & (latent["truth"] == "difference")]
        parts = [f"{r.rater} {interval(r, form='+.3f')}, {p(r.p_value)}" for r in f1.itertuples()]
        question = (
            "Do models look better against the truth behind people who err than against "
            "their majority?"
        )
        difference = f"F1 against the one less F1 against the other (p {correction(f1['family'])})"
        answers.append((question, f"{difference}: {'; '.join(parts)}."))
    if few_labels is not None:
        gain = few_labels[few_labels["metric"] == "gain"]
        parts = [f"with {row.rater} {row.estimate:.2f}" for row in gain.itertuples()]
        question = "How many labels of people is one worth where a model judges all pairs?"
        where = f"Where people judged {gain['n'].iloc[0]:,.0f}"
        answers.append((question, f"{where}: {', '.join(parts)}."))
    return table(answers).replace(READABLE, regex=True)


def extraction(
    contrasts: pd.DataFrame,
    agreement: pd.DataFrame,
    verifier: pd.DataFrame,
    failures: pd.DataFrame | None,
    strategies: pd.DataFrame | None,
) -> pd.DataFrame:
    """Answer the questions of the extraction notebook from its tables of these names.

    The first row of ``agreement`` is that between people; ``failures`` and ``strategies`` are None
    without a model.
    """
    gap = contrasts.iloc[0]
    answer = shown_side(gap, "No, of real people less often", "Of real people more often", OPEN)
    points = f"{interval(gap, form='+.1f')} points problematic"
    kappa = f"Mean pairwise κ {interval(agreement.iloc[0])}."
    question = "Do inferred attributes hold, of real people as of simulated ones?"
    answers = [
        (question, f"{answer}: {points}, {p_text(gap)}, n = {gap['n']:,.0f}."),
        ("How well do people agree on what is problematic?", kappa),
    ]
    for row in contrasts.itertuples():
        answer = shown_side(row, "Yes, more", "Yes, fewer", "Not resolved")
        answer = f"{answer}: {interval(row, form='.2f')} points, {p_text(row)}."
        contrast = row.contrast.replace("log2_turns", "number of turns")
        answers.append((f"Problematic attributes, {contrast}: do they differ?", answer))
    f1 = _by_rater(verifier, "f1")
    # If most attributes are problematic, flagging all of them has a high F1 by itself (R5).
    trained, everything = f1.loc["trained verifier"], f1.loc["select_all", "estimate"]
    better = "Better" if trained["ci_low"] > everything else "Not shown to be better"
    answer = f"{better} than flagging all: F1 {interval(trained)} where that has {everything:.3f}."
    answers.append(("Does a trained verifier find the problems?", answer))
    if failures is not None and strategies is not None:
        broken = failures[(failures["step"] == "extract") & (failures["estimate"] > 0)]
        answer = f"Outputs with a problem: {list_estimates(broken, 'problem') or 'none'}."
        answers.append(("Which outputs of the extractor cannot be read?", answer))
        measured = strategies["metric"].isin(["accepted", "useful", "covered"])
        # The strategy "as extracted" covers everything by definition.
        trivial = (strategies["metric"] == "covered") & (strategies["strategy"] == "as extracted")
        for name, rows in strategies[measured & ~trivial].groupby("strategy", sort=False):
            question = f"What becomes of the attributes, {name}?"
            answers.append((question, f"Shares: {list_estimates(rows, 'metric')}."))
    return table(answers)


def response(
    summary: pd.DataFrame,
    inflation: pd.DataFrame,
    correlations: pd.DataFrame,
    effects: pd.DataFrame,
) -> pd.DataFrame:
    """Answer the questions of the response notebook from its tables: ``question answer``."""
    people = summary[summary["rater"] == "human"].set_index("metric")
    mean = people.loc["mean rating"]
    answer = side(mean, "Yes", "No, worse", "Not resolved", than=3)
    rated = f"{answer}: rated {interval(mean, form='.2f')} where 3 is no difference."
    by_judgment = interval(people.loc["no better"], form=".1%")
    by_response = interval(people.loc["no better, by response"], form=".1%")
    question = "Do people like personalized responses as much as model judges say?"
    answers = [
        (question, _inflation(mean, inflation)),
        ("Do people find personalized responses better?", rated),
        ("How often no better?", f"{by_judgment} of judgments, {by_response} of responses."),
    ]
    for row in inflation.itertuples():
        answer = shown_side(row, "No, higher", "No, lower", "Not shown to differ")
        answer = f"{answer}: {interval(row, form='.2f')} points above people, {p_text(row)}."
        answers.append((f"Does {row.rater} rate as people do?", answer))
    ceilings = _by_rater(correlations, "ceiling")
    correlation = _by_rater(correlations, "spearman")
    for rater, row in correlation[correlation["rater_kind"] == "model"].iterrows():
        # People disagree with one another, so no judge can reach a correlation of 1 with them.
        ceiling = row["note"] or f"a perfect judge would have {interval(ceilings.loc[rater])}"
        question = f"How well does {rater} rank, beside people?"
        answers.append((question, f"ρ {interval(row)}; {ceiling}."))
    for covariate, name in EFFECTS.items():
        points = list_estimates(effects[effects["metric"] == covariate], "rater")
        answer = f"In points: {points}." if points else "It never varied, so nobody can tell (R11)."
        answers.append((f"How far does {name} move ratings?", answer))
    return table(answers)


def _inflation(people: pd.Series, inflation: pd.DataFrame) -> str:
    """State for each judge how far its mean rating lies from that of people."""
    apart = inflation[(inflation["ci_low"] > 0) | (inflation["ci_high"] < 0)]
    answer = "No, less" if (apart["estimate"] > 0).all() else "No, not the same"
    parts = [f"{row.rater} {interval(row, form='+.2f')} above that" for row in apart.itertuples()]
    for row in inflation.drop(apart.index).itertuples():
        parts.append(f"{row.rater} not shown to differ ({interval(row, form='+.2f')})")
    return (
        f"{OPEN if apart.empty else answer}: people rate {interval(people, form='.2f')} (3: no "
        f"difference; n = {people['n']:,.0f}); {'; '.join(parts)}."
    )
