"""Verdicts on judgments of relevance, and the text alternatives of their figures."""

import pandas as pd

from personagap.recentering.judges import list_wise
from personagap.verdicts.wording import (
    OPEN,
    correction,
    interval,
    listed,
    p,
    shown,
    side,
    table,
    tested,
)

#: Names in the tables → how a sentence puts them.
READABLE = {r"\bbm25\b": "BM25", r"\btfidf\b": "TF-IDF"}
READABLE |= {r"_list\b": " list-wise", r"\bselect_all\b": "yes to all"}
#: Covariates of ``gap.rating_effects`` → what a rating may be moved by.
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
    """Answers to the questions of the relevance notebook: ``question answer``.

    ``metrics means scored`` are of ``gap.relevance_metrics mean_agreement scored_metrics`` (of
    retrieval), ``paired`` of ``gap.paired_difference`` (judges, and each and "select_all"),
    ``versus`` of ``classifiers.compare``.
    """
    over = _of(metrics, "over_selection")
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


def _of(metrics: pd.DataFrame, metric: str) -> pd.DataFrame:
    """The rows of a metric, by rater."""
    return metrics[metrics["metric"] == metric].set_index("rater", drop=False)


def _headline(metrics: pd.DataFrame, means: pd.DataFrame) -> str:
    """The best model by F1, how often models say yes, and agreement beside that between people."""
    f1, models = _of(metrics, "f1"), metrics[metrics["rater_kind"] == "model"]
    over = _of(models, "over_selection")
    best = f1.loc[_of(models, "f1")["estimate"].idxmax()]
    least = over.loc[over["estimate"].idxmin()]
    # The least of them, so that the sentence holds of every model.
    answer = "No, all select too much" if (over["ci_low"] > 1).all() else OPEN
    kappa = means[means["n"] > 0].set_index("pair")
    kappa = kappa.loc[[pair for pair in ("human–human", "human–model") if pair in kappa.index]]
    agree = "".join(f"; κ {pair} {interval(row, form='.2f')}" for pair, row in kappa.iterrows())
    return (
        f"{answer}: even {least['rater']} says yes {interval(least, form='.2f')} times as often "
        f"as the human majority. Best is {best['rater']}, F1 {interval(best, form='.2f')} (yes to "
        f"everything: {f1.loc['select_all', 'estimate']:.2f}; n = {best['n']:,}{agree})."
    )


def _agreement(means: pd.DataFrame) -> str:
    rows = [f"{row.pair} {interval(row)}" for row in means[means["n"] > 0].itertuples()]
    return "Mean pairwise κ: " + "; ".join(rows) + "."


def _selection(over: pd.Series, metrics: pd.DataFrame) -> str:
    ratio = f"it says yes {interval(over, form='.2f')} times as often as the human majority"
    rate = metrics[metrics["rater"] == over["rater"]].set_index("metric")["estimate"]
    price = f"recall {rate['recall']:.2f} comes with precision {rate['precision']:.2f}"
    too_much = f"Yes: {ratio}; {price}."
    return side(over, too_much, f"No, too little: {ratio}.", f"Not shown: {ratio}.", than=1)


def _judges(f1: pd.DataFrame) -> list[tuple[str, str]]:
    """Of each model against saying yes to everything, then of the models against each other."""
    first = f1["contrast"].str.endswith(" − select_all")
    answers = []
    for row in pd.concat([f1[first], f1[~first]]).itertuples():
        a, b = row.contrast.split(" − ")
        other = "saying yes to everything" if b == "select_all" else b
        answers.append((f"Which is better, {a} or {other}?", _f1_difference(row)))
    return answers


def _difference(row) -> str:
    return f"{interval(row, form='+.3f')}, {tested(row)}"


def _f1_difference(row) -> str:
    """The better first, so that its difference is positive."""
    (a, b), values = row.contrast.split(" − "), (row.value_a, row.value_b)
    if row.estimate < 0:
        a, b, values = b, a, values[::-1]
        row = row._replace(estimate=-row.estimate, ci_low=-row.ci_high, ci_high=-row.ci_low)
    says = shown(row, f"{a} is better", f"{b} is better", "Not resolved by these data")
    apart = f"paired difference {_difference(row)}"
    return f"{says}: F1 {values[0]:.3f} ({a}) and {values[1]:.3f} ({b}), {apart}."


def _presentation(paired: pd.DataFrame) -> list[tuple[str, str]]:
    """Of each model that judged both one at a time and list-wise."""
    answers = []
    for row in list_wise(paired).itertuples():
        # Models saw attributes one at a time, people a whole page: some of the gap may lie in that.
        single = row.contrast.split(" − ")[0]
        less = f"Does {single} select less when it sees all attributes at once, as people did (R3)?"
        difference = f"{-row.estimate:+.2f} [{-row.ci_high:+.2f}, {-row.ci_low:+.2f}]"
        answer = (
            f"{side(row, 'Yes', 'No, more', 'Not shown')}: it says yes {row.value_b:.2f} instead "
            f"of {row.value_a:.2f} times as often as the human majority ({difference})."
        )
        answers.append((less, answer))
    return answers


def _trained(versus: pd.DataFrame) -> list[tuple[str, str]]:
    """Of disjoint classifiers against the best model, alone and with it; of the random split."""
    against: dict[bool, list[str]] = {False: [], True: []}
    told = versus[(versus["metric"] == "f1") & (versus["compared"] == "a model")]
    judge = told["contrast"].str.split(" − ").str[0]
    # A classifier is held against the better of the models.
    told = told.loc[told.groupby(judge, sort=False)["value_b"].idxmax()]
    for row in told.itertuples():
        against[" & " in row.contrast].append(_f1_difference(row))
    leaks = versus[versus["compared"] == "its disjoint split"]
    leaks = leaks[leaks["metric"].isin(["f1", "auprc"])]
    flattered = []
    for contrast, rows in leaks.groupby("contrast", sort=False):
        said = [f"{row.metric.upper()} {_difference(row)}" for row in rows.itertuples()]
        flattered.append(f"{contrast}: {', '.join(said)}.")
    fell = "With the folds of this seed, on which it depends: "
    beats = "Does a trained classifier beat the best model, on prompts or users new to it?"
    gains = "Does a model gain where the classifier must confirm its yes?"
    return [
        (beats, fell + " ".join(against[False])),
        (gains, fell + " ".join(against[True])),
        ("How much does a random split flatter it (R7)?", " ".join(flattered)),
    ]


def _retrieval(scored: pd.DataFrame) -> str:
    ranked = _of(scored, "auprc")
    # A ranking without knowledge has the share of relevant pairs as its AUPRC.
    chance = _of(scored, "prevalence")["estimate"].iloc[0]
    found = ", ".join(f"{row.rater} {interval(row)}" for row in ranked.itertuples())
    better = f"{(ranked['ci_low'] > chance).sum()} of {len(ranked)} do better than chance"
    return f"{better}: AUPRC {found} where chance gives {chance:.3f}."


def stand_in(
    replacement: pd.DataFrame | None,
    latent: pd.DataFrame | None = None,
    few_labels: pd.DataFrame | None = None,
) -> pd.DataFrame:
    """Whether models may stand in for people: ``question answer``, of what was computed.

    The arguments are of ``gap.alternative_annotator_test``, ``latent_truth`` and
    ``prediction_powered_mean``.
    """
    answers = []
    if replacement is not None:
        rates = replacement[replacement["metric"] == "winning rate"].set_index("rater")
        means = _of(replacement, "mean advantage probability")
        said = [
            f"{rater}: {'yes' if row.estimate >= 0.5 else 'not shown'}, as good as "
            f"{row.estimate * row.n:.0f} of {row.n:.0f} (advantage probability "
            f"{interval(means.loc[rater], form='.2f')})"
            for rater, row in rates.iterrows()
        ]
        answers.append(("May a model stand in for one of the people?", "; ".join(said) + "."))
    if latent is not None:
        f1 = latent[(latent["metric"] == "f1") & (latent["truth"] == "difference")]
        said = [f"{r.rater} {interval(r, form='+.3f')}, {p(r.p_value)}" for r in f1.itertuples()]
        question = (
            "Do models look better against the truth behind people who err than against "
            "their majority?"
        )
        told = f"F1 against the one less F1 against the other (p {correction(f1['family'])})"
        answers.append((question, f"{told}: {'; '.join(said)}."))
    if few_labels is not None:
        gain = few_labels[few_labels["metric"] == "gain"]
        said = [f"with {row.rater} {row.estimate:.2f}" for row in gain.itertuples()]
        question = "How many labels of people is one worth where a model judges all pairs?"
        where = f"Where people judged {gain['n'].iloc[0]:,.0f}"
        answers.append((question, f"{where}: {', '.join(said)}."))
    return table(answers).replace(READABLE, regex=True)


def extraction(
    contrasts: pd.DataFrame,
    agreement: pd.DataFrame,
    verifier: pd.DataFrame,
    failures: pd.DataFrame | None,
    strategies: pd.DataFrame | None,
) -> pd.DataFrame:
    """Answers to the questions of the extraction notebook, from its tables of these names.

    The first of ``agreement`` is between people; ``failures`` and ``strategies`` are None without a
    model.
    """
    gap = contrasts.iloc[0]
    held = shown(gap, "No, of real people less often", "Of real people more often", OPEN)
    points = f"{interval(gap, form='+.1f')} points problematic"
    between = f"Mean pairwise κ {interval(agreement.iloc[0])}."
    hold = "Do inferred attributes hold, of real people as of simulated ones?"
    answers = [
        (hold, f"{held}: {points}, {tested(gap)}, n = {gap['n']:,.0f}."),
        ("How well do people agree on what is problematic?", between),
    ]
    for row in contrasts.itertuples():
        differ = shown(row, "Yes, more", "Yes, fewer", "Not resolved")
        change = f"{differ}: {interval(row, form='.2f')} points, {tested(row)}."
        contrast = row.contrast.replace("log2_turns", "number of turns")
        answers.append((f"Problematic attributes, {contrast}: do they differ?", change))
    f1 = _of(verifier, "f1")
    # Where most are problematic, flagging all has a high F1 without knowing anything (R5).
    trained, everything = f1.loc["trained verifier"], f1.loc["select_all", "estimate"]
    better = "Better" if trained["ci_low"] > everything else "Not shown to be better"
    found = f"{better} than flagging all: F1 {interval(trained)} where that has {everything:.3f}."
    answers.append(("Does a trained verifier find the problems?", found))
    if failures is not None and strategies is not None:
        broken = failures[(failures["step"] == "extract") & (failures["estimate"] > 0)]
        said = f"Outputs with a problem: {listed(broken, 'problem') or 'none'}."
        answers.append(("Which outputs of the extractor cannot be read?", said))
        measured = strategies["metric"].isin(["accepted", "useful", "covered"])
        # What was extracted covers itself, by definition.
        itself = (strategies["metric"] == "covered") & (strategies["strategy"] == "as extracted")
        for name, rows in strategies[measured & ~itself].groupby("strategy", sort=False):
            becomes = f"What becomes of the attributes, {name}?"
            answers.append((becomes, f"Shares: {listed(rows, 'metric')}."))
    return table(answers)


def response(
    summary: pd.DataFrame,
    inflation: pd.DataFrame,
    correlations: pd.DataFrame,
    effects: pd.DataFrame,
) -> pd.DataFrame:
    """Answers to the questions of the response notebook, from its tables: ``question answer``."""
    people = summary[summary["rater"] == "human"].set_index("metric")
    mean = people.loc["mean rating"]
    better = side(mean, "Yes", "No, worse", "Not resolved", than=3)
    rated = f"{better}: rated {interval(mean, form='.2f')} where 3 is no difference."
    worse = interval(people.loc["no better"], form=".1%")
    by_response = interval(people.loc["no better, by response"], form=".1%")
    as_judged = "Do people like personalized responses as much as model judges say?"
    answers = [
        (as_judged, _liked(mean, inflation)),
        ("Do people find personalized responses better?", rated),
        ("How often no better?", f"{worse} of judgments, {by_response} of responses."),
    ]
    for row in inflation.itertuples():
        rates = shown(row, "No, higher", "No, lower", "Not shown to differ")
        above = f"{rates}: {interval(row, form='.2f')} points above people, {tested(row)}."
        answers.append((f"Does {row.rater} rate as people do?", above))
    ceilings = _of(correlations, "ceiling")
    ranked = _of(correlations, "spearman")
    for rater, row in ranked[ranked["rater_kind"] == "model"].iterrows():
        # People disagree with one another, so that no judge can reach a correlation of 1 with them.
        most = row["note"] or f"a perfect judge would have {interval(ceilings.loc[rater])}"
        ranks = f"How well does {rater} rank, beside people?"
        answers.append((ranks, f"ρ {interval(row)}; {most}."))
    for covariate, what in EFFECTS.items():
        said = listed(effects[effects["metric"] == covariate], "rater")
        moved = f"In points: {said}." if said else "It never varied, so nobody can tell (R11)."
        answers.append((f"How far does {what} move ratings?", moved))
    return table(answers)


def _liked(people: pd.Series, inflation: pd.DataFrame) -> str:
    """Of each judge, how far its mean rating lies from that of people."""
    apart = inflation[(inflation["ci_low"] > 0) | (inflation["ci_high"] < 0)]
    answer = "No, less" if (apart["estimate"] > 0).all() else "No, not the same"
    said = [f"{row.rater} {interval(row, form='+.2f')} above that" for row in apart.itertuples()]
    for row in inflation.drop(apart.index).itertuples():
        said.append(f"{row.rater} not shown to differ ({interval(row, form='+.2f')})")
    return (
        f"{OPEN if apart.empty else answer}: people rate {interval(people, form='.2f')} (3: no "
        f"difference; n = {people['n']:,.0f}); {'; '.join(said)}."
    )
