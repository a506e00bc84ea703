"""The files of likely models are read ahead, those of others are not."""

import asyncio
import contextlib
import queue
from pathlib import Path

import pytest

from workbench import prefetcher
from workbench.engine.spec import ModelSpec
from workbench.errors import ModelLoadError
from workbench.prefetcher import Prefetcher

SPECS = [ModelSpec(name, f"/models/{name}", 10, 0, 0) for name in ("a", "b", "c", "broken")]


@pytest.fixture
def read(monkeypatch) -> "queue.SimpleQueue[str]":
    """Names of the files that are read, in order."""
    names: queue.SimpleQueue[str] = queue.SimpleQueue()
    monkeypatch.setattr(prefetcher, "SETTLE_S", 0)
    monkeypatch.setattr(prefetcher, "prefetch", lambda path, go_on: names.put(path.name))
    return names


@contextlib.asynccontextmanager
async def running(on_device: set[str]):
    async def weight_files(spec: ModelSpec) -> list[Path]:
        if spec.name == "broken":
            raise ModelLoadError("It has no tokenizer.")
        return [Path(spec.path, spec.name)]

    made = Prefetcher(lambda: SPECS, lambda: on_device, weight_files)
    task = asyncio.create_task(made.run())
    try:
        yield made
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


async def test_models_used_before_are_read_the_likeliest_first(read):
    async with running(on_device={"a"}) as made:
        for model in ("c", "b", "broken", "a", "b", "a"):
            made.on_use(model)
        names = [await asyncio.to_thread(read.get, timeout=10) for _ in range(2)]
    assert names == ["b", "c"]
    assert read.empty()


async def test_nothing_is_read_before_the_first_use(read):
    async with running(on_device=set()):
        for _ in range(5):
            await asyncio.sleep(0)
    assert read.empty()
