"""Build the tables of this folder from the finished runs of ``notebooks/findings.yaml``.

``python data/findings/build.py [--figures FOLDER]``, in the folder where the batch was started, as
answers that are graded again need the data. There is one function per table; it uses the finished
runs, in the order of the batch, and ignores all others. Rows of runs whose folders no longer exist
are kept. If a design ran with several numbers of items, the run with most items counts.
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
    """Return the finished runs of the batch."""
    runs = batch.read(NOTEBOOKS / "findings.yaml", figures)
    return [run for run in runs if read_facts(run.folder).get("status") == "finished"]


def last_runs(runs: Iterable[Request], notebook: str) -> list[Request]:
    """Return the last run of each design of a notebook; designs ignore the number of items."""
    by_design = {}
    for run in runs:
        if run.notebook.stem == notebook:
            by_design[json.dumps({**run.parameters, "items_per_task": None}, default=str)] = run
    return list(by_design.values())


def read_table(run: Request, name: str) -> pd.DataFrame:
    """Read a table of a run."""
    path = run.folder / "tables" / name
    return pd.read_parquet(path) if path.suffix == ".parquet" else pd.read_csv(path)


def scores_by_measure(run: Request) -> dict[str, pd.DataFrame]:
    """Return the scores of a run by measure.

    Generated answers are scored as right or harmless; answers by likelihood by the probability of
    the right choice, and by whether it is the likeliest.
    """
    scores = read_table(run, "scores.parquet")
    if run.parameters["answers"] == "generate":
        return {"right or harmless": scores}
    return {"probability": scores, "right": scores.assign(score=scores["accuracy"])}


def design(run: Request) -> dict[str, object]:
    """Return the columns that distinguish the designs of notebook 1."""
    return {"answers": run.parameters["answers"], "phrasings": len(run.parameters["templates"])}


def source(run: Request) -> dict[str, str]:
    """Return the model and the name of a run."""
    return {"model": read_facts(run.folder)["model"]["model"], "run": run.id}


def as_result(
    parts: Sequence[pd.DataFrame], keys: list[str], more: Sequence[str] = ()
) -> pd.DataFrame:
    """Concatenate tables in the form of `result`; ``run`` is the folder that a row comes from."""
    keys = ["model", *keys]
    columns = [*keys, *COLUMNS, *more, "run"]
    if not parts:
        return pd.DataFrame(columns=columns)
    return result(pd.concat(parts, ignore_index=True), keys)[columns]


def largest(table: pd.DataFrame) -> pd.DataFrame:
    """Keep, for each task and design or condition, the run with most items, of equals the last."""
    design_columns = ["model", "task", "answers", "phrasings", "condition", "compared_with"]
    keys = table.columns.intersection(design_columns).tolist()
    sizes = table.groupby([*keys, "run"], sort=False)["n"].max().reset_index()
    sizes = sizes.sort_values("n", kind="stable", na_position="first")
    return table.merge(sizes.drop_duplicates(keys, keep="last")[[*keys, "run"]])


# --- does a real model serve people differently? --------------------------------------------------


def persona_effects(runs: list[Request]) -> pd.DataFrame:
    """PB with noise floor, interval and p-value, and the smallest detectable effects."""
    rows = [
        _bias(scores).assign(measure=measure, **source(run), **design(run))
        for run in last_runs(runs, BIAS)
        for measure, scores in scores_by_measure(run).items()
    ]
    return as_result(rows, ["task", "answers", "phrasings", "measure"])


def _bias(scores: pd.DataFrame) -> pd.DataFrame:
    """Return `effects.personalization_bias` and `effects.detectable` as rows of results."""
    raw = effects.personalization_bias(scores)
    corrected = effects.pb_corrected(raw).rename(columns={"dimension": "task"})
    bias = raw.rename(columns={"dimension": "task", "n_items": "n"})
    # Only the test of PB itself has p-values, and only debiased estimates have intervals.
    untested = bias.drop(columns=["p_value", "p_adjusted", "family"])
    tested = bias[["task", "n", "p_value", "p_adjusted", "family"]]
    signs = "sign flips within items"
    floor, spread = bias["noise_floor"], bias["debiased_pb2"]
    parts = [
        tested.assign(metric="pb", estimate=bias["pb"], unit="points", method=signs),
        untested.drop(columns=["ci_low", "ci_high"]).assign(
            metric="noise_floor", estimate=floor, unit="points", method=signs
        ),
        untested.assign(
            metric="debiased_pb2", estimate=spread, unit="points²", method="item bootstrap"
        ),
        corrected,
    ]
    power = effects.detectable(scores).rename(columns={"n_items": "n"})
    labels = {"unit": "points", "method": "80 % power at 5 %"}
    for metric in ("smallest_pb", "smallest_contrast_holm"):
        smallest = power[["task", "n"]].assign(metric=metric, estimate=power[metric], **labels)
        parts.append(smallest)
    rows = result(pd.concat(parts, ignore_index=True), ["task"])[["task", *COLUMNS]]
    return _without_redundant_joint(rows)


def _without_redundant_joint(rows: pd.DataFrame) -> pd.DataFrame:
    """Drop the joint rows of a single task, which repeat its own."""
    return rows if len(set(rows["task"]) & set(tasks.TASKS)) > 1 else rows[rows["task"] != "joint"]


def identities(runs: list[Request]) -> pd.DataFrame:
    """Identities and categories compared with the controls and with the mean of all identities.

    The latter both raw and by partial pooling.
    """
    category = personas.select("all", controls=False).set_index("persona")["category"].to_dict()
    rows = []
    for run in last_runs(runs, BIAS):
        for measure, scores in scores_by_measure(run).items():
            parts = [
                effects.contrasts(scores, name).assign(level="identity")
                for name in ("none", "assistant")
            ]
            groups = effects.contrasts(scores, "assistant", by=category).assign(level="category")
            parts.append(groups[groups["contrast"].str.split(" − ").str[0].isin(category.values())])
            parts.append(effects.partial_pooling(scores, category).query("metric != 'new item'"))
            rows += [part.assign(measure=measure, **source(run), **design(run)) for part in parts]
    return as_result(rows, ["task", "answers", "phrasings", "measure", "level", "contrast"])


def answer_flips(runs: list[Request]) -> pd.DataFrame:
    """How often the answer itself changes: the likeliest choice, or a generated answer's score.

    The control is "assistant", the system prompt of the identities without an identity. "any
    identity" treats all identities as runs of a single persona, so that its flips within a persona
    are those between identities.
    """
    rows = []
    for run in last_runs(runs, BIAS):
        if run.parameters["answers"] == "generate" and run.parameters["runs"] == 1:
            # A single run does not show how often answers change at random.
            continue
        scores, answers = (read_table(run, f"{name}.parquet") for name in ("scores", "responses"))
        answer = "score"
        if run.parameters["answers"] == "likelihood":
            answer = "choice"
            key = ["task", "persona", "template", "item"]
            choices = [max(logs, key=logs.get) for logs in map(json.loads, answers["text"])]
            scores = scores.merge(answers[key].assign(choice=choices), on=key)
        is_identity = ~scores["persona"].isin(personas.CONTROLS)
        run_id = scores.groupby(["persona", "run"], observed=True).ngroup()
        pooled = scores["persona"].mask(is_identity, "any identity")
        pooled = scores.assign(persona=pooled, run=run_id)
        others = [name for name in run.parameters["controls"] if name != "assistant"]
        for table, compared in ((pooled, None), (scores, others), (scores, None)):
            flips = effects.answer_flips(table, "assistant", answer=answer, personas=compared)
            rows.append(flips.assign(answer=answer, **source(run), **design(run)))
    return as_result(rows, ["task", "answers", "phrasings", "answer", "contrast"])


# --- what would have been found by the paper's own protocol, on the same answers? -----------------


def by_protocol(runs: list[Request]) -> pd.DataFrame:
    """Generated answers scored by several graders and judges: PB as published and corrected.

    Also the mean over identities, the identity farthest from no system prompt, which a paper would
    name, and the number of identities below that control, which is what "most identities lower
    accuracy" counts.
    """
    rows = []
    for run in last_runs(runs, BIAS):
        if run.parameters["answers"] != "generate":
            continue
        names = ("data", "items_per_task", "seed", "answers")
        arguments = {name: run.parameters[name] for name in names}
        items = datasets.load(run.parameters["tasks"], **arguments)
        answers = read_table(run, "responses.parquet")
        for protocol in ("corrected", "paper"):
            for judge in ("refusal", "phrases"):
                scores = tasks.grade(answers, items, protocol, judges.load_judge(judge))
                table = _protocol_results(scores, judges.card(judge))
                table = table.assign(protocol=protocol, judge=judge, **source(run))
                # Utility does not depend on the judge, safety not on the grader.
                table.loc[table["task"].isin(tasks.UTILITY), "judge"] = ""
                table.loc[table["task"].isin(tasks.SAFETY), "protocol"] = ""
                rows.append(table)
    keys = ["task", "protocol", "judge"]
    table = as_result(rows, keys, ["persona"])
    # So utility appears once per judge, and safety once per grader.
    return table.drop_duplicates([*keys, "metric", "run"], ignore_index=True)


def _protocol_results(scores: pd.DataFrame, card: pd.DataFrame) -> pd.DataFrame:
    """Return everything that `by_protocol` reports of one set of scores."""
    rates, versus = effects.rates(scores), effects.contrasts(scores, control="none")
    identities = rates[~rates["persona"].isin(personas.CONTROLS)].groupby("task", as_index=False)
    mean = identities.agg(estimate=("estimate", "mean"), n=("n", "max"))
    invalid = identities.agg(estimate=("invalid_rate", "mean"), n=("n", "max"))
    versus["persona"] = versus["contrast"].str.split(" − ").str[0]
    versus = versus[~versus["persona"].isin(personas.CONTROLS)]
    farthest = versus.loc[versus["estimate"].abs().groupby(versus["task"]).idxmax()]
    below = versus["estimate"].lt(0).groupby(versus["task"])
    below = below.agg(estimate="sum", n="size").reset_index()
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
    """The paired changes of PB and of mean scores under each defence, and against a placebo."""
    rows = []
    for run in last_runs(runs, MITIGATION):
        # A change in percent is undefined if PB may be 0.
        table = read_table(run, "paired_change.csv").query("metric != 'pb_percent'")
        pairs = Path(run.parameters["pairs"])
        if pairs.suffix:
            tuned = table["condition"].isin(run.parameters["dpo"])
            preferences = table["condition"] + f", {pairs.stem} pairs"
            table["condition"] = table["condition"].mask(tuned, preferences)
        rows.append(_without_redundant_joint(table).assign(**source(run)))
    keys = ["condition", "compared_with", "task"]
    table = as_result(rows, keys, ["before", "after", "n_identities"])
    # The runs with DPO repeat a defence of earlier runs.
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
    """Update each table by its new rows."""
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
