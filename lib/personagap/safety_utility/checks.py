"""Checks of what could mimic or hide a bias: endings of answers, the judge, identity words."""

import contextlib
from collections.abc import Sequence

import pandas as pd

from personagap import ask, demo, effects, gap, judges, leakage, personas, tasks
from personagap.errors import UserError
from personagap.judges.refusals import Judge
from personagap.models import Model
from personagap.results import add_holm, with_reference


def endings(scores: pd.DataFrame, seed: int = 0) -> dict[str, pd.DataFrame]:
    """Analyse how answers without content ended: refused by the server, blocked, empty, cut off …

    Returns the tables "rates", "outcomes" (contrasts) and "spread" (PB: one joint test of all
    identities, which detects what 31 separate tests miss) of ``effects.outcomes``, and
    "blocked_as_harmless", PB with blocked answers counted as harmless; only those that apply, so {}
    if all answers have content.
    """
    ended, tables = effects.outcomes(scores), {}
    if len(ended):
        tables["rates"] = effects.rates(ended)
        tables["outcomes"] = effects.contrasts(ended, control="none")
        tables["spread"] = effects.personalization_bias(ended, seed=seed)
    # Whether a blocked answer counts as safe is debatable, so both views are shown.
    if (scores["outcome"] == "blocked").any():
        harmless = tasks.blocked_as_harmless(scores)
        tables["blocked_as_harmless"] = effects.personalization_bias(harmless, seed=seed)
    return tables


def choice_mass(scores: pd.DataFrame) -> pd.DataFrame:
    """Return ``effects.contrasts`` of the probability of the choices, for answers by likelihood.

    If it depends on the identity, so does the part of the answers that scores ignore (S6).
    """
    # Rounding errors may put the sum slightly above 1, which is not a valid score.
    return effects.contrasts(scores.assign(score=scores["choice_mass"].clip(upper=1)))


def secondary_analyses(
    scores: pd.DataFrame, who: pd.DataFrame, margin: float, seed: int = 0
) -> dict[str, pd.DataFrame]:
    """Return the analyses that complement PB and contrasts, as far as the design allows them.

    - "equivalence": ``effects.bias_equivalence`` with ``margin`` points;
    - "pooled": ``effects.partial_pooling``, with three or more identities; by category, with three
      or more categories;
    - "flips": ``effects.answer_flips``, with two or more runs of the control.
    """
    tables = {"equivalence": effects.bias_equivalence(scores, margin=margin, seed=seed)}
    category = who[who["category"] != "control"].set_index("persona")["category"]
    # The variance between two categories would have a single degree of freedom.
    groups = category.to_dict() if category.nunique() > 2 else None
    # Fails with fewer than three identities, e.g. if a filter blocked the others.
    with contextlib.suppress(UserError):
        tables["pooled"] = effects.partial_pooling(scores, groups, seed=seed)
    # The rate at which answers change at random takes a second run of the control.
    if scores.loc[scores["persona"] == "none", "run"].max() > 0:
        tables["flips"] = effects.answer_flips(scores)
    return tables


def by_answers(
    lm: Model,
    who: pd.DataFrame,
    items: pd.DataFrame,
    responses: pd.DataFrame,
    truth: pd.DataFrame,
    protocol: str,
    seed: int = 0,
) -> pd.DataFrame | None:
    """Compare PB from generated ``responses`` with PB from likelihoods, which are computed here,
    and both with the truth.

    Parameters
    ----------
    truth : result of ``demo.truth`` that includes these tasks.

    Returns
    -------
    DataFrame ``answers requests tokens_written`` and the columns of ``demo.truth``, one row per way
    of answering ("generate", "likelihood") and task; None if no task has answer choices.
    """
    items = items[items["task"].isin(tasks.WITH_CHOICES)]
    if items.empty:
        return None
    templates = list(responses["template"].unique())
    rows = responses[responses["task"].isin(items["task"])]
    # If the responses are likelihoods already, there are no generated answers to compare.
    by_likelihood = (rows["finish_reason"] == tasks.LIKELIHOOD).all()
    answers = {} if by_likelihood else {"generate": rows}
    how: ask.How = {"answers": "likelihood", "seed": seed, "templates": templates}
    answers["likelihood"] = ask.ask(lm, who, items, **how)
    reference, parts = truth[["dimension", "quantity", "planted", "true"]], []
    for way, rows in answers.items():
        scores = tasks.grade(rows, items, protocol=protocol)
        bias = effects.personalization_bias(scores, seed=seed).query("dimension != 'joint'")
        written = int(rows["output_tokens"].sum())
        cost = {"answers": way, "requests": len(scores), "tokens_written": written}
        compared = with_reference(effects.pb_corrected(bias), reference, ["dimension"])
        parts.append(pd.DataFrame([cost]).merge(compared, how="cross"))
    return pd.concat(parts, ignore_index=True)


def by_template(
    scores: pd.DataFrame, exact: pd.DataFrame | None = None, seed: int = 0
) -> tuple[pd.DataFrame, pd.DataFrame | None]:
    """Return PB of each template separately, with a leading ``condition``, and its ``demo.truth``.

    ``exact`` is ``demo.true_scores`` of these and possibly other personas; without it the truth is
    None.
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
    """Return ``effects.additivity`` of intersections, with the truth if known.

    ``scores`` are of the intersections (``names``, such as "hindu+woman"), their parts and the
    control. ``exact`` (``demo.true_scores``) adds a column ``true`` in points, NaN where nothing is
    planted.
    """
    table = effects.additivity(scores, {name: name.split("+") for name in names})
    planted = [] if exact is None else [name for name in names if name in exact["persona"].array]
    # Not every intersection has a planted effect in the demo.
    if exact is None or not planted:
        return table
    mean = 100 * exact.groupby(["task", "persona"])["true"].mean().unstack("persona")
    true = {}
    for name in planted:
        parts = mean[name.split("+")]
        true[f"{name} − average of parts"] = mean[name] - parts.mean(axis=1)
        # Each part includes the level of the control, which must count only once in the sum.
        true[f"{name} − sum of parts"] = (
            mean[name] - parts.sum(axis=1) + (parts.shape[1] - 1) * mean["none"]
        )
    truth = pd.DataFrame(true).melt(var_name="contrast", value_name="true", ignore_index=False)
    return table.merge(truth.reset_index(), how="left")


def reworded(
    responses: pd.DataFrame, items: pd.DataFrame, who: pd.DataFrame, asked: Sequence[Judge]
) -> pd.DataFrame:
    """Return ``judges.reworded`` of several judges, as scores of tasks named after them."""
    scores = [(judge.name, judges.reworded(responses, items, who, judge)) for judge in asked]
    return pd.concat([rows.assign(task=f"{name} judge, " + rows["task"]) for name, rows in scores])


def judge_checks(
    responses: pd.DataFrame,
    items: pd.DataFrame,
    few: pd.DataFrame,
    who: pd.DataFrame,
    asked: Sequence[Judge],
    seed: int = 0,
) -> tuple[list[pd.DataFrame], dict[str, pd.DataFrame]]:
    """Check whether judges react to the identity, and how requests are refused by the first judge.

    The first check uses the ``few`` items, the second all ``items``.

    Returns
    -------
    Tables to show: agreement of judges, if there are two or more; PB of answers that differ only in
    the identity's words; and, for the controls, how often requests are met in which way.
    Contrasts to save: "heeding" and, if the first judge distinguishes several ways in which an
    answer is harmless, "actions".
    """
    # The answers are the same except for identity words, so any bias here is the judge's.
    rescored = reworded(responses, few, who, asked)
    actions = judges.actions(responses, items, asked[0])
    shown = []
    if asked[1:]:
        judged = judges.judgments(responses, few, asked)
        shown.append(gap.agreement(judged, cluster="prompt", seed=seed))
    shown.append(effects.personalization_bias(rescored, seed=seed).query("dimension != 'joint'"))
    contrasts = {"heeding": effects.contrasts(rescored)}
    if len(actions):
        shown.append(effects.rates(actions[actions["persona"].isin(personas.CONTROLS)]))
        contrasts["actions"] = effects.contrasts(actions)
    return shown, contrasts


def without_judge_errors(
    card: pd.DataFrame,
    rates: pd.DataFrame,
    contrasts: pd.DataFrame,
    bias: pd.DataFrame,
    seed: int = 0,
) -> dict[str, pd.DataFrame]:
    """Apply ``effects.judge_corrected`` to the results on tasks scored by a judge.

    Returns the tables "rates", "contrasts" and "bias".
    """
    corrected = {}
    for name, table in {"rates": rates, "contrasts": contrasts, "bias": bias}.items():
        # The first column is the task, or the dimension of PB; the joint PB is left out, as it
        # includes tasks that no judge scores.
        judged = table[table[table.columns[0]].isin(tasks.SAFETY)]
        corrected[name] = effects.judge_corrected(judged, card, seed=seed)
    return corrected


def leakage_contrasts(responses: pd.DataFrame, who: pd.DataFrame) -> pd.DataFrame:
    """Return contrasts of ``leakage.mentions`` with both rates, ``stated base_rate``, in points.

    Each category is a task of its own there. Here all are one family of tests, and the simultaneous
    intervals cover all.
    """
    mentions = leakage.mentions(responses, who)
    # Common words occur without the identity as well: the control's rate of them is the base rate.
    shares = effects.rates(mentions).pivot(index="task", columns="persona", values="estimate")
    table = effects.contrasts(mentions)
    wide = effects.contrasts(mentions, level=0.95 ** (1 / len(table)))
    ends = {"simultaneous_low": wide["ci_low"], "simultaneous_high": wide["ci_high"]}
    table = add_holm(table.assign(**ends, words="words of an identity"), ["words"])
    # Benjamini and Hochberg's p-values were those of one test each.
    table = table.drop(columns=["words", "p_bh"])
    return table.join(shares.rename(columns={"none": "base_rate"}), on="task")
