"""Matrix products that widen bfloat16 weights in the processor's registers, compiled by numba.

For processors without instructions for bfloat16, where torch has 20 GFLOP/s for it and oneDNN refuses. On
two cores of an AVX2 processor these have 110, of a peak of 130 that float32 weights in the cache come to;
one row reads weights at 22 to 27 GB/s, where torch does at 16. numba comes with vLLM, which pins it.

A float32 has the bits of a bfloat16 as its upper half. Sums are of float32.
"""

import numpy as np
import numpy.typing as npt
from numba import config, get_num_threads, njit, prange, set_num_threads

__all__ = [
    "COLUMNS",
    "MOST_THREADS",
    "ROWS",
    "ROW_COLUMNS",
    "get_num_threads",
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

Float32 = npt.NDArray[np.float32]
UInt16 = npt.NDArray[np.uint16]


@njit("f4(u2)", inline="always")
def _wide(bits):  # type: ignore[no-untyped-def]
    return np.uint32(np.uint32(bits) << np.uint32(16)).view(np.float32)


FLAGS = {"parallel": True, "cache": True, "fastmath": {"reassoc", "contract"}}
"""Sums may be taken in vector lanes; NaN and infinity stay what they are."""


@njit("void(f4[::1], u2[:,::1], f4[::1])", **FLAGS)
def row_product(x, weight, out):  # type: ignore[no-untyped-def]
    """`out = weight @ x`.

    Args:
        x: activations, shape (in_features,).
        weight: bits of bfloat16, shape (out_features, in_features), at least ROW_COLUMNS rows.
        out: shape (out_features,).
    """
    out_features = weight.shape[0]
    for block in prange((out_features + ROW_COLUMNS - 1) // ROW_COLUMNS):
        n = min(block * ROW_COLUMNS, out_features - ROW_COLUMNS)  # the last block may do some again
        a0 = a1 = a2 = a3 = np.float32(0)
        for k in range(x.shape[0]):
            a = x[k]
            a0 += a * _wide(weight[n, k])
            a1 += a * _wide(weight[n + 1, k])
            a2 += a * _wide(weight[n + 2, k])
            a3 += a * _wide(weight[n + 3, k])
        out[n], out[n + 1], out[n + 2], out[n + 3] = a0, a1, a2, a3


@njit("void(f4[:,::1], u2[:,::1], f4[:,::1])", **FLAGS)
def product(x, weight, out):  # type: ignore[no-untyped-def]
    """`out = x @ weight.T`.

    Args:
        x: activations, shape (rows, in_features), at least ROWS rows.
        weight: bits of bfloat16, shape (out_features, in_features), at least COLUMNS rows.
        out: shape (rows, out_features).
    """
    rows, in_features = x.shape
    out_features = weight.shape[0]
    for block in prange((out_features + COLUMNS - 1) // COLUMNS):
        n = min(block * COLUMNS, out_features - COLUMNS)  # as above
        for first in range(0, rows, ROWS):
            m = min(first, rows - ROWS)
            a0 = a1 = a2 = b0 = b1 = b2 = c0 = c1 = c2 = d0 = d1 = d2 = np.float32(0)
            for k in range(in_features):
                w0, w1, w2 = _wide(weight[n, k]), _wide(weight[n + 1, k]), _wide(weight[n + 2, k])
                a, b, c, d = x[m, k], x[m + 1, k], x[m + 2, k], x[m + 3, k]
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
            out[m, n], out[m, n + 1], out[m, n + 2] = a0, a1, a2
            out[m + 1, n], out[m + 1, n + 1], out[m + 1, n + 2] = b0, b1, b2
            out[m + 2, n], out[m + 2, n + 1], out[m + 2, n + 2] = c0, c1, c2
            out[m + 3, n], out[m + 3, n + 1], out[m + 3, n + 2] = d0, d1, d2
