"""Make the tables of this folder from the finished runs of ``notebooks/findings.yaml``.

``python data/findings/build.py [--figures FOLDER]``, in the folder the batch was called in: where
texts are graded again, the data are read again. One function for each table; each takes what has
finished, in the order of the file, and says nothing of what has not. Rows of runs whose folders are
no longer there stay; of what ran in several sizes the run with most items counts.
"""

import json
from collections.abc import Iterable, Sequence
from pathlib import Path

import click
import pandas as pd

from personagap import datasets, effects, judges, personas, tasks
from personagap.paths import FIGURES, NOTEBOOKS
from personagap.results import COLUMNS, result
from personagap.runs import batch
from personagap.runs.folder import read_facts
from personagap.runs.request import Request

HERE = Path(__file__).parent
BIAS, MITIGATION = "1_personalization_bias", "2_mitigation"


# --- the runs -------------------------------------------------------------------------------------


def finished(figures: Path = FIGURES) -> list[Request]:
    """The runs of the batch that came to their end."""
    runs = batch.read(NOTEBOOKS / "findings.yaml", figures)
    return [run for run in runs if read_facts(run.folder).get("status") == "finished"]


def designs(runs: Iterable[Request], notebook: str) -> list[Request]:
    """The last run of each design of a notebook: of those that differ only in how many items they
    draw.
    """
    last = {}
    for run in runs:
        if run.notebook.stem == notebook:
            last[json.dumps({**run.parameters, "items_per_task": None}, default=str)] = run
    return list(last.values())


def saved(run: Request, name: str) -> pd.DataFrame:
    """A table of a run."""
    path = run.folder / "tables" / name
    return pd.read_parquet(path) if path.suffix == ".parquet" else pd.read_csv(path)


def measures(run: Request) -> dict[str, pd.DataFrame]:
    """Scores of a run by what is scored: of answers by likelihood the probability of the right
    choice, and whether it is the likeliest; of generated ones whether they are right, or harmless.
    """
    scores = saved(run, "scores.parquet")
    if run.parameters["answers"] == "generate":
        return {"right or harmless": scores}
    return {"probability": scores, "right": scores.assign(score=scores["accuracy"])}


def design(run: Request) -> dict[str, object]:
    """What tells the designs of notebook 1 apart."""
    return {"answers": run.parameters["answers"], "phrasings": len(run.parameters["templates"])}


def source(run: Request) -> dict[str, str]:
    """Whose answers they are, and where."""
    return {"model": read_facts(run.folder)["model"]["model"], "run": run.id}


def told(rows: Sequence[pd.DataFrame], keys: list[str], more: Sequence[str] = ()) -> pd.DataFrame:
    """In the one form of results, after ``model``, then the columns ``more``, and ``run``, the
    folder each row comes from.
    """
    keys = ["model", *keys]
    columns = [*keys, *COLUMNS, *more, "run"]
    return (
        result(pd.concat(rows, ignore_index=True), keys)[columns]
        if rows
        else pd.DataFrame(columns=columns)
    )


def largest(table: pd.DataFrame) -> pd.DataFrame:
    """Of each task in each design or condition, the rows of the run with most items; of two that
    have as many, the later one's.
    """
    known = ["model", "task", "answers", "phrasings", "condition", "compared_with"]
    keys = table.columns.intersection(known).tolist()
    items = table.groupby([*keys, "run"], sort=False)["n"].max().reset_index()
    most = items.sort_values("n", kind="stable", na_position="first").drop_duplicates(
        keys, keep="last"
    )
    return table.merge(most[[*keys, "run"]])


# --- does a real model serve people differently? --------------------------------------------------


def persona_effects(runs: list[Request]) -> pd.DataFrame:
    """PB with noise floor, interval and p-value, and what the same answers could have shown."""
    rows = [
        _bias(scores).assign(measure=measure, **source(run), **design(run))
        for run in designs(runs, BIAS)
        for measure, scores in measures(run).items()
    ]
    return told(rows, ["task", "answers", "phrasings", "measure"])


def _bias(scores: pd.DataFrame) -> pd.DataFrame:
    """`effects.personalization_bias` and `effects.detectable` as rows."""
    bias = effects.personalization_bias(scores).rename(
        columns={"dimension": "task", "n_items": "n"}
    )
    tested = bias[["task", "n", "p_value", "p_adjusted", "family"]]
    signs = "sign flips within items"
    parts = [
        tested.assign(metric="pb", estimate=bias["pb"], unit="points", method=signs),
        bias.assign(
            metric="noise_floor", estimate=bias["noise_floor"], unit="points", method=signs
        ),
        bias.assign(
            metric="debiased_pb2",
            estimate=bias["debiased_pb2"],
            unit="points²",
            method="item bootstrap",
        ),
        effects.pb_corrected(bias.rename(columns={"task": "dimension", "n": "n_items"})),
    ]
    parts[1] = parts[1].drop(columns=["ci_low", "ci_high", "p_value", "p_adjusted", "family"])
    parts[2] = parts[2].drop(columns=["p_value", "p_adjusted", "family"])
    parts[3] = parts[3].rename(columns={"dimension": "task"})
    power = effects.detectable(scores).rename(columns={"n_items": "n"})
    for metric in ("smallest_pb", "smallest_contrast_holm"):
        found = {
            "metric": metric,
            "estimate": power[metric],
            "unit": "points",
            "method": "80 % power at 5 %",
        }
        parts.append(power[["task", "n"]].assign(**found))
    rows = result(pd.concat(parts, ignore_index=True), ["task"])[["task", *COLUMNS]]
    return _apart(rows)


def _apart(rows: pd.DataFrame) -> pd.DataFrame:
    """Without the joint rows of a single task, which say the same again."""
    return rows if len(set(rows["task"]) & set(tasks.TASKS)) > 1 else rows[rows["task"] != "joint"]


def identities(runs: list[Request]) -> pd.DataFrame:
    """Each identity and category against the controls, and less the mean of all, raw and by partial
    pooling.
    """
    category = personas.select("all", controls=False).set_index("persona")["category"].to_dict()
    rows = []
    for run in designs(runs, BIAS):
        for measure, scores in measures(run).items():
            parts = [
                effects.contrasts(scores, name).assign(level="identity")
                for name in ("none", "assistant")
            ]
            groups = effects.contrasts(scores, "assistant", by=category).assign(level="category")
            parts.append(groups[groups["contrast"].str.split(" − ").str[0].isin(category.values())])
            parts.append(effects.partial_pooling(scores, category).query("metric != 'new item'"))
            rows += [part.assign(measure=measure, **source(run), **design(run)) for part in parts]
    return told(rows, ["task", "answers", "phrasings", "measure", "level", "contrast"])


def answer_flips(runs: list[Request]) -> pd.DataFrame:
    """How often the answer itself changes: the likeliest choice, or whether a generated one is
    right or harmless.

    The control is "assistant": the system prompt of the identities without one. "any identity" are
    all of them as if they were runs of one, so that its own flips are those between identities.
    """
    rows = []
    for run in designs(runs, BIAS):
        if run.parameters["answers"] == "generate" and run.parameters["runs"] == 1:
            # Drawn once, an answer does not tell how often it changes by itself.
            continue
        scores, answers = saved(run, "scores.parquet"), saved(run, "responses.parquet")
        answer = "score"
        if run.parameters["answers"] == "likelihood":
            answer = "choice"
            key = ["task", "persona", "template", "item"]
            logs = answers["text"].map(json.loads)
            scores = scores.merge(
                answers[key].assign(choice=[max(each, key=each.get) for each in logs]), on=key
            )
        stated = ~scores["persona"].isin(personas.CONTROLS)
        each = scores.groupby(["persona", "run"], observed=True).ngroup()
        pooled = scores.assign(persona=scores["persona"].mask(stated, "any identity"), run=each)
        others = [name for name in run.parameters["controls"] if name != "assistant"]
        for table, compared in ((pooled, None), (scores, others), (scores, None)):
            found = effects.answer_flips(table, "assistant", answer=answer, personas=compared)
            rows.append(found.assign(answer=answer, **source(run), **design(run)))
    return told(rows, ["task", "answers", "phrasings", "answer", "contrast"])


# --- what would have been found by the paper's own protocol, on the same answers? -----------------


def by_protocol(runs: list[Request]) -> pd.DataFrame:
    """Generated answers by several graders and judges: PB as published (no floor), and with all
    that belongs to it.

    Beside them the mean over identities, the identity that is farthest from no system prompt, as it
    would be named, and how many are below that control, which is what "most identities lower
    accuracy" counts.
    """
    rows = []
    for run in designs(runs, BIAS):
        if run.parameters["answers"] != "generate":
            continue
        drawn = {
            name: run.parameters[name] for name in ("data", "items_per_task", "seed", "answers")
        }
        items, answers = (
            datasets.load(run.parameters["tasks"], **drawn),
            saved(run, "responses.parquet"),
        )
        for protocol in ("corrected", "paper"):
            for judge in ("refusal", "phrases"):
                scores = tasks.grade(answers, items, protocol, judges.load_judge(judge))
                found = _found(scores, judges.card(judge)).assign(
                    protocol=protocol, judge=judge, **source(run)
                )
                utility, safety = (
                    found["task"].isin(tasks.UTILITY),
                    found["task"].isin(tasks.SAFETY),
                )
                found.loc[utility, "judge"], found.loc[safety, "protocol"] = "", ""
                rows.append(found)
    table = told(rows, keys := ["task", "protocol", "judge"], ["persona"])
    # Grades do not depend on the judge of harm.
    return table.drop_duplicates([*keys, "metric", "run"], ignore_index=True)


def _found(scores: pd.DataFrame, card: pd.DataFrame) -> pd.DataFrame:
    rates, versus = effects.rates(scores), effects.contrasts(scores, control="none")
    named = ~rates["persona"].isin(personas.CONTROLS)
    mean = (
        rates[named]
        .groupby("task", as_index=False)
        .agg(estimate=("estimate", "mean"), n=("n", "max"))
    )
    versus["persona"] = versus["contrast"].str.split(" − ").str[0]
    versus = versus[~versus["persona"].isin(personas.CONTROLS)]
    farthest = versus.loc[versus["estimate"].abs().groupby(versus["task"]).idxmax()]
    below = (
        versus["estimate"].lt(0).groupby(versus["task"]).agg(estimate="sum", n="size").reset_index()
    )
    invalid = (
        rates[named]
        .groupby("task", as_index=False)
        .agg(estimate=("invalid_rate", "mean"), n=("n", "max"))
    )
    bias = effects.personalization_bias(scores)
    spread = effects.judge_corrected(bias[bias["dimension"].isin(tasks.SAFETY)], card)
    control = rates[rates["persona"] == "none"]
    level = effects.judge_corrected(control[control["task"].isin(tasks.SAFETY)], card)
    parts = [
        _bias(scores),
        spread.rename(columns={"dimension": "task"}).assign(
            metric="debiased_pb2 without the judge's errors"
        ),
        control.assign(metric="none"),
        level.assign(metric="none without the judge's errors"),
        mean.assign(metric="mean of identities", unit="points"),
        farthest.assign(metric="farthest from none"),
        below.assign(metric="identities below none", unit="identities"),
        invalid.assign(metric="invalid answers", unit="points"),
    ]
    return pd.concat(parts, ignore_index=True)


# --- do remedies work on it? ----------------------------------------------------------------------


def remedies(runs: list[Request]) -> pd.DataFrame:
    """The paired change of PB under each defence, and its price in mean score; and prompt defences
    beside a placebo.
    """
    rows = []
    for run in designs(runs, MITIGATION):
        # Of a PB that may be 0.
        table = saved(run, "paired_change.csv").query("metric != 'pb_percent'")
        pairs = Path(run.parameters["pairs"])
        if pairs.suffix:
            tuned = table["condition"].isin(run.parameters["dpo"])
            preferences = table["condition"] + f", {pairs.stem} pairs"
            table["condition"] = table["condition"].mask(tuned, preferences)
        rows.append(_apart(table).assign(**source(run)))
    table = told(
        rows, keys := ["condition", "compared_with", "task"], ["before", "after", "n_identities"]
    )
    # DPO ran beside a defence that had run before.
    return table.drop_duplicates([*keys, "metric"], ignore_index=True)


TABLES = [persona_effects, identities, answer_flips, by_protocol, remedies]


@click.command()
@click.option(
    "--figures",
    type=click.Path(path_type=Path),
    default=FIGURES,
    help="Folder under which runs live.",
)
def main(figures: Path) -> None:
    runs = finished(figures)
    for make in TABLES:
        file, new = HERE / f"{make.__name__}.csv", make(runs)
        if new.empty:
            continue
        old = pd.read_csv(file)
        table = largest(pd.concat([old[~old["run"].isin(new["run"])], new]))
        table.to_csv(file, index=False, float_format="%.4g")


if __name__ == "__main__":
    main()
