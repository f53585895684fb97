"""The papers' numbers, beside measured ones."""

import pandas as pd

from personagap.errors import UserError
from personagap.paths import DATA

PAPERS = ("personalllm", "recentering", "safety_utility")


def load(paper: str) -> pd.DataFrame:
    """Published numbers: ``paper experiment quantity condition value unit n evidence note``.

    ``evidence`` says where a number was read: "paper", "authors' blog", "authors' code", "third-party
    notes" or "recomputed".

    Examples
    --------
    >>> table = load("recentering")
    >>> table.loc[table["condition"] == "method=BM25", ["quantity", "value", "evidence"]].values.tolist()
    [['f1', 0.243, "authors' blog"]]
    """
    if paper not in PAPERS:
        raise UserError(f"no published numbers of {paper!r}: choose from {', '.join(PAPERS)}")
    return pd.read_csv(DATA / "published" / f"{paper}.csv", keep_default_na=False, na_values={"value": "", "n": ""})


def measured(table: pd.DataFrame, conditions: dict[str, str], quantities: dict[str, str]) -> pd.DataFrame:
    """Rows for ``beside`` from a table that has one row per rater or model.

    Parameters
    ----------
    table : a name in the first column; ``<column>``, ``<column>_low`` and ``<column>_high`` of each quantity.
    conditions : name in the table → published condition; other rows are left out.
    quantities : column of the table → published quantity.

    Returns
    -------
    DataFrame ``quantity condition measured ci_low ci_high``.
    """
    rows = [
        (quantity, condition, *line[[column, f"{column}_low", f"{column}_high"]])
        for name, condition in conditions.items()
        for _, line in table[table.iloc[:, 0] == name].iterrows()
        for column, quantity in quantities.items()
    ]
    return pd.DataFrame(rows, columns=["quantity", "condition", "measured", "ci_low", "ci_high"])


def beside(measured: pd.DataFrame, paper: str) -> pd.DataFrame:
    """Put measured values beside the published numbers of the same quantity and condition.

    Parameters
    ----------
    measured : ``quantity condition measured ci_low ci_high``; ``quantity`` and ``condition`` spelt as in
        ``load(paper)``, ``measured`` in its unit. Optional: ``experiment``, where quantity and condition
        do not single out one number, and ``why_not``, the reason a row is not comparable ("" if it is).
    paper : name of the paper.

    Returns
    -------
    DataFrame ``quantity condition published measured ci_low ci_high difference comparable evidence``, in
    the order of ``measured``. ``difference`` is measured − published; ``comparable`` is "yes" or "not
    comparable: …" with the reason.

    Raises
    ------
    UserError : a row matches no published number, or several.

    Examples
    --------
    >>> measured = pd.DataFrame({"quantity": ["f1"], "condition": ["method=BM25"], "measured": [0.25],
    ...                          "ci_low": [0.2], "ci_high": [0.3]})
    >>> beside(measured, "recentering")[["published", "measured", "difference", "comparable"]].round(3)
       published  measured  difference comparable
    0      0.243      0.25       0.007        yes
    """
    key = [column for column in ("experiment", "quantity", "condition") if column in measured]
    numbers = load(paper).rename(columns={"value": "published"})
    table = measured.reset_index(drop=True).merge(
        numbers[[*key, "published", "evidence"]], on=key, how="left", indicator=True
    )
    if len(table) != len(measured) or (table["_merge"] != "both").any():
        wrong = table[table.duplicated(key, keep=False) | (table["_merge"] != "both")].iloc[0]
        raise UserError(
            f"{paper}: not exactly one published number for {', '.join(str(wrong[column]) for column in key)}"
        )
    reason = table.get("why_not", pd.Series("", index=table.index))
    table["comparable"] = ("not comparable: " + reason).where(reason != "", "yes")
    table["difference"] = table["measured"] - table["published"]
    columns = ["published", "measured", "ci_low", "ci_high", "difference", "comparable", "evidence"]
    return table[[*key, *columns]]


def relevance(metrics: pd.DataFrame, means: pd.DataFrame, *, simulated: bool) -> pd.DataFrame:
    """The relevance notebook's numbers beside those of arXiv 2606.06614, stage 2; see ``beside``.

    Parameters
    ----------
    metrics : ``gap.relevance_metrics``, with retrieval baselines like "bm25_top5".
    means : ``gap.mean_agreement``.
    simulated : the judgments are those of the demo.
    """
    released = {
        "gpt_5_4": "method=GPT-5.4 (released outputs)",
        "gemma_4_31b": "method=Gemma-4-31B-it (released outputs)",
        "select_all": "method=select all",
    }
    bm25 = {f"bm25_top{k}": f"method=BM25;cut=top-{k}" for k in (5, 8, 10)}
    quantities = {"precision": "precision", "recall": "recall", "f1": "f1", "kappa": "kappa_vs_majority"}
    groups = {"human–human": "human-human", "human–model": "LLM-human", "model–model": "LLM-LLM"}
    kappas = means.assign(condition=means["pair"].map(groups)).dropna(subset=["condition", "kappa"])
    n = metrics.loc[metrics["rater"] == "select_all", "n"].iloc[0]
    reason = "simulated data" if simulated else "" if n == 3973 else f"{n:,} pairs here, 3,973 there"
    rows = pd.concat([measured(metrics, released, quantities), measured(metrics, bm25, {"f1": "f1"})])
    kappas = kappas.assign(
        quantity="mean_pairwise_kappa", why_not=reason or "other raters than the three people and five models there"
    )
    table = pd.concat([rows.assign(why_not=reason), kappas.rename(columns={"kappa": "measured"})])
    return beside(table, "recentering")


def personalization_bias(bias: pd.DataFrame, model: str) -> pd.DataFrame:
    """Measured PB and noise floors beside those of arXiv 2406.11107 and their recomputation; see ``beside``.

    The interval of a measured PB is that of the debiased PB² with the noise put back, as published
    values hold it.

    Parameters
    ----------
    bias : ``effects.personalization_bias``.
    model : what was measured.
    """
    joint = bias[bias["dimension"] == "joint"].iloc[0]
    noise = joint["pb"] ** 2 - joint["debiased_pb2"]
    low, high = (max(joint[bound] + noise, 0) ** 0.5 for bound in ("ci_low", "ci_high"))
    reason = f"{model} on {len(bias) - 1} tasks here; the paper's task pair is not recorded"
    extremes = ("model=GPT-4o;rank=lowest", "model=Llama-2-70B;rank=highest")
    rows = [("pb", condition, joint["pb"], low, high, reason) for condition in extremes]
    sizes = {
        "mmlu": ("MMLU-dev", 285),
        "gsm8k": ("GSM8K", 1319),
        "do_not_answer": ("Do-Not-Answer", 939),
        "strongreject": ("StrongReject", 346),
    }
    for row in bias.itertuples():
        if row.dimension in sizes:
            name, n = sizes[row.dimension]
            why_not = (
                ""
                if (row.n_items, row.n_runs, row.n_identities) == (n, 3, 31)
                else f"{row.n_items} items here, {n} there"
            )
            condition = f"dataset={name};item_p=Beta(1 1)"
            rows.append(("pb_under_no_effect", condition, row.noise_floor, None, None, why_not))
    columns = ["quantity", "condition", "measured", "ci_low", "ci_high", "why_not"]
    return beside(pd.DataFrame(rows, columns=columns).astype({"ci_low": float, "ci_high": float}), "safety_utility")
