"""The model runners of the pool: loading, putting to sleep, waking and unloading them."""

import asyncio
import time
from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Protocol

import structlog

from workbench.engine.host import LoadTimes
from workbench.engine.spec import ModelSpec
from workbench.errors import ModelLoadError, WorkbenchError, WorkerDiedError
from workbench.pool.bring_up import BringUpTimes
from workbench.pool.devices import Device
from workbench.pool.events import Died, Event, LoadEnded, Pinned, RunnerEvent, Slept, Woken
from workbench.pool.messages import Loaded, LoadFailed, LoadProgress, Released, Report
from workbench.pool.runner import Runner
from workbench.pool.sleeper import Sleeper
from workbench.pool.snapshot import SwapRecord
from workbench.pool.states import WorkerState
from workbench.pool.view import SleepLevel
from workbench.pool.worker import Worker

if TYPE_CHECKING:
    from workbench.engine.client import EngineClient

log = structlog.get_logger("workbench.pool")

HOLDING = frozenset(
    {
        WorkerState.LOADING,
        WorkerState.SERVING,
        WorkerState.SLEEPING,
        WorkerState.ASLEEP,
        WorkerState.WAKING,
    }
)
"""States in which a worker can be told to give its model back."""


class BringUpModel(Protocol):
    """Loads a model in a worker and attaches a client to it; `BringUp.bring_up` is the real one."""

    def __call__(
        self,
        spec: ModelSpec,
        worker: Worker,
        device_memory_bytes: int,
        loaded: asyncio.Future[LoadTimes],
    ) -> Awaitable[tuple["EngineClient", BringUpTimes]]:
        """See `BringUp.bring_up`."""


class RunnerSet:
    """All runners, by model. Owned by the controller's task; what takes time ends in an event sent to it.

    Args:
        devices: those that runners are on, by id.
        bring_up: carries out loads.
        send: takes events for the controller.
        spawn: runs a task.
        on_swap: told of each load and wake, however it ended.
        refuse: fails the requests that wait for a model.
    """

    def __init__(
        self,
        devices: Mapping[str, Device],
        bring_up: BringUpModel,
        send: Callable[[Event], None],
        spawn: "Callable[[Awaitable[None]], asyncio.Task[None]]",
        on_swap: Callable[[SwapRecord], None],
        refuse: Callable[[str, WorkbenchError], None],
    ) -> None:
        self._devices = devices
        self._bring_up = bring_up
        self._send = send
        self._spawn = spawn
        self._on_swap = on_swap
        self._refuse = refuse
        self._sleeper = Sleeper(send, spawn)
        self._runners: dict[str, Runner] = {}

    def __iter__(self) -> Iterator[Runner]:
        return iter(self._runners.values())

    def __len__(self) -> int:
        return len(self._runners)

    def __getitem__(self, model: str) -> Runner:
        return self._runners[model]

    def get(self, model: str) -> Runner | None:
        """The model's runner, if a worker holds it."""
        return self._runners.get(model)

    def on(self, worker: Worker) -> Runner | None:
        """The runner that a worker holds."""
        return next((runner for runner in self if worker in runner.workers), None)

    def on_event(self, event: RunnerEvent) -> None:
        """What one of the tasks below has come to."""
        match event:
            case LoadEnded(runner, outcome):
                self._on_load_ended(runner, outcome)
            case _ if not self._is_here(event.runner):
                pass  # its worker has died
            case Slept(runner, error):
                self._sleeper.on_slept(runner, error)
            case Woken(runner, error):
                if times := self._sleeper.on_woken(runner, error):
                    self._begin_to_serve(runner, times)
            case Pinned(runner, left):
                self._sleeper.on_pinned(runner, left)

    # Loads.

    def load(
        self,
        spec: ModelSpec,
        device: str,
        workers: tuple[Worker, ...],
        wanted_at: float,
        evicted: Sequence[str],
    ) -> None:
        """Begin to load a model.

        Args:
            spec: the model.
            device: where it goes.
            workers: warm ones on that device.
            wanted_at: monotonic time when the first request asked for it.
            evicted: models that had to give way.
        """
        runner = Runner(spec, device, workers, wanted_at, "disk", tuple(evicted))
        runner.swaps_before = runner.worker.swaps
        self._runners[spec.name] = runner
        for worker in workers:
            worker.last_held[spec.name] = time.monotonic()
        runner.task = self._spawn(self._load(runner))
        log.info("loading", model=spec.name, worker=runner.worker.id, evicted=runner.evicted)

    async def _load(self, runner: Runner) -> None:
        memory = self._devices[runner.device].memory_bytes
        outcome: tuple[EngineClient, BringUpTimes] | BaseException
        try:
            outcome = await self._bring_up(runner.spec, runner.worker, memory, runner.loaded)
        except BaseException as error:
            outcome = error
        self._send(LoadEnded(runner, outcome))

    def _on_load_ended(
        self, runner: Runner, outcome: "tuple[EngineClient, BringUpTimes] | BaseException"
    ) -> None:
        if not isinstance(outcome, BaseException):
            client, times = outcome
            if runner.state == "unloading" or not self._is_here(runner):
                self.close_client(client, runner)
                return
            runner.client, runner.load_s = client, times.load.total_s
            self._begin_to_serve(runner, times)
            return
        if runner.state == "unloading":  # the load was cancelled; its worker's reports end it
            if runner.worker.state is WorkerState.WARM:
                self.forget(runner)
            return
        if not self._is_here(runner):
            return
        error = _as_load_error(runner.spec.name, outcome)
        log.warning("load failed", model=runner.spec.name, error=str(error))
        self._on_swap(runner.record("failed", error=str(error)))
        self._refuse(runner.spec.name, error)
        if runner.worker.state in (WorkerState.LOADING, WorkerState.SERVING):
            self.unload(runner)  # the client failed, the worker did not
        else:
            self.forget(runner)

    def _begin_to_serve(self, runner: Runner, times: BringUpTimes) -> None:
        runner.state = "serving"
        runner.ended_at = runner.last_used = time.monotonic()
        runner.swap = runner.record("ok", times)
        self._on_swap(runner.swap)
        log.info(
            "serving",
            model=runner.spec.name,
            worker=runner.worker.id,
            source=runner.from_residency,
            seconds=round(runner.swap.total_s, 3),
            phases={name: round(seconds, 3) for name, seconds in runner.swap.phases.items()},
        )

    def _is_here(self, runner: Runner) -> bool:
        return self._runners.get(runner.spec.name) is runner

    # Sleep.

    def put_to_sleep(self, runner: Runner, level: SleepLevel) -> None:
        """See `Sleeper`."""
        self._sleeper.put_to_sleep(runner, level)

    def why_awake(self, runner: Runner) -> str:
        """Why a model can't be put to sleep, as a sentence; "" if it can."""
        if not self._devices[runner.device].can_sleep:
            return "models don't sleep on this device, or are set not to (WORKBENCH_SLEEP)."
        if not runner.can_sleep:
            return "its weights are its worker's own until they are prepared, which takes a first load."
        return ""

    def sleep_level(self, runner: Runner) -> SleepLevel:
        """1 if the model has host memory for its weights, or there is enough left, else 2."""
        claimed = sum(other.host_bytes for other in self if other.device == runner.device)
        left = self._devices[runner.device].host_budget_bytes - claimed
        return 1 if runner.host_bytes or runner.sleep_bytes <= left else 2

    def wake(self, runner: Runner, wanted_at: float, evicted: Sequence[str]) -> None:
        """See `Sleeper`."""
        self._sleeper.wake(runner, wanted_at, evicted)

    def pin(self, runner: Runner) -> None:
        """See `Sleeper`."""
        self._sleeper.pin(runner)

    # Unloads.

    def unload(self, runner: Runner) -> None:
        """Begin to take a model away; the worker's reports end it."""
        if runner.state == "loading":
            self._on_swap(runner.record("cancelled"))
            if runner.worker.state is WorkerState.WARM and runner.task is not None:
                runner.task.cancel()  # still being configured: the worker knows nothing of it
        self._sleeper.cancel(runner)
        runner.state = "unloading"
        runner.fail_load(ModelLoadError(f"Loading {runner.spec.name} was cancelled."))
        if runner.client is not None:
            runner.client.stop_listening()
        if runner.worker.state in HOLDING:
            runner.worker.unload()
        log.info("unloading", model=runner.spec.name, worker=runner.worker.id)

    def cut_off(self, runner: Runner, error: WorkbenchError) -> None:
        """Fail what is in flight on a runner, and the requests that wait for its load or wake."""
        if runner.state in ("loading", "waking"):
            self._refuse(runner.spec.name, error)
        if runner.client is not None and runner.holders:
            runner.client.fail(error)

    def close_to_newcomers(self, runner: Runner) -> None:
        """Its worker is about to end, which ends it too."""
        self._sleeper.cancel(runner)
        runner.state = "unloading"
        runner.fail_load(ModelLoadError(f"Loading {runner.spec.name} was cancelled."))

    def on_report(self, worker: Worker, report: Report) -> None:
        """What a worker says about its model."""
        runner = self.on(worker)
        match report:
            case Loaded(times, can_sleep) if runner is not None and not runner.loaded.done():
                runner.can_sleep = can_sleep
                runner.loaded.set_result(times)
            case LoadProgress(done_bytes) if runner is not None:
                runner.done_bytes = done_bytes
            case LoadFailed(reason) if runner is not None:
                runner.fail_load(ModelLoadError(f"{runner.spec.name} can't be loaded: {reason}"))
                if runner.state == "unloading":
                    self.forget(runner)
            case Released() if runner is not None:
                self.forget(runner)

    def on_died(self, event: Died) -> None:
        """A worker's process is gone, and its model with it."""
        worker, runner = event.worker, self.on(event.worker)
        how = worker.crash_reason or event.how
        level = log.info if worker.dismissed else log.warning
        level("worker is gone", worker=worker.id, how=how, model=runner.spec.name if runner else None)
        if runner is None:
            return
        error = WorkerDiedError(
            f"The worker that ran {runner.spec.name} {how}. Another takes its place; send the message again."
        )
        if runner.configuring and runner.task is not None:  # nothing is lost: another worker takes it
            runner.task.cancel()
            self.forget(runner)
            return
        if runner.client is not None:
            runner.client.fail(error)
        runner.fail_load(error)
        if runner.state == "loading":
            self._refuse(runner.spec.name, error)
        if runner.state in ("loading", "waking"):  # who waits for a wake gets a load instead
            self._on_swap(runner.record("failed", error=str(error)))
        self.forget(runner)

    def forget(self, runner: Runner) -> None:
        """No worker holds the model any more."""
        self._sleeper.cancel(runner)
        if self._is_here(runner):
            del self._runners[runner.spec.name]
        if runner.client is not None:
            self.close_client(runner.client, runner)
            runner.client = None

    def close_client(self, client: "EngineClient", runner: Runner) -> None:
        """Close a client whose core has stopped, in a task of its own."""
        self._spawn(self._close_client(client, runner))

    async def _close_client(self, client: "EngineClient", runner: Runner) -> None:
        try:
            await client.close()
        except Exception:
            log.exception("closing a client failed", model=runner.spec.name)

    def fail_all(self, error: WorkbenchError) -> None:
        """Fail what is in flight, and every load."""
        for runner in self:
            if runner.client is not None:
                runner.client.fail(error)
            runner.fail_load(error)

    def forget_all(self) -> None:
        """All workers are told to end."""
        for runner in list(self):
            self.forget(runner)


def _as_load_error(model: str, error: BaseException) -> WorkbenchError:
    if isinstance(error, WorkbenchError):
        return error
    if isinstance(error, asyncio.CancelledError):
        return ModelLoadError(f"Loading {model} was cancelled.")
    return ModelLoadError(f"{model} can't be loaded: {error or type(error).__name__}.")
