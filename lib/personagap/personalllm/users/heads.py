"""Reward models whose authors published a class of their own: a language model and one linear map
of its last state.

The state is that of the last token which is not padding. Layout of the weights:
LAION-AI/Open-Assistant, ``model_training/models/reward_model.py``; PKU-Alignment/safe-rlhf,
``safe_rlhf/models/score_model``.
"""

import transformers as hf
from torch import nn
from transformers.modeling_outputs import SequenceClassifierOutput


class GPTNeoXRewardConfig(hf.GPTNeoXConfig):
    """GPT-NeoX under the name that Open-Assistant gave its reward models."""

    model_type = "gpt_neox_reward_model"


def _scores(head: nn.Linear, states, attention_mask) -> SequenceClassifierOutput:
    last = (attention_mask * attention_mask.cumsum(1)).argmax(1)
    return SequenceClassifierOutput(logits=head(states[range(len(last)), last]))


class GPTNeoXRewardModel(hf.GPTNeoXPreTrainedModel):
    """The two pythia reward models of Open-Assistant (``pooling`` "last")."""

    config_class = GPTNeoXRewardConfig

    def __init__(self, config):
        super().__init__(config)
        self.gpt_neox = hf.GPTNeoXModel(config)
        self.out_proj = nn.Linear(config.hidden_size, 1)
        self.post_init()

    def forward(self, input_ids, attention_mask):
        return _scores(self.out_proj, self.gpt_neox(input_ids, attention_mask)[0], attention_mask)


class LlamaForScore(hf.LlamaPreTrainedModel):
    """Beaver's reward and cost models; scores not normalised (``do_normalize`` false)."""

    _keys_to_ignore_on_load_unexpected = [r"normalizer\..*", r"lm_head\..*"]  # noqa: RUF012 as in the parent

    def __init__(self, config):
        super().__init__(config)
        self.model = hf.LlamaModel(config)
        self.score_head = nn.Linear(config.hidden_size, 1, bias=getattr(config, "bias", False))
        self.post_init()

    def forward(self, input_ids, attention_mask):
        return _scores(self.score_head, self.model(input_ids, attention_mask)[0], attention_mask)


hf.AutoConfig.register(GPTNeoXRewardConfig.model_type, GPTNeoXRewardConfig)
#: Class by the name in a model's ``config.json``; beaver's was renamed once.
CLASSES = {
    "GPTNeoXRewardModel": GPTNeoXRewardModel,
    "LlamaForScore": LlamaForScore,
    "LlamaModelForScore": LlamaForScore,
}
