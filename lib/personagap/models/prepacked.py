"""Linear layers with a copy of their weights in the layout of oneDNN, for inference.

torch packs float32 weights into this layout at every call, which for the few rows of a decoding
step costs as much as the matrix product.
"""

import torch
from torch import nn

#: Minimum number of weights. Fewer stay in the processor's cache, where packing gains nothing.
MIN_WEIGHTS = 2**17
#: Maximum size of all packed copies in bytes; they take memory in addition to the weights.
MAX_BYTES = 2**32


class PrepackedLinear(nn.Linear):
    """A linear layer with constant weights, which uses a packed copy of them in inference mode."""

    packed: torch.Tensor | None = None

    def forward(self, input: torch.Tensor) -> torch.Tensor:
        if not torch.is_inference_mode_enabled():
            # Training needs gradients.
            return super().forward(input)
        if self.packed is None:
            self.packed = torch.ops.mkldnn._reorder_linear_weight(self.weight)
        return torch.ops.mkldnn._linear_pointwise(input, self.packed, self.bias, "none", [], "")


def has_bfloat16() -> bool:
    """Return whether the processor has instructions for matrix products in bfloat16."""
    return torch.backends.mkldnn.is_available() and torch.ops.mkldnn._is_mkldnn_bf16_supported()


def prepack(model: nn.Module) -> None:
    """Make the large linear layers of a model on a CPU use packed copies of their weights.

    Each copy is made when it is first needed.
    """
    if next(model.parameters()).device.type != "cpu" or not torch.backends.mkldnn.is_available():
        return
    dtypes = {torch.float32} | ({torch.bfloat16} if has_bfloat16() else set())
    linear = [module for module in model.modules() if type(module) is nn.Linear]
    large = [m for m in linear if m.weight.dtype in dtypes and m.weight.numel() >= MIN_WEIGHTS]
    if sum(layer.weight.nbytes for layer in large) <= MAX_BYTES:
        for layer in large:
            layer.__class__ = PrepackedLinear
