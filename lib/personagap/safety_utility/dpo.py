"""DPO with identities in the system prompt and the same preferred answers for everybody.

As in arXiv 2406.11107.
"""

from pathlib import Path

import pandas as pd

from personagap import personas
from personagap._reading import Rule, are_texts, check, read_jsonl
from personagap.errors import expect, explained, require_at_least, require_one_of
from personagap.hashing import digest
from personagap.models import adapter, rendering
from personagap.paths import CACHE
from personagap.results import random_generator, require_columns

#: The preference pairs of the released code.
HUB = "Intel/orca_dpo_pairs"
VARIANTS = ("dpo", "dpo-vanilla", "dpo-random")
COLUMNS = ["system", "question", "chosen", "rejected"]
#: The low-rank adapter of the released code.
LORA = {
    "r": 16, "lora_alpha": 16, "lora_dropout": 0.05,
    "target_modules": ["k_proj", "q_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"],
}  # fmt: skip


def load_pairs(source: str) -> pd.DataFrame:
    """Load preference pairs ``system question chosen rejected`` from a JSON-lines file.

    "hub" loads the pairs of the released code. `UserError`: ``source`` cannot be read, lacks one of
    these columns, or has a value that is not text.
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
    """Convert preference pairs to chats: ``prompt chosen rejected``, lists of messages.

    Parameters
    ----------
    pairs : rows of `load_pairs`.
    variant : "dpo" keeps the system prompts of the pairs, "dpo-vanilla" removes them, "dpo-random"
        draws for each pair one of the 31 identities or two controls (the latter replace the
        released code's "I am no_persona.", S17).
    seed : determines the draw.

    Examples
    --------
    >>> pair = {"system": "Be brief.", "question": "Hi", "chosen": "Hello.", "rejected": "No."}
    >>> as_chats(pd.DataFrame([pair]))["prompt"][0][0]["content"]
    'You are a helpful assistant. I am straight.'
    """
    require_one_of(VARIANTS, "unknown variant", variant)
    require_columns(pairs, "pairs", *COLUMNS)
    expect(len(pairs), "one pair or more", pairs=pairs)
    # The preferred answer does not depend on the identity: this is what the model should learn.
    who = personas.select("all")["persona"]
    drawn = (
        random_generator(seed).choice(list(map(personas.system_prompt, who)), len(pairs)).tolist()
    )
    systems = {"dpo": pairs["system"], "dpo-vanilla": [""] * len(pairs), "dpo-random": drawn}

    def turn(role: str, text: str) -> list[dict[str, str]]:
        return [{"role": role, "content": text}]

    openings = [turn("system", text) if text else [] for text in systems[variant]]
    questions = [turn("user", text) for text in pairs["question"]]
    prompts = [opening + question for opening, question in zip(openings, questions, strict=True)]
    sides = ("chosen", "rejected")
    answers = {side: [turn("assistant", text) for text in pairs[side]] for side in sides}
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
    """Tune a low-rank adapter by direct preference optimization (DPO) and merge it into the model.

    Uses trl's DPO (arXiv 2305.18290). The defaults, β = 0.1, and the schedule (warm-up for half of
    the steps, then a cosine) are those of the released code, as is QLoRA where `adapter.train`
    supports it; on a GPU it computes in bfloat16, the released code in float16.

    Parameters
    ----------
    model : name for ``models.load_model``; the model has to run in this process.
    pairs, variant, seed : as for `as_chats`; the seed also determines the adapter's initialization,
        the order of pairs, and dropout.
    steps, batch, learning_rate : optimizer steps, pairs per step, and maximal learning rate (a tiny
        model needs a higher one).
    sft : weight of the supervised loss (likelihood of the chosen answers) added to the preference
        loss, 0 in the released code. It keeps a strongly tuned model from making both answers
        unlikely.

    Returns
    -------
    The folder of the tuned model, for ``models.load_model``. The same arguments reuse an existing
    folder. Training is reproducible on one machine.
    """
    require_at_least(1, steps=steps, batch=batch)
    require_at_least(0, whole=False, learning_rate=learning_rate, sft=sft)
    lm = adapter.load(model)
    settings = (lm.id, lm.revision, steps, batch, learning_rate, sft, seed)
    chats = as_chats(pairs, variant, seed)
    # A chat template without a system role must not drop the identity, as Llama-2's did (S9).
    chats["prompt"] = [rendering.fit(lm.tokenizer, messages)[0] for messages in chats["prompt"]]
    key = digest(settings, chats.to_dict("list"))[:8]
    folder = CACHE / "tuned" / f"{lm.id.replace('/', '-')}-{variant}-{key}"
    options = {
        "max_steps": steps, "learning_rate": learning_rate, "lr_scheduler_type": "cosine",
        "warmup_steps": steps // 2,
        # With weight 0, as in the released code, the supervised loss has no effect.
        "beta": 0.1, "loss_type": ["sigmoid", "sft"], "loss_weights": [1.0, sft],
        "max_length": 1024,
        "optim": "adamw_torch", **adapter.batch_arguments(lm, batch),
    }  # fmt: skip
    # The name contains a hash of everything that determines the result: a resumed run reuses it.
    if not folder.exists():
        adapter.train(lm, folder, "DPO", chats, options, LORA, seed, qlora=True)
    return str(folder)
