"""Products with weights as they lie in the file."""

import pytest
import torch
from torch.nn import functional

from workbench.engine import linear


@pytest.fixture(autouse=True)
def without_bfloat16(monkeypatch):
    monkeypatch.setattr(linear, "is_widened", lambda dtype: dtype is torch.bfloat16)


def tensors(rows: tuple[int, ...], in_features: int, out_features: int):
    torch.manual_seed(0)
    shapes = ((*rows, in_features), (out_features, in_features), (out_features,))
    return [torch.randn(shape).bfloat16() for shape in shapes]


class _Subclass(torch.Tensor):
    """A tensor that wants to be asked at every use, as vLLM's parameters do."""

    @classmethod
    def __torch_function__(cls, func, types, args=(), kwargs=None):
        raise AssertionError(f"{func} asked for it")


@pytest.fixture(params=["compiled", "not compiled"], autouse=True)
def kernels(request, monkeypatch):
    if request.param == "not compiled":
        monkeypatch.setattr(linear, "_kernels", lambda: None)
        monkeypatch.setattr(linear, "BLOCK_BYTES", 4 * 52 * 7)  # seven rows: the last block is not full


@pytest.mark.parametrize("rows", [(0,), (1,), (3,), (4,), (6,), (2, 9), (300,)])
@pytest.mark.parametrize("out_features", [1, 3, 4, 5, 100, 102])
@pytest.mark.parametrize("with_bias", [False, True])
def test_widened_products_are_those_of_float32_rounded_once(rows, out_features, with_bias):
    x, weight, bias = tensors(rows, 52, out_features)
    given = (x, weight, bias) if with_bias else (x, weight)
    result = linear.unpacked_linear(*given)
    exact = functional.linear(*(tensor.float() for tensor in given))
    assert result.dtype is torch.bfloat16
    assert result.is_contiguous(), "kernels of vLLM read row by row"
    torch.testing.assert_close(result.float(), exact, rtol=2**-8, atol=2**-8)


@pytest.mark.parametrize("kernels", ["compiled"], indirect=True)
def test_a_row_has_the_same_product_whichever_others_are_beside_it():
    x, weight, _ = tensors((23,), 1031, 64)
    together = linear.unpacked_linear(x, weight)
    for row in (0, 4, 21):
        assert torch.equal(linear.unpacked_linear(x[row : row + 2], weight), together[row : row + 2])


def test_what_is_not_a_number_is_not_one_afterwards():
    x, weight, _ = tensors((4,), 52, 6)
    x[1, 7], x[2, 3] = float("nan"), float("inf")
    for result in (
        linear.unpacked_linear(x, weight),
        torch.cat([linear.unpacked_linear(r, weight) for r in x.split(1)]),
    ):
        assert result[1].isnan().all()
        assert result[2].isinf().all()
        assert result[[0, 3]].isfinite().all()


def test_weights_that_are_views_with_gaps_are_multiplied_too():
    x, weight, _ = tensors((5,), 52, 24)
    expected = linear.unpacked_linear(x, weight[::2].contiguous())
    torch.testing.assert_close(linear.unpacked_linear(x, weight[::2]), expected, rtol=2**-7, atol=2**-7)


@pytest.mark.parametrize("shape", [(51,), (1, 53), (4, 51)])
def test_activations_of_another_size_are_refused(shape):
    with pytest.raises(RuntimeError, match="shape"):
        linear.unpacked_linear(torch.ones(shape).bfloat16(), torch.ones(6, 52).bfloat16())


def test_activations_and_biases_of_another_type_are_refused():
    with pytest.raises(RuntimeError, match="dtype"):
        linear.unpacked_linear(torch.ones(2, 52), torch.ones(6, 52).bfloat16())
    x, weight, bias = tensors((2,), 52, 6)
    with pytest.raises(RuntimeError, match="dtype"):
        linear.unpacked_linear(x, weight, bias.float())
    with pytest.raises(RuntimeError, match="size"):
        linear.unpacked_linear(x, weight, bias[:5])


def test_biases_and_activations_with_gaps_are_used_too():
    x, weight, bias = tensors((4,), 52, 6)
    expected = linear.unpacked_linear(x, weight, bias)
    assert torch.equal(linear.unpacked_linear(x.t().contiguous().t(), weight, bias), expected)
    assert torch.equal(linear.unpacked_linear(x, weight, torch.stack([bias, bias], 1)[:, 0]), expected)


def test_parameters_of_vllm_give_plain_tensors():
    x, weight, bias = tensors((2,), 52, 6)
    result = linear.unpacked_linear(x, weight.as_subclass(_Subclass), bias)
    assert type(result) is torch.Tensor
    assert torch.equal(result, linear.unpacked_linear(x, weight, bias))


def test_the_type_that_torch_makes_by_default_does_not_matter():
    x, weight, _ = tensors((5,), 52, 6)
    expected = linear.unpacked_linear(x, weight)
    torch.set_default_dtype(torch.bfloat16)
    try:
        assert torch.equal(linear.unpacked_linear(x, weight), expected)
    finally:
        torch.set_default_dtype(torch.float32)


def test_types_the_processor_knows_are_left_to_torch(monkeypatch):
    monkeypatch.setattr(linear, "_product_of_few", None)
    monkeypatch.setattr(linear, "_product_of_many", None)
    x, weight = torch.randn(5, 8), torch.randn(3, 8)
    assert torch.equal(linear.unpacked_linear(x, weight), functional.linear(x, weight))


@pytest.mark.parametrize("kernels", ["compiled"], indirect=True)
def test_products_are_the_same_by_one_thread():
    kernels = pytest.importorskip("workbench.engine.narrow")
    x, weight, _ = tensors((5,), 192, 512)
    cores = torch.get_num_threads()
    by_all = linear.unpacked_linear(x, weight)
    linear.use_threads(1)
    try:
        assert (torch.get_num_threads(), kernels.get_num_threads()) == (1, 1)
        assert torch.equal(linear.unpacked_linear(x, weight), by_all)
    finally:
        linear.use_threads(cores)
    assert (torch.get_num_threads(), kernels.get_num_threads()) == (cores, min(cores, kernels.MOST_THREADS))
