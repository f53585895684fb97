"""Score responses with real reward models (arXiv 2409.20296, appendix)."""

import numpy as np
import pandas as pd

from personagap.errors import UserError, at_least, explained
from personagap.gap.tables import UNIT
from personagap.results import require

#: Whose tokenizer a model was used with, if not its own.
TOKENIZERS = {"mistral_raft": "mistralai/Mistral-7B-Instruct-v0.2"}
#: Tokens that a model reads.
LONGEST = 8192
#: Models whose score is a cost, released with the sign turned: higher is safer.
COSTS = {"beaver_7b"}


def score_responses(
    table: pd.DataFrame, models: dict[str, str], batch_size: int = 1, device: str = "cpu"
) -> pd.DataFrame:
    """Score every response with reward models.

    Parameters
    ----------
    table : ``prompt_text text``, one row per response.
    models : name of the new column → folder or Hub name, such as one of ``users.REWARD_MODELS``;
        the names there also choose tokenizer and sign.
    batch_size : texts at a time. Padding moves scores a little: the authors score the data set at 1
        and what models generate at 16, then compare the two (P21). Keep to one.
    device : where the models run, one after the other; "auto" is a GPU if there is one.

    Returns
    -------
    ``table`` with a column of raw rewards per model; texts of more than `LONGEST` tokens are cut at
    the end. The released scores are mostly of 8-bit models (P12), so those of full precision differ
    from them.

    `UserError`: ``models`` is no dictionary of names; a model cannot be loaded, or does not give
    one score per text.
    """
    named = isinstance(models, dict) and all(isinstance(each, str) for each in models.values())
    if not named:
        remedy = "give a name for each Hub name or folder, {NAME: FOLDER}"
        raise UserError(f"reward_models is {models!r}: {remedy}")
    require(table, "responses", "prompt_text", "text")
    scored = table.copy()
    for name, source in models.items():
        scored[name] = _score(name, source, table, batch_size, device)
    scored.attrs["reward_models"] = sorted({*table.attrs.get("reward_models", []), *models})
    return scored


def score_pairs(pairs: pd.DataFrame, models: dict[str, str], device: str = "cpu") -> pd.DataFrame:
    """Reward models as judges of pairs: the reward of the personalized response less that of the
    generic one.

    Parameters
    ----------
    pairs : items of the stage "response", of ``datasets.load_judgments``; a response that recurs is
        scored once.
    models, device : as of `score_responses`.

    Returns
    -------
    Judgments ``stage source user prompt item rater label rater_kind``, one row per pair and model,
    for ``gap``.
    """
    columns = ["prompt_text", "text"]
    better, worse = (
        pairs[["prompt_text", side]].set_axis(columns, axis=1)
        for side in ("personalized", "generic")
    )
    texts = pd.concat([better, worse]).drop_duplicates(ignore_index=True)
    scored = score_responses(texts, models, device=device)
    better, worse = (
        side.merge(scored, how="left").set_index(pairs.index)[[*models]] for side in (better, worse)
    )
    judged = pairs[[*UNIT]].join(better - worse)
    return judged.melt(UNIT, [*models], "rater", "label").assign(rater_kind="model")


def format_pair(tokenizer, prompt: str, response: str) -> str:
    """What a reward model reads: its chat template without the opening token, else "User:
    …\\nAssistant: …".
    """
    if not tokenizer.chat_template:
        return f"User: {prompt}\nAssistant: {response}"
    chat = [{"role": "user", "content": prompt}, {"role": "assistant", "content": response}]
    # The tokenizer puts the token itself, and a second one moves the score (S9).
    text = tokenizer.apply_chat_template(chat, tokenize=False)
    return text.removeprefix(tokenizer.bos_token or "")


def _score(
    name: str, source: str, table: pd.DataFrame, batch_size: int, device: str
) -> list[float]:
    import torch

    from personagap.models.loading import device_named

    at_least(1, batch_size=batch_size)
    where = device_named(device)
    tokenizer, model = _load(name, source)
    model = model.to(where).eval()
    scores, cut = [], {"padding": True, "truncation": True, "max_length": LONGEST}
    pairs = list(zip(table["prompt_text"], table["text"], strict=True))
    remedy = "score with its own code and add the column"
    # A template that fails, no token to fill up with, more tokens than the model has places for.
    with explained(f"reward model {name}: {source} cannot score these texts", remedy):
        texts = [format_pair(tokenizer, *pair) for pair in pairs]
        for start in range(0, len(texts), batch_size):
            batch = texts[start : start + batch_size]
            tokens = tokenizer(batch, return_tensors="pt", **cut).to(where)
            with torch.inference_mode():
                logits = model(tokens["input_ids"], attention_mask=tokens["attention_mask"]).logits
            scores += logits[:, 0].float().tolist()
        if not np.isfinite(scores).all():
            raise ValueError("a score is not a finite number")
    return [-value for value in scores] if name in COSTS else scores


def _load(name: str, source: str):
    """Tokenizer and reward model."""
    from transformers import AutoConfig, AutoModelForSequenceClassification, AutoTokenizer

    from personagap.models import loading

    # Loads the classes, which takes seconds.
    from personagap.personalllm.users import heads

    with explained(f"reward model {name}: cannot load {source}", "check name and network"):
        config = AutoConfig.from_pretrained(source)
        kind = (config.architectures or ["no model"])[0]
        plain = kind.endswith("ForSequenceClassification") and config.num_labels == 1
        # Another pooling, or a normalised score, would be another number under the same name.
        normalized = getattr(config, "do_normalize", False)
        raw = getattr(config, "pooling", "last") == "last" and not normalized
        if not (plain or (kind in heads.CLASSES and raw)):
            raise UserError(
                f"reward model {name}: {source} is {kind}, not a model of one raw score per text: "
                "score with its own code and add the column"
            )
        tokenizer = AutoTokenizer.from_pretrained(TOKENIZERS.get(name, source))
        model_class = heads.CLASSES.get(kind, AutoModelForSequenceClassification)
        model = loading.from_pretrained(model_class, source, dtype="auto")
    # Without it a batch of several texts cannot be filled up.
    tokenizer.pad_token = tokenizer.pad_token or tokenizer.eos_token
    model.config.pad_token_id = tokenizer.pad_token_id
    return tokenizer, model
