"""Linear layers that infer from a copy of their weights in the order in which oneDNN reads them.

torch's own product of float32 matrices packs the weights anew at each call, which for the few rows
of a decoding step costs as much as the product.
"""

import torch
from torch import nn

#: Weights of fewer numbers stay in the processor's cache, where packing gains nothing.
LEAST = 2**17
#: Bytes of all packed copies, which stand beside the weights themselves.
MOST = 2**32


class PrepackedLinear(nn.Linear):
    """A linear layer of weights that do not change: in inference mode from a packed copy, otherwise
    as its parent.
    """

    packed: torch.Tensor | None = None

    def forward(self, input: torch.Tensor) -> torch.Tensor:
        if not torch.is_inference_mode_enabled():
            # Training needs gradients.
            return super().forward(input)
        if self.packed is None:
            self.packed = torch.ops.mkldnn._reorder_linear_weight(self.weight)
        return torch.ops.mkldnn._linear_pointwise(input, self.packed, self.bias, "none", [], "")


def has_bfloat16() -> bool:
    """Whether this processor multiplies matrices of bfloat16 by instructions of its own."""
    return torch.backends.mkldnn.is_available() and torch.ops.mkldnn._is_mkldnn_bf16_supported()


def prepack(model: nn.Module) -> None:
    """Let the large linear layers of a model on a CPU infer from packed copies, each made when it
    is first needed.
    """
    if next(model.parameters()).device.type != "cpu" or not torch.backends.mkldnn.is_available():
        return
    dtypes = {torch.float32} | ({torch.bfloat16} if has_bfloat16() else set())
    linear = [module for module in model.modules() if type(module) is nn.Linear]
    large = [one for one in linear if one.weight.dtype in dtypes and one.weight.numel() >= LEAST]
    if sum(module.weight.nbytes for module in large) <= MOST:
        for module in large:
            module.__class__ = PrepackedLinear
