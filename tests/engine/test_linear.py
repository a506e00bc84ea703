"""Products with weights as they lie in the file."""

import pytest
import torch
from torch.nn import functional

from workbench.engine import linear


@pytest.mark.parametrize("rows", [1, 3, 40])
@pytest.mark.parametrize("with_bias", [False, True])
def test_widened_products_are_those_of_float32_rounded_once(rows, with_bias, monkeypatch):
    monkeypatch.setattr(linear, "is_widened", lambda dtype: dtype is torch.bfloat16)
    monkeypatch.setattr(linear, "BLOCK_BYTES", 4 * 48 * 7)  # seven rows: the last block is not full
    torch.manual_seed(0)
    x, weight, bias = torch.randn(2, rows, 48), torch.randn(100, 48), torch.randn(100) if with_bias else None
    narrow = [tensor if tensor is None else tensor.bfloat16() for tensor in (x, weight, bias)]
    result = linear.unpacked_linear(*narrow)
    exact = functional.linear(*(tensor if tensor is None else tensor.float() for tensor in narrow))
    assert result.dtype is torch.bfloat16
    assert result.is_contiguous(), "kernels of vLLM read row by row"
    torch.testing.assert_close(result.float(), exact, rtol=2**-7, atol=2**-7)


def test_types_the_processor_knows_are_left_to_torch(monkeypatch):
    monkeypatch.setattr(linear, "_widened_linear", None)
    x, weight = torch.randn(5, 8), torch.randn(3, 8)
    assert torch.equal(linear.unpacked_linear(x, weight), functional.linear(x, weight))
