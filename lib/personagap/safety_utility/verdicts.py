"""Verdicts on conditions: the effects of defences, and the training stage where bias arises."""

import pandas as pd

from personagap.formatting import humanize
from personagap.verdicts.wording import (
    ALPHA,
    HEADLINE,
    OPEN,
    debiased,
    interval,
    p_text,
    price_not_asked,
    table,
)

#: Non-inferiority margin: the loss of mean utility or safety, in points, that counts as harm.
MARGIN = 3


def mitigation(
    change: pd.DataFrame,
    against_placebo: pd.DataFrame | None = None,
    checks: pd.DataFrame | None = None,
) -> pd.DataFrame:
    """Answer the questions of the mitigation notebook: ``question answer``.

    A defence is called a remedy only if PB falls, no mean score loses `MARGIN` points
    (non-inferiority: the intervals of all means lie above that) and PB falls by more than with the
    placebo, where the two were compared. If PB and mean utility or safety fall together, the
    verdict says that the defence serves everybody worse (S13, S14). Near 0 and 100 % scores have
    less room to differ; whether PB falls by more than that is judged on log-odds.

    Parameters
    ----------
    change, against_placebo : ``effects.paired_change`` of defended scores, compared with undefended
        ones and with those under the placebo.
    checks : ``defences.check_neutralization``.
    """
    beyond: dict[str, bool] = {}
    if against_placebo is not None:
        beyond = {name: _falls(_pb(rows)) for name, rows in _conditions(against_placebo)}
        # The placebo cannot exceed itself.
        beyond |= dict.fromkeys(against_placebo["compared_with"], False)
    # Defences without a placebo comparison (tuning, neutralization) add no sentence to the prompt
    # whose mere presence could explain the effect.
    remedies = [
        (f"Is {humanize(name)} a remedy?", _remedy(rows, beyond.get(name, True)))
        for name, rows in _conditions(change)
    ]
    answers = [(HEADLINE, _headline(remedies, change)), *remedies]
    question = "Do identities come closer than higher or lower scores of all alone bring them?"
    answers.append((question, _log_odds(change)))
    if against_placebo is not None:
        question = "Do the prompt defences do more than any further sentence?"
        answers.append((question, _placebo(against_placebo)))
    if checks is not None:
        question = "How well does neutralization keep what a request needs, and nothing else?"
        answers.append((question, _neutralization(checks)))
    return table(answers)


def origin(bias: pd.DataFrame, change: pd.DataFrame) -> pd.DataFrame:
    """Answer the questions of the origin notebook: ``question answer``.

    ``bias`` has a leading ``condition``, the stages in the order of training; ``change`` compares
    consecutive stages.
    """
    answers = [(HEADLINE, _origin(bias, change))]
    answers += [
        (f"Does the stage {row.condition} show a bias?", _stage(row))
        for row in _joint(bias).itertuples()
    ]
    for row in _joint_changes(change).itertuples():
        step = f"change from {row.compared_with} to {row.condition}?"
        # If bias falls because everybody is served worse, that is no progress (S13).
        means = change[(change["condition"] == row.condition) & (change["metric"] == "mean")]
        answers += [(f"How does bias {step}", _step(row)), (f"How do scores {step}", _means(means))]
    return table(answers)


def _conditions(change: pd.DataFrame):
    return change.groupby("condition", sort=False)


def _pb(rows: pd.DataFrame) -> pd.Series:
    """Return the joint, noise-corrected change of PB of one condition."""
    return _joint_changes(rows).iloc[0]


def _falls(pb: pd.Series) -> bool:
    return pb["p_adjusted"] < ALPHA and pb["estimate"] < 0


def _remedy(rows: pd.DataFrame, beyond_placebo: bool) -> str:
    """Say whether one condition is a remedy."""
    joint, means = _pb(rows), rows[rows["metric"] == "mean"]
    changed = joint["p_adjusted"] < ALPHA
    lost = " and ".join(means.loc[(means["p_adjusted"] < ALPHA) & (means["estimate"] < 0), "task"])
    # A significant loss takes precedence over a fall of PB; otherwise a defence that serves
    # everybody worse would pass for a remedy (S13, S14).
    if changed and joint["estimate"] > 0:
        verdict = "No, it raises PB" + (f", and the mean of {lost} falls" if lost else "")
    elif changed and lost:
        verdict = f"No: it cuts PB by serving everybody worse, the mean of {lost} falls"
    elif changed:
        # A loss that is not significant may still exist: the interval has to exclude it.
        worst = means.loc[means["ci_low"].idxmin()]
        harm = f"the mean of {worst['task']} may lose {-worst['ci_low']:.1f} points"
        doubts = [f"harm not excluded ({harm})"] if worst["ci_low"] <= -MARGIN else []
        doubts += [] if beyond_placebo else ["not shown beyond the placebo"]
        doubts += [price] if (price := price_not_asked(means)) else []
        safe = f"Yes, PB falls and no mean loses {MARGIN} points"
        verdict = f"Not shown: PB falls, but {' and '.join(doubts)}" if doubts else safe
    elif lost:
        verdict = (
            "No: PB is not shown to change, and everybody is served worse, the mean of "
            f"{lost} falls"
        )
    else:
        verdict = "Not shown"
    return f"{verdict}: {_numbers(rows)}; {p_text(joint)}."


def _headline(answers: list[tuple[str, str]], change: pd.DataFrame) -> str:
    """Name the remedies, strongest first, and the defences that only serve everybody worse."""
    conditions = change["condition"].unique()
    verdicts = dict(zip(conditions, (answer for _, answer in answers), strict=True))
    falls = _joint_changes(change).sort_values("estimate")["condition"]
    remedies = [name for name in falls if verdicts[name].startswith("Yes")]
    worse = [humanize(name) for name in falls if "serving everybody worse" in verdicts[name]]
    price = f" PB is cut only by serving everybody worse by {', '.join(worse)}." if worse else ""
    first = change[change["condition"] == [*remedies, *falls][0]]
    numbers = f"{_numbers(first)} (n = {_pb(first)['n']:,.0f} items)"
    if not remedies:
        refuted = all(answer.startswith(("No:", "No,")) for answer in verdicts.values())
        shown = "No" if refuted else OPEN
        none = f"{shown}: none of the {len(verdicts)} tried is shown to lower PB without loss"
        return f"{none}; most, {humanize(falls.iloc[0])}: {numbers}.{price}"
    others = f" (so does {', '.join(map(humanize, remedies[1:]))})" if remedies[1:] else ""
    return (
        f"{humanize(remedies[0]).capitalize()}{others}, of {len(verdicts)} tried: {numbers}.{price}"
    )


def _numbers(rows: pd.DataFrame) -> str:
    """Format the changes of PB and of the mean scores of one condition."""
    pb, means = _pb(rows), rows[rows["metric"] == "mean"].itertuples()
    cut = f"PB {pb['before']:.2f} → {pb['after']:.2f} points"
    parts = [f"{cut}, difference {interval(pb, form='+.1f')}"]
    return ", ".join(parts + [f"mean {row.task} {interval(row, form='+.1f')}" for row in means])


def _placebo(rows: pd.DataFrame) -> str:
    """Say which prompt defences lower PB by more than the placebo."""
    by_defence = {humanize(name): _pb(part) for name, part in _conditions(rows)}
    better = [name for name, pb in by_defence.items() if _falls(pb)]
    parts = (f"{name} {interval(pb, form='+.1f')}, {p_text(pb)}" for name, pb in by_defence.items())
    answer = f"{', '.join(better)} beat the placebo" if better else "Not shown of any"
    against = "PB against that with the placebo sentence, in points (intervals of each alone)"
    return f"{answer}. {against}: {', '.join(parts)}."


def _log_odds(change: pd.DataFrame) -> str:
    """Say whether identities also come closer on the scale of log-odds."""
    falling = [name for name, rows in _conditions(change) if _falls(_pb(rows))]
    if not falling:
        return "Nothing to tell: PB is not shown to fall."
    spreads = _joint_changes(change, "pb_log_odds").set_index("condition")
    groups: dict[str, list[str]] = {"Shown of": [], "Not shown of": []}
    for name in falling:
        if name not in spreads.index:
            groups["Not shown of"].append(f"{humanize(name)}, where all may score 0 or 100 %")
            continue
        spread = spreads.loc[name]
        numbers = f"{spread['before']:.2f} → {spread['after']:.2f}, difference "
        numbers += f"{interval(spread, form='+.2f')}, {p_text(spread)}"
        groups["Shown of" if _falls(spread) else "Not shown of"].append(
            f"{humanize(name)}, {numbers}"
        )
    parts = [f"{answer} {'; '.join(names)}." for answer, names in groups.items() if names]
    return f"{' '.join(parts)} The spread of the log-odds of identities' mean scores."


def _neutralization(checks: pd.DataFrame) -> str:
    """Say how many identities neutralization keeps, by whether the request needs them."""
    parts = [
        f"{row.survived} of {row.n} ({interval(row, form='.0%')}) survive where the request "
        f"{'needs them' if row.needed == 'yes' else 'does not'}"
        for row in checks.itertuples()
    ]
    return f"Of the identities in our own checks, {'; '.join(parts)}."


def _joint(bias: pd.DataFrame) -> pd.DataFrame:
    return bias[bias["dimension"] == "joint"]


def _joint_changes(change: pd.DataFrame, metric: str = "pb_corrected") -> pd.DataFrame:
    return change[(change["task"] == "joint") & (change["metric"] == metric)]


def _stage(row) -> str:
    numbers = (
        f"joint PB {row.pb:.2f} points where no effect would give {row.noise_floor:.2f} "
        f"({p_text(row)}); {debiased(row)}"
    )
    return f"{'Yes' if row.p_value < ALPHA else 'Not distinguishable from noise'}: {numbers}."


def _step(row) -> str:
    change = f"{row.before:.2f} to {row.after:.2f} points"
    numbers = f"{change}, {interval(row, form='+.2f')}, {p_text(row)}"
    direction = "It rises" if row.estimate > 0 else "It falls"
    return f"{direction if row.p_adjusted < ALPHA else 'Not shown'}: {numbers}."


def _means(means: pd.DataFrame) -> str:
    parts = [f"{humanize(row.task)} {interval(row, form='+.1f')}" for row in means.itertuples()]
    changed = means["p_adjusted"].lt(ALPHA).sum()
    return f"On {changed} of {len(means)} tasks (points, all identities): {', '.join(parts)}."


def _origin(bias: pd.DataFrame, change: pd.DataFrame) -> str:
    """Say whether the first stage is biased, and after which stages bias rises."""
    first, steps = _joint(bias).iloc[0], _joint_changes(change)
    # A single task may show one where all together do not.
    initial = "there is bias" if first["p_value"] < ALPHA else "no joint PB is shown"
    parts = [
        f"{row.compared_with} to {row.condition} {_step(row)[0].lower()}{_step(row)[1:]}"
        for row in steps.itertuples()
    ]
    rises = steps[(steps["p_adjusted"] < ALPHA) & (steps["estimate"] > 0)]["condition"]
    answer = f"At {', '.join(rises)}" if len(rises) else OPEN
    return (
        f"{answer}: {initial} in {first['condition']} (n = {first['n_items']:,} items); "
        f"from {' From '.join(parts)}"
    )
