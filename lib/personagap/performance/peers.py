"""The same work by ours and by the library one would use instead, in turns.

Each comparison returns `timing.paired` tables and, for what is asked of a model, how far the
answers of the two agree: a ratio of speeds means nothing between different answers.
"""

import importlib.util
import tempfile
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import pandas as pd
import torch
from scipy.special import softmax
from scipy.stats import permutation_test
from transformers import AutoModelForCausalLM, GenerationConfig, PreTrainedModel, pipeline

from personagap import datasets, effects, models, personas, tasks
from personagap.effects.resampling import flipped
from personagap.errors import UserError
from personagap.models import Sampling
from personagap.models.loading import eos_ids
from personagap.models.local import LocalModel
from personagap.models.prepacked import has_bfloat16
from personagap.performance import timing
from personagap.performance.timing import paired

LETTERS = list("ABCD")


class Subject(NamedTuple):
    """A model as it is asked here (``lm``) and as transformers loads it (``plain``), for the peers;
    the limits of the machine it is on, and how often what is timed is repeated.
    """

    name: str
    lm: LocalModel
    plain: PreTrainedModel
    limits: timing.Limits
    repeats: int
    batch_size: int


def load(
    name: str, device: str, dtype: str, *, repeats: int, batch_size: int, **size: int
) -> Subject:
    """The model of that name, of ``models.load_model``; of "random" a `timing.random_model` of that
    ``size``.
    """
    # Of any size without a download; speed does not depend on what weights say.
    if name == "random":
        name = timing.random_model(tempfile.mkdtemp(), **size)
    lm = models.load_model(name, device=device, dtype=dtype)
    if not isinstance(lm, LocalModel):
        reason = "its peers need it too, so give hf:ORG/NAME or a folder"
        raise UserError(f"model {name!r} is on a server: {reason}")
    kind = lm.model.dtype
    # Loaded anew: the weights of ours may be packed, which no other library would do.
    plain = AutoModelForCausalLM.from_pretrained(lm.model.name_or_path, dtype=kind).to(lm.device)
    return Subject(name, lm, plain, timing.machine_limits(lm.device, kind), repeats, batch_size)


def harness(subject: Subject, questions: int) -> tuple[list[pd.DataFrame], pd.DataFrame]:
    """`choose` beside lm-evaluation-harness, and ``work``, ``largest difference of
    log-probabilities``; without rows where that is not installed.

    Questions are asked zero-shot, each by another identity, and by one identity after five solved
    ones, which the prompts then have in common.
    """
    compared, differences = [], {}
    if importlib.util.find_spec("lm_eval"):
        questioned, answers = _questions()
        solved = zip(questioned[:5], answers[:5], strict=True)
        shown = "{}\nTherefore, the answer is ({}).\n\n".format
        shots = "".join(shown(*pair) for pair in solved)
        everybody = personas.select("all")["persona"]
        for work, before, who in (
            ("choose, zero-shot", "", everybody),
            ("choose, shared five-shot prefix", shots, everybody[:1]),
        ):
            # The first five are never asked: they are the solved ones.
            asked = [before + questioned[5 + i % (len(questioned) - 5)] for i in range(questions)]
            table, differences[work] = _beside_harness(subject, work, _chats(asked, who))
            compared.append(table)
    difference = pd.Series(differences, name="largest difference of log-probabilities", dtype=float)
    return compared, difference.rename_axis("work").reset_index()


def _beside_harness(
    subject: Subject, work: str, chats: list[list[dict]]
) -> tuple[pd.DataFrame, float]:
    from lm_eval.api.instance import Instance
    from lm_eval.models.huggingface import HFLM

    lm, batch_size = subject.lm, subject.batch_size
    # A rendered prompt begins with that token where there is one: a second would change it (S9).
    peer = HFLM(subject.plain, tokenizer=lm.tokenizer, batch_size=batch_size, add_bos_token=False)
    pairs = [(i, lm.render(chat), letter) for i, chat in enumerate(chats) for letter in LETTERS]
    requests = [Instance("loglikelihood", {}, (text, letter), i) for i, text, letter in pairs]
    theirs = [value for value, _ in peer.loglikelihood(requests, disable_tqdm=True)]
    difference = np.abs(np.concatenate(lm.choose(chats, LETTERS)) - theirs).max()
    read = timing.distinct_tokens(_tokens(lm, chats))
    least = timing.seconds_at_limit(lm.model, subject.limits, read, predicted=len(chats))
    compared = paired(
        *(work, "lm-evaluation-harness", "questions"),
        ours=lambda _: len(lm.choose(chats, LETTERS)),
        theirs=lambda _: len(peer.loglikelihood(requests, disable_tqdm=True)) // len(LETTERS),
        repeats=subject.repeats,
        limit=len(chats) / least,
    )
    return compared, difference


def bfloat16(subject: Subject, questions: int) -> tuple[list[pd.DataFrame], pd.DataFrame]:
    """`choose` with weights in bfloat16 beside float32, and ``questions share_of_flips
    largest_difference``: how many likeliest letters become another, and how far a letter's share of
    the four probabilities moves at most.

    Without rows for a model that is not in float32, and where bfloat16 would only be emulated.
    """
    lm = subject.lm
    flips = pd.DataFrame(columns=["questions", "share_of_flips", "largest_difference"])
    if lm.model.dtype != torch.float32 or not (lm.device.type == "cuda" or has_bfloat16()):
        return [], flips
    half = models.load_model(subject.name, device=str(lm.device), dtype="bfloat16")
    questioned, _ = _questions()
    chats = _chats([questioned[i % len(questioned)] for i in range(questions)])
    shares = [softmax(one.choose(chats, LETTERS), axis=1) for one in (lm, half)]
    flipped_share = np.mean(shares[0].argmax(1) != shares[1].argmax(1))
    flips.loc[0] = questions, flipped_share, np.abs(shares[0] - shares[1]).max()
    compared = paired(
        *("choose, zero-shot, in bfloat16", "float32", "questions"),
        ours=lambda _: len(half.choose(chats, LETTERS)),
        theirs=lambda _: len(lm.choose(chats, LETTERS)),
        repeats=subject.repeats,
    )
    return [compared], flips


def texts(
    subject: Subject, items_per_task: int, continuous: bool
) -> tuple[list[pd.DataFrame], np.ndarray]:
    """`generate` on prompts of all tasks beside the transformers pipeline (and, if ``continuous``,
    its continuous batching), and of each prompt whether the greedy answer is the pipeline's.

    Amounts are tokens of answers, each up to its end.
    """
    lm, plain = subject.lm, subject.plain
    items = datasets.load("all", items_per_task=items_per_task, graded=False)
    chats = _chats([tasks.prompt(item) for item in items.itertuples()])
    # Or the pipeline would go on with the padding that it puts behind a prompt.
    lm.tokenizer.padding_side = "left"
    both = {"model": plain, "tokenizer": lm.tokenizer}
    peer = pipeline("text-generation", **both, batch_size=subject.batch_size)
    prompts, ends = _tokens(lm, chats), eos_ids(lm.tokenizer, lm.model)
    drawn = {"max_new_tokens": 200, "do_sample": True, "top_k": 10, "temperature": 1.0}

    def ours(repeat: int) -> int:
        # Seeds of their own in each repetition: no two of them draw the same lengths.
        seeds = range(repeat * len(chats), (repeat + 1) * len(chats))
        answers = lm.generate(chats, Sampling(max_tokens=200), seeds)
        return sum(answer.output_tokens or 0 for answer in answers)

    def length(ids: list[int], prompt: list[int]) -> int:
        padding = next(i for i, token in enumerate(ids) if token != lm.tokenizer.pad_token_id)
        answer = ids[padding + len(prompt) :]
        # The pipeline goes on until the last of a batch has ended: what follows an end is padding.
        return next((i + 1 for i, token in enumerate(answer) if token in ends), len(answer))

    def piped(repeat: int) -> int:
        torch.manual_seed(repeat)
        made = peer(chats, return_tensors=True, **drawn)
        return sum(map(length, (answer["generated_token_ids"] for (answer,) in made), prompts))

    def batched(repeat: int) -> int:
        torch.manual_seed(repeat)
        how = GenerationConfig(**drawn, eos_token_id=ends, pad_token_id=lm.tokenizer.pad_token_id)
        same = {"progress_bar": False, "persistent_manager": True}
        made = plain.generate_batch(prompts, generation_config=how, **same)
        return sum(len(answer.generated_tokens) for answer in made.values())

    greedy = lm.generate(chats, Sampling(temperature=0, max_tokens=32), range(len(chats)))
    theirs = peer(chats, max_new_tokens=32, do_sample=False, return_full_text=False)
    pairs = zip(greedy, theirs, strict=True)
    same = np.array([mine.text == made["generated_text"] for mine, (made,) in pairs])
    written, rows = ours(0), min(lm.rows, len(chats))
    read = timing.distinct_tokens(prompts)
    least = timing.seconds_at_limit(lm.model, subject.limits, read, len(chats), written, rows)
    beside = {"transformers pipeline": piped}
    if continuous:
        beside["transformers continuous batching"] = batched
    for run in beside.values():
        # Warm: memory is set aside, and on a GPU graphs are captured.
        run(0)
    compared, limit = [], written / least
    for name, run in beside.items():
        told = "generate, answers of mixed length", name, "tokens"
        compared.append(paired(*told, ours, run, subject.repeats, limit=limit))
    return compared, same


def permutations(repeats: int) -> pd.DataFrame:
    """Draws without an effect of PB of 31 identities × 3 runs, beside
    ``scipy.stats.permutation_test`` of the same statistic.

    Ours flip the signs of items' deviations, which is valid where relabelling is not.
    """
    scores = effects.simulate_scores(np.zeros(31), n_items=1000, n_runs=3)
    scores = scores[scores["persona"].str.startswith("p")]
    cells = {"index": "persona", "columns": "item", "values": "score"}
    by_identity = scores.pivot_table(**cells, observed=True).to_numpy()

    def bias(*identities: np.ndarray, axis: int) -> np.ndarray:
        return np.std([identity.mean(axis) for identity in identities], axis=0)

    def ours(repeat: int) -> int:
        return flipped(by_identity[:, None, :], 10_000, np.random.default_rng(repeat)).shape[1]

    def theirs(repeat: int) -> int:
        # Amounts are draws a second, so that scipy need not make 10,000.
        how = {"permutation_type": "samples", "alternative": "greater", "vectorized": True}
        how |= {"n_resamples": 50, "batch": 25}
        test = permutation_test(tuple(by_identity), bias, rng=repeat, **how)
        return len(test.null_distribution)

    work = "PB without any effect, 31 × 1,000 items"
    return paired(work, "scipy permutation_test", "draws", ours, theirs, repeats)


def _questions() -> tuple[list[str], Sequence[str]]:
    """Prompts of MMLU, and the right letters."""
    mmlu = datasets.load("mmlu")
    return [tasks.prompt(item) for item in mmlu.itertuples()], mmlu["answer"]


def _chats(texts: Sequence[str], who: Sequence[str] | None = None) -> list[list[dict]]:
    """Each text put by one of the personas (None: by all), in turn."""
    who = personas.select("all")["persona"] if who is None else who
    return [personas.chat(who[i % len(who)], text) for i, text in enumerate(texts)]


def _tokens(lm: LocalModel, chats: list[list[dict]]) -> list[list[int]]:
    # The chat template has put the special tokens.
    texts = [lm.render(chat) for chat in chats]
    return lm.tokenizer(texts, add_special_tokens=False)["input_ids"]
