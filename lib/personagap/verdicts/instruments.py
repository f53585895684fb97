"""Verdicts on the workbook itself: its tests and intervals, the demo model, its speed."""

import pandas as pd

from personagap.formatting import humanize
from personagap.verdicts.wording import ALPHA, HEADLINE, interval, table


def instruments(
    validated: pd.DataFrame,
    together: pd.Series,
    naive: pd.DataFrame,
    floors: pd.DataFrame,
    budget: pd.DataFrame,
) -> pd.DataFrame:
    """Answer the questions of the instruments notebook: ``question answer``.

    Parameters
    ----------
    validated, naive : ``validation.run_checks`` and ``validation.one_phrasing``.
    together : ``validation.false_alarms`` of ``validated``.
    floors : ``effects.power`` for the sizes of published tasks.
    budget : ``effects.split_budget``.
    """
    tested = validated[validated["metric"] == "actual_error"]
    covered = validated[validated["metric"] == "coverage"]
    lowest = covered.loc[covered["estimate"].idxmin()]
    highest = covered.loc[covered["estimate"].idxmax()]
    pooled, phrased = naive["estimate"]
    first, last, best = floors.iloc[0], floors.iloc[-1], budget.iloc[0]
    answers = {
        HEADLINE: _false_alarms(tested, together),
        "How often do the intervals cover the truth?": (
            f"Between {_covered(lowest)} and {_covered(highest)} of the time, where 95% is "
            f"promised, in {covered['n'].iloc[0]:.0f} data sets each."
        ),
        "How often is an effect of one phrasing called one of identity?": (
            f"By a paired test that pools phrasings, in {pooled:.0%} of data sets; with phrasing "
            f"as a random factor, in {phrased:.0%}."
        ),
        "What PB do identities show that make no difference?": (
            f"{first['noise_floor']:.2f} points with {first['n_items']:.0f} items and "
            f"{last['noise_floor']:.2f} with {last['n_items']:,.0f}, at {first['n_runs']:.0f} "
            "answers per item."
        ),
        "How is a budget best spent?": (
            f"On {best['n_items']:.0f} items, {best['n_templates']:.0f} phrasings and "
            f"{best['n_runs']:.0f} answers each, which finds a contrast of "
            f"{best['smallest_contrast']:.1f} points."
        ),
    }
    return table(list(answers.items()))


def _false_alarms(tested: pd.DataFrame, together: pd.Series) -> str:
    """Say whether the tests keep their level."""
    # Judged by the Monte Carlo interval: of many valid tests, some exceed 5 % by chance.
    false = tested.loc[tested["ci_low"] > ALPHA, "estimator"]
    # The highest level not excluded is stated too: otherwise fewer replications would look better.
    worst = tested.loc[tested["ci_high"].idxmax()]
    shown = f"Yes, none of {len(tested)} tests is shown to be beyond"
    if len(false):
        shown = f"No, all but {', '.join(false)} are within"
    return (
        f"{shown} the 5% level; together {interval(together, form='.1%')} of "
        f"{together['n']:,.0f} data sets without effect are called significant. But each test has "
        f"only {tested['n'].iloc[0]:.0f} of them: a level of up to {worst['ci_high']:.0%} "
        f"({humanize(worst['estimator'])}) is not excluded."
    )


def _covered(row: pd.Series) -> str:
    return f"{interval(row, form='.0%')} ({humanize(row['estimator'])})"


def demo_model(agreement: pd.DataFrame, bias: pd.DataFrame) -> pd.DataFrame:
    """Say whether a demo model reproduces what was planted: ``question answer``.

    ``agreement`` has ``template task r``, the correlation of planted and true probabilities over
    cells; ``bias`` has ``dimension planted true``, PB in points with the paper's phrasing.
    """
    paper = agreement.loc[agreement["template"] == "paper", "r"].min()
    worst = agreement.loc[agreement["r"].idxmin()]
    gap = (bias["true"] - bias["planted"]).abs().max()
    numbers = (
        f"with the paper's phrasing r is at least {paper:.4f} in every task, in any phrasing "
        f"{worst['r']:.4f} ({worst['template']}, {humanize(worst['task'])}); no PB is more than "
        f"{gap:.2f} points off. Exact, no sampling."
    )
    # Both are needed: r misses a uniform shrinkage of all effects, PB misses effects that are
    # swapped.
    good = "Yes" if paper >= 0.999 and gap < 0.2 else "No, not closely enough (r 0.999, 0.2 points)"
    return table([(HEADLINE, f"{good}: {numbers}")])


def speed(paired: pd.DataFrame, jobs: pd.DataFrame) -> pd.DataFrame:
    """Answer the questions of the performance notebook, from the tables of ``performance``."""
    # Slow jobs are named first, so that a reader of the first words does not miss them.
    slow = jobs.loc[jobs["seconds"] > jobs["target"], "work"]
    late = f"All but {', '.join(slow)}" if len(slow) else "All"
    times = [f"{row.work}: {row.seconds:.1f} s of {row.target:g} s" for row in jobs.itertuples()]
    ratios = [
        f"{row.work} {row.estimate:.1f} times {row.peer} ({row.ci_low:.1f} to {row.ci_high:.1f}, "
        f"n = {row.n:.0f})"
        for row in paired.itertuples()
    ]
    faster = (HEADLINE, f"Speed as a multiple of the peer's: {'; '.join(ratios)}.")
    in_time = ("Do the whole jobs keep their time?", f"{late}. {'; '.join(times)}.")
    return table([faster, in_time])
