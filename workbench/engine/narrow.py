"""bfloat16 computed with in the processor's registers: matrix products and norms, compiled by numba.

For processors without instructions for bfloat16, where torch has 20 GFLOP/s for products and oneDNN refuses.
On two cores of an AVX2 processor these have 110, of a peak of 130 that float32 weights in the cache come to;
one row reads weights at 22 to 27 GB/s, where torch does at 16. A call costs some 5 µs, where a small product
of torch costs 20 to 80, and a norm 60. numba comes with vLLM, which pins it.

Kernels take the addresses of contiguous bfloat16 tensors, because a call with NumPy arrays costs more than a
small product. A float32 has the bits of a bfloat16 as its upper half. Sums are of float32.
"""

from typing import Any

import numpy as np
from numba import carray, config, get_num_threads, njit, prange, set_num_threads, types
from numba.core.cgutils import voidptr_t
from numba.extending import intrinsic

__all__ = [
    "COLUMNS",
    "MOST_THREADS",
    "ROWS",
    "ROW_COLUMNS",
    "add_norm",
    "get_num_threads",
    "norm",
    "product",
    "row_product",
    "set_num_threads",
]

MOST_THREADS: int = config.NUMBA_NUM_THREADS

ROWS = 4
"""Of activations, taken together: so many accumulators, times COLUMNS, as fit into sixteen registers."""
COLUMNS = 3
"""Output features taken together."""
ROW_COLUMNS = 4
"""The same for a single row: as many streams as the processor prefetches."""

FLAGS = {"parallel": True, "cache": True, "fastmath": {"reassoc", "contract"}}
"""Sums may be taken in vector lanes; NaN and infinity stay what they are."""
PRODUCT = "void(i8, i8, i8, i8, i8, i8, i8)"
NORM = "void(i8, i8, i8, i8, i8, f4)"


@intrinsic
def _pointer(typing_context: Any, address: Any) -> Any:
    """An address as numba's `carray` takes it."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        return builder.inttoptr(arguments[0], voidptr_t)

    return types.voidptr(address), generate


@njit(inline="always")
def _wide(bits):  # type: ignore[no-untyped-def]
    return np.uint32(np.uint32(bits) << np.uint32(16)).view(np.float32)


@njit(inline="always")
def _narrow(value):  # type: ignore[no-untyped-def]
    """Rounded to the nearest, to the even one of two, as torch does."""
    bits = np.float32(value).view(np.uint32)
    odd = (bits >> np.uint32(16)) & np.uint32(1)
    rounded = (bits + np.uint32(0x7FFF) + odd) >> np.uint32(16)
    return np.uint16(0x7FC0) if np.isnan(value) else np.uint16(rounded)


@njit(PRODUCT, **FLAGS)
def row_product(x_at, weight_at, bias_at, out_at, rows, out_features, in_features):  # type: ignore[no-untyped-def]
    """`out = weight @ x + bias` for one row and at least ROW_COLUMNS features; arguments as for `product`."""
    x = carray(_pointer(x_at), in_features, np.uint16)
    weight = carray(_pointer(weight_at), (out_features, in_features), np.uint16)
    bias = carray(_pointer(bias_at), out_features, np.uint16)
    out = carray(_pointer(out_at), out_features, np.uint16)
    wide = np.empty(in_features, np.float32)
    for k in range(in_features):
        wide[k] = _wide(x[k])
    for block in prange((out_features + ROW_COLUMNS - 1) // ROW_COLUMNS):
        n = min(block * ROW_COLUMNS, out_features - ROW_COLUMNS)  # the last block may do some again
        a0 = a1 = a2 = a3 = np.float32(0)
        for k in range(in_features):
            a = wide[k]
            a0 += a * _wide(weight[n, k])
            a1 += a * _wide(weight[n + 1, k])
            a2 += a * _wide(weight[n + 2, k])
            a3 += a * _wide(weight[n + 3, k])
        if bias_at:
            a0, a1 = a0 + _wide(bias[n]), a1 + _wide(bias[n + 1])
            a2, a3 = a2 + _wide(bias[n + 2]), a3 + _wide(bias[n + 3])
        out[n], out[n + 1], out[n + 2], out[n + 3] = _narrow(a0), _narrow(a1), _narrow(a2), _narrow(a3)


@njit(PRODUCT, **FLAGS)
def product(x_at, weight_at, bias_at, out_at, rows, out_features, in_features):  # type: ignore[no-untyped-def]
    """`out = x @ weight.T + bias`.

    Args:
        x_at: activations, shape (rows, in_features).
        weight_at: shape (out_features, in_features), at least COLUMNS rows.
        bias_at: shape (out_features,); 0 for none.
        out_at: shape (rows, out_features).
        rows: of activations.
        out_features: of the weights.
        in_features: of the weights.
    """
    x = carray(_pointer(x_at), (rows, in_features), np.uint16)
    weight = carray(_pointer(weight_at), (out_features, in_features), np.uint16)
    bias = carray(_pointer(bias_at), out_features, np.uint16)
    out = carray(_pointer(out_at), (rows, out_features), np.uint16)
    padded = max(rows, ROWS)
    wide = np.zeros((padded, in_features), np.float32)
    for m in range(rows):
        for k in range(in_features):
            wide[m, k] = _wide(x[m, k])
    for block in prange((out_features + COLUMNS - 1) // COLUMNS):
        n = min(block * COLUMNS, out_features - COLUMNS)  # as above
        sums = np.zeros((ROWS, COLUMNS), np.float32)
        for first in range(0, rows, ROWS):
            m = min(first, padded - ROWS)
            a0 = a1 = a2 = b0 = b1 = b2 = c0 = c1 = c2 = d0 = d1 = d2 = np.float32(0)
            for k in range(in_features):
                w0, w1, w2 = _wide(weight[n, k]), _wide(weight[n + 1, k]), _wide(weight[n + 2, k])
                a, b, c, d = wide[m, k], wide[m + 1, k], wide[m + 2, k], wide[m + 3, k]
                a0 += a * w0
                a1 += a * w1
                a2 += a * w2
                b0 += b * w0
                b1 += b * w1
                b2 += b * w2
                c0 += c * w0
                c1 += c * w1
                c2 += c * w2
                d0 += d * w0
                d1 += d * w1
                d2 += d * w2
            sums[0, 0], sums[0, 1], sums[0, 2] = a0, a1, a2
            sums[1, 0], sums[1, 1], sums[1, 2] = b0, b1, b2
            sums[2, 0], sums[2, 1], sums[2, 2] = c0, c1, c2
            sums[3, 0], sums[3, 1], sums[3, 2] = d0, d1, d2
            for i in range(min(ROWS, rows - m)):
                for j in range(COLUMNS):
                    total = sums[i, j]
                    if bias_at:
                        total += _wide(bias[n + j])
                    out[m + i, n + j] = _narrow(total)


@njit(inline="always")
def _normalize(row, weight, out, epsilon):  # type: ignore[no-untyped-def]
    size = row.shape[0]
    squares = np.float32(0)
    for k in range(size):
        squares += row[k] * row[k]
    scale = np.float32(1) / np.sqrt(squares / np.float32(size) + epsilon)
    for k in range(size):
        out[k] = _narrow(_wide(_narrow(row[k] * scale)) * _wide(weight[k]))


@njit(NORM, **FLAGS)
def norm(x_at, weight_at, out_at, rows, size, epsilon):  # type: ignore[no-untyped-def]
    """Root-mean-square norm of rows, rounded where vLLM's own is.

    Args:
        x_at: shape (rows, size).
        weight_at: shape (size,).
        out_at: shape (rows, size).
        rows: to norm.
        size: of a row.
        epsilon: added to the mean of the squares.
    """
    x = carray(_pointer(x_at), (rows, size), np.uint16)
    weight = carray(_pointer(weight_at), size, np.uint16)
    out = carray(_pointer(out_at), (rows, size), np.uint16)
    for m in prange(rows):
        wide = np.empty(size, np.float32)
        for k in range(size):
            wide[k] = _wide(x[m, k])
        _normalize(wide, weight, out[m], epsilon)


@njit(NORM, **FLAGS)
def add_norm(x_at, residual_at, weight_at, rows, size, epsilon):  # type: ignore[no-untyped-def]
    """`residual += x`, and in `x` the norm of that before it is rounded; arguments as `norm` has them."""
    x = carray(_pointer(x_at), (rows, size), np.uint16)
    residual = carray(_pointer(residual_at), (rows, size), np.uint16)
    weight = carray(_pointer(weight_at), size, np.uint16)
    for m in prange(rows):
        wide = np.empty(size, np.float32)
        for k in range(size):
            wide[k] = _wide(x[m, k]) + _wide(residual[m, k])
            residual[m, k] = _narrow(wide[k])
        _normalize(wide, weight, x[m], epsilon)
