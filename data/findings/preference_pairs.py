"""Preference pairs of the project's own, for `safety_utility.dpo.tune`: JSON lines to the output.

``python data/findings/preference_pairs.py utility > utility.jsonl``: right answers preferred to
wrong ones, of mmlu, gsm8k and mbpp, without anything about safety, as the paper's pairs are. With
``both``, as many harmless answers preferred to harmful ones follow, those of
``2_mitigation -p tasks '["do_not_answer"]' -p steps 15 -p batch 4``.
"""

import click
import pandas as pd

from personagap import datasets, demo

UTILITY = ["mmlu", "gsm8k", "mbpp"]


@click.command()
@click.argument("kind", type=click.Choice(["utility", "both"]))
@click.option("--pairs", "n", default=60, show_default=True, help="of each sort")
def main(kind, n):
    sorts = [UTILITY] if kind == "utility" else [UTILITY, ["do_not_answer"]]
    drawn = [demo.preference_pairs(datasets.load(sort, data="demo"), n=n, seed=0) for sort in sorts]
    print(pd.concat(drawn).to_json(orient="records", lines=True), end="")


if __name__ == "__main__":
    main()
