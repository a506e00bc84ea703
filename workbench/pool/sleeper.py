"""Putting model runners to sleep and waking them, and pinning host memory for that beforehand."""

import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import TYPE_CHECKING

import structlog

from workbench.engine.host import LoadTimes
from workbench.pool.bring_up import BringUpTimes
from workbench.pool.events import Event, Pinned, Slept, Woken
from workbench.pool.runner import Runner
from workbench.pool.states import WorkerEvent, WorkerState
from workbench.pool.view import SleepLevel

if TYPE_CHECKING:
    import asyncio

log = structlog.get_logger("workbench.pool")

RESIDENCY_OF_LEVEL: Mapping[SleepLevel, str] = {1: "host", 2: "disk"}
"""Where a wake takes the weights from."""


class Sleeper:
    """Owned by the controller's task, as the runners are; what takes time ends in an event sent to it.

    A worker that was unloaded, was stopped or died in the meantime has left the state that an event belongs
    to; such an event is passed over.
    """

    def __init__(
        self, send: Callable[[Event], None], spawn: "Callable[[Awaitable[None]], asyncio.Task[None]]"
    ) -> None:
        self._send = send
        self._spawn = spawn

    def put_to_sleep(self, runner: Runner, level: SleepLevel) -> None:
        """Begin to take an idle model off its device while it keeps its worker."""
        assert not runner.holders
        runner.worker.apply(WorkerEvent.SLEEP)
        runner.state, runner.level = "sleeping", level
        runner.host_bytes = runner.sleep_bytes if level == 1 else 0
        runner.task = self._spawn(self._put_to_sleep(runner))
        log.info("putting to sleep", model=runner.spec.name, worker=runner.worker.id, sleep_level=level)

    async def _put_to_sleep(self, runner: Runner) -> None:
        assert runner.client is not None
        error: BaseException | None = None
        try:
            await runner.client.sleep(runner.level)
        except BaseException as caught:
            error = caught
        self._send(Slept(runner, error))

    def on_slept(self, runner: Runner, error: BaseException | None) -> None:
        """A model has fallen asleep, or could not."""
        if runner.worker.state is not WorkerState.SLEEPING:
            return
        if error is not None:
            _give_up_worker(runner, f"could not put {runner.spec.name} to sleep", error)
            return
        runner.worker.apply(WorkerEvent.SLEPT)
        runner.state, runner.off_device = "asleep", True
        runner.slept_at = time.monotonic()

    def wake(self, runner: Runner, wanted_at: float, evicted: Sequence[str]) -> None:
        """Begin to bring a model that sleeps back onto its device.

        Args:
            runner: asleep.
            wanted_at: monotonic time when the first request asked for it.
            evicted: models that had to give way.
        """
        runner.worker.apply(WorkerEvent.WAKE)
        runner.state, runner.off_device, runner.woken = "waking", False, True
        runner.wanted_at, runner.began_at = wanted_at, time.monotonic()
        runner.from_residency, runner.evicted = RESIDENCY_OF_LEVEL[runner.level], tuple(evicted)
        runner.task = self._spawn(self._wake(runner))
        log.info("waking", model=runner.spec.name, worker=runner.worker.id, evicted=runner.evicted)

    async def _wake(self, runner: Runner) -> None:
        assert runner.client is not None
        error: BaseException | None = None
        try:
            await runner.client.wake()
        except BaseException as caught:
            error = caught
        self._send(Woken(runner, error))

    def on_woken(self, runner: Runner, error: BaseException | None) -> BringUpTimes | None:
        """A model is awake again, or could not be woken; returns what the wake took if it can serve."""
        if runner.worker.state is not WorkerState.WAKING:
            return None
        if error is not None:
            _give_up_worker(runner, f"could not wake {runner.spec.name}", error)
            return None
        runner.worker.apply(WorkerEvent.WOKEN)
        times = LoadTimes(0.0, time.monotonic() - runner.began_at, 0.0)
        return BringUpTimes(0.0, times, 0.0)

    def pin(self, runner: Runner) -> None:
        """Claim host memory for a model's weights, and begin to pin a further piece of it."""
        runner.host_bytes = runner.spec.weight_bytes
        runner.pinning = self._spawn(self._pin(runner))

    async def _pin(self, runner: Runner) -> None:
        assert runner.client is not None
        outcome: int | BaseException
        try:
            outcome = await runner.client.pin_host_memory()
        except BaseException as error:
            outcome = error
        self._send(Pinned(runner, outcome))

    def on_pinned(self, runner: Runner, outcome: int | BaseException) -> None:
        """A piece is pinned, or could not be: then the rest is left as it is, and sleeps take longer."""
        runner.pinning = None
        runner.pinned = outcome == 0 or isinstance(outcome, BaseException)
        if isinstance(outcome, Exception):
            log.warning("host memory is not pinned", model=runner.spec.name, error=str(outcome))

    def cancel(self, runner: Runner) -> None:
        """End waits for answers of an engine that will give none."""
        if runner.task is not None and runner.state in ("sleeping", "waking"):
            runner.task.cancel()
        if runner.pinning is not None:
            runner.pinning.cancel()


def _give_up_worker(runner: Runner, what: str, error: BaseException) -> None:
    """Kill a worker whose model is neither asleep nor awake; its death ends the runner."""
    runner.worker.crash_reason = f"{what} ({error or type(error).__name__})"
    log.warning("worker is killed", worker=runner.worker.id, reason=runner.worker.crash_reason)
    runner.worker.kill()
