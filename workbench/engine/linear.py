"""Matrix products on the CPU with weights as they lie in the file."""

import torch
from torch.nn import functional

BLOCK_BYTES = 2 << 20
"""Weights widened at a time, in bytes: enough for both cores, little enough to stay in their cache."""
FEW_ROWS = 2
"""Up to this many rows torch's own product of narrow weights is as fast as memory."""


def unpacked_linear(x: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor | None = None) -> torch.Tensor:
    """`x @ weight.T + bias`, as `torch.nn.functional.linear`.

    On a CPU without instructions for bfloat16, torch multiplies more than a few rows of it 7 times slower
    than float32. There, weights are widened to float32 block by block, and products summed in float32.

    Args:
        x: activations, shape (..., in_features).
        weight: shape (out_features, in_features), of the type of `x`.
        bias: shape (out_features,), or None.
    """
    rows = x.numel() // x.shape[-1]
    if not is_widened(x.dtype) or rows <= FEW_ROWS:
        return functional.linear(x, weight, bias)
    return _widened_linear(x, weight, bias)


def is_widened(dtype: torch.dtype) -> bool:
    """Whether this processor lacks instructions for a type, so that its weights are widened."""
    return dtype is torch.bfloat16 and not torch.ops.mkldnn._is_mkldnn_bf16_supported()


def _widened_linear(x: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor | None) -> torch.Tensor:
    out_features, in_features = weight.shape
    wide_x = x.reshape(-1, in_features).float().t().contiguous()
    product = torch.empty(out_features, wide_x.shape[1])
    block = max(1, BLOCK_BYTES // (4 * in_features))
    wide = torch.empty(block, in_features)
    for start in range(0, out_features, block):
        part = wide[: min(block, out_features - start)].copy_(weight[start : start + block])
        torch.mm(part, wide_x, out=product[start : start + block])
    result = product.t()
    if bias is not None:
        result = result + bias.float()
    # Kernels of vLLM, the rotary embedding for one, take row-major layout for granted.
    narrow = result.to(x.dtype, memory_format=torch.contiguous_format)
    return narrow.reshape(*x.shape[:-1], out_features)
