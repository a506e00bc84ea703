"""vLLM's norms in one pass over the activations, for processors without instructions for bfloat16.

vLLM's own on the CPU are some eight operators of torch, each of which costs more than the norm of a token,
and a model has two to four norms in each layer. These give the same numbers, rounded at the same places, but
for squares that are summed in another order. They are registered beside vLLM's own, as its kernels for other
devices are (`vllm/ir/op.py`).
"""

from types import ModuleType

import torch
from torch import Tensor
from vllm import ir

from workbench.engine.linear import compiled_kernels

PROVIDER = "one_pass"
"""As vLLM's order of implementations has them."""


def prefer_one_pass() -> None:
    """Have this process take these norms wherever they can be; each of vLLM's workers sets an order anew."""
    if (kernels := compiled_kernels()) is None:
        return
    if PROVIDER not in ir.ops.rms_norm.impls:
        _register(kernels)
    for op in (ir.ops.rms_norm, ir.ops.fused_add_rms_norm):
        op.set_default([PROVIDER, "native"])


def _register(kernels: ModuleType) -> None:
    def takes(x: Tensor, weight: Tensor | None, epsilon: float, variance_size: int | None = None) -> bool:
        return (
            variance_size is None
            and weight is not None
            and x.dtype is torch.bfloat16
            and weight.dtype is torch.bfloat16
            and weight.is_contiguous()
            and weight.shape == x.shape[-1:]
        )

    def takes_both(
        x: Tensor, x_residual: Tensor, weight: Tensor | None, epsilon: float, variance_size: int | None = None
    ) -> bool:
        return (
            takes(x, weight, epsilon, variance_size)
            and x_residual.dtype is torch.bfloat16
            and x_residual.shape == x.shape
            and x_residual.data_ptr() != x.data_ptr()
            and x.is_contiguous()
            and x_residual.is_contiguous()
        )

    @ir.ops.rms_norm.register_impl(PROVIDER, supports_args=takes)
    def rms_norm(
        x: Tensor, weight: Tensor | None, epsilon: float, variance_size: int | None = None
    ) -> Tensor:
        assert weight is not None
        x = x.contiguous()
        normed, size = torch.empty_like(x), x.shape[-1]
        rows = x.numel() // size
        kernels.norm(x.data_ptr(), weight.data_ptr(), normed.data_ptr(), rows, size, epsilon)
        return normed

    @ir.ops.fused_add_rms_norm.register_impl(PROVIDER, supports_args=takes_both, inplace=True)
    def fused_add_rms_norm(
        x: Tensor, x_residual: Tensor, weight: Tensor | None, epsilon: float, variance_size: int | None = None
    ) -> tuple[Tensor, Tensor]:
        assert weight is not None
        size = x.shape[-1]
        rows = x.numel() // size
        kernels.add_norm(x.data_ptr(), x_residual.data_ptr(), weight.data_ptr(), rows, size, epsilon)
        return x, x_residual
