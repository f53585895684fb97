"""Tables of the findings on real models and real judgments, and their forms for figures."""

from pathlib import Path

import pandas as pd

from personagap.errors import UserError
from personagap.formatting import humanize
from personagap.paths import DATA
from personagap.results import add_holm, result

#: Tables made by the scripts in ``data/findings`` from the runs of ``notebooks/findings.yaml``.
TABLES = (
    "persona_effects",
    "identities",
    "answer_flips",
    "by_protocol",
    "remedies",
    "over_refusal",
    "relevance",
)
#: Columns that identify a design in ``persona_effects``.
DESIGN = ["model", "task", "answers", "phrasings", "measure"]


def load(folder: str | Path | None = None) -> dict[str, pd.DataFrame]:
    """Load all tables of findings, by name, each in the form of `results`.

    Parameters
    ----------
    folder : folder of the tables, by default ``data/findings`` of the repository.

    Raises
    ------
    UserError : a table is missing.
    """
    folder = Path(folder or DATA / "findings")
    if missing := [name for name in TABLES if not (folder / f"{name}.csv").is_file()]:
        reason = "the scripts of data/findings make it, see its README"
        raise UserError(f"no {missing[0]}.csv in {folder}: {reason}")
    return {name: pd.read_csv(folder / f"{name}.csv") for name in TABLES}


def bias(persona_effects: pd.DataFrame) -> pd.DataFrame:
    """``persona_effects`` in the form of `effects.personalization_bias`, one row per design.

    Returns
    -------
    DataFrame ``model task answers phrasings measure dimension n_items pb noise_floor debiased_pb2
    ci_low ci_high p_value p_adjusted family smallest_pb``, in points. ``dimension`` describes model
    and design, ``p_adjusted`` is Holm's correction over all rows, and ``smallest_pb`` the smallest
    PB that the design could have shown. Joint rows are left out.
    """
    tasks = persona_effects[persona_effects["task"] != "joint"]
    table = tasks.pivot_table(index=DESIGN, columns="metric", values="estimate", sort=False)
    # As in `personalization_bias`: the interval is that of the debiased PB², the test that of PB.
    intervals = tasks[tasks["metric"] == "debiased_pb2"].set_index(DESIGN)[["ci_low", "ci_high"]]
    tests = add_holm(tasks[tasks["metric"] == "pb"], ["metric"]).rename(columns={"n": "n_items"})
    tests = tests.set_index(DESIGN)[["p_value", "p_adjusted", "family", "n_items"]]
    table = table.join(intervals).join(tests).reset_index()
    phrasings = table["phrasings"].map(lambda n: f", {n} phrasings" if n > 1 else "")
    design = table["answers"].map({"likelihood": "likelihood", "generate": "answers"})
    design = table["task"] + ", " + design + " (" + table["measure"] + ")" + phrasings
    return table.assign(dimension=_base_name(table["model"]) + ": " + design)


def _base_name(model: pd.Series) -> pd.Series:
    """Names of models without the part of the file name about tuning and quantization."""
    return model.str.partition("-instruct")[0]


def remedies(table: pd.DataFrame) -> pd.DataFrame:
    """Change of PB and of the mean score of each model under each remedy.

    Returns
    -------
    `results` table with the keys ``condition task``, in points. ``condition`` names model and
    remedy, the metrics are "PB, corrected for noise" and "mean score", and ``p_adjusted`` is Holm's
    correction over all remedies tried on a model. Joint rows are left out.
    """
    names = {"pb_corrected": "PB, corrected for noise", "mean": "mean score"}
    metric = table["metric"].map(names, na_action="ignore")
    model = _base_name(table["model"])
    condition = model + ": " + table["condition"].map(humanize)
    shown = table["compared_with"].eq("undefended") & table["task"].ne("joint") & metric.notna()
    table = table.assign(metric=metric, model=model, condition=condition)[shown]
    return result(add_holm(table, ["model", "metric"]), ["condition", "task"])


def identities(table: pd.DataFrame) -> pd.DataFrame:
    """Raw and shrunken effects of identities by model, in the design with most items.

    Returns
    -------
    `results` table with the keys ``model contrast`` and the metrics "raw effect" and "shrunken
    effect", sorted by the size of the shrunken effect in the last model, largest first.
    """
    is_effect = table["metric"].isin(["raw effect", "shrunken effect"])
    effects = table[is_effect & (table["level"] == "identity")]
    # One design only, because points of different tasks or measures are not comparable.
    design = effects.loc[effects["n"].idxmax(), DESIGN[1:]]
    effects = effects[(effects[DESIGN[1:]] == design).all(axis=1)]
    last = effects[effects["model"] == effects["model"].iloc[-1]]
    shrunken = last[last["metric"] == "shrunken effect"].set_index("contrast")["estimate"]
    order = effects["contrast"].map(shrunken.abs().rank(ascending=False, method="first"))
    effects = effects.assign(contrast=effects["contrast"].str.removesuffix(" − mean"))
    effects = effects.iloc[order.argsort(kind="stable")]
    return effects.drop(columns=[*DESIGN[1:], "level", "run"]).reset_index(drop=True)


def relevance(table: pd.DataFrame) -> pd.DataFrame:
    """F1 of classifiers by kind of folds, and of models; the best on new prompts first.

    For several draws of the folds, estimates and limits of intervals are averages over the draws,
    so that the interval is that of a single draw.

    Returns
    -------
    `results` table with the keys ``classifier folds``.
    """
    f1 = table[(table["metric"] == "f1") & table["versus"].fillna("").eq("")].fillna({"folds": ""})
    f1 = f1[f1["classifier"] != "prevalence"].assign(folds=f1["folds"].replace("", "not trained"))
    keys = ["classifier", "folds", "metric", "unit", "method"]
    numbers = ["estimate", "ci_low", "ci_high", "n"]
    means = f1.groupby(keys, sort=False, dropna=False)[numbers].mean().reset_index()
    # Sorted by F1 on new prompts, not by the best F1, which could be that of a split with leakage.
    new_prompts = means[means["folds"].isin(["prompt-disjoint", "not trained"])]
    score = means["classifier"].map(new_prompts.set_index("classifier")["estimate"])
    order = score.sort_values(ascending=False, kind="stable").index
    return result(means.loc[order], ["classifier", "folds"])
