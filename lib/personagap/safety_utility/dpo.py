"""DPO with identities in the system prompt: the same preferences whoever asks, as in arXiv
2406.11107.
"""

from pathlib import Path

import pandas as pd

from personagap import personas
from personagap._reading import Rule, are_texts, check, read_jsonl
from personagap.errors import at_least, expect, explained, one_of
from personagap.models import adapter, rendering
from personagap.paths import CACHE
from personagap.responses import digest
from personagap.results import generator, require

#: Preference pairs of the released code.
HUB = "Intel/orca_dpo_pairs"
VARIANTS = ("dpo", "dpo-vanilla", "dpo-random")
COLUMNS = ["system", "question", "chosen", "rejected"]
#: Low-rank adapter of the released code: rank, scale, dropout, and the layers it is put on.
LORA = {
    "r": 16, "lora_alpha": 16, "lora_dropout": 0.05,
    "target_modules": ["k_proj", "q_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"],
}  # fmt: skip


def load_pairs(source: str) -> pd.DataFrame:
    """Preference pairs ``system question chosen rejected``: a JSON-lines file, or "hub" for the
    released code's.

    ``UserError`` if ``source`` cannot be read, lacks one of these columns, or holds what is no
    text.
    """
    if source == "hub":
        from datasets import load_dataset

        with explained(
            f"cannot download {HUB}", "check the network and your access, or give a JSON-lines file"
        ):
            pairs = load_dataset(HUB, split="train").to_pandas()
    else:
        pairs = read_jsonl(Path(source))
    text = Rule(are_texts, "a preference that is no text")
    check(pairs, f"preference pairs {source}", dict.fromkeys(COLUMNS, text))
    return pairs[COLUMNS].reset_index(drop=True).astype("str")


def as_chats(pairs: pd.DataFrame, variant: str = "dpo-random", seed: int = 0) -> pd.DataFrame:
    """Preference pairs as chats: ``prompt chosen rejected``, lists of messages.

    Parameters
    ----------
    pairs : n rows of `load_pairs`.
    variant : "dpo" keeps the system prompts of the pairs, "dpo-vanilla" leaves them out,
        "dpo-random" has each pair asked by one of the 31 identities or two controls, in place of
        the released code's "I am no_persona." (S17).
    seed : determines the draw.

    Examples
    --------
    >>> pair = {"system": "Be brief.", "question": "Hi", "chosen": "Hello.", "rejected": "No."}
    >>> as_chats(pd.DataFrame([pair]))["prompt"][0][0]["content"]
    'You are a helpful assistant. I am straight.'
    """
    one_of(VARIANTS, "unknown variant", variant)
    require(pairs, "pairs", *COLUMNS)
    expect(len(pairs), "one pair or more", pairs=pairs)
    # Whoever asks, the same answer is preferred: that is what the model is to learn.
    known = [personas.system_prompt(persona) for persona in personas.select("all")["persona"]]
    drawn = generator(seed).choice(known, len(pairs)).tolist()
    heads = {"dpo": pairs["system"], "dpo-vanilla": [""] * len(pairs), "dpo-random": drawn}[variant]

    def says(role: str, text: str) -> list[dict[str, str]]:
        return [{"role": role, "content": text}]

    asked = zip(heads, pairs["question"], strict=True)
    prompts = [(says("system", head) if head else []) + says("user", one) for head, one in asked]
    sides = ("chosen", "rejected")
    answers = {side: [says("assistant", text) for text in pairs[side]] for side in sides}
    return pd.DataFrame({"prompt": prompts, **answers})


def tune(
    model: str,
    pairs: pd.DataFrame,
    variant: str = "dpo-random",
    *,
    steps: int = 100,
    batch: int = 40,
    learning_rate: float = 5e-6,
    sft: float = 0.0,
    seed: int = 0,
) -> str:
    """Tune a low-rank adapter by direct preference optimization (arXiv 2305.18290, trl) and merge
    it into the model.

    The defaults, β = 0.1, warm-up for half of the steps, then a cosine, are those of the released
    code, as is QLoRA where `adapter.train` can do it; on a GPU the computing is in bfloat16, where
    the released code had float16.

    Parameters
    ----------
    model : of ``models.load_model``, in process.
    pairs, variant, seed : as of `as_chats`; the seed also decides the adapter's start, order and
        dropout.
    steps, batch, learning_rate : optimizer steps, pairs of each, maximal rate (a tiny model needs a
        higher one).
    sft : weight of the likelihood of the chosen answers beside the preference loss, 0 in the
        released code. It keeps a model that is moved far from giving neither answer.

    Returns
    -------
    A folder for ``models.load_model``. The same request finds it again; a run is repeatable on one
    machine.
    """
    at_least(1, steps=steps, batch=batch)
    at_least(0, whole=False, learning_rate=learning_rate, sft=sft)
    lm = adapter.load(model)
    settings = (lm.id, lm.revision, steps, batch, learning_rate, sft, seed)
    chats = as_chats(pairs, variant, seed)
    # A template without a system role must not lose the identity, as Llama-2's did (S9).
    chats["prompt"] = [rendering.fit(lm.tokenizer, messages)[0] for messages in chats["prompt"]]
    told = digest(settings, chats.to_dict("list"))[:8]
    folder = CACHE / "tuned" / f"{lm.id.replace('/', '-')}-{variant}-{told}"
    options = {
        "max_steps": steps, "learning_rate": learning_rate, "lr_scheduler_type": "cosine",
        "warmup_steps": steps // 2,
        # Weighed by 0, as in the reference, the second loss leaves preference optimization alone.
        "beta": 0.1, "loss_type": ["sigmoid", "sft"], "loss_weights": [1.0, sft],
        "max_length": 1024,
        "optim": "adamw_torch", **adapter.in_parts(lm, batch),
    }  # fmt: skip
    # The name holds all that decides the result, so that a resumed run does not tune again.
    if not folder.exists():
        adapter.train(lm, folder, "DPO", chats, options, LORA, seed, qlora=True)
    return str(folder)
