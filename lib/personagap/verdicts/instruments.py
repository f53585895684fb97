"""Verdicts on the workbook's own instruments: tests and intervals, the demo model, speed."""

import pandas as pd

from personagap.verdicts.wording import table, words


def instruments(
    validated: pd.DataFrame, naive: pd.DataFrame, floors: pd.DataFrame, budget: pd.DataFrame
) -> pd.DataFrame:
    """Answers to the questions of the instruments notebook: ``question answer``.

    Parameters
    ----------
    validated, naive : ``validation.table`` and ``validation.one_phrasing``.
    floors : ``effects.power`` with the sizes of published tasks.
    budget : ``effects.split_budget``.
    """
    tested, covered = validated.dropna(subset="actual_error"), validated.dropna(subset="coverage")
    false = tested.loc[tested["mc_low"] > tested["nominal_error"], "estimator"]
    alarms = f"{len(tested) - len(false)} of {len(tested)} tests keep their 5% level within Monte-Carlo error"
    but = f": all but {', '.join(false)}" if len(false) else ""
    lowest = covered.loc[covered["coverage"].idxmin()]
    pooled, phrased = naive["rejects"]
    first, last, best = floors.iloc[0], floors.iloc[-1], budget.iloc[0]
    answers = {
        "Do the tests raise false alarms?": f"{alarms}{but}.",
        "Do the intervals cover the truth?": (
            f"Between {lowest['coverage']:.0%} ({words(lowest['estimator'])}) and {covered['coverage'].max():.0%} of "
            "the time, where 95% is promised."
        ),
        "Is an effect of one phrasing called an effect of identity?": (
            f"By a paired test that pools phrasings, in {pooled:.0%} of data sets; with phrasing as a random factor, "
            f"in {phrased:.0%}."
        ),
        "What PB do identities show that make no difference?": (
            f"{first['noise_floor']:.2f} points with {first['n_items']:.0f} items and {last['noise_floor']:.2f} with "
            f"{last['n_items']:,.0f}, at {first['n_runs']:.0f} answers per item."
        ),
        "How is a budget best spent?": (
            f"On {best['n_items']:.0f} items, {best['n_templates']:.0f} phrasings and {best['n_runs']:.0f} answers "
            f"each, which finds a contrast of {best['smallest_contrast']:.1f} points."
        ),
    }
    return table(list(answers.items()))


def demo_model(agreement: pd.DataFrame, bias: pd.DataFrame) -> pd.DataFrame:
    """Whether a demo model may be used: ``question answer``.

    Parameters
    ----------
    agreement : ``template task r``, the correlation of planted and true probabilities over cells.
    bias : ``dimension planted true``, PB in points with the paper's phrasing.
    """
    paper = agreement.loc[agreement["template"] == "paper", "r"].min()
    worst = agreement.loc[agreement["r"].idxmin()]
    gap = (bias["true"] - bias["planted"]).abs().max()
    numbers = (
        f"with the paper's phrasing r is at least {paper:.4f} in every task, in any phrasing {worst['r']:.4f} "
        f"({worst['template']}, {words(worst['task'])}); no PB is more than {gap:.2f} points off. Exact, no sampling."
    )
    good = "Yes" if paper >= 0.999 and gap < 0.2 else "No, not closely enough (r 0.999, 0.2 points)"
    return table([("Does the model answer as planted?", f"{good}: {numbers}")])


def speed(paired: pd.DataFrame, jobs: pd.DataFrame) -> pd.DataFrame:
    """Answers to the questions of the performance notebook, from the tables of ``performance``."""
    slow = jobs.loc[jobs["seconds"] > jobs["target"], "work"]
    late = f"All but {', '.join(slow)}" if len(slow) else "All"
    took = "; ".join(f"{row.work}: {row.seconds:.1f} s of {row.target:g} s" for row in jobs.itertuples())
    faster = ("Is it faster than what one would use instead?", describe_speed(paired) + ".")
    return table([faster, ("Do the whole jobs keep their time?", f"{late}. {took}.")])


def describe_speed(paired: pd.DataFrame) -> str:
    """The text alternative of ``figures.speed``."""
    rows = [
        f"{row.work} {row.ratio:.1f} times {row.peer} ({row.ratio_low:.1f} to {row.ratio_high:.1f})"
        for row in paired.itertuples()
    ]
    return "Speed as a multiple of the peer's: " + "; ".join(rows)


def describe_floors(floors: pd.DataFrame) -> str:
    """The text alternative of ``figures.noise_floor``."""
    rows = [f"{row.n_items:,} items {row.noise_floor:.2f}" for row in floors.itertuples()]
    return "PB in points if identities make no difference, with three answers per item: " + ", ".join(rows)


def describe_validation(validated: pd.DataFrame) -> str:
    """The text alternative of ``figures.validation``."""
    error, coverage = (validated[column].dropna() for column in ("actual_error", "coverage"))
    return (
        f"False alarms of {len(error)} tests between {error.min():.0%} and {error.max():.0%}, nominal 5%; coverage "
        f"of {len(coverage)} intervals between {coverage.min():.0%} and {coverage.max():.0%}, nominal 95%"
    )


def describe_components(components: pd.DataFrame) -> str:
    """The text alternative of ``figures.variance_shares``."""
    rows = [f"{row.component} {row.share:.1%}" for row in components.itertuples()]
    return "Share of the variance of single answers: " + ", ".join(rows)


def describe_power(power: pd.DataFrame) -> str:
    """The text alternative of ``figures.power_curves``."""
    rows = [
        f"{row.n_items:,} items × {row.n_runs} runs {row.smallest_contrast_holm:.1f} and {row.smallest_pb:.1f}"
        for row in power.itertuples()
    ]
    return "Smallest contrast and smallest PB found with 80% power, in points: " + ", ".join(rows)
