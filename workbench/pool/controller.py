"""The controller: one task that owns the pool's state and carries out what the policy decides.

Everybody else sends it events: requests ask and leave, workers report and die, loads end. After each
event `policy.decide` makes a plan, and the plan is carried out. What takes time (starting a process,
bringing a model up) runs in tasks of its own that send an event when they end.
"""

import asyncio
import contextlib
import itertools
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from typing import TYPE_CHECKING

import structlog

from workbench.engine.spec import ModelSpec
from workbench.errors import (
    InsufficientMemoryError,
    ShuttingDownError,
    UnavailableError,
    WorkbenchError,
)
from workbench.pool import pictures, policy
from workbench.pool.devices import Device
from workbench.pool.events import (
    Asked,
    Died,
    DrainAsked,
    Event,
    Left,
    LoadEnded,
    Pinned,
    Reported,
    RestartAsked,
    SleepAsked,
    Slept,
    Started,
    Tick,
    UnloadAsked,
    Woken,
)
from workbench.pool.giving_way import GivingWay, giving_way
from workbench.pool.health import Limits
from workbench.pool.history import Departure, History, TimelineRow
from workbench.pool.lease import Lease, Ticket
from workbench.pool.messages import Cleaned, Crashed, Warmed
from workbench.pool.orders import Orders
from workbench.pool.queue import Queue, full
from workbench.pool.runner_set import BringUpModel, RunnerSet
from workbench.pool.scheduling import NO_CLAIM, Claim, Scheduler
from workbench.pool.snapshot import PoolSnapshot, QueuedRequest, SwapRecord
from workbench.pool.worker import Worker
from workbench.pool.worker_set import Launch, WorkerSet

if TYPE_CHECKING:
    from workbench.engine.client import EngineClient

log = structlog.get_logger("workbench.pool")

TICK_S = 1.0
STOP_GRACE_S = 1.0


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
        decide: Callable[[policy.PoolView], policy.Plan] = policy.decide,
        pinned: Callable[[str], bool] = lambda model: False,
    ) -> None:
        self._devices = {device.id: device for device in devices}
        self._limits = limits
        self._on_change = on_change
        self._decide = decide
        self._pinned = pinned
        self._events: asyncio.Queue[Event] = asyncio.Queue()
        self._numbers = itertools.count(1)
        self._queue = Queue(Scheduler(limits.scheduling, limits.starvation_wait))
        self._workers = WorkerSet(limits, launch, self._events.put_nowait, self._spawn)
        self._runners = RunnerSet(
            self._devices, bring_up, self._events.put_nowait, self._spawn, on_swap, self._refuse_for
        )
        self._orders = Orders(self._workers, self._runners, lambda model: len(self._queue.of(model)), pinned)
        self._history = History()
        self._evicted_for: dict[str, list[str]] = {}
        self._tasks: set[asyncio.Task[None]] = set()
        self._closing = False

    # For requests and administrators, from any task of the loop.

    @contextlib.asynccontextmanager
    async def ask(self, spec: ModelSpec, claim: Claim = NO_CLAIM) -> AsyncIterator[Ticket]:
        """Ask for a model. The ticket leads to a lease; leaving the context gives either back.

        Args:
            spec: the model.
            claim: what the request says for itself, where others wait too.

        Raises:
            ShuttingDownError: Workbench is closing. What else goes wrong, the ticket tells.
        """
        if self._closing:
            raise _shutting_down()
        ticket = Ticket(next(self._numbers), spec, claim)
        self._events.put_nowait(Asked(ticket))
        try:
            yield ticket
        finally:
            self._events.put_nowait(Left(ticket))

    async def unload(self, model: str, force: bool = False) -> None:
        """Take a model off its device.

        Raises:
            NotFoundError: it is not on a device.
            ConflictError: requests are in flight, or it is pinned, and `force` is False.
        """
        await self._order(lambda done: UnloadAsked(model, force, done))

    async def sleep(self, model: str) -> None:
        """Have an idle model give its memory up and keep its worker; the next request wakes it.

        Raises:
            NotFoundError: it is not on a device.
            ConflictError: it can't sleep, or is in use; the message says which.
        """
        await self._order(lambda done: SleepAsked(model, done))

    async def drain(self, worker_id: str, force: bool = False) -> None:
        """Have a worker end once what is in flight on it is over; until then it takes nothing new.

        Raises:
            NotFoundError: there is no such worker.
            ConflictError: it holds a model and `force` is False; the message says what will happen.
        """
        await self._order(lambda done: DrainAsked(worker_id, force, done))

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
            self._devices.values(), self._workers, self._runners, self._queue, self._pinned
        )

    def queue(self) -> list[QueuedRequest]:
        """The requests that wait, in the order in which they are to go ahead."""
        return pictures.queued(self._queue)

    def giving_way(self) -> dict[str, GivingWay]:
        """By device, which models would give way next."""
        return giving_way(self._view())

    def timeline(self) -> list[TimelineRow]:
        """Which worker held which model in the last ten minutes."""
        return self._history.rows()

    def departures(self) -> list[Departure]:
        """Workers that are gone, the latest first."""
        return self._history.departures()

    def reconsider(self) -> None:
        """Decide anew: what is pinned has changed."""
        self._events.put_nowait(Tick())

    def serving_clients(self) -> "dict[str, EngineClient]":
        """The clients of models that serve at this moment.

        Whoever uses one without a lease must expect that its engine falls asleep or ends meanwhile.
        """
        return {
            runner.spec.name: runner.client
            for runner in self._runners
            if runner.state == "serving" and runner.client is not None
        }

    # The task that owns the state.

    async def run(self) -> None:
        """Handle events until cancelled; then end all workers and fail whatever waits."""
        ticker = self._spawn(self._tick())
        try:
            while True:
                events = [await self._events.get()]
                while not self._events.empty():
                    events.append(self._events.get_nowait())
                for event in events:
                    with _outlived(event):
                        self._handle(event)
                plan = policy.Plan()
                with _outlived("plan"):
                    self._unload_outdated()
                    plan = self._decide(self._view())
                    self._carry_out(plan)
                    self._history.note(self._workers, self._runners)
                if plan != policy.Plan() or any(not isinstance(event, Tick) for event in events):
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
                self._history.on_died(event.worker, event.how, self._runners.on(event.worker))
                self._on_start_failed(self._workers.on_died(event))
                self._runners.on_died(event)
            case LoadEnded() | Slept() | Woken() | Pinned():
                self._runners.on_event(event)
            case UnloadAsked() | SleepAsked() | DrainAsked() | RestartAsked():
                self._orders.carry_out(event)
            case Tick():
                self._workers.check_health(TICK_S)

    def _on_asked(self, ticket: Ticket) -> None:
        runner = self._runners.get(ticket.spec.name)
        serving = runner is not None and runner.state == "serving"
        if not serving and len(self._queue) >= self._limits.max_queued:
            ticket.refuse(full(len(self._queue)))
        else:
            self._queue.join(ticket)

    def _on_left(self, ticket: Ticket) -> None:
        self._queue.leave(ticket)
        if not self._queue.of(ticket.spec.name):
            self._evicted_for.pop(ticket.spec.name, None)  # not the next load's doing
        runner = self._runners.get(ticket.spec.name)
        if runner is not None and ticket.number in runner.holders:
            runner.holders.discard(ticket.number)
            runner.last_used = time.monotonic()

    def _unload_outdated(self) -> None:
        """Have idle models loaded anew whose files or parameters have changed since; loads begin again."""
        for runner in list(self._runners):
            tickets = self._queue.of(runner.spec.name)
            idle = not runner.holders and runner.state in ("loading", "serving", "sleeping", "asleep")
            if tickets and idle and runner.spec != tickets[-1].spec:
                self._runners.unload(runner)

    # Plans.

    def _view(self) -> policy.PoolView:
        return pictures.view(
            self._limits,
            self._devices.values(),
            self._workers,
            self._runners,
            self._queue,
            self._evicted_for,
            self._pinned,
        )

    def _carry_out(self, plan: policy.Plan) -> None:
        for number in plan.grants:
            self._grant(self._queue.take(number))
        for number, reason in plan.refusals.items():
            self._queue.take(number).refuse(InsufficientMemoryError(reason))
        for model, for_model in plan.evictions.items():
            self._note_eviction(model, for_model)
            self._runners.unload(self._runners[model])
        for sleep in plan.sleeps:
            self._note_eviction(sleep.model, sleep.for_model)
            self._runners.put_to_sleep(self._runners[sleep.model], sleep.level)
        for model in plan.wakes:
            first = self._queue.of(model)[0]
            self._runners.wake(self._runners[model], first.since, self._evicted_for.pop(model, ()))
        for load in plan.loads:
            tickets = self._queue.of(load.model)
            first, newest = tickets[0], tickets[-1]
            workers = tuple(self._workers[worker_id] for worker_id in load.worker_ids)
            evicted = self._evicted_for.pop(load.model, ())
            self._runners.load(newest.spec, load.device, workers, first.since, evicted)
        for model in plan.pins:
            self._runners.pin(self._runners[model])
        for device in plan.starts:
            self._workers.start(device)
        for worker_id in plan.stops:
            self._workers.retire(worker_id)
        for number, progress in plan.progress.items():
            self._queue[number].show(progress)

    def _note_eviction(self, model: str, for_model: str) -> None:
        if for_model:
            self._evicted_for.setdefault(for_model, []).append(model)

    def _grant(self, ticket: Ticket) -> None:
        runner = self._runners[ticket.spec.name]
        assert runner.client is not None
        runner.holders.add(ticket.number)
        runner.last_used = time.monotonic()
        waited_for_it = ticket.since < runner.ended_at
        ticket.grant(
            Lease(
                runner.client,
                time.monotonic() - ticket.since,
                runner.swap if waited_for_it else None,
                ticket.place.priority,
            )
        )

    def _refuse_for(self, model: str, error: WorkbenchError) -> None:
        self._queue.refuse_all(error, model)

    # Reports.

    def _on_report(self, event: Reported) -> None:
        match event.report:
            case Warmed():
                self._workers.on_warmed(event.worker)
            case Cleaned(growth_bytes):
                self._workers.on_cleaned(event.worker, growth_bytes)
            case Crashed(reason):
                event.worker.crash_reason = f"failed ({reason})"
            case report:
                self._runners.on_report(event.worker, report)

    def _on_start_failed(self, reason: str) -> None:
        """Tell those who wait, if no worker can be started and none is there."""
        if reason and not list(self._workers):
            self._queue.refuse_all(UnavailableError(reason))

    # The end.

    def _spawn(self, work: "Awaitable[None]") -> "asyncio.Task[None]":
        task = asyncio.ensure_future(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task

    async def _shut_down(self) -> None:
        self._closing = True
        self._queue.refuse_all(_shutting_down())
        self._runners.fail_all(_shutting_down())
        self._workers.stop()
        self._runners.forget_all()
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
                case UnloadAsked() | SleepAsked() | DrainAsked() | RestartAsked() as order:
                    if not order.done.done():
                        order.done.set_exception(_shutting_down())
                case Started(_, Worker() as worker):
                    worker.kill()
                case LoadEnded(runner, (client, _)):
                    self._runners.close_client(client, runner)
                case _:
                    pass


@contextlib.contextmanager
def _outlived(what: object) -> Iterator[None]:
    """Log a defect; the pool must outlive it, and so must the events beside it."""
    try:
        yield
    except Exception:
        log.exception("the controller failed", on=repr(what))


def _shutting_down() -> ShuttingDownError:
    return ShuttingDownError("Workbench is shutting down. Start it again and repeat the request.")
