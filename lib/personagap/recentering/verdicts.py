"""Verdicts on judgments of relevance, and the text alternatives of their figures."""

import pandas as pd

from personagap.verdicts.wording import (
    ALPHA,
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
READABLE = {
    r"\bbm25\b": "BM25",
    r"\btfidf\b": "TF-IDF",
    r"_list\b": " list-wise",
    r"\bselect_all\b": "yes to all",
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
    best, least = (
        f1.loc[_of(models, "f1")["estimate"].idxmax()],
        over.loc[over["estimate"].idxmin()],
    )
    answer = "No, all select too much" if (over["ci_low"] > 1).all() else OPEN
    kappa = means[means["n"] > 0].set_index("pair")
    kappa = kappa.loc[[pair for pair in ("human–human", "human–model") if pair in kappa.index]]
    agree = "".join(f"; κ {pair} {interval(row, form='.2f')}" for pair, row in kappa.iterrows())
    return (
        f"{answer}: even {least['rater']} says yes {interval(least, form='.2f')} times as "
        "often as the human majority. "
        f"Best is {best['rater']}, F1 {interval(best, form='.2f')} (yes to everything: "
        f"{f1.loc['select_all', 'estimate']:.2f}; n = {best['n']:,}{agree})."
    )


def _agreement(means: pd.DataFrame) -> str:
    rows = [f"{row.pair} {interval(row)}" for row in means[means["n"] > 0].itertuples()]
    return "Mean pairwise κ: " + "; ".join(rows) + "."


def _selection(over: pd.Series, metrics: pd.DataFrame) -> str:
    ratio = f"it says yes {interval(over, form='.2f')} times as often as the human majority"
    recall, precision = (
        _of(metrics, name).loc[over["rater"], "estimate"] for name in ("recall", "precision")
    )
    too_much = f"Yes: {ratio}; recall {recall:.2f} comes with precision {precision:.2f}."
    return side(over, too_much, f"No, too little: {ratio}.", f"Not shown: {ratio}.", than=1)


def _judges(f1: pd.DataFrame) -> list[tuple[str, str]]:
    """Of each model against saying yes to everything, then of the models against each other."""
    against_all, between = [], []
    for row in f1.itertuples():
        a, b = row.contrast.split(" − ")
        if b == "select_all":
            against_all.append(
                (f"Which is better, {a} or saying yes to everything?", _f1_difference(row))
            )
        else:
            between.append((f"Which is better, {a} or {b}?", _f1_difference(row)))
    return against_all + between


def _difference(row) -> str:
    return f"{interval(row, form='+.3f')}, {tested(row)}"


def _f1_difference(row) -> str:
    """The better first, so that its difference is positive."""
    (a, b), values = row.contrast.split(" − "), (row.value_a, row.value_b)
    if row.estimate < 0:
        a, b, values = b, a, values[::-1]
        row = row._replace(estimate=-row.estimate, ci_low=-row.ci_high, ci_high=-row.ci_low)
    says = (
        f"{a} is better"
        if row.ci_low > 0 and row.p_adjusted < ALPHA
        else "Not resolved by these data"
    )
    return (
        f"{says}: F1 {values[0]:.3f} ({a}) and {values[1]:.3f} ({b}), paired difference "
        f"{_difference(row)}."
    )


def _presentation(paired: pd.DataFrame) -> list[tuple[str, str]]:
    """Of each model that judged both one at a time and list-wise."""
    answers = []
    for row in paired.itertuples():
        single, other = row.contrast.split(" − ")
        if other == f"{single}_list":
            difference = f"{-row.estimate:+.2f} [{-row.ci_high:+.2f}, {-row.ci_low:+.2f}]"
            ratios = (
                f"{row.value_b:.2f} instead of {row.value_a:.2f} times as often as the "
                "human majority"
            )
            question = (
                f"Does {single} select less when it sees all attributes at once, as "
                "people did (R3)?"
            )
            clear = side(row, "Yes", "No, more", "Not shown")
            answers.append((question, f"{clear}: it says yes {ratios} ({difference})."))
    return answers


def _trained(versus: pd.DataFrame) -> list[tuple[str, str]]:
    """Of the disjoint classifiers against the best model, alone and
    with it; and of the random split against them.
    """
    against: dict[bool, list[str]] = {False: [], True: []}
    told = versus[(versus["metric"] == "f1") & (versus["compared"] == "a model")]
    judge = told["contrast"].str.split(" − ").str[0]
    told = told.loc[told.groupby(judge, sort=False)["value_b"].idxmax()]  # the better model
    for row in told.itertuples():
        against[" & " in row.contrast].append(_f1_difference(row))
    leaks = versus[
        (versus["compared"] == "its disjoint split") & versus["metric"].isin(["f1", "auprc"])
    ]
    flattered = [
        f"{contrast}: "
        f"{', '.join(f'{row.metric.upper()} {_difference(row)}' for row in rows.itertuples())}."
        for contrast, rows in leaks.groupby("contrast", sort=False)
    ]
    fell = "With the folds of this seed, on which it depends: "
    beats = "Does a trained classifier beat the best model, on prompts or users new to it?"
    return [
        (beats, fell + " ".join(against[False])),
        (
            "Does a model gain where the classifier must confirm its yes?",
            fell + " ".join(against[True]),
        ),
        ("How much does a random split flatter it (R7)?", " ".join(flattered)),
    ]


def _retrieval(scored: pd.DataFrame) -> str:
    ranked, chance = (
        _of(scored, "auprc"),
        scored.loc[scored["metric"] == "prevalence", "estimate"].iloc[0],
    )
    found = ", ".join(f"{row.rater} {interval(row)}" for row in ranked.itertuples())
    above = (ranked["ci_low"] > chance).sum()
    return (
        f"{above} of {len(ranked)} do better than chance: AUPRC {found} where chance gives "
        f"{chance:.3f}."
    )


def stand_in(
    replacement: pd.DataFrame | None,
    latent: pd.DataFrame | None = None,
    few_labels: pd.DataFrame | None = None,
) -> pd.DataFrame:
    """Whether models may stand in for people: ``question
    answer``, no row for what was not computed.

    The arguments are of ``gap.alternative_annotator_test``, ``latent_truth`` and
    ``prediction_powered_mean``.
    """
    answers = []
    if replacement is not None:
        rates = replacement[replacement["metric"] == "winning rate"].set_index("rater")
        means = _of(replacement, "mean advantage probability")
        said = [
            f"{rater}: {'yes' if row.estimate >= 0.5 else 'not shown'}, as good as "
            f"{row.estimate * row.n:.0f} of "
            f"{row.n:.0f} (advantage probability {interval(means.loc[rater], form='.2f')})"
            for rater, row in rates.iterrows()
        ]
        answers.append(("May a model stand in for one of the people?", "; ".join(said) + "."))
    if latent is not None:
        f1 = latent[(latent["metric"] == "f1") & (latent["truth"] == "difference")]
        said = [
            f"{row.rater} {interval(row, form='+.3f')}, {p(row.p_value)}" for row in f1.itertuples()
        ]
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
        answers.append(
            (question, f"Where people judged {gain['n'].iloc[0]:,.0f}: {', '.join(said)}.")
        )
    return table(answers).replace(READABLE, regex=True)


EFFECTS = {
    "mention": "naming the attribute",
    "log2_length": "twice the length",
    "second": "standing second",
}


def extraction(
    contrasts: pd.DataFrame,
    agreement: pd.DataFrame,
    verifier: pd.DataFrame,
    failures: pd.DataFrame | None,
    strategies: pd.DataFrame | None,
) -> pd.DataFrame:
    """Answers to the questions of the extraction notebook, from its
    tables of these names: ``question answer``.

    The first of ``agreement`` is between people; ``failures`` and ``strategies`` are None without a
    model.
    """
    between = f"Mean pairwise κ {interval(agreement.iloc[0])}."
    gap = contrasts.iloc[0]
    difference = (
        f"{interval(gap, form='+.1f')} points problematic, {tested(gap)}, n = {gap['n']:,.0f}"
    )
    held = shown(gap, "No, of real people less often", "Of real people more often", OPEN)
    answers = [
        (
            "Do inferred attributes hold, of real people as of simulated ones?",
            f"{held}: {difference}.",
        )
    ]
    answers += [("How well do people agree on what is problematic?", between)]
    for row in contrasts.itertuples():
        differ = shown(row, "Yes, more", "Yes, fewer", "Not resolved")
        change = f"{differ}: {interval(row, form='.2f')} points, {tested(row)}."
        contrast = row.contrast.replace("log2_turns", "number of turns")
        answers.append((f"Problematic attributes, {contrast}: do they differ?", change))
    f1 = _of(verifier, "f1")
    trained, everything = f1.loc["trained verifier"], f1.loc["select_all", "estimate"]
    better = "Better" if trained["ci_low"] > everything else "Not shown to be better"
    found = f"{better} than flagging all: F1 {interval(trained)} where that has {everything:.3f}."
    answers.append(("Does a trained verifier find the problems?", found))
    if failures is not None and strategies is not None:
        broken = failures[(failures["step"] == "extract") & (failures["estimate"] > 0)]
        said = listed(broken, "problem") or "none"
        answers.append(
            ("Which outputs of the extractor cannot be read?", f"Outputs with a problem: {said}.")
        )
        measured = strategies[strategies["metric"].isin(["accepted", "useful", "covered"])]
        # 100 % by definition.
        itself = (measured["metric"] == "covered") & (measured["strategy"] == "as extracted")
        measured = measured[~itself]
        for name, rows in measured.groupby("strategy", sort=False):
            answers.append(
                (f"What becomes of the attributes, {name}?", f"Shares: {listed(rows, 'metric')}.")
            )
    return table(answers)


def response(
    summary: pd.DataFrame,
    inflation: pd.DataFrame,
    correlations: pd.DataFrame,
    effects: pd.DataFrame,
) -> pd.DataFrame:
    """Answers to the questions of the response notebook, from its tables: ``question answer``."""
    people = summary[summary["rater"] == "human"].set_index("metric")
    mean, worse, responses = (
        people.loc[name] for name in ("mean rating", "no better", "no better, by response")
    )
    better = side(mean, "Yes", "No, worse", "Not resolved", than=3)
    rated = f"{better}: rated {interval(mean, form='.2f')} where 3 is no difference."
    often = (
        f"{interval(worse, form='.1%')} of judgments, {interval(responses, form='.1%')} of "
        "responses."
    )
    answers = [
        (
            "Do people like personalized responses as much as model judges say?",
            _liked(mean, inflation),
        ),
        ("Do people find personalized responses better?", rated),
        ("How often no better?", often),
    ]
    for row in inflation.itertuples():
        rates = shown(row, "No, higher", "No, lower", "Not shown to differ")
        above = f"{rates}: {interval(row, form='.2f')} points above people, {tested(row)}."
        answers.append((f"Does {row.rater} rate as people do?", above))
    ceilings = _of(correlations, "ceiling")
    ranked = _of(correlations, "spearman")
    for rater, row in ranked[ranked["rater_kind"] == "model"].iterrows():
        most = row["note"] or f"a perfect judge would have {interval(ceilings.loc[rater])}"
        answers.append(
            (f"How well does {rater} rank, beside people?", f"ρ {interval(row)}; {most}.")
        )
    for covariate, what in EFFECTS.items():
        said = listed(effects[effects["metric"] == covariate], "rater")
        untested = "It never varied, so nobody can tell (R11)."
        answers.append(
            (f"How far does {what} move ratings?", f"In points: {said}." if said else untested)
        )
    return table(answers)


def _liked(people: pd.Series, inflation: pd.DataFrame) -> str:
    """Of each judge, how far its mean rating lies from that of people."""
    apart = inflation[(inflation["ci_low"] > 0) | (inflation["ci_high"] < 0)]
    rest = inflation.drop(apart.index)
    above = (apart["estimate"] > 0).all()
    answer = (
        ("No, less" if above else "No, not the same") if len(apart) else OPEN
    ) + ": people rate "
    said = [f"{row.rater} {interval(row, form='+.2f')} above that" for row in apart.itertuples()]
    said += [
        f"{row.rater} not shown to differ ({interval(row, form='+.2f')})"
        for row in rest.itertuples()
    ]
    return (
        answer + f"{interval(people, form='.2f')} (3: no difference; n = {people['n']:,.0f}); "
        f"{'; '.join(said)}."
    )
