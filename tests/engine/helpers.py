"""A real Workbench on the demo models, and questions to them."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

from workbench.service import Workbench
from workbench.values import Finished, SamplingOptions

GREEDY = SamplingOptions(temperature=0)


@contextlib.asynccontextmanager
async def start_workbench(data_dir: Path, **settings: Any) -> AsyncIterator[Workbench]:
    """A running Workbench with the engine imported and a first worker warm."""
    settings = {"max_workers": 2, "ping_interval": 0.5} | settings
    async with Workbench(data_dir=data_dir, **settings) as workbench:
        await workbench.warm_engine()
        await until(lambda: workbench.pool().warm)
        yield workbench


async def ask(workbench: Workbench, model: str, text: str, **arguments: Any) -> Finished:
    """The end of a greedy answer."""
    arguments.setdefault("options", GREEDY)
    event: Any = None
    async for event in workbench.chat(model, text, **arguments):  # noqa: B007
        pass
    assert isinstance(event, Finished)
    return event


async def until(condition: Callable[[], bool], timeout_s: float = 60) -> None:
    """Wait until the pool has come to a state; a poll, because processes have no event for it."""
    async with asyncio.timeout(timeout_s):
        while not condition():  # noqa: ASYNC110
            await asyncio.sleep(0.05)


def worker_of(workbench: Workbench, model: str) -> Any:
    return next(worker for worker in workbench.pool().workers if worker.model == model)


def prepared(workbench: Workbench) -> int:
    """How many models' weights are prepared for fast loads."""
    return len(list(workbench.settings.prepared_dir.glob("*.json")))
