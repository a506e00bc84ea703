"""Workers that die or hang, loads that fail or are given up: the pool heals, others don't notice."""

import asyncio
import contextlib
import os
import shutil
import signal
from pathlib import Path

import pytest
import pytest_asyncio

from tests.engine.helpers import ask, start_workbench, until, worker_of
from workbench.errors import BadRequestError, ConflictError, ModelLoadError, WorkerDiedError
from workbench.values import Progress, Token

pytestmark = [pytest.mark.engine, pytest.mark.asyncio(loop_scope="module")]


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def workbench(tmp_path_factory):
    """Room for two models, and a pool quick to call a worker hung."""
    data = tmp_path_factory.mktemp("faults")
    async with start_workbench(data, memory_budget=160 << 20, ping_timeout=3, max_workers=3) as running:
        yield running


async def first_token(stream):
    async for event in stream:
        if isinstance(event, Token):
            return event
    raise AssertionError("no token came")


async def test_a_killed_worker_fails_its_request_at_once_and_nobody_elses(workbench):
    await ask(workbench, "adder", "1+1")
    await until(lambda: any(worker.state == "warm" for worker in workbench.pool().workers))
    stream = workbench.chat("counter", "Count from 0 to 60")
    await first_token(stream)
    neighbour = worker_of(workbench, "adder").pid
    os.kill(worker_of(workbench, "counter").pid, signal.SIGKILL)
    async with asyncio.timeout(2):
        with pytest.raises(WorkerDiedError, match=r"counter was killed \(SIGKILL\)"):
            async for _ in stream:
                pass
    assert (await ask(workbench, "adder", "2+3")).text.endswith("= 5")
    assert worker_of(workbench, "adder").pid == neighbour
    turns = await workbench.conversations.messages((await workbench.conversations.find("Count from 0"))[0].id)
    assert turns[1].content.startswith("0")
    assert "SIGKILL" in turns[1].error
    assert (await ask(workbench, "counter", "Count from 1 to 4")).text == "1, 2, 3, 4"


async def test_a_hung_worker_is_told_apart_and_replaced(workbench):
    await ask(workbench, "counter", "Count from 1 to 4")
    hung = worker_of(workbench, "counter").pid
    stream = workbench.chat("counter", "Count from 0 to 60")
    await first_token(stream)
    os.kill(hung, signal.SIGSTOP)
    async with asyncio.timeout(15):
        with pytest.raises(WorkerDiedError, match="gave no sign of life for 3 s"):
            async for _ in stream:
                pass
    assert (await ask(workbench, "counter", "Count from 1 to 4")).text == "1, 2, 3, 4"
    assert worker_of(workbench, "counter").pid != hung
    await until(lambda: not list(Path("/dev/shm").glob(f"*_{hung}_*")))  # Intel's OpenMP has one there


async def test_cancelling_the_last_waiter_cancels_the_load_and_the_worker_survives(workbench):
    for model in ("counter", "adder"):
        if workbench.model(model).residency in ("device", "asleep"):
            await workbench.unload(model)
    await until(lambda: not workbench.pool().runners)
    await until(lambda: any(worker.state == "warm" for worker in workbench.pool().workers))
    pids = {worker.pid for worker in workbench.pool().workers}
    for pid in pids:
        os.kill(pid, signal.SIGSTOP)  # else the load would be over before it is cancelled
    stream = workbench.chat("storyteller", "Tell me a story")
    async for event in stream:
        if isinstance(event, Progress) and event.stage == "loading":
            break
    await stream.aclose()
    await until(lambda: all(runner.state == "unloading" for runner in workbench.pool().runners))
    for pid in pids:
        os.kill(pid, signal.SIGCONT)
    await until(lambda: not workbench.pool().runners)
    await until(lambda: [swap.outcome for swap in workbench.catalog.recent_swaps(1)] == ["cancelled"])
    assert pids <= {worker.pid for worker in workbench.pool().workers}
    assert (await ask(workbench, "storyteller", "Tell me a story")).text.endswith(".")


async def test_a_busy_model_is_unloaded_only_by_force(workbench):
    stream = workbench.chat("counter", "Count from 0 to 60")
    await first_token(stream)
    with pytest.raises(ConflictError, match="1 request of counter is being answered"):
        await workbench.unload("counter")
    await workbench.unload("counter", force=True)
    with pytest.raises(ConflictError, match="unloaded by an administrator"):
        async for _ in stream:
            pass
    await until(lambda: workbench.model("counter").residency == "disk")


async def test_a_worker_can_be_restarted(workbench):
    await ask(workbench, "adder", "1+1")
    old = worker_of(workbench, "adder")
    await workbench.pool_admin.restart(old.id)
    await until(lambda: old.pid not in {worker.pid for worker in workbench.pool().workers})
    assert (await ask(workbench, "adder", "1+1")).text.endswith("= 2")


async def test_weights_that_changed_into_garbage_are_a_sentence_and_the_pool_goes_on(
    workbench, demo, tmp_path
):
    folder = Path(workbench.settings.data_dir) / "broken"
    shutil.copytree(demo / "adder", folder)
    await workbench.add_local_model(folder)
    weights = folder / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-1000])
    with pytest.raises(BadRequestError, match="safetensors"):
        await ask(workbench, "broken", "1+1")
    assert workbench.model("broken").residency == "broken"
    assert (await ask(workbench, "adder", "1+1")).text.endswith("= 2")


async def test_what_only_vllm_finds_wrong_is_a_sentence_and_the_worker_survives(workbench, demo):
    folder = Path(workbench.settings.data_dir) / "misfit"
    shutil.copytree(demo / "adder", folder)
    config = folder / "config.json"
    config.write_text(config.read_text().replace('"num_hidden_layers": 4', '"num_hidden_layers": 5'))
    await workbench.add_local_model(folder)
    pids = {worker.pid for worker in workbench.pool().workers}
    with pytest.raises(ModelLoadError, match=r"misfit can't be loaded: .*not initialized from checkpoint"):
        await ask(workbench, "misfit", "1+1")
    await until(lambda: all(worker.state in ("warm", "serving") for worker in workbench.pool().workers))
    assert pids <= {worker.pid for worker in workbench.pool().workers}
    assert workbench.catalog.recent_swaps(1)[0].outcome == "failed"


async def test_only_folders_under_the_allowed_roots_are_taken(workbench, demo, tmp_path):
    shutil.copytree(demo / "adder", tmp_path / "elsewhere")
    with pytest.raises(BadRequestError, match="outside"):
        await workbench.add_local_model(tmp_path / "elsewhere")


async def test_many_come_and_go_and_nothing_stays_in_flight(workbench):
    async def come_and_go(number):
        stream = workbench.chat("adder" if number % 2 else "counter", f"Count from {number} to 30")
        async with contextlib.aclosing(stream):
            async for event in stream:
                if number % 3 and isinstance(event, Token):
                    break

    await asyncio.gather(*(come_and_go(number) for number in range(24)))
    await until(lambda: not any(runner.in_flight for runner in workbench.pool().runners))
    assert not workbench.pool().waiters
