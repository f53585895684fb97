"""Verdicts on persona effects and on the checks of such an experiment."""

from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np
import pandas as pd

from personagap.personas import CONTROLS
from personagap.spelling import entries, words
from personagap.verdicts.wording import ALPHA, HEADLINE, OPEN, debiased, interval, pb, table, tested

#: Percent of the median persona's answers, unreadable or cut off, above which a verdict says so
#: first; and the columns of ``effects.rates`` that count them.
MUCH = 20
LOST = {"invalid_rate": "unreadable", "truncation_rate": "cut off"}
CHECKS = {row["check"]: row["question"] for row in entries("persona_checks")}


def persona_effects(
    bias: pd.DataFrame, contrasts: pd.DataFrame, rates: pd.DataFrame, power: pd.DataFrame
) -> pd.DataFrame:
    """Answers to the questions of the personalization-bias notebook, from results of ``effects``.

    ``power`` is that of ``effects.detectable``, the others of the functions of these names.
    """
    lost = rates.groupby("task", sort=False)[list(LOST)].median()
    # The joint PB is at least that of each task, so what is not excluded of one is not excluded of
    # all.
    ends = bias["ci_high"].mask(bias["dimension"] == "joint", bias["ci_high"].max())
    bias = bias.assign(ci_high=ends, p_value=bias.get("p_adjusted", bias["p_value"]))
    answers = [(HEADLINE, _headline(bias, contrasts, _caveat("joint", lost)))]
    for row in bias.itertuples():
        depends = f"Does {_task(row.dimension)} depend on the identity stated?"
        answers.append((depends, _bias(row, _caveat(row.dimension, lost))))
    for task, rows in _of_identities(contrasts):
        which = f"Which identities differ from no system prompt on {_task(task)}?"
        answers.append((which, _differences(rows)))
    answers.append(("What is the smallest effect that these data can show?", _power(power)))
    readable = "How much of the probability falls on the choices?"
    if "choice_mass" not in rates:
        readable = "Are some identities' answers read or cut off less well?"
    return table([*answers, (readable, _validity(rates))])


def control(described: Mapping[str, Any]) -> pd.DataFrame:
    """Whether "none" is without a system prompt, by ``describe()`` of a model; no row if it is."""
    own = described.get("default_system_prompt")
    if not own:
        return table([])
    answer = (
        f"No: where none is given, the chat template of {described['model']} states one of its "
        f"own ({own!r}). A difference from the control none is one from that prompt; the control "
        "empty gives an explicit empty one."
    )
    return table([("Is the control none without a system prompt?", answer)])


def persona_checks(**checks: pd.DataFrame | None) -> pd.DataFrame:
    """Answers to `CHECKS`, from tables as of ``effects.contrasts``; none of a check not made."""
    unknown = sorted(checks.keys() - CHECKS.keys())
    assert not unknown, f"no question in CHECKS for {unknown}"
    answers = []
    for name, question in CHECKS.items():
        rows = checks.get(name)
        if rows is None or rows.empty:
            continue
        # Additivity is about sums.
        rows = rows[~rows["contrast"].str.endswith("average of parts")]
        named = rows["task"].map(_task) + ", " + rows["contrast"].str.removesuffix(" of parts")
        answers.append((question, _differences(rows.assign(contrast=named))))
    return table(answers)


def judge_corrected(
    card: pd.DataFrame | None, corrected: Mapping[str, pd.DataFrame] | None
) -> pd.DataFrame:
    """What safety is without the judge's errors.

    From its card and ``effects.judge_corrected`` of ``rates`` and ``bias``; None: not measured.
    """
    question = "How safe are the answers, corrected for the judge's errors?"
    return table([(question, _corrected(card, corrected))])


def _corrected(card: pd.DataFrame | None, corrected: Mapping[str, pd.DataFrame] | None) -> str:
    if card is None or corrected is None:
        return (
            "Cannot be told: this judge was never measured. Label some answers, and give "
            "their file as labelled."
        )
    rates = corrected["rates"]
    if rates["estimate"].isna().all():
        return (
            "Safety cannot be told: the judge is too poor (sensitivity + specificity − 1 "
            f"is {rates['youden'].iloc[0]:.2f})."
        )
    # Of the control alone: how identities differ from it is told by the spread.
    parts = [
        f"{_task(row.task)} {row.raw:.1f} → {interval(row, form='.1f')}%"
        for row in rates[rates["persona"] == "none"].itertuples()
    ]
    spreads = [
        f"{_task(row.dimension)} {pb(row.raw):.2f} → {pb(row.estimate):.2f}"
        f" (at most {pb(row.ci_high):.2f})"
        for row in corrected["bias"].itertuples()
    ]
    told = (
        f"Without a system prompt, raw → corrected: {'; '.join(parts)}. Debiased PB in "
        f"points: {'; '.join(spreads)}."
    )
    # The worst model, as the one that was asked may be like it (S21).
    found = card[(card["by"] == "model") & (card["metric"] == "sensitivity")]["estimate"]
    if len(found):
        worst = f"{100 * found.min():.0f}% of the harmless answers of the worst model on its card"
        told += f" The judge finds {worst}."
    return told


def requests(counts: pd.DataFrame) -> pd.DataFrame:
    """Whether requests failed, of the counts of ``ask.unanswered``; no row if none did."""
    failed = counts[counts["failed"] > 0]
    if failed.empty:
        return table([])
    left = [f"{row.complete} of {row.items} {words(row.task)}" for row in failed.itertuples()]
    answer = (
        f"No: {failed['failed'].sum():,} of {counts['requests'].sum():,} requests failed and count "
        "as missing, not wrong. A comparison leaves out the items that some of those compared got "
        f"no answer to; everybody, controls included, got one to {', '.join(left)} items. Run "
        "again to ask the rest."
    )
    return table([("Was every request answered?", answer)])


def _task(name: str) -> str:
    return "any task (joint)" if name == "joint" else words(name)


def _who(contrast: str) -> str:
    return words(contrast.split(" − ")[0])


def _of_identities(contrasts: pd.DataFrame) -> Iterable[tuple[str, pd.DataFrame]]:
    """By task, the contrasts of an identity, not those of the other control."""
    return contrasts[~contrasts["contrast"].map(_who).isin(CONTROLS)].groupby("task", sort=False)


def _caveat(dimension: str, lost: pd.DataFrame) -> str:
    """What comes first if much of a task cannot be read: then bias may be one of form alone."""
    # Of the median persona: what one identity alone loses is a finding of its own.
    rows, parts = lost if dimension == "joint" else lost[lost.index == dimension], []
    for column, what in LOST.items():
        if (most := rows[column].max()) > MUCH:
            where = f" in {words(rows[column].idxmax())}" if dimension == "joint" else ""
            parts.append(f"{most:.0f}% {what}{where}")
    return f"median persona: {', '.join(parts)}" if parts else ""


def _bias(row, caveat: str = "") -> str:
    but = f" ({caveat})" if caveat else ""
    # A floor of 0 is no proof of equality: the test has nothing to permute, and PB is 0 by itself.
    if row.noise_floor == 0:
        alike = f"all answers to each of the {row.n_items} items scored alike, right or wrong"
        return f"Cannot be told{but}: {alike}."
    noise = f"no effect would give {row.noise_floor:.2f} ({tested(row)}, {row.n_items} items)"
    observed = f"PB {row.pb:.2f} points where {noise}"
    if row.p_value < ALPHA:
        doubt = f", but perhaps in the format of answers alone{but}" if caveat else ""
        return f"Yes{doubt}: {observed}; {debiased(row)}."
    excluded = f"an effect up to {pb(row.ci_high):.2f} points is not excluded"
    return f"Not distinguishable from noise{but}: {observed}; {excluded}."


def _headline(bias: pd.DataFrame, contrasts: pd.DataFrame, caveat: str) -> str:
    """The joint PB and, where there is one, the identity that is farthest from no system prompt."""
    joint = bias[bias["dimension"] == "joint"].iloc[0]
    if joint["noise_floor"] == 0:
        return f"{OPEN}: all answers to each of the {joint['n_items']} items scored alike."
    basis = f"{tested(joint)}, {joint['n_items']} items, {joint['n_identities']} identities"
    if joint["p_value"] >= ALPHA:
        # Never "no": what these data do not exclude is said in points.
        spread = debiased(joint, "PB corrected for noise ")
        excluded = f"an effect up to {pb(joint['ci_high']):.2f} points is not excluded"
        return f"{OPEN}: {spread} points ({basis}); {excluded}."
    doubt = f", but perhaps in the format of answers alone ({caveat})" if caveat else ""
    spread = f"a spread (PB) of {debiased(joint, '')} points between identities"
    said = f"Yes{doubt}: {spread} ({basis})"
    # The largest of many differences is picked, so its interval must hold for all at once.
    rows = _at_once(pd.concat([rows for _, rows in _of_identities(contrasts)]))
    found = rows[rows["p_adjusted"] < ALPHA]
    if found.empty:
        return f"{said}; no single identity is shown to differ from no system prompt."
    row = found.loc[found["estimate"].abs().idxmax()]
    where = f"{_who(row['contrast'])} in {_task(row['task'])}, {interval(row, form='+.1f')}"
    return f"{said}. Farthest from no system prompt: {where}."


def _power(power: pd.DataFrame) -> str:
    """An infinite size is one that this design never shows; without any noise none is known."""
    parts = []
    for row in power.itertuples():
        contrast = _size(row.smallest_contrast_holm, " points")
        told = f"{contrast} of one identity, PB {_size(row.smallest_pb)}"
        if np.isnan(row.smallest_pb):
            told = "cannot be told, as all answers to each item scored alike"
        parts.append(f"{_task(row.task)} {told}")
    return f"With 80 % power, after Holm's correction: {'; '.join(parts)}."


def _size(value: float, unit: str = "") -> str:
    return f"{value:.1f}{unit}" if np.isfinite(value) else "none"


def _at_once(rows: pd.DataFrame) -> pd.DataFrame:
    """With intervals that hold for all identities of a task at once, if any: one may be picked."""
    if "simultaneous_low" not in rows:
        return rows
    return rows.assign(ci_low=rows["simultaneous_low"], ci_high=rows["simultaneous_high"])


def _differences(rows: pd.DataFrame) -> str:
    # Named, not left out: an identity that a filter silences would pass for one like the others.
    untold = rows.loc[rows["estimate"].isna(), "contrast"].map(_who)
    lacking = ""
    if len(untold):
        lacking = f" Not compared, for want of answers that say anything: {', '.join(untold)}."
    rows = _at_once(rows[rows["estimate"].notna()])
    if rows.empty:
        return f"Cannot be told.{lacking}"
    found = rows[rows["p_adjusted"] < ALPHA].sort_values("estimate", key=abs, ascending=False)
    count = f"{len(found)} of {len(rows)} after Holm's correction"
    if found.empty:
        # The widest holds for all, where a mean would promise too much of some.
        widest = (rows["ci_high"] - rows["ci_low"]).max() / 2
        return f"None ({count}); each difference is known to within ±{widest:.1f} points.{lacking}"
    top = found[:3].itertuples()
    largest = "; ".join(f"{_who(row.contrast)} {interval(row, form='+.1f')}" for row in top)
    # Tests find that differences lean one way; of few large ones among many small their mean is
    # known less well.
    doubtful = int(((found["ci_low"] <= 0) & (found["ci_high"] >= 0)).sum())
    yet = ""
    if doubtful:
        yet = f"; the mean difference may still be 0 in {doubtful} of these, by their intervals"
    return f"{count}{yet}, the largest: {largest} points.{lacking}"


def _validity(rates: pd.DataFrame) -> str:
    if "choice_mass" in rates:
        mass = rates["choice_mass"]
        ends = [
            f"{row['choice_mass']:.1f}% ({words(row['persona'])}, {_task(row['task'])})"
            for row in (rates.loc[mass.idxmin()], rates.loc[mass.idxmax()])
        ]
        right = (
            f"The likeliest choice is right in {rates['accuracy'].median():.1f}% (median persona)."
        )
        return f"From {' to '.join(ends)}; scores are normalised over the choices. {right}"
    sentences = []
    for column, what in LOST.items():
        worst = rates.loc[rates[column].idxmax()]
        if worst[column] == 0:
            sentences.append(f"no answer was {what}")
        else:
            typical = rates.loc[rates["task"] == worst["task"], column].median()
            whose = f"{words(worst['persona'])}, {_task(worst['task'])}"
            most = f"at most {worst[column]:.1f}% ({whose}; median persona {typical:.1f}%)"
            sentences.append(f"{what}: {most}")
    return "; ".join(sentences).capitalize() + "."
