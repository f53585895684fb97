"""A headless browser, JupyterLab cells, and a folder of fabricated finished runs."""

import contextlib
import shutil
import time

import numpy as np
import pandas as pd
import pytest

from personagap import datasets, effects, personas
from personagap.ask import plan
from personagap.runs import open_run
from personagap.runs.folder import record

CHROMIUM = shutil.which("chromium")
needs_chromium = pytest.mark.skipif(
    not CHROMIUM, reason="opens pages in a browser: install Debian's package chromium"
)
#: What a hostile answer might contain to take over a page.
HOSTILE_SCRIPT = "document.title='taken'"
HOSTILE_TEXT = (
    f"</td></pre></title><script>{HOSTILE_SCRIPT}</script>"
    f'<img src=x onerror="{HOSTILE_SCRIPT}">\u202eright'
)
#: The dots of an identity in the explorer's chart.
DOT_SELECTOR = ".vega-embed svg .mark-symbol path[aria-label*='key: {};']"


@contextlib.contextmanager
def chromium():
    """A headless browser."""
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(
            executable_path=CHROMIUM, args=["--no-sandbox", "--disable-gpu"]
        )
        yield browser
        browser.close()


def run_all_cells(page, until=(".vega-embed svg", "table.dataTable tbody tr")):
    """Run the notebook open in JupyterLab until all ``until`` selectors show; return the
    seconds.
    """
    from playwright.sync_api import TimeoutError

    page.get_by_text("| Idle").wait_for()
    # The list of files takes most of a narrow screen.
    if page.locator("#jp-left-stack").is_visible():
        page.keyboard.press("Control+b")
    wanted, kernel = page.locator(until[0]), page.locator(".jp-Dialog .jp-mod-accept")
    for _ in range(4):
        if kernel.is_visible():  # asked for by a notebook that was still being opened
            kernel.click()
        else:
            page.locator(".lm-MenuBar-itemLabel", has_text="Run").click()
            page.get_by_text("Run All Cells", exact=True).click()
        began = time.monotonic()
        with contextlib.suppress(TimeoutError):
            wanted.or_(kernel).first.wait_for(timeout=60_000)
        if wanted.first.is_visible():
            break
    for shown in until:
        page.locator(shown).first.wait_for()
    return time.monotonic() - began


def make_runs(figures, n=2, conditions=(None,)):
    """Fabricate ``n`` runs on demo items: "muslim" scores worst and gets ``HOSTILE_TEXT`` as
    answer.
    """
    items = datasets.load(["mmlu", "gsm8k", "do_not_answer"], items_per_task=20)
    who = personas.select(["religion", "gender"])
    for seed in range(n):
        rng = np.random.default_rng(seed)
        folder = figures / "safety_utility" / "1_bias" / f"demo-{seed}"
        asked = pd.concat(
            [plan(who, items, runs=2).assign(condition=name) for name in conditions],
            ignore_index=True,
        )
        worst = asked["persona"] == "muslim"
        asked["score"] = (rng.random(len(asked)) < np.where(worst, 0.2, 0.7)).astype(float)
        asked["text"] = np.where(worst, HOSTILE_TEXT, "the answer")
        asked = asked.assign(model="demo", valid=True, truncated=False, finish_reason="stop")
        asked = asked if conditions != (None,) else asked.drop(columns="condition")
        run = open_run(folder)
        run.save(
            scores=asked.drop(columns=["text", "finish_reason"]),
            responses=asked.drop(columns=["score", "valid"]),
        )
        several = conditions != (None,)
        run.save(
            contrasts=effects.by_condition(effects.contrasts, asked)
            if several
            else effects.contrasts(asked)
        )
        run.save(
            verdict=pd.DataFrame(
                {"question": ["Does it differ?"], "answer": [f"Yes, seed {seed}. {HOSTILE_TEXT}"]}
            )
        )
        about = {
            "title": "A trial",
            "paper": "safety_utility",
            "notebook": "1_bias.ipynb",
            "status": "finished",
        }
        asked_for = {
            "parameters": {"data": "demo", "seed": seed},
            "changed": {"seed": seed} if seed else {},
        }
        started = f"2026-01-02T03:04:{seed:02}+00:00"
        record(
            folder, id=folder.name, started=started, seconds=1.0, versions={}, **about, **asked_for
        )
    return figures
