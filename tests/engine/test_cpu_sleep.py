"""Models that sleep on the CPU: their KV cache gives its pages back, their weights stay mapped."""

from types import SimpleNamespace

import psutil
import pytest
import pytest_asyncio
import torch
from torch import nn

from tests.engine.helpers import ask, prepared, start_workbench, until
from workbench.engine.cpu_sleep import SleepingCPUWorker
from workbench.engine.linear import unpacked_linear
from workbench.engine.packing import PackingQueue
from workbench.service import Workbench

KV_BYTES = 64 << 20


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def workbench(tmp_path_factory):
    """Room for one model awake, and workers for others to sleep in; no weights are prepared yet."""
    data = tmp_path_factory.mktemp("sleep")
    async with start_workbench(data, max_workers=3, memory_budget=100 << 20) as running:
        yield running


def private_bytes() -> int:
    memory = psutil.Process().memory_info()
    return memory.rss - memory.shared


def test_a_kv_cache_asleep_takes_no_memory_and_is_zero_afterwards():
    buffer = torch.ones(KV_BYTES, dtype=torch.int8)
    layers = [buffer[: KV_BYTES // 2].view(torch.bfloat16), buffer[KV_BYTES // 2 :].view(torch.bfloat16)]
    worker = SleepingCPUWorker.__new__(SleepingCPUWorker)
    worker.model_runner = SimpleNamespace(kv_caches=layers)
    before = private_bytes()
    worker.sleep()
    assert before - private_bytes() > 0.9 * KV_BYTES
    worker.wake_up()
    assert not buffer[4096:-4096].any()


def pack(layer: nn.Module, remove_weight: bool) -> None:
    """As vLLM's packing for AMX, which wants the bias in float32."""
    packed = layer.weight.detach().clone()
    layer.weight = nn.Parameter(torch.empty(0), requires_grad=False)
    if layer.bias is not None:
        layer.bias.data = layer.bias.to(torch.float32)
    layer.cpu_linear = lambda x, weight, bias: (x.float() @ packed.float().t() + bias).to(x.dtype)


def test_packed_weights_go_asleep_and_are_packed_again_later():
    layer, x = nn.Linear(4, 4, dtype=torch.bfloat16), torch.randn(2, 4).bfloat16()
    weight, bias, expected = layer.weight, layer.bias.data, layer(x)
    queue = PackingQueue(pack, reversible=True)
    queue.add(layer, True)
    queue.pack_one()
    assert layer.weight is not weight
    queue.unpack()
    assert layer.weight is weight
    assert layer.cpu_linear is unpacked_linear
    assert len(queue) == 1
    assert (layer.bias.dtype, layer.bias.data_ptr()) == (torch.bfloat16, bias.data_ptr())
    torch.testing.assert_close(layer.cpu_linear(x, layer.weight, layer.bias), expected)
    queue.pack_one()
    torch.testing.assert_close(layer.cpu_linear(x, layer.weight, layer.bias), expected)


def test_packed_weights_leave_no_memory_behind():
    beside = []

    def pack(layer: nn.Module, remove_weight: bool) -> None:
        layer.cpu_linear = torch.ones(KV_BYTES // 1024 - 64, dtype=torch.int8)
        beside.append(torch.ones(16, dtype=torch.int8))  # or the heap would shrink by itself

    queue = PackingQueue(pack, reversible=True)
    for _ in range(1024):
        queue.add(nn.Linear(1, 1), True)
    queue.pack_for(60)
    packed_bytes = private_bytes()
    queue.unpack()
    worker = SleepingCPUWorker.__new__(SleepingCPUWorker)
    worker.model_runner = SimpleNamespace(kv_caches=[])
    worker.sleep()
    assert packed_bytes - private_bytes() > 0.9 * KV_BYTES


def test_weights_that_take_memory_are_not_kept_beside_packed_ones():
    layer = nn.Linear(4, 4, bias=False)
    queue = PackingQueue(pack)
    queue.add(layer, True)
    queue.pack_one()
    queue.unpack()
    assert not queue
    assert layer.weight.numel() == 0


@pytest.mark.asyncio(loop_scope="module")
async def test_a_model_sleeps_once_its_weights_are_prepared_and_answers_the_same_when_woken(workbench):
    sums, story = ("adder", "38 + 47"), ("storyteller", "Tell me a story about a fox")
    first = await ask(workbench, *sums)
    await until(lambda: prepared(workbench) == 1)
    told = await ask(workbench, *story)
    assert workbench.model("adder").residency in ("unloading", "disk"), "its weights were its own"
    await until(lambda: prepared(workbench) == 2 and spare_is_warm(workbench))
    await ask(workbench, *sums)
    await ask(workbench, *story)
    await until(lambda: workbench.model("adder").residency == "asleep")
    again = await ask(workbench, *sums)
    assert again.text == first.text
    assert again.stats.switch_reason == "woken, evicting storyteller"
    assert workbench.catalog.recent_swaps(1)[0].from_residency == "host"
    await until(lambda: workbench.model("storyteller").residency == "asleep")
    assert (await ask(workbench, *story)).text == told.text
    await workbench.unload("adder")
    await until(lambda: workbench.model("adder").residency == "disk")


@pytest.mark.asyncio(loop_scope="module")
async def test_a_conversation_goes_on_where_it_was_after_a_wake(workbench):
    """Were the pages of a block that is still believed in not kept, the answer would be another."""
    long = "Tell me a story about a fox. " * 18
    for count, model in enumerate(("adder", "storyteller"), start=1):
        await ask(workbench, model, "38 + 47")
        await until(lambda: prepared(workbench) >= count)  # noqa: B023 - awaited here
    await until(lambda: spare_is_warm(workbench))
    await ask(workbench, "adder", "38 + 47")
    first = await ask(workbench, "storyteller", long)
    warm = await ask(workbench, "storyteller", long)
    assert (first.stats.cached_prompt_tokens, warm.text) == (0, first.text)
    assert warm.stats.cached_prompt_tokens > 0
    await ask(workbench, "adder", "38 + 47")
    await until(lambda: workbench.model("storyteller").residency == "asleep")
    woken = await ask(workbench, "storyteller", long)
    assert woken.stats.switch_reason == "woken, evicting adder"
    assert (woken.stats.cached_prompt_tokens, woken.text) == (warm.stats.cached_prompt_tokens, first.text)


def spare_is_warm(workbench: Workbench) -> bool:
    return any(worker.state == "warm" for worker in workbench.pool().workers)
