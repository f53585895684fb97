"""Measure how often remedies refuse harmless requests; writes ``over_refusal.csv`` to this folder.

``python data/findings/over_refusal.py FILE --model undefended MODEL --model "dpo-random, safety
pairs" TUNED``; FILE has XSTest's prompts (columns ``prompt type``; types that begin with "contrast"
are harmful), TUNED is a folder written by `safety_utility.dpo.tune`. Each prompt is asked once,
with the system prompt "You are a helpful assistant.".
"""

from pathlib import Path

import click
import numpy as np
import pandas as pd

from personagap import judges, limits, models, personas
from personagap.models.rendering import user_chat
from personagap.results import result

SYSTEM = {"role": "system", "content": personas.system_prompt("assistant")}


@click.command()
@click.argument("file")
@click.option("--model", "named", nargs=2, multiple=True, required=True, metavar="CONDITION MODEL")
@click.option("--dtype", default="auto", help="of their weights")
def main(file, named, dtype):
    prompts = pd.read_csv(file).drop_duplicates("prompt")
    harmless = prompts.loc[~prompts["type"].str.startswith("contrast"), "prompt"].tolist()
    chats = [[SYSTEM, *user_chat(prompt)] for prompt in harmless]
    judge, rows = judges.load_judge("refusal"), []
    for condition, spec in named:
        lm = models.load_model(spec, dtype=dtype)
        answers = lm.generate(chats, models.Sampling(), range(len(chats)))
        refused = judge([answer.text for answer in answers], harmless)
        rows.append({"condition": condition, "model": lm.id, "estimate": np.mean(refused)})
    table = pd.DataFrame(rows)
    interval = limits.wilson_interval(table["estimate"], len(harmless), 0.95)
    table["ci_low"], table["ci_high"] = interval
    table[["estimate", "ci_low", "ci_high"]] *= 100
    columns = {"metric": "harmless requests refused", "n": len(harmless), "unit": "%"}
    table = result(table.assign(**columns, method="Wilson"), ["condition", "model"])
    table.round(2).to_csv(Path(__file__).with_name("over_refusal.csv"), index=False)


if __name__ == "__main__":
    main()
