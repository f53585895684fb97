"""Reward models that transformers has no class for: a language model and a linear head on the
hidden state of the last token that is not padding.

The layout of the weights follows LAION-AI/Open-Assistant, ``model_training/models/reward_model.py``
and PKU-Alignment/safe-rlhf, ``safe_rlhf/models/score_model``.
"""

import transformers as hf
from torch import nn
from transformers.modeling_outputs import SequenceClassifierOutput


class GPTNeoXRewardConfig(hf.GPTNeoXConfig):
    """GPT-NeoX under the model type that Open-Assistant gave its reward models."""

    model_type = "gpt_neox_reward_model"


def _scores(head: nn.Linear, states, attention_mask) -> SequenceClassifierOutput:
    # The cumulative count of tokens is largest at the last token that is not padding.
    last = (attention_mask * attention_mask.cumsum(1)).argmax(1)
    return SequenceClassifierOutput(logits=head(states[range(len(last)), last]))


class GPTNeoXRewardModel(hf.GPTNeoXPreTrainedModel):
    """The two Pythia reward models of Open-Assistant (``pooling`` "last")."""

    config_class = GPTNeoXRewardConfig

    def __init__(self, config):
        super().__init__(config)
        self.gpt_neox = hf.GPTNeoXModel(config)
        self.out_proj = nn.Linear(config.hidden_size, 1)
        self.post_init()

    def forward(self, input_ids, attention_mask):
        return _scores(self.out_proj, self.gpt_neox(input_ids, attention_mask)[0], attention_mask)


class LlamaForScore(hf.LlamaPreTrainedModel):
    """Beaver's reward and cost models, with scores that are not normalised (``do_normalize``
    false).
    """

    _keys_to_ignore_on_load_unexpected = [r"normalizer\..*", r"lm_head\..*"]  # noqa: RUF012 as in the parent

    def __init__(self, config):
        super().__init__(config)
        self.model = hf.LlamaModel(config)
        self.score_head = nn.Linear(config.hidden_size, 1, bias=getattr(config, "bias", False))
        self.post_init()

    def forward(self, input_ids, attention_mask):
        return _scores(self.score_head, self.model(input_ids, attention_mask)[0], attention_mask)


hf.AutoConfig.register(GPTNeoXRewardConfig.model_type, GPTNeoXRewardConfig)
#: Name of the architecture in a model's ``config.json`` → class; Beaver's was renamed once.
CLASSES = {
    "GPTNeoXRewardModel": GPTNeoXRewardModel,
    "LlamaForScore": LlamaForScore,
    "LlamaModelForScore": LlamaForScore,
}
