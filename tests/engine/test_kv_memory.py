"""The KV cache's memory: zeroes that cost nothing until they are used."""

import psutil
import torch

from workbench.engine.kv_memory import UntouchedZeros

SIZE = 256 << 20


def rss() -> int:
    return psutil.Process().memory_info().rss


def test_a_large_buffer_takes_memory_only_where_it_is_touched_and_gives_it_back():
    before = rss()
    with UntouchedZeros():
        buffer = torch.zeros(SIZE, dtype=torch.int8, device=torch.device("cpu"))
    assert rss() - before < SIZE // 8
    assert buffer.numel() == SIZE
    assert not buffer[: 1 << 20].any()
    view = buffer[SIZE // 2 :].view(torch.bfloat16)
    view.fill_(1)
    del buffer
    assert view.sum(dtype=torch.float32) == view.numel()
    assert rss() - before > SIZE // 4
    del view
    assert rss() - before < SIZE // 8


def test_other_tensors_are_torchs_own():
    with UntouchedZeros():
        small = torch.zeros(16, dtype=torch.int8, device="cpu")
        shaped = torch.zeros(1 << 11, 1 << 10, device="cpu")
    assert small.tolist() == [0] * 16
    assert shaped.shape == (1 << 11, 1 << 10)
    assert shaped.dtype is torch.float32
