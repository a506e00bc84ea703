"""Matrix products on the CPU with weights as they lie in the file."""

import functools
import logging
from types import ModuleType

import torch
from torch.nn import functional

log = logging.getLogger(__name__)

MIN_OUT_FEATURES = 4
"""That the compiled kernels need: they take up to so many together."""
MANY_ROWS = 256
"""From so many on, activations no longer stay in the caches beside weights that are widened in registers."""
BLOCK_BYTES = 2 << 20
"""Of weights widened at a time for many rows: enough for all cores, little enough to stay in their caches."""


def unpacked_linear(x: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor | None = None) -> torch.Tensor:
    """`x @ weight.T + bias`, as `torch.nn.functional.linear`.

    On a processor without instructions for bfloat16, for which torch has but a slow product, weights are
    widened to float32 on the way, and products summed in float32.

    Args:
        x: activations, shape (..., in_features).
        weight: shape (out_features, in_features), of the type of `x`.
        bias: shape (out_features,) and of the type of `x`, or None.
    """
    # Parameters of vLLM have a class of their own, for which Python would be called at every attribute.
    with torch._C.DisableTorchFunctionSubclass():
        fits = bias is None or (bias.dtype is weight.dtype and bias.shape == weight.shape[:1])
        if not (x.dtype is weight.dtype and is_widened(weight.dtype) and weight.is_contiguous() and fits):
            return functional.linear(x, weight, bias)
        out_features, in_features = weight.shape
        rows = x.reshape(-1, in_features)
        if len(rows) < MANY_ROWS and out_features >= MIN_OUT_FEATURES and (kernels := _kernels()):
            product = _product_of_few(kernels, rows.contiguous(), weight, bias)
        else:
            product = _product_of_many(rows, weight, bias)
        return product.reshape(*x.shape[:-1], out_features)


def is_widened(dtype: torch.dtype) -> bool:
    """Whether this processor lacks instructions for a type, so that its weights are widened."""
    return dtype is torch.bfloat16 and _lacks_bfloat16()


@functools.cache
def _lacks_bfloat16() -> bool:
    return not torch.ops.mkldnn._is_mkldnn_bf16_supported()


def warm_up() -> None:
    """Compile what this processor needs, and start its threads, before anybody waits for it.

    To be called once vLLM has registered its own kernels: its search through all modules fails over some of
    those that numba imports.
    """
    if kernels := compiled_kernels():
        some = torch.ones(8, 8, dtype=torch.bfloat16)
        _product_of_few(kernels, some, some, None)


def use_threads(count: int) -> None:
    """Have products that the calling thread asks for done by so many threads, torch's and ours.

    Threads that use torch for the first time later take it over. vLLM's CPU worker replaces
    `torch.set_num_threads` by one that does nothing.
    """
    if count == torch.get_num_threads():
        return
    torch._C.set_num_threads(count)
    if kernels := compiled_kernels():
        kernels.set_num_threads(min(count, kernels.MOST_THREADS))


def compiled_kernels() -> ModuleType | None:
    """`narrow`, where the processor needs it; None elsewhere, and where it could not be compiled."""
    return _kernels() if is_widened(torch.bfloat16) else None


@functools.cache
def _kernels() -> ModuleType | None:
    """The compiled kernels, which numba keeps beside their source, or else in the user's cache.

    They take half a second to import, 5 to 10 s the first time on a machine.
    """
    try:
        from workbench.engine import narrow
    except Exception:  # no numba, or nowhere to keep what it compiles
        log.warning("bfloat16 weights are multiplied without compiled kernels", exc_info=True)
        return None
    return narrow


def _product_of_few(
    kernels: ModuleType, x: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor | None
) -> torch.Tensor:
    rows, (out_features, in_features) = len(x), weight.shape
    product = torch.empty(rows, out_features, dtype=torch.bfloat16)
    kernel = kernels.row_product if rows == 1 else kernels.product
    bias = None if bias is None else bias.contiguous()
    bias_at = 0 if bias is None else bias.data_ptr()
    kernel(x.data_ptr(), weight.data_ptr(), bias_at, product.data_ptr(), rows, out_features, in_features)
    return product


def _product_of_many(x: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor | None) -> torch.Tensor:
    out_features, in_features = weight.shape
    columns = x.float().t().contiguous()
    product = torch.empty(out_features, len(x), dtype=torch.float32)
    block = max(1, BLOCK_BYTES // (4 * in_features))
    wide = torch.empty(block, in_features, dtype=torch.float32)
    for start in range(0, out_features, block):
        part = wide[: min(block, out_features - start)].copy_(weight[start : start + block])
        torch.mm(part, columns, out=product[start : start + block])
    rows = product.t()
    if bias is not None:
        rows += bias
    # Kernels of vLLM, the rotary embedding for one, take row-major layout for granted.
    return rows.to(x.dtype, memory_format=torch.contiguous_format)
