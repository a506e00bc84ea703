"""Norms in one pass give what vLLM's own give."""

import pytest
import torch
from vllm import ir

from workbench.engine import linear
from workbench.engine.norms import PROVIDER, prefer_one_pass

EPSILON = 1e-6


@pytest.fixture(autouse=True)
def preferred(monkeypatch):
    monkeypatch.setattr(linear, "is_widened", lambda dtype: dtype is torch.bfloat16)
    prefer_one_pass()
    yield
    for op in (ir.ops.rms_norm, ir.ops.fused_add_rms_norm):
        op.set_default(["native"])


def activations(*shape: int) -> torch.Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(len(shape))).bfloat16()


def assert_same(result: torch.Tensor, expected: torch.Tensor) -> None:
    """Equal, but for the last bit of a few: squares are summed in another order."""
    torch.testing.assert_close(result, expected, rtol=2**-7, atol=0)
    assert (result != expected).sum() <= 1e-4 * result.numel()


def native(op, *arguments):
    return op.impls["native"].impl_fn(*arguments)


@pytest.mark.parametrize("shape", [(0, 192), (1, 192), (7, 33), (5, 6, 32), (64, 2048)])
def test_a_norm_is_that_of_vllm(shape):
    x, weight = activations(*shape), activations(shape[-1])
    assert ir.ops.rms_norm.dispatch(x, weight, EPSILON).provider == PROVIDER
    result = ir.ops.rms_norm(x, weight, EPSILON)
    assert_same(result, native(ir.ops.rms_norm, x, weight, EPSILON))
    assert torch.equal(x, activations(*shape)), "what was given stays as it is"


@pytest.mark.parametrize("shape", [(0, 192), (1, 192), (64, 2048)])
def test_so_is_a_norm_of_a_sum_which_is_kept_too(shape):
    x, residual, weight = activations(*shape), 3 * activations(*shape).flip(0), activations(shape[-1])
    normed, total = native(ir.ops.fused_add_rms_norm, x, residual, weight, EPSILON)
    result = ir.ops.fused_add_rms_norm.maybe_inplace(x.clone(), residual.clone(), weight, EPSILON)
    assert_same(result[0], normed)
    assert torch.equal(result[1], total)


def test_heads_cut_from_wider_rows_are_normed():
    wide, weight = activations(5, 3 * 64), activations(32)
    heads = wide[:, 64:128].view(5, 2, 32)
    assert not heads.is_contiguous()
    assert_same(ir.ops.rms_norm(heads, weight, EPSILON), native(ir.ops.rms_norm, heads, weight, EPSILON))


def test_what_is_not_a_number_is_not_one_afterwards():
    x, weight = activations(4, 192), activations(192)
    x[1, 7], x[2, 3] = float("nan"), float("inf")
    result = ir.ops.rms_norm(x, weight, EPSILON)
    assert result[1].isnan().all()
    assert result[2, 3].isnan()
    assert result[[0, 3]].isfinite().all()


@pytest.mark.parametrize(
    ("x", "weight", "variance_size"),
    [
        (torch.ones(2, 8), torch.ones(8), None),
        (torch.ones(2, 8).bfloat16(), torch.ones(8), None),
        (torch.ones(2, 8).bfloat16(), None, None),
        (torch.ones(2, 8).bfloat16(), torch.ones(8).bfloat16(), 4),
        (torch.ones(2, 8).bfloat16(), torch.ones(16).bfloat16()[::2], None),
        (torch.ones(2, 8).bfloat16(), torch.ones(1).bfloat16(), None),
    ],
)
def test_other_norms_are_left_to_vllm(x, weight, variance_size):
    assert ir.ops.rms_norm.dispatch(x, weight, EPSILON, variance_size).provider == "native"
    residual = torch.ones_like(x)
    fused = ir.ops.fused_add_rms_norm.dispatch(x, residual, weight, EPSILON, variance_size)
    assert fused.provider == "native"


def test_sums_with_gaps_or_of_one_with_itself_or_of_other_shapes_are_left_to_vllm():
    x, weight = activations(4, 8), activations(8)
    with_gaps = activations(8, 4).t()
    for residual in (with_gaps, x, x[:1].clone(), x.float()):
        assert ir.ops.fused_add_rms_norm.dispatch(x, residual, weight, EPSILON).provider == "native"
    assert ir.ops.fused_add_rms_norm.dispatch(with_gaps, x, weight, EPSILON).provider == "native"
    assert ir.ops.fused_add_rms_norm.dispatch(x, x.clone(), weight, EPSILON).provider == PROVIDER
