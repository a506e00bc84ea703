"""Serve first, pack later: the same answers before, while and after layers are packed."""

import asyncio
from contextlib import aclosing

import pytest
import pytest_asyncio
import torch
from torch import nn
from vllm.model_executor.layers import utils as layer_utils

from tests.engine.helpers import ask, prepared, until
from workbench.engine import packing
from workbench.engine.packing import PackingQueue, current_packing
from workbench.service import Workbench
from workbench.values import Token

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


@pytest_asyncio.fixture(loop_scope="session")
async def whole(workbench):
    """A workbench whose counter is of a type that oneDNN packs on every processor."""
    usual = workbench.catalog.model("counter").dtype
    await asyncio.to_thread(workbench.catalog.update_model, "counter", dtype="float32")
    await workbench._library._refresh()
    yield workbench
    await asyncio.to_thread(workbench.catalog.update_model, "counter", dtype=usual)
    await workbench._library._refresh()


@pytest.mark.asyncio(loop_scope="session")
async def test_a_model_answers_before_it_is_packed_and_the_same_afterwards_and_sleeps_unpacked(whole):
    before = prepared(whole)
    first = await ask(whole, "counter", "Count from 3 to 40")
    put_off = await until_packed(whole)
    assert put_off > 4, "the load has packed them itself"
    second = await ask(whole, "counter", "Count from 3 to 40")
    assert first.stats.switch_s > 0
    assert second.stats.switch_s == 0
    assert first.text == second.text
    assert first.text.startswith("3, 4, 5, 6, 7")

    await until(lambda: prepared(whole) > before)
    await whole.unload("counter")  # its weights were its own; prepared, they are mapped
    await ask(whole, "counter", "Count from 3 to 40")
    await until_packed(whole)
    client = whole._controller._runners["counter"].client
    async with aclosing(whole.chat("counter", "Count from 3 to 400")) as answer:
        while not isinstance(await anext(answer), Token):
            pass
        await client.sleep(1)  # which is put off until the answer's end is told
        assert await packing_state(whole) == (put_off, put_off)
        await client.wake()
    assert (await ask(whole, "counter", "Count from 3 to 40")).text == first.text


async def packing_state(workbench: Workbench) -> tuple[int, int]:
    """Of the counter: layers whose packing was put off, and those that are not packed."""
    client = workbench._controller._runners["counter"].client
    put_off, left = await client.call("packing_state")
    return put_off, left


async def until_packed(workbench: Workbench) -> int:
    """Wait until all of the counter's layers are packed; how many these are."""
    async with asyncio.timeout(60):
        while (state := await packing_state(workbench))[1]:  # noqa: ASYNC110
            await asyncio.sleep(1)  # asked more often, it would never be idle
    return state[0]
