"""Models that sleep on an NVIDIA GPU: `make test-gpu`."""

import contextlib

import pytest

from tests.engine.helpers import ask, start_workbench, until, worker_of

pytestmark = [pytest.mark.gpu, pytest.mark.timeout(900)]

QUESTIONS = {
    "adder": "38 + 47",
    "storyteller": "Tell me a story about a fox",
    "counter": "Count from 7 to 31",
}
KV_CACHE_BYTES = 4 << 30
BUDGET = KV_CACHE_BYTES + (64 << 20)
"""Holds one model at a time."""


@contextlib.asynccontextmanager
async def one_at_a_time(tmp_path, **settings):
    settings = {"memory_budget": BUDGET, "max_workers": 3} | settings
    async with start_workbench(tmp_path, device="cuda", **settings) as workbench:
        for model in QUESTIONS:
            workbench.catalog.update_model(model, kv_cache_bytes=KV_CACHE_BYTES)
        await workbench._library._refresh()
        yield workbench


def states(workbench):
    return {runner.model: runner.state for runner in workbench.pool().runners}


@pytest.mark.parametrize("host_memory_budget", [None, 0], ids=["level 1", "level 2"])
async def test_a_model_answers_after_each_sleep_as_before(tmp_path, host_memory_budget):
    """Greedy, byte for byte: weights that were dropped and not read again answer nonsense."""
    expected = {}
    async with one_at_a_time(tmp_path, host_memory_budget=host_memory_budget) as workbench:
        for switch in range(20):
            model = ("adder", "storyteller")[switch % 2]
            answer = await ask(workbench, model, QUESTIONS[model])
            assert answer.text == expected.setdefault(model, answer.text)
            if switch > 1:
                source = "host" if host_memory_budget is None else "disk"
                assert answer.stats.switch_reason.startswith(f"loaded from {source}")
        assert expected["adder"].endswith("= 85")
        assert sorted(states(workbench).values()) == ["asleep", "serving"]
        assert len(workbench.pool().workers) <= 3
        assert all(worker.swaps <= 1 for worker in workbench.pool().workers)


async def test_a_sleeping_model_gives_its_device_memory_up(tmp_path):
    async with one_at_a_time(tmp_path) as workbench:
        await ask(workbench, "adder", QUESTIONS["adder"])
        await until(lambda: worker_of(workbench, "adder").device_bytes > KV_CACHE_BYTES)
        await ask(workbench, "counter", QUESTIONS["counter"])
        assert states(workbench) == {"adder": "asleep", "counter": "serving"}
        await until(lambda: worker_of(workbench, "adder").device_bytes < 2 << 30)


async def test_a_worker_whose_sleeping_model_was_unloaded_takes_the_next(tmp_path):
    """vLLM's allocator unmaps twice what is freed asleep, and then refuses every later allocation."""
    async with one_at_a_time(tmp_path, max_workers=2, spare_workers=0) as workbench:
        for model in ("adder", "counter"):
            await ask(workbench, model, QUESTIONS[model])
        sleeper = worker_of(workbench, "adder").id
        await workbench.unload("adder")
        await until(lambda: "adder" not in states(workbench))
        story = await ask(workbench, "storyteller", QUESTIONS["storyteller"])
        assert worker_of(workbench, "storyteller").id == sleeper
        assert story.text


async def test_the_longest_unused_sleeper_makes_room_for_a_third_model(tmp_path):
    async with one_at_a_time(tmp_path, max_workers=2, spare_workers=0) as workbench:
        first = {model: (await ask(workbench, model, QUESTIONS[model])).text for model in QUESTIONS}
        again = {model: (await ask(workbench, model, QUESTIONS[model])).text for model in QUESTIONS}
        assert again == first


async def test_graphs_and_sleep_can_be_left_off(tmp_path):
    settings = {"sleep": False, "cuda_graph_sizes": ()}
    async with one_at_a_time(tmp_path, **settings) as workbench:
        for model in QUESTIONS:
            assert (await ask(workbench, model, QUESTIONS[model])).text
        assert list(states(workbench)) == [model]
