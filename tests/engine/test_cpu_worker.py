"""A seeded request whose prompt is read in parts, which ends vLLM's own engine on a CPU."""

import asyncio

import pytest

from tests.engine.helpers import ask
from workbench.engine.cpu_worker import threads_for
from workbench.values import SamplingOptions

pytestmark = [pytest.mark.engine, pytest.mark.asyncio(loop_scope="session")]

PARTS = {"max_num_batched_tokens": 64, "max_num_seqs": 16}
"""Of a prompt: at most so many tokens in a step."""
PROMPT = "Tell me a story about a fox and " * 12
SEEDED = SamplingOptions(temperature=1, seed=5, max_tokens=24)


async def test_a_seed_counts_however_a_prompt_is_read(workbench):
    (whole,) = await stories(workbench, 1)
    await asyncio.to_thread(workbench.catalog.update_model, "storyteller", engine_args=PARTS)
    await workbench.unload("storyteller", force=True)
    await workbench._library._refresh()
    try:
        in_parts = await stories(workbench, 3)
        assert in_parts == [in_parts[0]] * 3
        assert in_parts[0] == whole
    finally:
        await asyncio.to_thread(workbench.catalog.update_model, "storyteller", engine_args={})
        await workbench._library._refresh()


async def stories(workbench, count: int) -> list[str]:
    """Seeded answers to the same long prompt, asked for at once."""
    ends = await asyncio.gather(
        *(ask(workbench, "storyteller", PROMPT, options=SEEDED) for _ in range(count))
    )
    return [end.text for end in ends]


@pytest.mark.parametrize(
    ("mebibytes", "threads"), [(0, 8), (4, 1), (31, 1), (32, 2), (64, 4), (100, 4), (128, 8), (2000, 8)]
)
async def test_a_model_gets_the_threads_that_it_is_worth(mebibytes, threads):
    assert threads_for(mebibytes << 20, cores=8) == threads


async def test_small_models_leave_cores_to_the_server(workbench):
    await workbench.load("storyteller")
    client = workbench._controller.serving_clients()["storyteller"]
    assert await client.call("collective_rpc", "threads") == [1]
