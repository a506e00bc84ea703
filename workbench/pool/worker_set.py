"""The worker processes of the pool: starting them, hearing them, and replacing the ones that are unwell."""

import itertools
import time
from collections.abc import Awaitable, Callable, Iterator
from typing import Literal, Protocol

import structlog

from workbench.errors import NotFoundError
from workbench.pool import policy
from workbench.pool.events import Died, Event, Reported, Started
from workbench.pool.health import Limits, sickness
from workbench.pool.states import WorkerState
from workbench.pool.worker import Worker

log = structlog.get_logger("workbench.pool")

MAX_START_FAILURES = 3
RETRY_START_S = 30.0

_VIEW_STATES: dict[WorkerState, Literal["starting", "coming", "warm"]] = {
    WorkerState.STARTING: "starting",
    WorkerState.CLEANING: "coming",
    WorkerState.WARM: "warm",
}


class Launch(Protocol):
    """Starts a worker process."""

    def __call__(self, worker_id: str, device: str) -> Awaitable[Worker]:
        """Start one; an exception says why it can't be."""


class WorkerSet:
    """All workers. Owned by the controller's task; what takes time ends in an event sent to it."""

    def __init__(
        self,
        limits: Limits,
        launch: Launch,
        send: Callable[[Event], None],
        spawn: Callable[[Awaitable[None]], object],
    ) -> None:
        self._limits = limits
        self._launch = launch
        self._send = send
        self._spawn = spawn
        self._workers: dict[str, Worker] = {}
        self._starting: list[str] = []
        """Devices of processes that are being created."""
        self._numbers = itertools.count(1)
        self._failures = 0
        self._retry_at = 0.0
        self._checked_at = time.monotonic()

    def __iter__(self) -> Iterator[Worker]:
        return iter(self._workers.values())

    def __getitem__(self, worker_id: str) -> Worker:
        try:
            return self._workers[worker_id]
        except KeyError:
            raise NotFoundError(
                f"There is no worker {worker_id}; it may have been replaced already."
            ) from None

    def views(self, taken: set[str]) -> Iterator[policy.WorkerView]:
        """What the policy sees; `taken` are the ids of workers that hold, or will hold, a model."""
        for worker in self:
            state = "taken" if worker.id in taken else _VIEW_STATES.get(worker.state, "leaving")
            yield policy.WorkerView(
                worker.id,
                worker.device,
                state,  # type: ignore[arg-type]
                worker.last_held,
                worker.draining,
            )
        for device in self._starting:
            yield policy.WorkerView("", device, "starting")

    @property
    def may_start(self) -> bool:
        """Whether to start workers; not for a while after too many have failed to."""
        return time.monotonic() >= self._retry_at

    def start(self, device: str) -> None:
        """Start a worker."""
        self._starting.append(device)
        self._spawn(self._start(f"w{next(self._numbers)}", device))

    async def _start(self, worker_id: str, device: str) -> None:
        try:
            self._send(Started(device, await self._launch(worker_id, device)))
        except Exception as error:
            self._send(Started(device, error))

    def on_started(self, event: Started) -> str:
        """Take the new worker in; returns why no worker can be started now, or ""."""
        self._starting.remove(event.device)
        if isinstance(event.outcome, Exception):
            return self._on_failure(str(event.outcome))
        self._workers[event.outcome.id] = event.outcome
        self._spawn(self._listen(event.outcome))
        return ""

    async def _listen(self, worker: Worker) -> None:
        try:
            how = await worker.listen(lambda worker, report: self._send(Reported(worker, report)))
        except Exception:  # a report that can't be: the process can't be trusted any more
            log.exception("worker is killed for what it reported", worker=worker.id)
            how = await worker.end()
        self._send(Died(worker, how))

    def on_died(self, event: Died) -> str:
        """Let a dead worker go; returns why no worker can be started now, or ""."""
        del self._workers[event.worker.id]
        if event.worker.was_warm or event.worker.dismissed:
            return ""
        return self._on_failure(f"the process {event.worker.crash_reason or event.how}")

    def _on_failure(self, reason: str) -> str:
        self._failures += 1
        log.error("worker did not start", reason=reason, failures=self._failures)
        if self._failures < MAX_START_FAILURES:
            return ""
        self._retry_at = time.monotonic() + RETRY_START_S
        return (
            f"Workers can't start: {reason}. The last worker's log, in the data folder, says more; "
            f"Workbench tries again in {RETRY_START_S:.0f} s."
        )

    def on_warmed(self, worker: Worker) -> None:
        """A worker came up, so starting works."""
        self._failures = 0
        log.info("worker is warm", worker=worker.id, seconds=round(time.monotonic() - worker.started_at, 1))

    def on_cleaned(self, worker: Worker, growth_bytes: int) -> None:
        """Replace a worker that did not give its memory back, or is of age."""
        if growth_bytes > self._limits.leak_tolerance:
            log.warning("worker kept memory and is replaced", worker=worker.id, growth_bytes=growth_bytes)
            worker.crash_reason = f"had kept {growth_bytes / 1e6:,.0f} MB of its last model, and was replaced"
            worker.stop()
        elif worker.swaps >= self._limits.worker_max_swaps:
            log.info("worker is replaced for its age", worker=worker.id, swaps=worker.swaps)
            worker.crash_reason = f"was replaced after {worker.swaps:,} loads"
            worker.stop()

    def retire(self, worker_id: str) -> None:
        """End a worker that drains and has nothing left to do."""
        worker = self[worker_id]
        worker.crash_reason = "was drained by an administrator"
        worker.stop()
        log.info("worker is drained", worker=worker_id)

    def check_health(self, every_s: float) -> None:
        """Ask for signs of life, and kill workers that are hung.

        Args:
            every_s: how often this is meant to be called. Much later, the app has stood still, and perhaps
                all of the machine, which is held against no worker.
        """
        now = time.monotonic()
        late_s, self._checked_at = now - self._checked_at - every_s, now
        for worker in self:
            if late_s > every_s:
                worker.excuse(late_s)
            if reason := sickness(worker, self._limits):
                log.warning("worker is killed", worker=worker.id, reason=reason)
                worker.crash_reason = reason
                worker.kill()
            elif time.monotonic() - worker.pinged_at >= self._limits.ping_interval:
                worker.ping()

    def stop(self) -> None:
        """Tell all to end."""
        for worker in self:
            worker.stop()

    def kill(self) -> None:
        """End all that are still there."""
        for worker in self:
            worker.kill()
