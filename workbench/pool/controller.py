"""The controller: one task that owns the pool's state and carries out what the policy decides.

Everybody else sends it events: requests ask and leave, workers report and die, loads end. After each
event `policy.decide` makes a plan, and the plan is carried out. What takes time (starting a process,
bringing a model up) runs in tasks of its own that send an event when they end.
"""

import asyncio
import contextlib
import itertools
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import TYPE_CHECKING, Protocol

import structlog

from workbench.engine.host import LoadTimes
from workbench.engine.spec import ModelSpec
from workbench.errors import (
    ConflictError,
    InsufficientMemoryError,
    ModelLoadError,
    NotFoundError,
    ShuttingDownError,
    UnavailableError,
    WorkbenchError,
    WorkerDiedError,
)
from workbench.pool import pictures, policy
from workbench.pool.bring_up import BringUpTimes
from workbench.pool.devices import Device
from workbench.pool.events import (
    Asked,
    Died,
    Event,
    Left,
    LoadEnded,
    Reported,
    RestartAsked,
    Started,
    Tick,
    UnloadAsked,
)
from workbench.pool.health import Limits
from workbench.pool.lease import Lease, Ticket
from workbench.pool.messages import Cleaned, Crashed, Loaded, LoadFailed, LoadProgress, Released, Warmed
from workbench.pool.runner import Runner
from workbench.pool.snapshot import PoolSnapshot, SwapRecord
from workbench.pool.states import WorkerState
from workbench.pool.worker import Worker
from workbench.pool.worker_set import Launch, WorkerSet

if TYPE_CHECKING:
    from workbench.engine.client import EngineClient

log = structlog.get_logger("workbench.pool")

TICK_S = 1.0
STOP_GRACE_S = 1.0


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


class Controller:
    """Owns workers, runners and the queue of requests for models."""

    def __init__(
        self,
        devices: tuple[Device, ...],
        limits: Limits,
        launch: Launch,
        bring_up: BringUpModel,
        on_change: Callable[[], None] = lambda: None,
        on_swap: Callable[[SwapRecord], None] = lambda record: None,
    ) -> None:
        self._devices = {device.id: device for device in devices}
        self._limits = limits
        self._bring_up = bring_up
        self._on_change = on_change
        self._on_swap = on_swap
        self._events: asyncio.Queue[Event] = asyncio.Queue()
        self._numbers = itertools.count(1)
        self._workers = WorkerSet(limits, launch, self._events.put_nowait, self._spawn)
        self._runners: dict[str, Runner] = {}
        self._waiting: dict[int, Ticket] = {}
        self._evicted_for: dict[str, list[str]] = {}
        self._tasks: set[asyncio.Task[None]] = set()
        self._closing = False

    # For requests and administrators, from any task of the loop.

    @contextlib.asynccontextmanager
    async def ask(self, spec: ModelSpec) -> AsyncIterator[Ticket]:
        """Ask for a model. The ticket leads to a lease; leaving the context gives either back.

        Raises:
            ShuttingDownError: Workbench is closing. What else goes wrong, the ticket tells.
        """
        if self._closing:
            raise _shutting_down()
        ticket = Ticket(next(self._numbers), spec)
        self._events.put_nowait(Asked(ticket))
        try:
            yield ticket
        finally:
            self._events.put_nowait(Left(ticket))

    async def unload(self, model: str, force: bool = False) -> None:
        """Take a model off its device.

        Raises:
            NotFoundError: it is not on a device.
            ConflictError: requests are in flight and `force` is False.
        """
        await self._order(lambda done: UnloadAsked(model, force, done))

    async def restart(self, worker_id: str, force: bool = False) -> None:
        """Replace a worker process.

        Raises:
            NotFoundError: there is no such worker.
            ConflictError: requests are in flight on it and `force` is False.
        """
        await self._order(lambda done: RestartAsked(worker_id, force, done))

    async def _order(self, make: Callable[[asyncio.Future[None]], Event]) -> None:
        if self._closing:
            raise _shutting_down()
        done: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._events.put_nowait(make(done))
        await done

    def snapshot(self) -> PoolSnapshot:
        """The pool at this moment."""
        return pictures.snapshot(
            self._devices.values(), self._workers, self._runners.values(), self._waiting.values()
        )

    # The task that owns the state.

    async def run(self) -> None:
        """Handle events until cancelled; then end all workers and fail whatever waits."""
        ticker = self._spawn(self._tick())
        try:
            while True:
                events = [await self._events.get()]
                while not self._events.empty():
                    events.append(self._events.get_nowait())
                try:
                    for event in events:
                        self._handle(event)
                    self._carry_out(policy.decide(self._view()))
                except Exception:  # a defect; the pool must outlive it
                    log.exception("the controller failed on an event", events=repr(events))
                if any(not isinstance(event, Tick) for event in events):
                    self._on_change()
        finally:
            ticker.cancel()
            await self._shut_down()

    async def _tick(self) -> None:
        while True:
            self._events.put_nowait(Tick())
            await asyncio.sleep(TICK_S)

    def _handle(self, event: Event) -> None:
        match event:
            case Asked(ticket):
                self._on_asked(ticket)
            case Left(ticket):
                self._on_left(ticket)
            case Started():
                self._on_start_failed(self._workers.on_started(event))
            case Reported():
                self._on_report(event)
            case Died():
                self._on_died(event)
            case LoadEnded(runner, outcome):
                self._on_load_ended(runner, outcome)
            case UnloadAsked(model, force, done):
                self._answer(done, lambda: self._unload_on_demand(model, force))
            case RestartAsked(worker_id, force, done):
                self._answer(done, lambda: self._restart_on_demand(worker_id, force))
            case Tick():
                self._workers.check_health()

    def _answer(self, done: "asyncio.Future[None]", action: Callable[[], None]) -> None:
        if done.done():  # who asked has left
            return
        try:
            action()
        except WorkbenchError as error:
            done.set_exception(error)
        else:
            done.set_result(None)

    def _on_asked(self, ticket: Ticket) -> None:
        runner = self._runners.get(ticket.spec.name)
        serving = runner is not None and runner.state == "serving"
        if not serving and len(self._waiting) >= self._limits.max_queued:
            ticket.refuse(
                UnavailableError(
                    f"{len(self._waiting)} requests wait for a model already, as many as may. "
                    "Try again later."
                )
            )
            return
        self._waiting[ticket.number] = ticket
        if runner is not None and serving and runner.spec != ticket.spec and not runner.holders:
            self._unload(runner)  # its files or parameters have changed: loaded anew

    def _on_left(self, ticket: Ticket) -> None:
        self._waiting.pop(ticket.number, None)
        if not self._tickets_for(ticket.spec.name):
            self._evicted_for.pop(ticket.spec.name, None)  # not the next load's doing
        runner = self._runners.get(ticket.spec.name)
        if runner is not None and ticket.number in runner.holders:
            runner.holders.discard(ticket.number)
            runner.last_used = time.monotonic()

    # Plans.

    def _view(self) -> policy.PoolView:
        return pictures.view(
            self._limits,
            self._devices.values(),
            self._workers,
            self._runners.values(),
            self._waiting.values(),
        )

    def _carry_out(self, plan: policy.Plan) -> None:
        for number in plan.grants:
            self._grant(self._waiting.pop(number))
        for number, reason in plan.refusals.items():
            self._waiting.pop(number).refuse(InsufficientMemoryError(reason))
        for model, for_model in plan.evictions.items():
            if for_model:
                self._evicted_for.setdefault(for_model, []).append(model)
            self._unload(self._runners[model])
        for load in plan.loads:
            self._load(load)
        for device in plan.starts:
            self._workers.start(device)
        for number, progress in plan.progress.items():
            self._waiting[number].show(progress)

    def _grant(self, ticket: Ticket) -> None:
        runner = self._runners[ticket.spec.name]
        assert runner.client is not None
        runner.holders.add(ticket.number)
        runner.last_used = time.monotonic()
        waited_for_it = ticket.since < runner.ended_at
        ticket.grant(
            Lease(runner.client, time.monotonic() - ticket.since, runner.swap if waited_for_it else None)
        )

    # Models.

    def _load(self, load: policy.Load) -> None:
        first = self._tickets_for(load.model)[0]
        runner = Runner(
            spec=first.spec,
            device=load.device,
            workers=tuple(self._workers[worker_id] for worker_id in load.worker_ids),
            wanted_at=first.since,
            from_residency="disk",
            evicted=tuple(self._evicted_for.pop(load.model, ())),
        )
        runner.swaps_before = runner.worker.swaps
        self._runners[load.model] = runner
        runner.task = self._spawn(self._bring_up_runner(runner))
        log.info("loading", model=load.model, worker=runner.worker.id, evicted=runner.evicted)

    async def _bring_up_runner(self, runner: Runner) -> None:
        memory = self._devices[runner.device].memory_bytes
        outcome: tuple[EngineClient, BringUpTimes] | BaseException
        try:
            outcome = await self._bring_up(runner.spec, runner.worker, memory, runner.loaded)
        except BaseException as error:
            outcome = error
        self._events.put_nowait(LoadEnded(runner, outcome))

    def _on_load_ended(
        self, runner: Runner, outcome: "tuple[EngineClient, BringUpTimes] | BaseException"
    ) -> None:
        if not isinstance(outcome, BaseException):
            client, times = outcome
            if runner.state == "unloading" or self._runners.get(runner.spec.name) is not runner:
                self._spawn(self._close_client(client, runner))
                return
            runner.client, runner.state = client, "serving"
            runner.ended_at = runner.last_used = time.monotonic()
            runner.swap = runner.record("ok", times)
            self._on_swap(runner.swap)
            log.info(
                "serving",
                model=runner.spec.name,
                worker=runner.worker.id,
                seconds=round(runner.swap.total_s, 3),
            )
            return
        if runner.state == "unloading":  # the load was cancelled; its worker's reports end it
            if runner.worker.state is WorkerState.WARM:
                self._forget(runner)
            return
        if self._runners.get(runner.spec.name) is not runner:
            return
        error = _as_load_error(runner.spec.name, outcome)
        log.warning("load failed", model=runner.spec.name, error=str(error))
        self._on_swap(runner.record("failed", error=str(error)))
        self._refuse_all_for(runner, error)
        if runner.worker.state in (WorkerState.LOADING, WorkerState.SERVING):
            self._unload(runner)  # the client failed, the worker did not
        else:
            self._forget(runner)

    def _unload(self, runner: Runner) -> None:
        """Begin to take a model away; the worker's reports end it."""
        if runner.state == "loading":
            self._on_swap(runner.record("cancelled"))
            if runner.worker.state is WorkerState.WARM and runner.task is not None:
                runner.task.cancel()  # still being configured: the worker knows nothing of it
        runner.state = "unloading"
        runner.fail_load(ModelLoadError(f"Loading {runner.spec.name} was cancelled."))
        if runner.client is not None:
            runner.client.stop_listening()
        if runner.worker.state in (WorkerState.LOADING, WorkerState.SERVING):
            runner.worker.unload()
        log.info("unloading", model=runner.spec.name, worker=runner.worker.id)

    def _forget(self, runner: Runner) -> None:
        """The model is off its device."""
        if self._runners.get(runner.spec.name) is runner:
            del self._runners[runner.spec.name]
        if runner.client is not None:
            self._spawn(self._close_client(runner.client, runner))
            runner.client = None

    async def _close_client(self, client: "EngineClient", runner: Runner) -> None:
        try:
            await client.close()
        except Exception:
            log.exception("closing a client failed", model=runner.spec.name)

    def _tickets_for(self, model: str) -> list[Ticket]:
        return [ticket for ticket in self._waiting.values() if ticket.spec.name == model]

    def _refuse_all_for(self, runner: Runner, error: WorkbenchError) -> None:
        for ticket in self._tickets_for(runner.spec.name):
            self._waiting.pop(ticket.number).refuse(error)

    def _unload_on_demand(self, model: str, force: bool) -> None:
        runner = self._runners.get(model)
        if runner is None or runner.state == "unloading":
            raise NotFoundError(f"{model} is not on a device.")
        self._interrupt(runner, force, f"{model} was unloaded by an administrator.")
        self._unload(runner)

    def _interrupt(self, runner: Runner, force: bool, reason: str) -> None:
        """Fail what is in flight on a runner, if `force` allows it."""
        waiting = len(self._tickets_for(runner.spec.name)) if runner.state == "loading" else 0
        busy = len(runner.holders) + waiting
        if busy and not force:
            raise ConflictError(
                f"{runner.spec.name} has {busy} request{'s'[: busy != 1]} in flight. "
                "Wait for them to end, or confirm that they may be cut off."
            )
        error = ConflictError(f"{reason} Send the message again.")
        if waiting:
            self._refuse_all_for(runner, error)
        if runner.client is not None and runner.holders:
            runner.client.fail(error)

    # Workers.

    def _on_report(self, event: Reported) -> None:
        worker, runner = event.worker, self._runner_on(event.worker)
        match event.report:
            case Warmed():
                self._workers.on_warmed(worker)
            case Loaded(times) if runner is not None and not runner.loaded.done():
                runner.loaded.set_result(times)
            case LoadProgress(done_bytes) if runner is not None:
                runner.done_bytes = done_bytes
            case LoadFailed(reason) if runner is not None:
                runner.fail_load(ModelLoadError(f"{runner.spec.name} can't be loaded: {reason}"))
                if runner.state == "unloading":
                    self._forget(runner)
            case Released() if runner is not None:
                self._forget(runner)
            case Cleaned(growth_bytes):
                self._workers.on_cleaned(worker, growth_bytes)
            case Crashed(reason):
                worker.crash_reason = f"failed ({reason})"

    def _on_died(self, event: Died) -> None:
        worker, runner = event.worker, self._runner_on(event.worker)
        how = worker.crash_reason or event.how
        level = log.info if worker.dismissed else log.warning
        level("worker is gone", worker=worker.id, how=how, model=runner.spec.name if runner else None)
        self._on_start_failed(self._workers.on_died(event))
        if runner is None:
            return
        error = WorkerDiedError(
            f"The worker that ran {runner.spec.name} {how}. Another takes its place; send the message again."
        )
        if runner.configuring and runner.task is not None:  # nothing is lost: another worker takes it
            runner.task.cancel()
            self._forget(runner)
            return
        if runner.client is not None:
            runner.client.fail(error)
        runner.fail_load(error)
        if runner.state == "loading":
            self._refuse_all_for(runner, error)
            self._on_swap(runner.record("failed", error=str(error)))
        self._forget(runner)

    def _on_start_failed(self, reason: str) -> None:
        """Tell those who wait, if no worker can be started and none is there."""
        if reason and not list(self._workers):
            for ticket in self._waiting.values():
                ticket.refuse(UnavailableError(reason))
            self._waiting.clear()

    def _runner_on(self, worker: Worker) -> Runner | None:
        return next((r for r in self._runners.values() if worker in r.workers), None)

    def _restart_on_demand(self, worker_id: str, force: bool) -> None:
        worker = self._workers[worker_id]
        runner = self._runner_on(worker)
        if runner is not None:
            self._interrupt(runner, force, f"Worker {worker_id} was restarted by an administrator.")
            runner.state = "unloading"  # no newcomers; its worker's death ends it
            runner.fail_load(ModelLoadError(f"Loading {runner.spec.name} was cancelled."))
        worker.crash_reason = "was restarted by an administrator"
        worker.stop()

    # The end.

    def _spawn(self, work: "Awaitable[None]") -> "asyncio.Task[None]":
        task = asyncio.ensure_future(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task

    async def _shut_down(self) -> None:
        self._closing = True
        for ticket in self._waiting.values():
            ticket.refuse(_shutting_down())
        for runner in self._runners.values():
            if runner.client is not None:
                runner.client.fail(_shutting_down())
            runner.fail_load(_shutting_down())
        self._workers.stop()
        for runner in list(self._runners.values()):
            self._forget(runner)
        self._turn_away()
        if self._tasks:
            await asyncio.wait(self._tasks, timeout=STOP_GRACE_S)
        self._turn_away()
        self._workers.kill()
        for task in self._tasks:
            task.cancel()

    def _turn_away(self) -> None:
        """Answer the events that nobody will handle any more."""
        while not self._events.empty():
            match self._events.get_nowait():
                case Asked(ticket):
                    ticket.refuse(_shutting_down())
                case UnloadAsked(done=done) | RestartAsked(done=done) if not done.done():
                    done.set_exception(_shutting_down())
                case Started(_, Worker() as worker):
                    worker.kill()
                case LoadEnded(runner, (client, _)):
                    self._spawn(self._close_client(client, runner))
                case _:
                    pass


def _shutting_down() -> ShuttingDownError:
    return ShuttingDownError("Workbench is shutting down. Start it again and repeat the request.")


def _as_load_error(model: str, error: BaseException) -> WorkbenchError:
    if isinstance(error, WorkbenchError):
        return error
    if isinstance(error, asyncio.CancelledError):
        return ModelLoadError(f"Loading {model} was cancelled.")
    return ModelLoadError(f"{model} can't be loaded: {error or type(error).__name__}.")
