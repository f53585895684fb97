"""Score responses with real reward models (arXiv 2409.20296, appendix)."""

import numpy as np
import pandas as pd

from personagap.errors import UserError, explained, require_at_least
from personagap.gap.tables import UNIT
from personagap.results import require_columns

#: Tokenizers of models that the authors did not use with their own.
TOKENIZERS = {"mistral_raft": "mistralai/Mistral-7B-Instruct-v0.2"}
#: Maximum number of tokens of a text.
LONGEST = 8192
#: Models that score a cost; their sign is reversed as in the released data, so higher is safer.
COSTS = {"beaver_7b"}


def score_responses(
    table: pd.DataFrame, models: dict[str, str], batch_size: int = 1, device: str = "cpu"
) -> pd.DataFrame:
    """Score every response with reward models.

    Parameters
    ----------
    table : ``prompt_text text``, one row per response.
    models : name of the new column → folder or Hub name, such as one of ``users.REWARD_MODELS``;
        the names of these also select the tokenizer and the sign.
    batch_size : number of texts at a time. Padding changes scores a little: the authors score the
        data set with batches of 1 and generated responses with batches of 16, then compare the two
        (P21). Use one size for both.
    device : where the models run, one after the other; "auto" is a GPU if there is one.

    Returns
    -------
    ``table`` with a column of raw rewards per model; texts of more than `LONGEST` tokens are
    truncated at the end. Scores in full precision differ from the released ones, most of which are
    from 8-bit models (P12).

    `UserError`: ``models`` is not a dictionary of names; a model cannot be loaded, or does not give
    one score per text.
    """
    if not (isinstance(models, dict) and all(isinstance(name, str) for name in models.values())):
        remedy = "give a name for each Hub name or folder, {NAME: FOLDER}"
        raise UserError(f"reward_models is {models!r}: {remedy}")
    require_columns(table, "responses", "prompt_text", "text")
    scored = table.copy()
    for name, source in models.items():
        scored[name] = _score(name, source, table, batch_size, device)
    scored.attrs["reward_models"] = sorted({*table.attrs.get("reward_models", []), *models})
    return scored


def score_pairs(pairs: pd.DataFrame, models: dict[str, str], device: str = "cpu") -> pd.DataFrame:
    """Use reward models as judges of pairs: the label is the reward of the personalized response
    less that of the generic one.

    Parameters
    ----------
    pairs : items of the stage "response" from ``datasets.load_judgments``; repeated responses are
        scored once.
    models, device : as in `score_responses`.

    Returns
    -------
    Judgments ``stage source user prompt item rater label rater_kind``, one row per pair and model,
    for the functions of ``gap``.
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
    """Format a prompt and a response for a reward model: by its chat template without the
    beginning-of-sequence token, or as "User: …\\nAssistant: …" if it has no template.
    """
    if not tokenizer.chat_template:
        return f"User: {prompt}\nAssistant: {response}"
    chat = [{"role": "user", "content": prompt}, {"role": "assistant", "content": response}]
    # The tokenizer adds the token itself, and a second one would change the score (S9).
    text = tokenizer.apply_chat_template(chat, tokenize=False)
    return text.removeprefix(tokenizer.bos_token or "")


def _score(
    name: str, source: str, table: pd.DataFrame, batch_size: int, device: str
) -> list[float]:
    import torch

    from personagap.models.loading import get_device

    require_at_least(1, batch_size=batch_size)
    where = get_device(device)
    tokenizer, model = _load(name, source)
    model = model.to(where).eval()
    scores, cut = [], {"padding": True, "truncation": True, "max_length": LONGEST}
    pairs = list(zip(table["prompt_text"], table["text"], strict=True))
    remedy = "score with its own code and add the column"
    # Possible errors: the chat template fails, there is no padding token, or the text has more
    # tokens than the model has positions.
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
    """Load the tokenizer and the reward model; `UserError` if it has not one raw score per text."""
    from transformers import AutoConfig, AutoModelForSequenceClassification, AutoTokenizer

    from personagap.models import loading

    # Imported here, as it imports the model classes of transformers, which takes seconds.
    from personagap.personalllm.users import heads

    with explained(f"reward model {name}: cannot load {source}", "check name and network"):
        config = AutoConfig.from_pretrained(source)
        kind = (config.architectures or ["no model"])[0]
        plain = kind.endswith("ForSequenceClassification") and config.num_labels == 1
        # With another pooling or a normalised score, the same name would mean a different score.
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
    # Batches of several texts need a padding token.
    tokenizer.pad_token = tokenizer.pad_token or tokenizer.eos_token
    model.config.pad_token_id = tokenizer.pad_token_id
    return tokenizer, model
