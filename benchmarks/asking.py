"""Asking a running Workbench, and bringing its pool to rest."""

import asyncio
import contextlib
import time
from collections.abc import Callable
from dataclasses import dataclass

from workbench.errors import NotFoundError
from workbench.service import Workbench
from workbench.values import AnswerStats, Finished, SamplingOptions, Token

REST_TIMEOUT_S = 60.0
POLL_S = 0.05


@dataclass(frozen=True, slots=True)
class TimedAnswer:
    """An answer, with the moments it was seen at (`time.perf_counter`)."""

    text: str
    asked_at: float
    first_at: float
    """When the first text came."""
    last_at: float
    """When the last text came."""
    stats: AnswerStats


async def timed_answer(workbench: Workbench, model: str, text: str, options: SamplingOptions) -> TimedAnswer:
    """Ask in a new conversation.

    Raises:
        WorkbenchError: the request failed.
        RuntimeError: the answer is empty.
    """
    asked_at = time.perf_counter()
    times: list[float] = []
    async for event in workbench.chat(model, text, options=options):
        if isinstance(event, Token):
            times.append(time.perf_counter())
        elif isinstance(event, Finished):
            finished = event
    if not times:
        raise RuntimeError(f"{model} answered nothing to: {text}")
    return TimedAnswer(finished.text, asked_at, times[0], times[-1], finished.stats)


async def until(condition: Callable[[], bool]) -> None:
    """Wait until the pool has come to a state.

    Raises:
        TimeoutError: it has not within `REST_TIMEOUT_S`.
    """
    async with asyncio.timeout(REST_TIMEOUT_S):
        while not condition():  # noqa: ASYNC110
            await asyncio.sleep(POLL_S)


async def pool_at_rest(workbench: Workbench) -> None:
    """Unload every model, and wait until all workers are warm: each measurement begins and ends there."""
    for runner in workbench.pool().runners:
        with contextlib.suppress(NotFoundError):  # it is being unloaded already
            await workbench.unload(runner.model)
    await until(lambda: all(worker.state == "warm" for worker in workbench.pool().workers))
