"""Our implementation and the library one would use instead, timed on the same work.

Each comparison returns `timing.paired` tables. Comparisons of models also return how far the two
agree, since a ratio of speeds means nothing if the answers differ.
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
    """A model as personagap runs it (``lm``) and as transformers loads it for the peers
    (``plain``), the limits of its machine, and the number of repetitions.
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
    """Load a model by a name of ``models.load_model``, or "random": a `timing.random_model` of the
    given ``size``.
    """
    # Random models need no download, and speed does not depend on the values of weights.
    if name == "random":
        name = timing.random_model(tempfile.mkdtemp(), **size)
    lm = models.load_model(name, device=device, dtype=dtype)
    if not isinstance(lm, LocalModel):
        reason = "its peers need it too, so give hf:ORG/NAME or a folder"
        raise UserError(f"model {name!r} is on a server: {reason}")
    kind = lm.model.dtype
    # Loaded again, since the weights of ``lm`` may be packed, which no other library does.
    plain = AutoModelForCausalLM.from_pretrained(lm.model.name_or_path, dtype=kind).to(lm.device)
    return Subject(name, lm, plain, timing.machine_limits(lm.device, kind), repeats, batch_size)


def harness(subject: Subject, questions: int) -> tuple[list[pd.DataFrame], pd.DataFrame]:
    """Compare `choose` with lm-evaluation-harness; also return ``work``, ``largest difference of
    log-probabilities``. Both are empty if the harness is not installed.

    Questions are asked zero-shot, each by the next of all identities, and by one identity after a
    shared prefix of five solved questions.
    """
    timings, differences = [], {}
    if importlib.util.find_spec("lm_eval"):
        mmlu, answers = _questions()
        example = "{}\nTherefore, the answer is ({}).\n\n".format
        shots = "".join(map(example, mmlu[:5], answers[:5]))
        identities = personas.select("all")["persona"]
        for work, prefix, who in (
            ("choose, zero-shot", "", identities),
            ("choose, shared five-shot prefix", shots, identities[:1]),
        ):
            # The first five questions are the solved examples and are never asked.
            prompts = [prefix + mmlu[5 + i % (len(mmlu) - 5)] for i in range(questions)]
            table, differences[work] = _compare_harness(subject, work, _chats(prompts, who))
            timings.append(table)
    difference = pd.Series(differences, name="largest difference of log-probabilities", dtype=float)
    return timings, difference.rename_axis("work").reset_index()


def _compare_harness(
    subject: Subject, work: str, chats: list[list[dict]]
) -> tuple[pd.DataFrame, float]:
    from lm_eval.api.instance import Instance
    from lm_eval.models.huggingface import HFLM

    lm, batch_size = subject.lm, subject.batch_size
    # A rendered prompt already has its beginning-of-sequence token: a second would change it (S9).
    peer = HFLM(subject.plain, tokenizer=lm.tokenizer, batch_size=batch_size, add_bos_token=False)
    pairs = [(i, lm.render(chat), letter) for i, chat in enumerate(chats) for letter in LETTERS]
    requests = [Instance("loglikelihood", {}, (text, letter), i) for i, text, letter in pairs]
    theirs = [value for value, _ in peer.loglikelihood(requests, disable_tqdm=True)]
    difference = np.abs(np.concatenate(lm.choose(chats, LETTERS)) - theirs).max()
    read = timing.distinct_tokens(_tokens(lm, chats))
    seconds = timing.seconds_at_limit(lm.model, subject.limits, read, predicted=len(chats))
    timings = paired(
        *(work, "lm-evaluation-harness", "questions"),
        ours=lambda _: len(lm.choose(chats, LETTERS)),
        theirs=lambda _: len(peer.loglikelihood(requests, disable_tqdm=True)) // len(LETTERS),
        repeats=subject.repeats,
        limit=len(chats) / seconds,
    )
    return timings, difference


def bfloat16(subject: Subject, questions: int) -> tuple[list[pd.DataFrame], pd.DataFrame]:
    """Compare `choose` with weights in bfloat16 and in float32; also return ``questions
    share_of_flips largest_difference``: the share of questions whose likeliest letter changes, and
    the largest change of a letter's share of the four probabilities.

    Both are empty for a model that is not in float32, and where bfloat16 is only emulated.
    """
    lm = subject.lm
    flips = pd.DataFrame(columns=["questions", "share_of_flips", "largest_difference"])
    if lm.model.dtype != torch.float32 or not (lm.device.type == "cuda" or has_bfloat16()):
        return [], flips
    half = models.load_model(subject.name, device=str(lm.device), dtype="bfloat16")
    mmlu, _ = _questions()
    chats = _chats([mmlu[i % len(mmlu)] for i in range(questions)])
    full_shares, half_shares = (softmax(m.choose(chats, LETTERS), axis=1) for m in (lm, half))
    flipped_share = np.mean(full_shares.argmax(1) != half_shares.argmax(1))
    flips.loc[0] = questions, flipped_share, np.abs(full_shares - half_shares).max()
    timings = paired(
        *("choose, zero-shot, in bfloat16", "float32", "questions"),
        ours=lambda _: len(half.choose(chats, LETTERS)),
        theirs=lambda _: len(lm.choose(chats, LETTERS)),
        repeats=subject.repeats,
    )
    return [timings], flips


def texts(
    subject: Subject, items_per_task: int, continuous: bool
) -> tuple[list[pd.DataFrame], np.ndarray]:
    """Compare `generate` on prompts of all tasks with the transformers pipeline (and, if
    ``continuous``, with its continuous batching); also return for each prompt whether our greedy
    answer is the pipeline's.

    Amounts are generated tokens, up to the end of each answer.
    """
    lm, plain = subject.lm, subject.plain
    items = datasets.load("all", items_per_task=items_per_task, graded=False)
    chats = _chats([tasks.prompt(item) for item in items.itertuples()])
    # With padding on the right the pipeline would continue the padding instead of the prompt.
    lm.tokenizer.padding_side = "left"
    batch_size = subject.batch_size
    peer = pipeline("text-generation", plain, tokenizer=lm.tokenizer, batch_size=batch_size)
    prompts, ends = _tokens(lm, chats), eos_ids(lm.tokenizer, lm.model)
    decoding = {"max_new_tokens": 200, "do_sample": True, "top_k": 10, "temperature": 1.0}

    def ours(repeat: int) -> int:
        # Each repetition has its own seeds, so that no two draw answers of the same lengths.
        seeds = range(repeat * len(chats), (repeat + 1) * len(chats))
        answers = lm.generate(chats, Sampling(max_tokens=200), seeds)
        return sum(answer.output_tokens or 0 for answer in answers)

    def length(ids: list[int], prompt: list[int]) -> int:
        padding = next(i for i, token in enumerate(ids) if token != lm.tokenizer.pad_token_id)
        answer = ids[padding + len(prompt) :]
        # The pipeline pads finished answers until the last one of the batch has ended.
        return next((i + 1 for i, token in enumerate(answer) if token in ends), len(answer))

    def piped(repeat: int) -> int:
        torch.manual_seed(repeat)
        outputs = peer(chats, return_tensors=True, **decoding)
        return sum(map(length, (output["generated_token_ids"] for (output,) in outputs), prompts))

    def batched(repeat: int) -> int:
        torch.manual_seed(repeat)
        pad = lm.tokenizer.pad_token_id
        config = GenerationConfig(**decoding, eos_token_id=ends, pad_token_id=pad)
        options = {"progress_bar": False, "persistent_manager": True}
        outputs = plain.generate_batch(prompts, generation_config=config, **options)
        return sum(len(output.generated_tokens) for output in outputs.values())

    greedy = lm.generate(chats, Sampling(temperature=0, max_tokens=32), range(len(chats)))
    theirs = peer(chats, max_new_tokens=32, do_sample=False, return_full_text=False)
    pairs = zip(greedy, theirs, strict=True)
    same = np.array([answer.text == output["generated_text"] for answer, (output,) in pairs])
    written, rows = ours(0), min(lm.rows, len(chats))
    read = timing.distinct_tokens(prompts)
    seconds = timing.seconds_at_limit(lm.model, subject.limits, read, len(chats), written, rows)
    peers = {"transformers pipeline": piped}
    if continuous:
        peers["transformers continuous batching"] = batched
    for run in peers.values():
        # Warm up: memory is allocated and, on a GPU, graphs are captured.
        run(0)
    work, limit = "generate, answers of mixed length", written / seconds
    timings = [
        paired(work, name, "tokens", ours, run, subject.repeats, limit=limit)
        for name, run in peers.items()
    ]
    return timings, same


def permutations(repeats: int) -> pd.DataFrame:
    """Compare draws of PB of 31 identities × 3 runs under the null hypothesis with
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
        # Speed is in draws per second, so that scipy need not make all 10,000.
        how = {"permutation_type": "samples", "alternative": "greater", "vectorized": True}
        how |= {"n_resamples": 50, "batch": 25}
        test = permutation_test(tuple(by_identity), bias, rng=repeat, **how)
        return len(test.null_distribution)

    work = "PB without any effect, 31 × 1,000 items"
    return paired(work, "scipy permutation_test", "draws", ours, theirs, repeats)


def _questions() -> tuple[list[str], Sequence[str]]:
    """Return the prompts of MMLU and the correct letters."""
    mmlu = datasets.load("mmlu")
    return [tasks.prompt(item) for item in mmlu.itertuples()], mmlu["answer"]


def _chats(texts: Sequence[str], who: Sequence[str] | None = None) -> list[list[dict]]:
    """Return a chat for each text, from the personas ``who`` (None: all) in turn."""
    who = personas.select("all")["persona"] if who is None else who
    return [personas.chat(who[i % len(who)], text) for i, text in enumerate(texts)]


def _tokens(lm: LocalModel, chats: list[list[dict]]) -> list[list[int]]:
    # The chat template has already added the special tokens.
    texts = [lm.render(chat) for chat in chats]
    return lm.tokenizer(texts, add_special_tokens=False)["input_ids"]
