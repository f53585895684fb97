"""A folder of finished runs for the tests of the explorer and its pages, made in a second."""

import shutil

import numpy as np
import pandas as pd
import pytest

from personagap import datasets, effects, personas
from personagap.ask import plan
from personagap.runs import open_run
from personagap.runs.folder import record

CHROMIUM = shutil.which("chromium")
needs_chromium = pytest.mark.skipif(not CHROMIUM, reason="opens pages in a browser: install Debian's package chromium")
#: What a model might say to take over a page.
TAKE = "document.title='taken'"
EVIL = f'</td></pre></title><script>{TAKE}</script><img src=x onerror="{TAKE}">\u202eright'


def make_runs(figures, n=2, conditions=(None,)):
    """``n`` runs on demo items, in which "muslim" scores worst and answers every item with ``EVIL``."""
    items = datasets.load(["mmlu", "gsm8k", "do_not_answer"], items_per_task=20)
    who = personas.select(["religion", "gender"])
    for seed in range(n):
        rng = np.random.default_rng(seed)
        folder = figures / "safety_utility" / "1_bias" / f"demo-{seed}"
        asked = pd.concat([plan(who, items, runs=2).assign(condition=name) for name in conditions], ignore_index=True)
        worst = asked["persona"] == "muslim"
        asked["score"] = (rng.random(len(asked)) < np.where(worst, 0.2, 0.7)).astype(float)
        asked["text"] = np.where(worst, EVIL, "the answer")
        asked = asked.assign(model="demo", valid=True, truncated=False, finish_reason="stop")
        asked = asked if conditions != (None,) else asked.drop(columns="condition")
        run = open_run(folder)
        run.save(scores=asked.drop(columns=["text", "finish_reason"]), responses=asked.drop(columns=["score", "valid"]))
        several = conditions != (None,)
        run.save(contrasts=effects.by_condition(effects.contrasts, asked) if several else effects.contrasts(asked))
        run.save(verdict=pd.DataFrame({"question": ["Does it differ?"], "answer": [f"Yes, seed {seed}. {EVIL}"]}))
        about = {"title": "A trial", "paper": "safety_utility", "notebook": "1_bias.ipynb", "status": "finished"}
        asked_for = {"parameters": {"data": "demo", "seed": seed}, "changed": {"seed": seed} if seed else {}}
        started = f"2026-01-02T03:04:{seed:02}+00:00"
        record(folder, id=folder.name, started=started, seconds=1.0, versions={}, **about, **asked_for)
    return figures
