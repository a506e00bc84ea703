"""Serve first, pack later: the same answers before, while and after layers are packed."""

import asyncio

import torch
from torch import nn
from vllm.model_executor.layers import utils as layer_utils

from tests.engine.helpers import ask, start_workbench
from workbench.engine import packing
from workbench.engine.packing import PackingQueue, current_packing

packed: list[nn.Module] = []


def pack(layer: nn.Module, remove_weight: bool) -> None:
    packed.append(layer)


def layers(count: int) -> list[nn.Module]:
    packed.clear()
    return [nn.Linear(4, 4, dtype=torch.float32) for _ in range(count)]


def test_layers_answer_before_they_are_packed_and_are_packed_in_order():
    queue, made = PackingQueue(pack), layers(3)
    for layer in made:
        queue.add(layer, True)
    x = torch.randn(2, 4)
    assert torch.equal(made[0].cpu_linear(x, made[0].weight, made[0].bias), made[0](x))
    assert packed == []
    queue.pack_for(0)
    assert packed == made[:1], "one at least"
    queue.pack_for(60)
    assert packed == made
    assert not queue


def test_only_plain_matrices_of_a_load_that_waits_are_put_off(monkeypatch):
    monkeypatch.setattr(layer_utils, "dispatch_cpu_unquantized_gemm", pack)
    assert packing.install() is pack
    dispatch = layer_utils.dispatch_cpu_unquantized_gemm
    (plain,) = layers(1)
    dispatch(plain, True)
    assert packed == [plain], "no load waits: packed at once"
    queue = PackingQueue(pack)
    token = current_packing.set(queue)
    try:
        dispatch(plain, True)
        experts = nn.Module()
        experts.weight = torch.empty(2, 3, 4)
        dispatch(experts, True)
    finally:
        current_packing.reset(token)
    assert packed == [plain, experts]
    assert len(queue) == 1


async def test_a_model_answers_before_it_is_packed_and_the_same_afterwards(tmp_path):
    async with start_workbench(tmp_path, max_workers=1) as workbench:
        # A type that oneDNN packs on every processor.
        await asyncio.to_thread(workbench.catalog.update_model, "counter", dtype="float32")
        await workbench._library._refresh()
        first = await ask(workbench, "counter", "Count from 3 to 40")
        client = workbench._controller._runners["counter"].client
        put_off, left = await client.call("packing_state")
        async with asyncio.timeout(60):
            while left:
                await asyncio.sleep(1)  # asked more often, it would never be idle
                put_off, left = await client.call("packing_state")
        assert put_off > 4, "the load has packed them itself"
        second = await ask(workbench, "counter", "Count from 3 to 40")
        assert first.stats.switch_s > 0
        assert second.stats.switch_s == 0
        assert first.text == second.text
        assert first.text.startswith("3, 4, 5, 6, 7")
