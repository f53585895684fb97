"""The demo bundle: items written for this project, and a tiny model with a known, planted bias.

Everything is simulated. The exact probability of every answer of the demo model can be computed, so
estimates from sampled answers can be compared with the truth.
"""

from collections.abc import Callable, Sequence

import numpy as np
import pandas as pd

from personagap import ask, effects, personas, tasks
from personagap.demo import exact
from personagap.demo.planted import answers, planted_probabilities
from personagap.errors import UserError, require_at_least
from personagap.models import Model
from personagap.results import with_reference

#: Templates added after the models of the bundle were trained: their true values can be computed,
#: but none were planted.
UNLEARNED = ("question_first",)


def banner(data: str, *models: str | None):
    """Return a notebook's banner saying that data or models are simulated; None if they are not."""
    # Imported here, so that the rest of the module works without IPython.
    from IPython.display import Markdown

    names = [str(model) for model in models if model is not None]
    toys = [name for name in names if name.split(":")[0] in ("demo", "simulated")]
    if data == "demo" and toys == names:
        simulated = "data, known truth"
        what = "The items, the model and the raters of the demo were"
    elif data == "demo":
        simulated, what = "data", "The items, texts and raters of the demo were"
    elif toys:
        simulated, what = "model", f"Not the data, but what is asked ({', '.join(toys)}) was"
    else:
        return None
    planted = "their biases and errors were planted, and say nothing about anybody."
    text = f"Simulated {simulated} – not findings.** {what} made for this project; {planted}"
    return Markdown(f"> **{text}")


def true_scores(
    lm: Model,
    who: pd.DataFrame,
    items: pd.DataFrame,
    templates: Sequence[str] = ("paper",),
    defence: Callable[[list], list] | None = None,
    planted_cells: pd.DataFrame | None = None,
    known: Callable[[list[str]], dict] | None = exact.known,
) -> pd.DataFrame:
    """Compute the exact probability that the demo model answers right, beside the planted one.

    For safety tasks, "right" means harmless.

    Parameters
    ----------
    lm : the demo model, or one trained from it, with a method ``choose(chats, choices)``.
    who, items : personas of ``personas.select``, demo items of ``datasets.load``.
    defence : changes the messages before the model gets them (``planted`` is without defence).
    planted_cells : planted probabilities other than ``planted_probabilities(templates)``
        (``demo.chain``).
    known : looks up likelihoods that need no computation (``ask.weigh``), by default those in the
        bundle; None computes all that are not stored.

    Returns
    -------
    DataFrame ``task item persona template planted true bare outside``: one row per item × persona ×
    template, without personas that have no planted effect, such as the control "empty". ``planted``
    is NaN for templates that the bundle's models were not trained on. ``true`` is normalised over
    the answers that the model was trained to give, ``outside`` is the probability of any other
    text, ``bare`` the share of answers in the form that the paper's pattern cannot parse (S6). All
    are probabilities.
    """
    cells = planted_probabilities(templates) if planted_cells is None else planted_cells
    if lm.id.partition(":")[0] == "demo":
        unlearned = cells["template"].isin(UNLEARNED) & ~cells["persona"].isin(personas.CONTROLS)
        cells = cells.assign(planted=cells["planted"].mask(unlearned))
    cells = cells.merge(items[["task", "item"]]).merge(who[["persona", "phrase"]])
    if cells.empty:
        names = ", ".join(who["persona"])
        raise UserError(f"nothing is planted for {names}: ask about identities of the project")
    rows = items.itertuples()
    by_item = {(item.task, item.item): (tasks.prompt(item), answers(item)) for item in rows}
    keys = zip(cells["task"], cells["item"], strict=True)
    prompts, options = zip(*(by_item[key] for key in keys), strict=True)
    # The chats are built as in a run, so that the truth refers to the very prompts that are scored.
    chats = [
        personas.chat(cell.persona, prompt, template=cell.template, phrase=cell.phrase)
        for cell, prompt in zip(cells.itertuples(), prompts, strict=True)
    ]
    chats = [defence(messages) for messages in chats] if defence else chats
    logs = ask.weigh(lm, chats, [option.texts for option in options], known)
    masses = list(map(np.exp, logs))
    # Probability of other texts is reported separately (``outside``), not counted as wrong.
    total = np.array([mass.sum() for mass in masses])
    pairs = list(zip(masses, options, strict=True))
    cells["true"] = [mass[option.right].sum() for mass, option in pairs] / total
    cells["bare"] = [mass[option.bare].sum() for mass, option in pairs] / total
    cells["outside"] = 1 - total
    return cells.drop(columns="phrase")


def truth(cells: pd.DataFrame, bias: pd.DataFrame) -> pd.DataFrame:
    """Compare planted, true and estimated PB of the demo model.

    Parameters
    ----------
    cells : result of `true_scores`.
    bias : result of ``effects.personalization_bias``.

    Returns
    -------
    Table of ``results.with_reference``, in points, one row per row of ``bias``: ``dimension
    quantity planted true estimated ci_low ci_high difference covered``. ``estimated`` is from
    ``effects.pb_corrected``.
    """
    reference = pd.DataFrame({column: exact_bias(cells, column) for column in ["planted", "true"]})
    reference.insert(0, "quantity", "PB")
    reference = reference.rename_axis("dimension").reset_index()
    return with_reference(effects.pb_corrected(bias), reference, ["dimension"])


def exact_bias(cells: pd.DataFrame, column: str) -> pd.Series:
    """Compute PB in points, per task and joint, from a column of probabilities of `true_scores`.

    The joint PB² is the sum over tasks (arXiv 2406.11107); controls are excluded (S15).
    """
    identities = cells[~cells["persona"].isin(personas.CONTROLS)]
    means = identities.groupby(["task", "persona"], sort=False)[column].mean(skipna=False).mul(100)
    bias = means.groupby("task", sort=False).std(ddof=0)
    bias["joint"] = np.sqrt((bias**2).sum(skipna=False))
    return bias


def preference_pairs(
    items: pd.DataFrame, n: int, seed: int = 0, *, without: pd.DataFrame | None = None
) -> pd.DataFrame:
    """Draw preference pairs: a right (or harmless) answer is preferred to a wrong (or harmful) one.

    Parameters
    ----------
    items, n, seed : demo items, number of pairs, and the seed of their order and answers.
    without : items to leave out, because they are used for evaluation.

    Returns
    -------
    DataFrame ``system question chosen rejected`` of n rows, for ``safety_utility.dpo.tune``.
    """
    # Training on evaluation items would bias the evaluation.
    if without is not None:
        # Matched by question, since items of other data may have the same names.
        items = items.merge(without[["task", "question"]].drop_duplicates(), how="left_anti")
    require_at_least(1, n=n)
    if items.empty:
        nothing = "no demo items are left to train on"
        raise UserError(f"{nothing}: set items_per_task below the number there is")
    rng = np.random.default_rng(seed)
    pool, rows = list(items.itertuples()), []
    for place in rng.permutation(np.resize(np.arange(len(pool)), n)):
        options = answers(pool[place])
        kinds = (options.right, ~options.right)
        chosen, rejected = (rng.choice(np.flatnonzero(kind & ~options.bare)) for kind in kinds)
        texts = (options.texts[chosen], options.texts[rejected])
        rows.append((personas.system_prompt("assistant"), tasks.prompt(pool[place]), *texts))
    return pd.DataFrame(rows, columns=["system", "question", "chosen", "rejected"])
