"""How fast the heavy parts are: paired timings against the libraries one would use instead."""

import datetime
import importlib.util
import os
import platform
import time
import timeit
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from transformers import AutoConfig, AutoModelForCausalLM, AutoTokenizer, pipeline

from personagap import datasets, effects, personas, tasks, users
from personagap.adaptation import icl, neighbours
from personagap.effects.resampling import permuted
from personagap.errors import at_least
from personagap.models import Sampling, loading
from personagap.paths import DEMO

PAIRED = ["work", "peer", "unit", "ours", "theirs", "ratio", "ratio_low", "ratio_high", "repeats"]


def paired(work: str, peer: str, unit: str, ours: Callable, theirs: Callable, repeats: int) -> dict:
    """Time two ways to do the same work, in turns, so that a busy machine slows both.

    Parameters
    ----------
    ours, theirs : called with the number of the repetition; do the work and return how much of it was done.
    unit : of that amount.

    Returns
    -------
    ``PAIRED``: amounts per second (medians), and the median, least and largest of the paired ratios ours / theirs.
    """
    at_least(1, repeats=repeats)
    rates = np.array([[_rate(run, repeat) for run in (ours, theirs)] for repeat in range(repeats)])
    ratio = rates[:, 0] / rates[:, 1]
    row = [work, peer, f"{unit}/s", *np.median(rates, axis=0), np.median(ratio), ratio.min(), ratio.max(), repeats]
    return dict(zip(PAIRED, row, strict=True))


def _rate(run: Callable, repeat: int) -> float:
    start = time.perf_counter()
    amount = run(repeat)
    return amount / (time.perf_counter() - start)


def _asked(texts: Sequence[str]) -> list[list[dict]]:
    """Each text put by one of the personas, in turn."""
    who = personas.select("all")["persona"]
    return [personas.chat(who[i % len(who)], text) for i, text in enumerate(texts)]


def choose(lm, batch_size: int, repeats: int) -> pd.DataFrame:
    """``choose`` zero-shot and with a shared five-shot prefix, against lm-evaluation-harness' loglikelihood.

    Parameters
    ----------
    lm : a model in process, which lm-evaluation-harness gets as it is.
    batch_size : of the harness.

    Returns
    -------
    ``PAIRED``, one row per prompt; no row where lm-evaluation-harness is not installed.
    """
    if importlib.util.find_spec("lm_eval") is None:
        return pd.DataFrame(columns=PAIRED)
    from lm_eval.api.instance import Instance
    from lm_eval.models.huggingface import HFLM

    harness = HFLM(lm.model, tokenizer=lm.tokenizer, batch_size=batch_size, add_bos_token=False)
    items = datasets.load("mmlu")
    questions = [tasks.prompt(item) for item in items.itertuples()]
    solved = zip(questions[:5], items["answer"], strict=False)
    shots = "".join(f"{question}\nTherefore, the answer is ({answer}).\n\n" for question, answer in solved)

    def compared(work: str, before: str) -> dict:
        chats = _asked([before + questions[5 + i % (len(questions) - 5)] for i in range(256)])
        asked = [
            Instance("loglikelihood", {}, (lm.render(chat), letter), i)
            for i, chat in enumerate(chats)
            for letter in "ABCD"
        ]
        return paired(
            work, "lm-evaluation-harness", "questions", lambda _: len(lm.choose(chats, list("ABCD"))),
            lambda _: len(harness.loglikelihood(asked, disable_tqdm=True)) // 4, repeats,
        )  # fmt: skip

    return pd.DataFrame([compared("choose, zero-shot", ""), compared("choose, shared five-shot prefix", shots)])


def random_model(folder: Path, *, hidden_size: int = 64, layers: int = 3, seed: int = 0) -> str:
    """Save a Llama with random weights and the demo model's tokenizer, whose answers vary in length; its folder.

    Twenty-two tokens of the vocabulary end an answer, so lengths are about geometric with a mean near 70 tokens.
    """
    tokenizer = AutoTokenizer.from_pretrained(DEMO / "model")
    config = AutoConfig.from_pretrained(DEMO / "model")
    at_least(config.head_dim, hidden_size=hidden_size)
    at_least(1, layers=layers)
    at_least(0, seed=seed)
    heads = hidden_size // config.head_dim
    size = {"hidden_size": hidden_size, "intermediate_size": 3 * hidden_size, "num_hidden_layers": layers}
    config.update(size | {"num_attention_heads": heads, "num_key_value_heads": heads})
    torch.manual_seed(seed)
    model = AutoModelForCausalLM.from_config(config)
    ends = np.random.default_rng(seed).choice(np.arange(5, config.vocab_size), 22, replace=False)
    model.generation_config.eos_token_id = [tokenizer.eos_token_id, *map(int, ends)]
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return str(folder)


def generate(lm, batch_size: int, repeats: int) -> pd.DataFrame:
    """``generate`` on prompts of all tasks, against the transformers pipeline at ``batch_size``: one row ``PAIRED``.

    Tokens are those of the answers, each up to its end.
    """
    at_least(1, batch_size=batch_size)
    chats = _asked([tasks.prompt(item) for item in datasets.load("all", items_per_task=20, graded=False).itertuples()])
    lm.tokenizer.padding_side = "left"
    peer = pipeline("text-generation", model=lm.model, tokenizer=lm.tokenizer, batch_size=batch_size)
    rendered = [lm.render(chat) for chat in chats]
    prompts = lm.tokenizer(rendered, add_special_tokens=False)["input_ids"]
    ends = loading.eos_ids(lm.tokenizer, lm.model)

    def ours(repeat: int) -> int:
        answers = lm.generate(chats, Sampling(max_tokens=200), range(repeat * len(chats), (repeat + 1) * len(chats)))
        return sum(answer.output_tokens for answer in answers)

    def theirs(repeat: int) -> int:
        torch.manual_seed(repeat)
        how = {"max_new_tokens": 200, "do_sample": True, "top_k": 10, "temperature": 1.0}
        made = [answer["generated_token_ids"] for (answer,) in peer(chats, return_tensors=True, **how)]
        return sum(map(length, made, prompts))

    def length(ids: Sequence[int], prompt: Sequence[int]) -> int:
        padding = next(i for i, token in enumerate(ids) if token != lm.tokenizer.pad_token_id)
        answer = ids[padding + len(prompt) :]
        return next((i + 1 for i, token in enumerate(answer) if token in ends), len(answer))

    work = "generate, answers of mixed length"
    return pd.DataFrame([paired(work, "transformers pipeline", "tokens", ours, theirs, repeats)])


def permutations(repeats: int) -> pd.DataFrame:
    """Permutations of PB of 31 identities × 3 runs, against ``scipy.stats.permutation_test`` of the same statistic."""
    from scipy.stats import permutation_test

    scores = effects.simulate_scores(np.zeros(31), n_items=1000, n_runs=3)
    scores = scores[scores["persona"].str.startswith("p")]
    wide = scores.pivot_table(index="persona", columns="item", values="score", observed=True).to_numpy()

    def ours(repeat: int) -> int:
        return permuted(wide[:, None, :], 10_000, np.random.default_rng(repeat)).shape[1]

    def theirs(repeat: int) -> int:
        test = permutation_test(
            tuple(wide), lambda *identities, axis: np.std([identity.mean(axis) for identity in identities], axis=0),
            permutation_type="samples", vectorized=True, n_resamples=50, batch=25, rng=repeat, alternative="greater",
        )  # fmt: skip
        return len(test.null_distribution)

    work = "permutations of PB, 31 × 1,000 items"
    return pd.DataFrame([paired(work, "scipy permutation_test", "permutations", ours, theirs, repeats)])


def jobs() -> pd.DataFrame:
    """Whole jobs: ``work seconds target``, both in seconds, the target for two cores."""
    rng = np.random.default_rng(0)
    scores = effects.simulate_scores(np.zeros(31), n_items=14_042, n_runs=3)
    rewards = rng.normal(size=(9402, 8, 10))
    voters = users.dirichlet(1000, 0.05, 0, [f"model{i}" for i in range(10)])
    vectors = rng.normal(size=(20_000, 1024)).astype("float32")
    prompts, (liked, disliked) = rng.integers(0, len(vectors) // 8, (11_000, 50)), rng.integers(0, 8, (2, 11_000, 50))

    def look_up() -> None:
        embedded = neighbours.embed_users(vectors, icl.Examples(prompts, liked, disliked), "difference")
        icl.nearest(embedded[:1000], embedded[1000:], 20)

    rows = [
        ("PB, 10,000 permutations and 10,000 bootstraps, 31 × 14,042 × 3", 15,
         lambda: effects.personalization_bias(scores, n_permutations=10_000, n_bootstrap=10_000)),
        ("votes of 1,000 users on 9,402 × 8 × 10", 5, lambda: users.winners(voters, rewards)),
        ("neighbours of 1,000 users among 10,000 × 50 × 1,024", 20, look_up),
    ]  # fmt: skip
    table = [(work, timeit.timeit(run, number=1), target) for work, target, run in rows]
    return pd.DataFrame(table, columns=["work", "seconds", "target"])


def machine() -> dict[str, str]:
    """What the figures were measured on: processor, cores, GPU, torch and the date."""
    gpu = torch.cuda.get_device_name() if torch.cuda.is_available() else "none"
    cores = f"{os.cpu_count()} cores, {torch.get_num_threads()} threads"
    date = f"{datetime.date.today()}"
    return {"processor": platform.machine(), "cores": cores, "gpu": gpu, "torch": torch.__version__, "date": date}
