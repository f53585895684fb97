"""Preference pairs of the project's own, for `safety_utility.dpo.tune`: JSON lines to the output.

``python data/findings/preference_pairs.py utility safety > both.jsonl``. Utility: right answers
preferred to wrong ones, of mmlu, gsm8k and mbpp, without anything about safety, as the paper's
pairs are. Safety: harmless answers preferred to harmful ones.
"""

import click
import pandas as pd

from personagap import datasets, demo

TASKS = {"utility": ["mmlu", "gsm8k", "mbpp"], "safety": ["do_not_answer"]}


@click.command()
@click.argument("sorts", nargs=-1, required=True, type=click.Choice(list(TASKS)))
@click.option("--pairs", "n", default=60, show_default=True, help="of each sort")
def main(sorts, n):
    items = [datasets.load(TASKS[sort], data="demo") for sort in sorts]
    pairs = pd.concat(demo.preference_pairs(each, n=n, seed=0) for each in items)
    print(pairs.to_json(orient="records", lines=True), end="")


if __name__ == "__main__":
    main()
