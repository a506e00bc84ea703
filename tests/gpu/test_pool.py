"""The pool on an NVIDIA GPU: `make test-gpu`."""

import pytest

from tests.engine.helpers import ask, start_workbench, until

pytestmark = pytest.mark.gpu

QUESTIONS = {
    "adder": "38 + 47",
    "storyteller": "Tell me a story about a fox",
    "counter": "Count from 7 to 31",
}
KV_CACHE_BYTES = 4 << 30
DEVICE_SLACK = 256 << 20


@pytest.mark.timeout(600)
async def test_switches_repeat_their_answers_and_give_the_device_memory_back(tmp_path):
    """With KV caches of 4 GiB, of which one fits: memory that is kept fails the next load at the latest."""
    budget = KV_CACHE_BYTES + (64 << 20)
    settings = {"memory_budget": budget, "max_workers": 2, "sleep": False}
    async with start_workbench(tmp_path, device="cuda", **settings) as workbench:
        for model in QUESTIONS:
            workbench.catalog.update_model(model, kv_cache_bytes=KV_CACHE_BYTES)
        await workbench._library._refresh()
        assert all(device.id.startswith("cuda:") for device in workbench.pool().devices)
        expected: dict[str, str] = {}
        for switch in range(30):
            model = list(QUESTIONS)[switch % 3]
            answer = await ask(workbench, model, QUESTIONS[model])
            assert answer.stats.switch_s > 0
            assert answer.text == expected.setdefault(model, answer.text)
        assert expected["adder"].endswith("= 85")
        await workbench.unload(model)
        await until(lambda: all(worker.state == "warm" for worker in workbench.pool().workers))
        assert all(worker.device_bytes < (2 << 30) + DEVICE_SLACK for worker in workbench.pool().workers)


@pytest.mark.timeout(300)
async def test_models_serve_side_by_side_on_one_gpu(tmp_path):
    async with start_workbench(tmp_path, device="cuda", memory_budget=1 << 30, max_workers=3) as workbench:
        await until(lambda: sum(worker.state == "warm" for worker in workbench.pool().workers) >= 1)
        for model, question in QUESTIONS.items():
            await ask(workbench, model, question)
        assert {runner.model for runner in workbench.pool().runners} == set(QUESTIONS)
