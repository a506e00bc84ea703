"""Matrix products on the CPU with weights as they lie in the file."""

from typing import TYPE_CHECKING

import torch
from torch.nn import functional

if TYPE_CHECKING:
    from types import ModuleType


def unpacked_linear(x: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor | None = None) -> torch.Tensor:
    """`x @ weight.T + bias`, as `torch.nn.functional.linear`.

    Args:
        x: activations, shape (..., in_features).
        weight: shape (out_features, in_features), of the type of `x`.
        bias: shape (out_features,), or None.
    """
    if is_widened(weight.dtype) and weight.is_contiguous() and len(weight) >= _narrow().ROW_COLUMNS:
        return _widened_linear(x, weight, bias)
    return functional.linear(x, weight, bias)


def is_widened(dtype: torch.dtype) -> bool:
    """Whether this processor lacks instructions for a type, so that its weights are widened."""
    return dtype is torch.bfloat16 and not torch.ops.mkldnn._is_mkldnn_bf16_supported()


def warm_up() -> None:
    """Compile what this processor needs, before anybody waits for it."""
    if is_widened(torch.bfloat16):
        _narrow()


def _narrow() -> "ModuleType":
    """The compiled kernel: half a second to import, 2 s the first time on a machine."""
    from workbench.engine import narrow

    return narrow


def _widened_linear(x: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor | None) -> torch.Tensor:
    narrow, bits = _narrow(), weight.view(torch.uint16).numpy()
    rows, (out_features, in_features) = x.numel() // x.shape[-1], weight.shape
    if rows == 1:
        product = torch.empty(1, out_features)
        narrow.row_product(x.reshape(-1).float().numpy(), bits, product[0].numpy())
    else:
        padded = max(rows, narrow.ROWS)
        product = torch.empty(padded, out_features)
        wide_x = torch.zeros(padded, in_features)
        wide_x[:rows] = x.reshape(rows, in_features)
        narrow.product(wide_x.numpy(), bits, product.numpy())
        product = product[:rows]
    if bias is not None:
        product += bias
    return product.to(x.dtype).reshape(*x.shape[:-1], out_features)
