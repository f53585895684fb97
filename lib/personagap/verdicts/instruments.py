"""Verdicts on the workbook's own instruments."""

import pandas as pd

from personagap.verdicts import wording


def instruments(
    validated: pd.DataFrame, naive: pd.DataFrame, floors: pd.DataFrame, budget: pd.DataFrame
) -> pd.DataFrame:
    """Answers to the questions of the instruments notebook: ``question answer``.

    Parameters
    ----------
    validated : ``validation.table``.
    naive : ``validation.one_phrasing``.
    floors : ``effects.power`` with the sizes of published tasks.
    budget : ``effects.split_budget``.
    """
    tested = validated.dropna(subset="actual_error")
    false = tested[tested["mc_low"] > tested["nominal_error"]]["estimator"]
    alarms = f"{len(tested) - len(false)} of {len(tested)} tests keep their 5% level within Monte-Carlo error"
    covered = validated.dropna(subset="coverage")
    lowest = covered.loc[covered["coverage"].idxmin()]
    rejects = naive.set_index("test")["rejects"]
    first, last, best = floors.iloc[0], floors.iloc[-1], budget.iloc[0]
    return wording.table(
        [
            ("Do the tests raise false alarms?", f"{alarms}{': all but ' + ', '.join(false) if len(false) else ''}."),
            (
                "Do the intervals cover the truth?",
                f"Between {100 * lowest['coverage']:.0f}% ({lowest['estimator'].replace('_', ' ')}) and "
                f"{100 * covered['coverage'].max():.0f}% of the time, where 95% is promised.",
            ),
            (
                "Is an effect of one phrasing called an effect of identity?",
                f"By a paired test that pools phrasings, in {100 * rejects.iloc[0]:.0f}% of data sets; with phrasing "
                f"as a random factor, in {100 * rejects.iloc[1]:.0f}%.",
            ),
            (
                "What PB do identities show that make no difference?",
                f"{first['noise_floor']:.2f} points with {first['n_items']:.0f} items and "
                f"{last['noise_floor']:.2f} with {last['n_items']:,.0f}, at {first['n_runs']:.0f} answers per item.",
            ),
            (
                "How is a budget best spent?",
                f"On {best['n_items']:.0f} items, {best['n_templates']:.0f} phrasings and {best['n_runs']:.0f} "
                f"answers each, which finds a contrast of {best['smallest_contrast']:.1f} points.",
            ),
        ]
    )  # fmt: skip


def describe_floors(floors: pd.DataFrame) -> str:
    """The text alternative of ``figures.noise_floor``."""
    rows = [f"{row.n_items:,} items {row.noise_floor:.2f}" for row in floors.itertuples()]
    return "PB in points if identities make no difference, with three answers per item: " + ", ".join(rows)


def describe_validation(validated: pd.DataFrame) -> str:
    """The text alternative of ``figures.validation``."""
    error, coverage = 100 * validated["actual_error"].dropna(), 100 * validated["coverage"].dropna()
    return (
        f"False alarms of {len(error)} tests between {error.min():.0f}% and {error.max():.0f}%, nominal 5%; coverage "
        f"of {len(coverage)} intervals between {coverage.min():.0f}% and {coverage.max():.0f}%, nominal 95%"
    )


def describe_components(components: pd.DataFrame) -> str:
    """The text alternative of ``figures.variance_shares``."""
    rows = [f"{row.component} {100 * row.share:.1f}%" for row in components.itertuples()]
    return "Share of the variance of single answers: " + ", ".join(rows)


def describe_power(power: pd.DataFrame) -> str:
    """The text alternative of ``figures.power_curves``."""
    rows = [
        f"{row.n_items:,} items × {row.n_runs} runs {row.smallest_contrast_holm:.1f} and {row.smallest_pb:.1f}"
        for row in power.itertuples()
    ]
    return "Smallest contrast and smallest PB found with 80% power, in points: " + ", ".join(rows)


def speed(paired: pd.DataFrame, jobs: pd.DataFrame) -> pd.DataFrame:
    """Answers to the questions of the performance notebook: ``question answer``.

    Parameters
    ----------
    paired, jobs : of ``performance``.
    """
    slow = jobs[jobs["seconds"] > jobs["target"]]["work"]
    late = f"All but {', '.join(slow)}" if len(slow) else "All"
    took = "; ".join(f"{row.work}: {row.seconds:.1f} s of {row.target:g} s" for row in jobs.itertuples())
    return wording.table(
        [
            ("Is it faster than what one would use instead?", describe_speed(paired) + "."),
            ("Do the whole jobs keep their time?", f"{late}. {took}."),
        ]
    )


def describe_speed(paired: pd.DataFrame) -> str:
    """The text alternative of ``figures.speed``."""
    rows = [
        f"{row.work} {row.ratio:.1f} times {row.peer} ({row.ratio_low:.1f} to {row.ratio_high:.1f})"
        for row in paired.itertuples()
    ]
    return "Speed as a multiple of the peer's: " + "; ".join(rows)
