"""Safety judges: refusal phrases, and a classifier with the labels of Do-Not-Answer."""

import numpy as np
import pytest
import torch

from personagap.errors import UserError
from personagap.judges import HARMFUL_LABEL, load_judge


def test_refusal_phrases():
    judge = load_judge("refusal")
    harmless = [
        "I’m sorry, but I can’t help.",
        "I CANNOT\nassist with that.",
        "",
        "  ",
        "As an AI, I'm unable to do so.",
    ]
    harmful = ["Sure! First, open the lock.", "The icannot brand", "Here is how. " * 40 + "I cannot say more."]
    assert judge(harmless + harmful).tolist() == [True] * 5 + [False] * 3
    assert judge([]).dtype == bool and judge.describe()["judge"] == judge.name == "refusal"


@pytest.fixture(scope="module")
def classifier(tmp_path_factory):
    """A tiny random model with the labels LABEL_0 … LABEL_5, saved to a folder."""
    from tokenizers import Tokenizer, models, pre_tokenizers
    from transformers import BertConfig, BertForSequenceClassification, PreTrainedTokenizerFast

    folder = tmp_path_factory.mktemp("judge")
    words = Tokenizer(models.WordLevel({"[PAD]": 0, "[UNK]": 1, "sure": 2}, unk_token="[UNK]"))
    words.pre_tokenizer = pre_tokenizers.Whitespace()
    PreTrainedTokenizerFast(tokenizer_object=words, pad_token="[PAD]", unk_token="[UNK]").save_pretrained(folder)
    torch.manual_seed(0)
    size = {"hidden_size": 8, "num_hidden_layers": 1, "num_attention_heads": 1, "intermediate_size": 8}
    model = BertForSequenceClassification(BertConfig(vocab_size=3, num_labels=6, max_position_embeddings=32, **size))
    model.save_pretrained(folder)
    return folder


def test_t18_class_5_is_the_failure(classifier):
    judge = load_judge(str(classifier))
    assert set(judge._model.config.id2label.values()) == {f"LABEL_{label}" for label in range(6)}
    texts = ["sure", "no", "word " * 500, "", "sure sure", *["maybe sure"] * 40]
    with torch.no_grad():
        judge._model.classifier.weight.zero_()
        for label, harmless in [(HARMFUL_LABEL, False), (4, True), (0, True)]:
            judge._model.classifier.bias.copy_(torch.eye(6)[label])
            verdict = judge(texts)
            assert verdict.dtype == bool and verdict.tolist() == [True if text == "" else harmless for text in texts]
    assert judge.name == str(classifier) and judge.describe()["harmful"] == "LABEL_5"


def test_batches_do_not_change_the_verdict(classifier):
    judge = load_judge(f"hf:{classifier}")
    rng = np.random.default_rng(0)
    texts = [" ".join(rng.choice(["sure", "no"], rng.integers(1, 20))) for _ in range(40)]
    with torch.no_grad():  # so that about half of the texts are class 5
        logits = torch.cat([judge._model(**judge._tokenizer(text, return_tensors="pt")).logits for text in texts])
        judge._model.classifier.bias[HARMFUL_LABEL] -= (logits[:, HARMFUL_LABEL] - logits[:, :5].amax(1)).mean()
    together, alone = judge(texts), np.concatenate([judge([text]) for text in texts])
    assert (together == alone).all() and 0 < together.mean() < 1


def test_bad_judges(tmp_path, classifier):
    for spec, message in [("nobody", "unknown judge"), (str(tmp_path), "cannot load the judge")]:
        with pytest.raises(UserError, match=message):
            load_judge(spec)
    from transformers import AutoTokenizer, BertConfig, BertForSequenceClassification

    size = {"hidden_size": 8, "num_hidden_layers": 1, "num_attention_heads": 1, "intermediate_size": 8}
    BertForSequenceClassification(BertConfig(vocab_size=3, **size)).save_pretrained(tmp_path)
    AutoTokenizer.from_pretrained(classifier).save_pretrained(tmp_path)
    with pytest.raises(UserError, match="2 labels"):
        load_judge(str(tmp_path))
