"""The tables of what was found on a real model and real judgments, and their forms for figures."""

from pathlib import Path

import pandas as pd

from personagap.errors import UserError
from personagap.paths import DATA
from personagap.results import corrected, result
from personagap.spelling import words

#: Made by the scripts of ``data/findings`` from the runs of ``notebooks/findings.yaml``.
TABLES = (
    "persona_effects",
    "identities",
    "answer_flips",
    "by_protocol",
    "remedies",
    "over_refusal",
    "relevance",
)
#: The keys of a design in ``persona_effects``.
DESIGN = ["model", "task", "answers", "phrasings", "measure"]


def load(folder: str | Path | None = None) -> dict[str, pd.DataFrame]:
    """Every table of findings, by name; each in the form of `results`.

    Parameters
    ----------
    folder : of the tables; default ``data/findings``, which is committed.

    `UserError`: a table is not there.
    """
    folder = Path(folder or DATA / "findings")
    if lacking := [name for name in TABLES if not (folder / f"{name}.csv").is_file()]:
        reason = "the scripts of data/findings make it, see its README"
        raise UserError(f"no {lacking[0]}.csv in {folder}: {reason}")
    return {name: pd.read_csv(folder / f"{name}.csv") for name in TABLES}


def bias(persona_effects: pd.DataFrame) -> pd.DataFrame:
    """``persona_effects`` as `effects.personalization_bias` has it, a row per design, with what it
    could have shown.

    DataFrame ``model task answers phrasings measure dimension n_items pb noise_floor debiased_pb2
    ci_low ci_high p_value p_adjusted family smallest_pb``, in points; ``dimension`` says model and
    design in words, and ``p_adjusted`` is Holm's over all of them. Joint rows are left out.
    """
    told = persona_effects[persona_effects["task"] != "joint"]
    wide = told.pivot_table(index=DESIGN, columns="metric", values="estimate", sort=False)
    # The interval is of the debiased PB², the test of PB, as `personalization_bias` has both.
    squared = told[told["metric"] == "debiased_pb2"].set_index(DESIGN)[["ci_low", "ci_high"]]
    tested = corrected(told[told["metric"] == "pb"], ["metric"]).rename(columns={"n": "n_items"})
    tested = tested.set_index(DESIGN)[["p_value", "p_adjusted", "family", "n_items"]]
    table = wide.join(squared).join(tested).reset_index()
    phrasings = table["phrasings"].map(lambda n: f", {n} phrasings" if n > 1 else "")
    how = table["answers"].map({"likelihood": "likelihood", "generate": "answers"})
    how = how + " (" + table["measure"] + ")" + phrasings
    return table.assign(dimension=_named(table["model"]) + ": " + table["task"] + ", " + how)


def _named(model: pd.Series) -> pd.Series:
    """Without what names of files say of tuning and of how weights were quantised."""
    return model.str.partition("-instruct")[0]


def remedies(table: pd.DataFrame) -> pd.DataFrame:
    """Change of PB, and its price in mean score, of each model under each remedy.

    DataFrame of `results` after ``condition task``, in points; ``condition`` says model and remedy,
    the metrics are "PB, corrected for noise" and "mean score", and ``p_adjusted`` is Holm's over
    all remedies that were tried on a model. Joint rows are left out.
    """
    metric = table["metric"].map(
        {"pb_corrected": "PB, corrected for noise", "mean": "mean score"}, na_action="ignore"
    )
    model = _named(table["model"])
    condition = model + ": " + table["condition"].map(words)
    told = table["compared_with"].eq("undefended") & table["task"].ne("joint") & metric.notna()
    table = table.assign(metric=metric, model=model, condition=condition)[told]
    return result(corrected(table, ["model", "metric"]), ["condition", "task"])


def identities(table: pd.DataFrame) -> pd.DataFrame:
    """Raw and shrunken effects of identities, in the design with most items, of each model that has
    it; the largest shrunken one of the last model first.

    DataFrame of `results` after ``model contrast``, metrics "raw effect" and "shrunken effect".
    """
    effects = table["metric"].isin(["raw effect", "shrunken effect"])
    effects = table[effects & (table["level"] == "identity")]
    # One design: points of several tasks or measures do not compare.
    most = effects.loc[effects["n"].idxmax(), DESIGN[1:]]
    effects = effects[(effects[DESIGN[1:]] == most).all(axis=1)]
    last = effects[effects["model"] == effects["model"].iloc[-1]]
    shrunken = last[last["metric"] == "shrunken effect"].set_index("contrast")["estimate"]
    order = effects["contrast"].map(shrunken.abs().rank(ascending=False, method="first"))
    effects = effects.assign(contrast=effects["contrast"].str.removesuffix(" − mean"))
    effects = effects.iloc[order.argsort(kind="stable")]
    return effects.drop(columns=[*DESIGN[1:], "level", "run"]).reset_index(drop=True)


def relevance(table: pd.DataFrame) -> pd.DataFrame:
    """F1 of classifiers, by how their folds were made, and of models; the best on new prompts
    first.

    Of several draws of the folds the means, of estimates and of the ends of intervals: how far one
    draw can be trusted.

    DataFrame of `results` after ``classifier folds``.
    """
    f1 = table[(table["metric"] == "f1") & table["versus"].fillna("").eq("")].fillna({"folds": ""})
    f1 = f1[f1["classifier"] != "prevalence"].assign(folds=f1["folds"].replace("", "not trained"))
    keys = ["classifier", "folds", "metric", "unit", "method"]
    numbers = ["estimate", "ci_low", "ci_high", "n"]
    means = f1.groupby(keys, sort=False, dropna=False)[numbers].mean().reset_index()
    # Not by the best: a split that leaks would decide.
    unseen = means[means["folds"].isin(["prompt-disjoint", "not trained"])]
    by = means["classifier"].map(unseen.set_index("classifier")["estimate"])
    order = by.sort_values(ascending=False, kind="stable").index
    return result(means.loc[order], ["classifier", "folds"])
