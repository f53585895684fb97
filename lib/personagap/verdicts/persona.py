"""Verdicts on persona effects and on the checks of such an experiment."""

from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np
import pandas as pd

from personagap.formatting import humanize, word_table
from personagap.schema import CONTROLS
from personagap.verdicts.wording import (
    ALPHA,
    HEADLINE,
    OPEN,
    debiased,
    interval,
    p_text,
    pb,
    table,
)

#: A verdict begins with a caveat if more than this percentage of the median persona's answers is
#: unreadable or cut off; and the columns of ``effects.rates`` that count these.
MAX_LOST = 20
LOST = {"invalid_rate": "unreadable", "truncation_rate": "cut off"}
CHECKS = {row["check"]: row["question"] for row in word_table("persona_checks")}


def persona_effects(
    bias: pd.DataFrame, contrasts: pd.DataFrame, rates: pd.DataFrame, power: pd.DataFrame
) -> pd.DataFrame:
    """Answer the questions of the personalization-bias notebook, from results of ``effects``.

    ``power`` is ``effects.detectable``; ``bias`` is ``effects.personalization_bias``; ``contrasts``
    and ``rates`` are from the functions of the same names.
    """
    lost = rates.groupby("task", sort=False)[list(LOST)].median()
    # The joint PB is at least that of any task, so its upper limit is at least each task's.
    ends = bias["ci_high"].mask(bias["dimension"] == "joint", bias["ci_high"].max())
    bias = bias.assign(ci_high=ends, p_value=bias.get("p_adjusted", bias["p_value"]))
    answers = [(HEADLINE, _headline(bias, contrasts, _caveat("joint", lost)))]
    for row in bias.itertuples():
        question = f"Does {_task(row.dimension)} depend on the identity stated?"
        answers.append((question, _bias(row, _caveat(row.dimension, lost))))
    for task, rows in _of_identities(contrasts):
        question = f"Which identities differ from no system prompt on {_task(task)}?"
        answers.append((question, _differences(rows)))
    answers.append(("What is the smallest effect that these data can show?", _power(power)))
    question = "How much of the probability falls on the choices?"
    if "choice_mass" not in rates:
        question = "Are some identities' answers read or cut off less well?"
    return table([*answers, (question, _validity(rates))])


def control(described: Mapping[str, Any]) -> pd.DataFrame:
    """Warn if "none" has a system prompt after all, by ``describe()`` of a model; else no row."""
    text = described.get("default_system_prompt")
    if not text:
        return table([])
    answer = (
        f"No: where none is given, the chat template of {described['model']} states one of its "
        f"own ({text!r}). A difference from the control none is one from that prompt; the control "
        "empty gives an explicit empty one."
    )
    return table([("Is the control none without a system prompt?", answer)])


def persona_checks(**checks: pd.DataFrame | None) -> pd.DataFrame:
    """Answer the questions of `CHECKS` from tables like ``effects.contrasts``.

    A check without a table, or with an empty one, gets no row.
    """
    unknown = sorted(checks.keys() - CHECKS.keys())
    assert not unknown, f"no question in CHECKS for {unknown}"
    answers = []
    for name, question in CHECKS.items():
        rows = checks.get(name)
        if rows is None or rows.empty:
            continue
        # Additivity is judged by the sum of the parts, not by their average.
        rows = rows[~rows["contrast"].str.endswith("average of parts")]
        names = rows["task"].map(_task) + ", " + rows["contrast"].str.removesuffix(" of parts")
        answers.append((question, _differences(rows.assign(contrast=names))))
    return table(answers)


def judge_corrected(
    card: pd.DataFrame | None, corrected: Mapping[str, pd.DataFrame] | None
) -> pd.DataFrame:
    """Answer how safe the answers are once the judge's errors are corrected for.

    ``card`` is that of the judge, ``corrected`` has ``effects.judge_corrected`` of "rates" and
    "bias"; None if the judge's errors were never measured.
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
    # The level of the control alone; differences between identities are summarized by the spread.
    parts = [
        f"{_task(row.task)} {row.raw:.1f} → {interval(row, form='.1f')}%"
        for row in rates[rates["persona"] == "none"].itertuples()
    ]
    spreads = [
        f"{_task(row.dimension)} {pb(row.raw):.2f} → {pb(row.estimate):.2f}"
        f" (at most {pb(row.ci_high):.2f})"
        for row in corrected["bias"].itertuples()
    ]
    text = (
        f"Without a system prompt, raw → corrected: {'; '.join(parts)}. Debiased PB in "
        f"points: {'; '.join(spreads)}."
    )
    # The worst case over models, since the model asked may be as hard to judge (S21).
    shares = card[(card["by"] == "model") & (card["metric"] == "sensitivity")]["estimate"]
    if len(shares):
        worst = f"{100 * shares.min():.0f}% of the harmless answers of the worst model on its card"
        text += f" The judge finds {worst}."
    return text


def requests(counts: pd.DataFrame) -> pd.DataFrame:
    """Say how many requests failed, by the counts of ``ask.unanswered``; no row if none did."""
    failed = counts[counts["failed"] > 0]
    if failed.empty:
        return table([])
    complete = [
        f"{row.complete} of {row.items} {humanize(row.task)}" for row in failed.itertuples()
    ]
    answer = (
        f"No: {failed['failed'].sum():,} of {counts['requests'].sum():,} requests failed and count "
        "as missing, not wrong. A comparison leaves out the items that some of those compared got "
        f"no answer to; everybody, controls included, got one to {', '.join(complete)} items. Run "
        "again to ask the rest."
    )
    return table([("Was every request answered?", answer)])


def _task(name: str) -> str:
    return "any task (joint)" if name == "joint" else humanize(name)


def _who(contrast: str) -> str:
    return humanize(contrast.split(" − ")[0])


def _of_identities(contrasts: pd.DataFrame) -> Iterable[tuple[str, pd.DataFrame]]:
    """Group the contrasts of identities by task, leaving out those between controls."""
    return contrasts[~contrasts["contrast"].map(_who).isin(CONTROLS)].groupby("task", sort=False)


def _caveat(dimension: str, lost: pd.DataFrame) -> str:
    """Say that many answers to a task cannot be read, so that its bias may be one of format alone.

    "" if few are lost.
    """
    # By the median persona: losses of a single identity are a finding, not a caveat.
    rows, parts = lost if dimension == "joint" else lost[lost.index == dimension], []
    for column, what in LOST.items():
        if (most := rows[column].max()) > MAX_LOST:
            where = f" in {humanize(rows[column].idxmax())}" if dimension == "joint" else ""
            parts.append(f"{most:.0f}% {what}{where}")
    return f"median persona: {', '.join(parts)}" if parts else ""


def _bias(row, caveat: str = "") -> str:
    """Say whether a task shows PB, and how much."""
    note = f" ({caveat})" if caveat else ""
    # A noise floor of 0 does not prove equality: without variation there is nothing to permute.
    if row.noise_floor == 0:
        alike = f"all answers to each of the {row.n_items} items scored alike, right or wrong"
        return f"Cannot be told{note}: {alike}."
    noise = f"no effect would give {row.noise_floor:.2f} ({p_text(row)}, {row.n_items} items)"
    observed = f"PB {row.pb:.2f} points where {noise}"
    if row.p_value < ALPHA:
        doubt = f", but perhaps in the format of answers alone{note}" if caveat else ""
        return f"Yes{doubt}: {observed}; {debiased(row)}."
    excluded = f"an effect up to {pb(row.ci_high):.2f} points is not excluded"
    return f"Not distinguishable from noise{note}: {observed}; {excluded}."


def _headline(bias: pd.DataFrame, contrasts: pd.DataFrame, caveat: str) -> str:
    """State the joint PB and, if significant, the identity farthest from no system prompt."""
    joint = bias[bias["dimension"] == "joint"].iloc[0]
    if joint["noise_floor"] == 0:
        return f"{OPEN}: all answers to each of the {joint['n_items']} items scored alike."
    basis = f"{p_text(joint)}, {joint['n_items']} items, {joint['n_identities']} identities"
    if joint["p_value"] >= ALPHA:
        # Never a plain "no": state the largest effect that the data do not exclude.
        spread = debiased(joint, "PB corrected for noise ")
        excluded = f"an effect up to {pb(joint['ci_high']):.2f} points is not excluded"
        return f"{OPEN}: {spread} points ({basis}); {excluded}."
    doubt = f", but perhaps in the format of answers alone ({caveat})" if caveat else ""
    spread = f"a spread (PB) of {debiased(joint, '')} points between identities"
    answer = f"Yes{doubt}: {spread} ({basis})"
    # The largest of many differences is selected, so its interval has to be simultaneous.
    rows = _simultaneous(pd.concat([rows for _, rows in _of_identities(contrasts)]))
    significant = rows[rows["p_adjusted"] < ALPHA]
    if significant.empty:
        return f"{answer}; no single identity is shown to differ from no system prompt."
    row = significant.loc[significant["estimate"].abs().idxmax()]
    where = f"{_who(row['contrast'])} in {_task(row['task'])}, {interval(row, form='+.1f')}"
    return f"{answer}. Farthest from no system prompt: {where}{_together(rows)}."


def _power(power: pd.DataFrame) -> str:
    """State the smallest detectable effects.

    Infinite where the design can never detect one, NaN where the data have no noise to estimate it.
    """
    parts = []
    for row in power.itertuples():
        contrast = _size(row.smallest_contrast_holm, " points")
        text = f"{contrast} of one identity, PB {_size(row.smallest_pb)}"
        if np.isnan(row.smallest_pb):
            text = "cannot be told, as all answers to each item scored alike"
        parts.append(f"{_task(row.task)} {text}")
    return f"With 80 % power, after Holm's correction: {'; '.join(parts)}."


def _size(value: float, unit: str = "") -> str:
    return f"{value:.1f}{unit}" if np.isfinite(value) else "none"


def _simultaneous(rows: pd.DataFrame) -> pd.DataFrame:
    """Use the intervals that hold for all identities of a task at once, if there are any."""
    if "simultaneous_low" not in rows:
        return rows
    return rows.assign(ci_low=rows["simultaneous_low"], ci_high=rows["simultaneous_high"])


def _together(rows: pd.DataFrame) -> str:
    """Say so where an interval is `_simultaneous`: tables and figures show narrower ones."""
    return " (simultaneous interval)" if "simultaneous_low" in rows else ""


def _differences(rows: pd.DataFrame) -> str:
    """Name the largest significant contrasts, and the identities that could not be compared."""
    # Identities without answers are named: one silenced by a filter must not pass for unaffected.
    missing = rows.loc[rows["estimate"].isna(), "contrast"].map(_who)
    not_compared = ""
    if len(missing):
        names = ", ".join(missing)
        not_compared = f" Not compared, for want of answers that say anything: {names}."
    rows = _simultaneous(rows[rows["estimate"].notna()])
    if rows.empty:
        return f"Cannot be told.{not_compared}"
    significant = rows[rows["p_adjusted"] < ALPHA].sort_values("estimate", key=abs, ascending=False)
    count = f"{len(significant)} of {len(rows)} after Holm's correction"
    if significant.empty:
        # The widest interval covers all differences; a mean width would understate some.
        widest = (rows["ci_high"] - rows["ci_low"]).max() / 2
        known = f"each difference is known to within ±{widest:.1f} points"
        precision = f"{known}{_together(rows)}.{not_compared}"
        return f"None ({count}); {precision}"
    top = significant[:3].itertuples()
    largest = "; ".join(f"{_who(row.contrast)} {interval(row, form='+.1f')}" for row in top)
    # The tests detect that item differences lean one way; their mean is known less well if few
    # large differences stand among many small ones.
    doubtful = int(((significant["ci_low"] <= 0) & (significant["ci_high"] >= 0)).sum())
    caveat = ""
    if doubtful:
        caveat = f"; the mean difference may still be 0 in {doubtful} of these, by their intervals"
    return f"{count}{caveat}, the largest: {largest} points{_together(rows)}.{not_compared}"


def _validity(rates: pd.DataFrame) -> str:
    """Say how much of the answers, or of the probability, could be scored."""
    if "choice_mass" in rates:
        mass = rates["choice_mass"]
        extremes = [
            f"{row['choice_mass']:.1f}% ({humanize(row['persona'])}, {_task(row['task'])})"
            for row in (rates.loc[mass.idxmin()], rates.loc[mass.idxmax()])
        ]
        accuracy = f"{rates['accuracy'].median():.1f}% (median persona)"
        right = f"The likeliest choice is right in {accuracy}."
        return f"From {' to '.join(extremes)}; scores are normalised over the choices. {right}"
    sentences = []
    for column, what in LOST.items():
        worst = rates.loc[rates[column].idxmax()]
        if worst[column] == 0:
            sentences.append(f"no answer was {what}")
        else:
            typical = rates.loc[rates["task"] == worst["task"], column].median()
            whose = f"{humanize(worst['persona'])}, {_task(worst['task'])}"
            most = f"at most {worst[column]:.1f}% ({whose}; median persona {typical:.1f}%)"
            sentences.append(f"{what}: {most}")
    return "; ".join(sentences).capitalize() + "."
