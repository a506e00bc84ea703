"""What the pool should do next: a pure function from a view of it to a plan.

`decide` looks at everything that waits, in order of arrival, and says which requests may go ahead, which
models to load and to evict, and which workers to start. It changes nothing and knows no clock but the
times in its view, so tests call it with made-up views.

The cases of a waiting model, numbered as in the code:

1. It serves, and is not closed to newcomers: go ahead.
2. It is being loaded: wait for the load.
3. It is being unloaded: wait for that to end, then start over.
4. It is larger than every device's budget: refuse, with the numbers.
5. It fits beside what is there and a worker is warm: load it there.
6. It fits once idle models are gone: evict the least recently used ones, as few as it takes.
7. It fits but no worker is warm: wait for one that is on its way, or start one.
8. What it could displace is busy, or wanted by others that wait: wait, so that requests for a model that
   serves are grouped. After `fairness_wait` those models are closed to newcomers, so that a stream of
   requests for one model can't starve another.

A model that has to wait keeps its claim on memory and worker against those that came later.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Literal

from workbench.pool.snapshot import Progress


@dataclass(frozen=True, slots=True)
class DeviceView:
    """A device and what it may hold."""

    id: str
    budget_bytes: int
    max_workers: int
    spare_workers: int


@dataclass(frozen=True, slots=True)
class WorkerView:
    """A worker process."""

    id: str
    device: str
    state: Literal["coming", "warm", "taken", "leaving"]
    """coming: will be warm by itself; leaving: will be gone, but its place is not free yet."""


@dataclass(frozen=True, slots=True)
class RunnerView:
    """A model on a device, or on its way there or back."""

    model: str
    device: str
    state: Literal["loading", "serving", "unloading"]
    device_bytes: int
    in_flight: int = 0
    last_used: float = 0.0
    progress: Progress | None = None


@dataclass(frozen=True, slots=True)
class WaiterView:
    """One waiting request."""

    id: int
    model: str
    device_bytes: int
    since: float


@dataclass(frozen=True, slots=True)
class PoolView:
    """Everything a plan depends on; times are monotonic seconds."""

    now: float
    fairness_wait: float
    devices: tuple[DeviceView, ...]
    workers: tuple[WorkerView, ...]
    runners: tuple[RunnerView, ...]
    waiters: tuple[WaiterView, ...]
    """In order of arrival."""


@dataclass(frozen=True, slots=True)
class Load:
    """Load a model; its bytes count against the device from now on."""

    model: str
    device: str
    worker_ids: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Plan:
    """What to do now."""

    grants: tuple[int, ...] = ()
    """Waiters that may go ahead."""
    loads: tuple[Load, ...] = ()
    evictions: Mapping[str, str] = field(default_factory=dict)
    """Model to unload → the model that needs its place ("" when nobody wants it loaded any more)."""
    starts: tuple[str, ...] = ()
    """Devices to start a worker on, once for each time they are listed."""
    refusals: Mapping[int, str] = field(default_factory=dict)
    """Waiter → why its model can't ever be loaded here."""
    progress: Mapping[int, Progress] = field(default_factory=dict)
    """Waiter → what it waits for."""


class _Board:
    """The view as it changes while one plan is made: what earlier waiters took is gone for later ones."""

    def __init__(self, view: PoolView) -> None:
        self.view = view
        self.runners = {runner.model: runner for runner in view.runners}
        self.free = {device.id: device.budget_bytes for device in view.devices}
        for runner in view.runners:
            self.free[runner.device] -= runner.device_bytes
        self.coming_bytes = dict.fromkeys(self.free, 0)
        """Bytes that evictions under way will give back."""
        self.coming_workers = dict.fromkeys(self.free, 0)
        """Workers that will be warm by themselves: they start, or give a model back."""
        for runner in view.runners:
            if runner.state == "unloading":
                self.coming_bytes[runner.device] += runner.device_bytes
                self.coming_workers[runner.device] += 1
        self.warm: dict[str, list[str]] = {device.id: [] for device in view.devices}
        self.worker_count = dict.fromkeys(self.free, 0)
        for worker in view.workers:
            self.worker_count[worker.device] += 1
            if worker.state == "warm":
                self.warm[worker.device].append(worker.id)
            elif worker.state == "coming":
                self.coming_workers[worker.device] += 1
        self.asked_for = {waiter.model for waiter in view.waiters}
        self.closed: set[str] = set()
        """Models that take no newcomers, because an older request waits for their place."""
        self.granted: set[str] = set()
        self.grants: list[int] = []
        self.loads: list[Load] = []
        self.evictions: dict[str, str] = {}
        self.starts: list[str] = []
        self.refusals: dict[int, str] = {}
        self.progress: dict[int, Progress] = {}

    def start_worker(self, device: DeviceView) -> bool:
        """Plan one more worker, if the device may have one."""
        if self.worker_count[device.id] >= device.max_workers:
            return False
        self.worker_count[device.id] += 1
        self.starts.append(device.id)
        return True

    def aged(self, waiter: WaiterView) -> bool:
        """Whether the request has waited so long that others must give way."""
        return self.view.now - waiter.since >= self.view.fairness_wait

    def evictable(self, device: str, waiter: WaiterView) -> list[RunnerView]:
        """Idle models that may go for this waiter, least recently used first."""
        idle = [
            runner
            for runner in self.view.runners
            if runner.device == device
            and runner.state == "serving"
            and not runner.in_flight
            and runner.model not in self.granted
            and runner.model not in self.evictions
            and (runner.model not in self.asked_for or self.aged(waiter))
        ]
        return sorted(idle, key=lambda runner: runner.last_used)

    def evict(self, runner: RunnerView, for_model: str) -> None:
        self.evictions[runner.model] = for_model
        self.closed.add(runner.model)
        self.coming_bytes[runner.device] += runner.device_bytes
        self.coming_workers[runner.device] += 1


def decide(view: PoolView) -> Plan:
    """What to do now, given the pool as it is."""
    board = _Board(view)
    placed: dict[str, Progress | str] = {}
    ahead = 0
    for waiter in view.waiters:
        outcome = placed.get(waiter.model)
        if outcome is None:
            outcome = placed[waiter.model] = _place(board, waiter)
        if outcome == "granted" and waiter.model not in board.closed:
            board.grants.append(waiter.id)
            board.granted.add(waiter.model)
        elif isinstance(outcome, Progress):
            board.progress[waiter.id] = _behind(outcome, ahead)
            ahead += 1
        elif outcome == "granted":
            board.progress[waiter.id] = Progress("queued", f"{waiter.model} gives way to another model first")
        else:
            board.refusals[waiter.id] = outcome
    _give_up_unwanted_loads(board)
    _keep_spares(board)
    return Plan(
        grants=tuple(board.grants),
        loads=tuple(board.loads),
        evictions=board.evictions,
        starts=tuple(board.starts),
        refusals=board.refusals,
        progress=board.progress,
    )


def _behind(progress: Progress, ahead: int) -> Progress:
    if progress.stage != "queued" or not ahead:
        return progress
    return Progress("queued", f"{progress.detail}; queued behind {ahead} other request{'s'[: ahead != 1]}")


def _place(board: _Board, waiter: WaiterView) -> Progress | str:
    """Settle where the waiter's model stands: "granted", a reason to refuse it, or what it waits for."""
    runner = board.runners.get(waiter.model)
    if runner is not None:
        if runner.state == "serving":  # 1
            return "granted"
        if runner.state == "loading":  # 2
            return runner.progress or Progress("loading", f"Loading {waiter.model}")
        return Progress("evicting", f"Waiting until {waiter.model} is unloaded")  # 3

    able = [device for device in board.view.devices if waiter.device_bytes <= device.budget_bytes]
    if not able:  # 4
        return _too_large(waiter, board.view.devices)
    for device in able:  # 5
        if waiter.device_bytes <= board.free[device.id] and board.warm[device.id]:
            worker_id = board.warm[device.id].pop(0)
            board.free[device.id] -= waiter.device_bytes
            board.loads.append(Load(waiter.model, device.id, (worker_id,)))
            return Progress("loading", f"Loading {waiter.model}")
    device = max(able, key=lambda device: _ease(board, waiter, device))
    progress = _make_room(board, waiter, device)
    board.free[device.id] -= waiter.device_bytes  # its claim against those that came later
    if board.warm[device.id]:
        board.warm[device.id].pop(0)
    elif board.coming_workers[device.id]:
        board.coming_workers[device.id] -= 1
    return progress


def _ease(board: _Board, waiter: WaiterView, device: DeviceView) -> tuple[int, ...]:
    """How easily a device takes the model: at all, without evictions, with a warm worker, most room."""
    free, coming = board.free[device.id], board.coming_bytes[device.id]
    idle = board.evictable(device.id, waiter)
    idle_bytes = sum(runner.device_bytes for runner in idle)
    has_worker = bool(
        board.warm[device.id]
        or board.coming_workers[device.id]
        or board.worker_count[device.id] < device.max_workers
    )
    return (
        free + coming + idle_bytes >= waiter.device_bytes and (has_worker or bool(idle)),
        free >= waiter.device_bytes and has_worker,
        free + coming >= waiter.device_bytes and has_worker,
        bool(board.warm[device.id]),
        free,
    )


def _make_room(board: _Board, waiter: WaiterView, device: DeviceView) -> Progress:
    """Plan evictions and workers so that the model can be loaded on `device` before long."""
    lacking = waiter.device_bytes - board.free[device.id] - board.coming_bytes[device.id]
    needs_worker = not (
        board.warm[device.id] or board.coming_workers[device.id] or board.start_worker(device)
    )
    victims: list[RunnerView] = []
    for runner in board.evictable(device.id, waiter):
        if lacking <= 0 and not needs_worker:
            break
        victims.append(runner)
        lacking -= runner.device_bytes
        needs_worker = False
    if lacking > 0 or needs_worker:  # 8
        return _wait_for_busy(board, waiter, device, lacking)
    for runner in victims:  # 6
        board.evict(runner, waiter.model)
    leaving = [runner.model for runner in victims] or [
        runner.model
        for runner in board.view.runners
        if runner.state == "unloading" and runner.device == device.id
    ]
    if leaving:
        return Progress("evicting", f"Evicting {_names(leaving)}")
    return Progress("starting", f"Starting a worker for {waiter.model}")  # 7


def _wait_for_busy(board: _Board, waiter: WaiterView, device: DeviceView, lacking: int) -> Progress:
    busy = [
        runner
        for runner in board.view.runners
        if runner.device == device.id and runner.state == "serving" and runner.model not in board.evictions
    ]
    if not busy:  # only loads are in the way, and they will serve first
        return Progress("queued", f"Waiting for room for {waiter.model}")
    if board.aged(waiter):
        for runner in sorted(busy, key=lambda runner: runner.in_flight):
            board.closed.add(runner.model)
            lacking -= runner.device_bytes
            if lacking <= 0:
                break
    return Progress("queued", f"Waiting for {_names(runner.model for runner in busy)} to finish answering")


def _give_up_unwanted_loads(board: _Board) -> None:
    """A load that nobody waits for any more is cancelled."""
    wanted = {waiter.model for waiter in board.view.waiters}
    for runner in board.view.runners:
        if runner.state == "loading" and runner.model not in wanted:
            board.evictions[runner.model] = ""


def _keep_spares(board: _Board) -> None:
    """Start workers until each device has its spare ones, warm or on their way."""
    for device in board.view.devices:
        spares = len(board.warm[device.id]) + board.coming_workers[device.id]
        while spares < device.spare_workers and board.start_worker(device):
            spares += 1


def _too_large(waiter: WaiterView, devices: Iterable[DeviceView]) -> str:
    largest = max((device.budget_bytes for device in devices), default=0)
    return (
        f"{waiter.model} needs {_gib(waiter.device_bytes)} for weights and KV cache, but the largest device "
        f"budget is {_gib(largest)}. Give it a smaller KV cache, choose a smaller model, or raise "
        "WORKBENCH_MEMORY_BUDGET."
    )


def _gib(count: int) -> str:
    return f"{count / (1 << 30):.2f} GiB"


def _names(models: Iterable[str]) -> str:
    return " and ".join(sorted(models))
