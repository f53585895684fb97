"""The demo bundle: items of this project's own and a tiny model with a known, planted bias.

Simulated throughout. Because the exact probability of every answer of the demo model can be
computed, an estimate made from its sampled answers can be held against the truth.
"""

from collections.abc import Callable, Mapping, Sequence

import numpy as np
import pandas as pd

from personagap import ask, effects, personas, tasks
from personagap.demo import exact
from personagap.demo.planted import answers, planted_probabilities
from personagap.errors import UserError, at_least
from personagap.models import Model
from personagap.results import beside

#: Phrasings that came after the models of the bundle were trained: what is true of them is known,
#: and was not planted.
UNLEARNED = ("question_first",)


def banner(data: str, *models: str | None):
    """What a notebook shows at its head if its data or a model it asks are simulated, else None."""
    # Here, so that truths are to be had without a notebook.
    from IPython.display import Markdown

    asked = [str(model) for model in models if model is not None]
    toys = [model for model in asked if model.split(":")[0] in ("demo", "simulated")]
    if data == "demo" and toys == asked:
        simulated = "data, known truth"
        what = "The items, the model and the raters of the demo were"
    elif data == "demo":
        simulated, what = "data", "The items, texts and raters of the demo were"
    elif toys:
        simulated, what = "model", f"Not the data, but what is asked ({', '.join(toys)}) was"
    else:
        return None
    planted = "their biases and errors were planted, and say nothing about anybody."
    said = f"Simulated {simulated} – not findings.** {what} made for this project; {planted}"
    return Markdown(f"> **{said}")


def true_scores(
    lm: Model,
    who: pd.DataFrame,
    items: pd.DataFrame,
    templates: Sequence[str] = ("paper",),
    defence: Callable[[list], list] | None = None,
    planted_cells: pd.DataFrame | None = None,
    known: Callable[[list[str]], dict] | None = exact.known,
) -> pd.DataFrame:
    """Exact probability that the demo model answers right (or harmlessly), beside the planted one.

    Parameters
    ----------
    lm : the demo model, or one trained from it, with ``choose(chats, choices)``.
    who, items : personas of ``personas.select``, demo items of ``datasets.load``.
    defence : changes the messages before the model sees them (``planted`` is without it).
    planted_cells : what is planted, if not ``planted_probabilities(templates)`` (``demo.chain``).
    known : of ``ask.weigh``: what the bundle holds is not weighed again; None weighs all that is
        not stored.

    Returns
    -------
    DataFrame ``task item persona template planted true bare outside``: one row per
    item × persona × template, but for personas that nothing is planted for, such as the control
    "empty". ``planted`` is NaN in phrasings that the bundle's models have not learned. ``true`` is
    normalised over the answers the model was trained to give, ``outside`` is what it gives to any
    other text, ``bare`` the share of answers in the form that the paper's pattern cannot read (S6).
    All are probabilities.
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
    asked = {(item.task, item.item): (tasks.prompt(item), answers(item)) for item in rows}
    keys = zip(cells["task"], cells["item"], strict=True)
    prompts, given = zip(*(asked[key] for key in keys), strict=True)
    # As a run asks: what is true of the model must hold of the very chats that are scored.
    chats = [
        personas.chat(cell.persona, prompt, template=cell.template, phrase=cell.phrase)
        for cell, prompt in zip(cells.itertuples(), prompts, strict=True)
    ]
    chats = [defence(messages) for messages in chats] if defence else chats
    mass = [np.exp(each) for each in ask.weigh(lm, chats, [each.texts for each in given], known)]
    # What the model gives to other texts is told on its own (``outside``), not as wrong.
    total = np.array([each.sum() for each in mass])
    cells["true"] = [each[one.right].sum() for each, one in zip(mass, given, strict=True)] / total
    cells["bare"] = [each[one.bare].sum() for each, one in zip(mass, given, strict=True)] / total
    cells["outside"] = 1 - total
    return cells.drop(columns="phrase")


def truth(cells: pd.DataFrame, bias: pd.DataFrame) -> pd.DataFrame:
    """Planted, true and estimated PB of the demo model.

    Parameters
    ----------
    cells : of `true_scores`.
    bias : of ``effects.personalization_bias``.

    Returns
    -------
    As of ``results.beside``, in points, one row per row of ``bias``: ``dimension quantity planted
    true estimated ci_low ci_high difference covered``. ``estimated`` is that of
    ``effects.pb_corrected``.
    """
    exact = pd.DataFrame({column: exact_bias(cells, column) for column in ["planted", "true"]})
    exact.insert(0, "quantity", "PB")
    exact = exact.rename_axis("dimension").reset_index()
    return beside(effects.pb_corrected(bias), exact, ["dimension"])


def by_answers(
    responses: Mapping[str, pd.DataFrame],
    scores: Mapping[str, pd.DataFrame],
    truth: pd.DataFrame,
    seed: int = 0,
) -> pd.DataFrame:
    """What several ways to ask the same find, beside the truth, and what they cost.

    Parameters
    ----------
    responses, scores : by way to ask ("generate", "likelihood"), those of the same task.
    truth : of `truth`, with that task.

    Returns
    -------
    DataFrame ``answers requests tokens_written`` and the columns of `truth`, one row per way.
    """
    known, rows = truth[["dimension", "quantity", "planted", "true"]], []
    for way, table in scores.items():
        bias = effects.personalization_bias(table, seed=seed).query("dimension != 'joint'")
        written = int(responses[way]["output_tokens"].sum())
        cost = {"answers": way, "requests": len(table), "tokens_written": written}
        found = beside(effects.pb_corrected(bias), known, ["dimension"])
        rows.append(pd.DataFrame([cost]).merge(found, how="cross"))
    return pd.concat(rows, ignore_index=True)


def exact_bias(cells: pd.DataFrame, column: str) -> pd.Series:
    """PB in points of each task and ``joint``, from a column of probabilities of `true_scores`.

    The joint PB² is the sum over tasks (arXiv 2406.11107); the controls are left out (S15).
    """
    identities = cells[~cells["persona"].isin(personas.CONTROLS)]
    means = identities.groupby(["task", "persona"], sort=False)[column].mean(skipna=False).mul(100)
    bias = means.groupby("task", sort=False).std(ddof=0)
    bias["joint"] = np.sqrt((bias**2).sum(skipna=False))
    return bias


def preference_pairs(
    items: pd.DataFrame, n: int, seed: int = 0, *, without: pd.DataFrame | None = None
) -> pd.DataFrame:
    """A right (or harmless) answer preferred to a wrong one, whoever asks; items take random turns.

    Parameters
    ----------
    items, n, seed : demo items, the number of pairs, and what decides their order and answers.
    without : items to leave out, those that are measured.

    Returns
    -------
    DataFrame ``system question chosen rejected`` of n rows, for ``tuning.dpo.tune``.
    """
    # Else tuning would be judged on what it was trained on.
    if without is not None:
        # Not by their names, which items of other data may have, too.
        items = items.merge(without[["task", "question"]].drop_duplicates(), how="left_anti")
    at_least(1, n=n)
    if items.empty:
        nothing = "no demo items are left to train on"
        raise UserError(f"{nothing}: set items_per_task below the number there is")
    rng = np.random.default_rng(seed)
    asked, rows = list(items.itertuples()), []
    for place in rng.permutation(np.resize(np.arange(len(asked)), n)):
        given = answers(asked[place])
        kinds = (given.right, ~given.right)
        chosen, rejected = (rng.choice(np.flatnonzero(kind & ~given.bare)) for kind in kinds)
        texts = (given.texts[chosen], given.texts[rejected])
        rows.append((personas.system_prompt("assistant"), tasks.prompt(asked[place]), *texts))
    return pd.DataFrame(rows, columns=["system", "question", "chosen", "rejected"])
