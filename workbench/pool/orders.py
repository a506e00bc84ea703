"""What administrators order by hand: unload a model or put it to sleep, drain a worker, restart one.

An order that would cut work off, or undo what somebody has decided, is refused with a sentence that says so;
the page shows it as a question, and sends the order again with `force`.
"""

from collections.abc import Callable

from workbench.errors import ConflictError, NotFoundError, WorkbenchError
from workbench.pool.events import DrainAsked, Order, RestartAsked, SleepAsked, UnloadAsked
from workbench.pool.runner import Runner
from workbench.pool.runner_set import RunnerSet
from workbench.pool.worker_set import WorkerSet


class Orders:
    """Carries orders out. Part of the controller's task.

    Args:
        workers: all workers.
        runners: all runners.
        waiting: how many requests wait for a model.
        pinned: whether a model is pinned.
    """

    def __init__(
        self,
        workers: WorkerSet,
        runners: RunnerSet,
        waiting: Callable[[str], int],
        pinned: Callable[[str], bool],
    ) -> None:
        self._workers = workers
        self._runners = runners
        self._waiting = waiting
        self._pinned = pinned

    def carry_out(self, order: Order) -> None:
        """Do it, or tell who ordered it why not."""
        if order.done.done():  # who asked has left
            return
        try:
            match order:
                case UnloadAsked(model, force):
                    self._unload(model, force)
                case SleepAsked(model):
                    self._sleep(model)
                case DrainAsked(worker_id, force):
                    self._drain(worker_id, force)
                case RestartAsked(worker_id, force):
                    self._restart(worker_id, force)
        except WorkbenchError as error:
            order.done.set_exception(error)
        else:
            order.done.set_result(None)

    def _unload(self, model: str, force: bool) -> None:
        runner = self._runners.get(model)
        if runner is None or runner.state == "unloading":
            raise NotFoundError(f"{model} is not on a device.")
        work = self._work_of(runner)
        pinned = [f"{model} is pinned, and stays so: once it is loaded again, it keeps its place."]
        reasons = [f"{work} To unload {model} cuts that off."] * bool(work) + pinned * self._pinned(model)
        if reasons and not force:
            raise ConflictError(" ".join(reasons))
        self._runners.cut_off(runner, ConflictError(_again(f"{model} was unloaded by an administrator")))
        self._runners.unload(runner)

    def _sleep(self, model: str) -> None:
        """Nothing is cut off, and nothing undone: a model that is pinned stays so, asleep."""
        runner = self._runners.get(model)
        if runner is None or runner.state == "unloading":
            raise NotFoundError(f"{model} is not on a device.")
        if runner.state in ("sleeping", "asleep"):
            return
        if runner.worker.draining:
            raise ConflictError(f"The worker that holds {model} is being drained, and gives it back anyway.")
        if runner.state != "serving":
            raise ConflictError(f"{model} is on its way to its device. Ask again when it serves.")
        if runner.holders:
            raise ConflictError(
                f"{self._work_of(runner)} {model} can sleep once that is over; to unload it by force "
                "would cut it off."
            )
        if why := self._runners.why_awake(runner):
            raise ConflictError(f"{model} can't sleep: {why} Unload it instead.")
        self._runners.put_to_sleep(runner, self._runners.sleep_level(runner))

    def _drain(self, worker_id: str, force: bool) -> None:
        worker = self._workers[worker_id]
        runner = self._runners.on(worker)
        if runner is not None and not force and not worker.draining:
            raise ConflictError(self._what_draining_does(worker_id, runner))
        worker.draining = True

    def _what_draining_does(self, worker_id: str, runner: Runner) -> str:
        model, work = runner.spec.name, self._work_of(runner)
        first = "finishes that, takes nothing new, gives" if runner.holders else "takes nothing new, gives"
        pinned = f" {model} stays pinned." if self._pinned(model) else ""
        return (
            f"{work or f'{worker_id} holds {model}, and nothing is in flight.'} Drained, {worker_id} {first} "
            f"{model} back and ends; a fresh worker starts where needed. Who asks for {model} then gets "
            f"it from another worker.{pinned}"
        )

    def _restart(self, worker_id: str, force: bool) -> None:
        worker = self._workers[worker_id]
        runner = self._runners.on(worker)
        if runner is not None:
            work = self._work_of(runner)
            if work and not force:
                raise ConflictError(f"{work} To restart {worker_id} cuts that off.")
            error = ConflictError(_again(f"Worker {worker_id} was restarted by an administrator"))
            self._runners.cut_off(runner, error)
            self._runners.close_to_newcomers(runner)
        worker.crash_reason = "was restarted by an administrator"
        worker.stop()

    def _work_of(self, runner: Runner) -> str:
        """What is in flight, and what waits for this very load or wake, as a sentence; "" for nothing."""
        model, answered = runner.spec.name, len(runner.holders)
        waiting = self._waiting(model) if runner.state in ("loading", "waking") else 0
        parts = []
        if answered:
            parts.append(
                f"{_requests(answered)} of {model} {'is' if answered == 1 else 'are'} being answered"
            )
        if waiting:
            parts.append(f"{_requests(waiting)} wait{'s' * (waiting == 1)} for {model} to be ready")
        return f"{', and '.join(parts)}." if parts else ""


def _requests(count: int) -> str:
    return f"{count} request{'s'[: count != 1]}"


def _again(what: str) -> str:
    return f"{what}. Send the message again."
