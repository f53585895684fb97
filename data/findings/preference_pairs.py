"""Print preference pairs from the demo, as JSON lines for `safety_utility.dpo.tune`.

``python data/findings/preference_pairs.py utility safety > both.jsonl``. Utility pairs prefer right
answers to wrong ones in mmlu, gsm8k and mbpp; like the paper's pairs they are not about safety.
Safety pairs prefer harmless answers to harmful ones.
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
    pairs = pd.concat(demo.preference_pairs(pool, n=n, seed=0) for pool in items)
    print(pairs.to_json(orient="records", lines=True), end="")


if __name__ == "__main__":
    main()
