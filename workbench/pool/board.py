"""The pool while one plan is made: what earlier waiters took is gone for later ones."""

import math

from workbench.pool.snapshot import Progress
from workbench.pool.view import (
    DeviceView,
    Load,
    PoolView,
    RunnerView,
    Sleep,
    SleepLevel,
    WaiterView,
    WorkerView,
)


class Board:
    """A view that changes with each decision, and the decisions so far."""

    def __init__(self, view: PoolView) -> None:
        self.view = view
        self.devices = {device.id: device for device in view.devices}
        self.runners = {runner.model: runner for runner in view.runners}
        self.free = {device.id: device.budget_bytes for device in view.devices}
        self.free_host = {device.id: device.host_budget_bytes for device in view.devices}
        self.coming_bytes = dict.fromkeys(self.free, 0)
        """Bytes that models on their way out, or falling asleep, will give back."""
        self.coming_host = dict.fromkeys(self.free, 0)
        self.coming_workers = dict.fromkeys(self.free, 0)
        """Workers that will be warm in a moment: they give a model back."""
        self.starting_workers = dict.fromkeys(self.free, 0)
        """Workers that will be warm in some seconds."""
        self.leaving_workers = dict.fromkeys(self.free, 0)
        """Workers in whose place another can be started in a moment."""
        for runner in view.runners:
            self.free[runner.device] -= runner.device_bytes
            self.free_host[runner.device] -= runner.host_bytes
            if runner.state in ("unloading", "sleeping"):
                self.coming_bytes[runner.device] += runner.device_bytes
            if runner.state == "unloading":
                self.coming_host[runner.device] += runner.host_bytes
                self.coming_workers[runner.device] += not runner.draining
        self.warm: dict[str, list[WorkerView]] = {device.id: [] for device in view.devices}
        self.worker_count = dict.fromkeys(self.free, 0)
        for worker in view.workers:
            self.worker_count[worker.device] += 1
            self.leaving_workers[worker.device] += worker.state == "leaving"
            if worker.draining:
                continue  # none that any model may count on
            if worker.state == "warm":
                self.warm[worker.device].append(worker)
            elif worker.state == "coming":
                self.coming_workers[worker.device] += 1
            elif worker.state == "starting":
                self.starting_workers[worker.device] += 1
        self.asked_for = {waiter.model for waiter in view.waiters}
        self._closed: dict[str, float] = {}
        """Models that take none who came after that time: a request ahead of those waits for their place."""
        self.granted: set[str] = set()
        self.held: set[str] = set()
        """Models asleep that a request waits for."""
        self.grants: list[int] = []
        self.loads: list[Load] = []
        self.wakes: list[str] = []
        self.sleeps: dict[str, Sleep] = {}
        self.evictions: dict[str, str] = {}
        self.pins: list[str] = []
        self.starts: list[str] = []
        self.stops: list[str] = []
        self.refusals: dict[int, str] = {}
        self.progress: dict[int, Progress] = {}

    # Questions.

    def aged(self, waiter: WaiterView) -> bool:
        """Whether the request has waited so long that others must give way."""
        return self.view.now - waiter.since >= self.view.fairness_wait

    def takes(self, waiter: WaiterView) -> bool:
        """Whether the waiter's model, which serves, is not closed to it."""
        return waiter.since <= self._closed.get(waiter.model, math.inf)

    def settled(self, runner: RunnerView) -> bool:
        """Whether nothing is in flight on the model, and nothing is planned for it yet."""
        planned = runner.model in self.evictions or runner.model in self.sleeps or runner.model in self.wakes
        wanted = runner.model in self.granted or runner.model in self.held
        return not (runner.in_flight or planned or wanted)

    def may_give_way(self, runner: RunnerView) -> bool:
        """Whether the model could leave or fall asleep for another one."""
        return not (runner.kept or runner.draining) and self.settled(runner)

    def takes_beside_kept(self, device: DeviceView, waiter: WaiterView) -> bool:
        """Whether the device could take the model if all went but the models that are kept."""
        return waiter.device_bytes <= self.left_beside_kept(device) and self.worker_beside_kept(device)

    def left_beside_kept(self, device: DeviceView) -> int:
        """Bytes of the budget that no kept model holds for good."""
        held = (
            r.device_bytes for r in self.kept_on(device.id) if r.state in ("loading", "serving", "waking")
        )
        return device.budget_bytes - sum(held)

    def worker_beside_kept(self, device: DeviceView) -> bool:
        """Whether the kept models leave a worker to others."""
        return len(self.kept_on(device.id)) < device.max_workers

    def kept_on(self, device: str) -> list[RunnerView]:
        """The kept models that will stay on the device."""
        return [
            runner
            for runner in self.view.runners
            if runner.device == device and runner.kept and not runner.draining and runner.state != "unloading"
        ]

    def evictable(self, device: str, waiter: WaiterView | None) -> list[RunnerView]:
        """Idle models on the device that may go for this waiter, least recently used first.

        Without a waiter, for one that came now.
        """
        return self._least_recently_used(device, "serving", waiter)

    def sleepers(self, device: str, waiter: WaiterView | None) -> list[RunnerView]:
        """Models asleep whose workers may be taken for this waiter, least recently used first."""
        return self._least_recently_used(device, "asleep", waiter)

    def longest_asleep(self, device: str) -> list[RunnerView]:
        """Models asleep on the device that nobody asks for, least recently used first."""
        return [
            runner
            for runner in sorted(self.view.runners, key=lambda runner: runner.last_used)
            if runner.device == device
            and runner.state == "asleep"
            and self.may_give_way(runner)
            and runner.model not in self.asked_for
        ]

    def _least_recently_used(self, device: str, state: str, waiter: WaiterView | None) -> list[RunnerView]:
        found = [
            runner
            for runner in self.view.runners
            if runner.device == device
            and runner.state == state
            and self.may_give_way(runner)
            and (runner.model not in self.asked_for or (waiter is not None and self.aged(waiter)))
        ]
        return sorted(found, key=lambda runner: runner.last_used)

    def has_worker_soon(self, device: str) -> bool:
        """Whether a worker is warm, or will be in a moment."""
        return bool(self.warm[device] or self.coming_workers[device])

    def can_start_worker(self, device: DeviceView) -> bool:
        """Whether a worker starts already, or may be started, now or in a moment."""
        in_a_moment = device.may_start and self.leaving_workers[device.id]
        return bool(self.starting_workers[device.id] or self._has_place(device) or in_a_moment)

    def _has_place(self, device: DeviceView) -> bool:
        return device.may_start and self.worker_count[device.id] < device.max_workers

    def spare_workers(self, device: str) -> int:
        """Workers that no model has a claim on, warm or on their way."""
        return len(self.warm[device]) + self.coming_workers[device] + self.starting_workers[device]

    # Decisions.

    def take_warm_worker(self, device: str, model: str) -> str:
        """Take the warm worker that suits a model best: that had it last, and may still have it mapped.

        A model that none of them had goes to one that has had few.
        """
        best = max(self.warm[device], key=lambda w: (w.last_held.get(model, 0.0), -len(w.last_held)))
        self.warm[device].remove(best)
        return best.id

    def claim_worker(self, device: str, model: str) -> None:
        """Keep a worker for a model that waits, of those that are there the soonest."""
        if self.warm[device]:
            self.take_warm_worker(device, model)
        elif self.coming_workers[device]:
            self.coming_workers[device] -= 1
        elif self.starting_workers[device]:
            self.starting_workers[device] -= 1
        elif self.leaving_workers[device]:
            self.leaving_workers[device] -= 1

    def start_worker(self, device: DeviceView) -> bool:
        """Plan one more worker, if the device may have one."""
        if not self._has_place(device):
            return False
        self.worker_count[device.id] += 1
        self.starting_workers[device.id] += 1
        self.starts.append(device.id)
        return True

    def evict(self, runner: RunnerView, for_model: str) -> None:
        """Plan to unload a model; its worker will be warm again, unless it drains."""
        self.evictions[runner.model] = for_model
        self.close(runner, -math.inf)
        self.coming_bytes[runner.device] += runner.device_bytes
        self.coming_host[runner.device] += runner.host_bytes
        self.coming_workers[runner.device] += not runner.draining

    def put_to_sleep(self, runner: RunnerView, for_model: str) -> None:
        """Plan to put a model to sleep, at level 1 if there is host memory for its weights."""
        level: SleepLevel = 1 if self.claim_host_memory(runner) else 2
        self.sleeps[runner.model] = Sleep(runner.model, level, for_model)
        self.close(runner, -math.inf)
        self.coming_bytes[runner.device] += runner.device_bytes

    def close(self, runner: RunnerView, since: float) -> None:
        """Let nobody have a model who asked for it after a time."""
        self._closed[runner.model] = min(since, self._closed.get(runner.model, math.inf))

    def claim_host_memory(self, runner: RunnerView) -> bool:
        """Whether the model has host memory for its weights, or gets it now."""
        if runner.host_bytes:
            return True
        if runner.sleep_bytes > self.free_host[runner.device]:
            return False
        self.free_host[runner.device] -= runner.sleep_bytes
        return True
