"""What else could look like a bias, or hide one: endings, intersections, the judge, identity words
in answers.
"""

import contextlib
from collections.abc import Sequence

import pandas as pd

from personagap import ask, demo, effects, gap, judges, leakage, personas, tasks
from personagap.errors import UserError
from personagap.judges.refusals import Judge
from personagap.models import Model


def endings(scores: pd.DataFrame, seed: int = 0) -> dict[str, pd.DataFrame]:
    """How answers ended that say nothing, or were refused by the server's own word.

    The tables that there are: "rates", "outcomes" (contrasts) and "spread" (PB: one test of all
    identities, which finds what 31 tests miss) of ``effects.outcomes``, and "blocked_as_harmless",
    PB with blocked answers counted as harmless. None of them if all answers were given.
    """
    ended, found = effects.outcomes(scores), {}
    if len(ended):
        found["rates"] = effects.rates(ended)
        found["outcomes"] = effects.contrasts(ended, control="none")
        found["spread"] = effects.personalization_bias(ended, seed=seed)
    # Whether a filter's block protects or withholds is a matter of view, so both are shown.
    if (scores["outcome"] == "blocked").any():
        harmless = tasks.blocked_as_harmless(scores)
        found["blocked_as_harmless"] = effects.personalization_bias(harmless, seed=seed)
    return found


def choice_mass(scores: pd.DataFrame) -> pd.DataFrame:
    """``effects.contrasts`` of the probability that falls on the choices, of answers by likelihood.

    Where it depends on the identity, so does what the score leaves out (S6).
    """
    # Rounding may put the sum of the choices a little above 1, which is no score.
    return effects.contrasts(scores.assign(score=scores["choice_mass"].clip(upper=1)))


def secondary_analyses(
    scores: pd.DataFrame, who: pd.DataFrame, margin: float, seed: int = 0
) -> dict[str, pd.DataFrame]:
    """What stands beside PB and contrasts, as far as the design allows it.

    "pooled" of ``effects.partial_pooling`` (three identities or more; by category, if there are
    three), "equivalence" of ``effects.bias_equivalence`` with ``margin`` points, and "flips" of
    ``effects.answer_flips`` (two runs or more of the control).
    """
    found = {"equivalence": effects.bias_equivalence(scores, margin=margin, seed=seed)}
    category = who[who["category"] != "control"].set_index("persona")["category"]
    # A variance between two categories would rest on one degree of freedom.
    groups = category.to_dict() if category.nunique() > 2 else None
    # Fewer than three identities, or only so many that a filter spares.
    with contextlib.suppress(UserError):
        found["pooled"] = effects.partial_pooling(scores, groups, seed=seed)
    # How often an answer changes by itself takes a second run of the control.
    if scores.loc[scores["persona"] == "none", "run"].max() > 0:
        found["flips"] = effects.answer_flips(scores)
    return found


def by_answers(
    lm: Model,
    who: pd.DataFrame,
    items: pd.DataFrame,
    responses: pd.DataFrame,
    truth: pd.DataFrame,
    protocol: str,
    seed: int = 0,
) -> pd.DataFrame | None:
    """``demo.by_answers`` of ``responses`` and of likelihoods, asked here; None if no task has
    choices to weigh.
    """
    items = items[items["task"].isin(tasks.WITH_CHOICES)]
    if items.empty:
        return None
    templates = list(responses["template"].unique())
    given = responses[responses["task"].isin(items["task"])]
    # Answers that were weighed in the first place have no generated ones to stand beside.
    weighed = (given["finish_reason"] == tasks.LIKELIHOOD).all()
    made = {} if weighed else {"generate": given}
    how: ask.How = {"answers": "likelihood", "seed": seed, "templates": templates}
    made["likelihood"] = ask.ask(lm, who, items, **how)
    graded = {way: tasks.grade(rows, items, protocol=protocol) for way, rows in made.items()}
    return demo.by_answers(made, graded, truth, seed=seed)


def by_template(
    scores: pd.DataFrame, exact: pd.DataFrame | None = None, seed: int = 0
) -> tuple[pd.DataFrame, pd.DataFrame | None]:
    """PB of each phrasing by itself, with a leading ``condition``; and ``demo.truth`` of each,
    where it is known.

    ``exact`` is that of ``demo.true_scores``, of these personas and others.
    """
    conditions = scores.assign(condition=scores["template"])
    bias = effects.by_condition(effects.personalization_bias, conditions, seed=seed)
    if exact is None:
        return bias, None
    cells = exact[exact["persona"].isin(scores["persona"])].groupby("template", sort=False)
    true = {name: demo.truth(rows, bias[bias["condition"] == name]) for name, rows in cells}
    return bias, pd.concat(true, names=["condition"]).droplevel(1).reset_index()


def intersections(
    scores: pd.DataFrame, names: Sequence[str], exact: pd.DataFrame | None = None
) -> pd.DataFrame:
    """``effects.additivity`` of intersections, beside the truth.

    ``scores`` are of the intersections (``names``, as in "hindu+woman"), their parts and the
    control. ``exact``, of ``demo.true_scores`` where the truth is known, adds a column ``true``, in
    points, NaN where nothing is planted.
    """
    table = effects.additivity(scores, {name: name.split("+") for name in names})
    planted = [] if exact is None else [name for name in names if name in exact["persona"].array]
    # The demo has not planted every intersection.
    if exact is None or not planted:
        return table
    mean = 100 * exact.groupby(["task", "persona"])["true"].mean().unstack("persona")
    true = {}
    for name in planted:
        parts = mean[name.split("+")]
        true[f"{name} − average of parts"] = mean[name] - parts.mean(axis=1)
        # Each part brings the control's level along, which must count once.
        true[f"{name} − sum of parts"] = (
            mean[name] - parts.sum(axis=1) + (parts.shape[1] - 1) * mean["none"]
        )
    known = pd.DataFrame(true).melt(var_name="contrast", value_name="true", ignore_index=False)
    return table.merge(known.reset_index(), how="left")


def reworded(
    responses: pd.DataFrame, items: pd.DataFrame, who: pd.DataFrame, asked: Sequence[Judge]
) -> pd.DataFrame:
    """``judges.reworded`` of several judges, as scores of tasks that are named after them."""
    worded = [(judge.name, judges.reworded(responses, items, who, judge)) for judge in asked]
    return pd.concat([rows.assign(task=f"{name} judge, " + rows["task"]) for name, rows in worded])


def judge_checks(
    responses: pd.DataFrame,
    items: pd.DataFrame,
    few: pd.DataFrame,
    who: pd.DataFrame,
    asked: Sequence[Judge],
    seed: int = 0,
) -> tuple[list[pd.DataFrame], dict[str, pd.DataFrame]]:
    """Whether judges heed the identity, on a ``few`` items, and how the first says harmful requests
    are met, on all.

    Tables to show: agreement of two judges or more, PB of answers that are the same but for the
    identity's words, and how often the controls' requests are met in which way. Contrasts to save:
    "heeding" and, if the first judge tells several ways in which an answer is harmless, "actions".
    """
    # The same answers under other words: what differs is the judge's, so that a bias here is none
    # of the model.
    worded, ways = reworded(responses, few, who, asked), judges.actions(responses, items, asked[0])
    shown = []
    if asked[1:]:
        judged = judges.judgments(responses, few, asked)
        shown.append(gap.agreement(judged, cluster="prompt", seed=seed))
    shown.append(effects.personalization_bias(worded, seed=seed).query("dimension != 'joint'"))
    found = {"heeding": effects.contrasts(worded)}
    if len(ways):
        shown.append(effects.rates(ways[ways["persona"].isin(personas.CONTROLS)]))
        found["actions"] = effects.contrasts(ways)
    return shown, found


def without_judge_errors(
    card: pd.DataFrame,
    rates: pd.DataFrame,
    contrasts: pd.DataFrame,
    bias: pd.DataFrame,
    seed: int = 0,
) -> dict[str, pd.DataFrame]:
    """``effects.judge_corrected`` of the results on the tasks that a judge scores: "rates",
    "contrasts", "bias".
    """
    corrected = {}
    for name, table in {"rates": rates, "contrasts": contrasts, "bias": bias}.items():
        # The first column of each is the task, or PB's dimension; the joint PB holds tasks that no
        # judge scores.
        judged = table[table[table.columns[0]].isin(tasks.SAFETY)]
        corrected[name] = effects.judge_corrected(judged, card, seed=seed)
    return corrected


def leakage_contrasts(responses: pd.DataFrame, who: pd.DataFrame) -> pd.DataFrame:
    """``effects.contrasts`` of ``leakage.mentions``, with both rates in points:
    ``stated base_rate``.
    """
    mentions = leakage.mentions(responses, who)
    # Common words of an identity occur without it: the control's rate of the same words is the
    # base.
    shares = effects.rates(mentions).pivot(index="task", columns="persona", values="estimate")
    return effects.contrasts(mentions).join(shares.rename(columns={"none": "base_rate"}), on="task")
