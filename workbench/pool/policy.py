"""What the pool should do next: a pure function from a view of it to a plan.

`decide` looks at everything that waits, in the order of `scheduling`, and says which requests may go
ahead, which models to load, to wake, to put to sleep and to unload, and which workers to start. It changes
nothing and knows no clock but the times in its view, so tests call it with made-up views.

The cases of a waiting model, numbered as in the code:

1. It serves, and is not closed to newcomers: go ahead. If it has changed since it was loaded, wait until
   what is in flight is over; the controller then has it loaded anew.
2. It is being loaded or woken: wait for that.
3. It is being unloaded or falls asleep: wait for that to end, then start over.
4. It is larger than every device's budget: refuse, with the numbers.
5. It fits beside what is there and a worker is warm: load it there, if several are, into the one that had
   it last. Asleep, it has its worker: wake it.
6. It fits once idle models have given way: the least recently used ones, as few as it takes. They are
   put to sleep where the device can do that, else unloaded.
7. No worker is warm or about to be: one is started, if none starts yet. That takes some 15 s, so the model
   that has slept longest unused gives its worker back, else the least recently used idle one whose own load
   took less than `CHEAP_LOAD_S`: to load it again is the smaller loss. Where there is none, the request
   waits for the start. So it does once a model has given way for it: that one's worker was then replaced. An
   idle model whose load was long gives its worker where it has to leave for room anyway, and where no
   worker can be started.
8. What it could displace is busy, or wanted by others that wait: wait, so that requests for a model that
   serves are grouped. After `fairness_wait` those models are closed to whoever came so much later or more,
   so that a stream of requests for one model can't starve another, and a backlog is still worked off in
   groups.

A model that has to wait keeps its claim on memory and worker against those behind it.

Host memory for models asleep is claimed and pinned while they serve, because pinning takes long:

9. An idle model claims host memory for its weights if enough is left, the most recently used first. It is
   pinned piece by piece, as long as the model stays idle.
10. A model with a claim sleeps at level 1, one without at level 2.
11. One that had to sleep at level 2 and is in use again takes over the claims of models that slept all the
    while: those are unloaded. It never does so when it must sleep, when a request waits for its place.

Workers:

12. A spare worker is kept warm for models that no worker holds. Where none may be started for that, the
    model that has slept longest unused gives its worker back.

What people have ordered by hand:

13. A model that is kept (the page says: pinned) never gives way, its load is not given up, and it is not
    closed to newcomers. A model that fits only in its place is refused, with what to do about it; one
    asleep where there is no such place is unloaded, to be loaded on another device that has one.
14. A worker that drains takes no model. Its model takes no newcomers: they wait until what is in flight is
    over and the model is given back, and it is loaded elsewhere. Then the worker ends.
"""

from collections.abc import Iterable

from workbench.pool.board import Board
from workbench.pool.snapshot import Progress
from workbench.pool.view import (
    DeviceView,
    Load,
    Plan,
    PoolView,
    RunnerView,
    Sleep,
    SleepLevel,
    WaiterView,
    WorkerView,
)

__all__ = [
    "DeviceView",
    "Load",
    "Plan",
    "PoolView",
    "RunnerView",
    "Sleep",
    "SleepLevel",
    "WaiterView",
    "WorkerView",
    "decide",
]

CHEAP_LOAD_S = 5.0
"""Well below what the start of a worker takes."""


def decide(view: PoolView) -> Plan:
    """What to do now, given the pool as it is."""
    board = Board(view)
    _drain(board)
    placed: dict[str, Progress | str] = {}
    ahead = 0
    for waiter in view.waiters:
        outcome = placed.get(waiter.model)
        if outcome is None:
            outcome = placed[waiter.model] = _place(board, waiter)
        if outcome == "granted" and board.takes(waiter):
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
    _prepare_to_sleep(board)
    _keep_spares(board)
    return Plan(
        grants=tuple(board.grants),
        loads=tuple(board.loads),
        wakes=tuple(board.wakes),
        sleeps=tuple(board.sleeps.values()),
        evictions=board.evictions,
        pins=tuple(board.pins),
        starts=tuple(board.starts),
        stops=tuple(board.stops),
        refusals=board.refusals,
        progress=board.progress,
    )


def _behind(progress: Progress, ahead: int) -> Progress:
    if progress.stage != "queued" or not ahead:
        return progress
    return Progress("queued", f"{progress.detail}; queued behind {ahead} other request{'s'[: ahead != 1]}")


def _place(board: Board, waiter: WaiterView) -> Progress | str:
    """Settle where the waiter's model stands: "granted", a reason to refuse it, or what it waits for."""
    runner = board.runners.get(waiter.model)
    if runner is not None:
        match runner.state:
            case _ if runner.draining:  # 14
                return _wait_for_drain(runner)
            case "serving" if runner.outdated:  # 1
                return Progress(
                    "queued", f"{_waiting_for_answers(runner)}: it has changed since it was loaded"
                )
            case "serving":  # 1
                return "granted"
            case "loading":  # 2
                return runner.progress or Progress("loading", f"Loading {waiter.model}")
            case "waking":  # 2
                return runner.progress or Progress("waking", f"Waking {waiter.model}")
            case "unloading":  # 3
                return Progress("evicting", f"Waiting until {waiter.model} is unloaded")
            case "sleeping":  # 3
                return Progress("evicting", f"Waiting until {waiter.model} is asleep, to wake it again")
            case "asleep" if waiter.model not in board.evictions:
                return _place_sleeper(board, waiter, runner)
            case "asleep":
                return Progress("evicting", f"Evicting {waiter.model}")
    return _place_new(board, waiter)


def _place_sleeper(board: Board, waiter: WaiterView, runner: RunnerView) -> Progress | str:
    device = board.devices[runner.device]
    if board.kept_on(device.id) and waiter.device_bytes > board.left_beside_kept(device):  # 13
        if not any(board.takes_beside_kept(other, waiter) for other in board.view.devices):
            return _beside_kept(board, waiter, board.view.devices)
        board.evict(runner, waiter.model)
        return Progress("evicting", f"Moving {waiter.model} to another device")
    if waiter.device_bytes <= board.free[device.id]:  # 5
        board.wakes.append(waiter.model)
        progress = runner.progress or Progress("waking", f"Waking {waiter.model}")
    else:
        board.held.add(waiter.model)
        progress = _make_room(board, waiter, device, needs_worker=False)
    board.free[device.id] -= waiter.device_bytes
    return progress


def _place_new(board: Board, waiter: WaiterView) -> Progress | str:
    able = [device for device in board.view.devices if waiter.device_bytes <= device.budget_bytes]
    if not able:  # 4
        return _too_large(waiter, board.view.devices)
    able = [device for device in able if board.takes_beside_kept(device, waiter)] or able
    if not board.takes_beside_kept(able[0], waiter):  # 13
        return _beside_kept(board, waiter, able)
    for device in able:  # 5
        if waiter.device_bytes <= board.free[device.id] and board.warm[device.id]:
            worker_id = board.take_warm_worker(device.id, waiter.model)
            board.free[device.id] -= waiter.device_bytes
            board.loads.append(Load(waiter.model, device.id, (worker_id,)))
            return Progress("loading", f"Loading {waiter.model}")
    device = max(able, key=lambda device: _ease(board, waiter, device))
    progress = _make_room(board, waiter, device, needs_worker=True)
    board.free[device.id] -= waiter.device_bytes  # its claim against those behind it
    board.claim_worker(device.id, waiter.model)
    return progress


def _ease(board: Board, waiter: WaiterView, device: DeviceView) -> tuple[int, ...]:
    """How easily a device takes the model: at all, without evictions, with a warm worker, most room."""
    free, coming = board.free[device.id], board.coming_bytes[device.id]
    idle = board.evictable(device.id, waiter)
    idle_bytes = sum(runner.device_bytes for runner in idle)
    starts = board.can_start_worker(device)
    givers = [r for r in board.sleepers(device.id, waiter) + idle if _gives_worker(r, starts)]
    soon = bool(board.has_worker_soon(device.id) or (givers and not (starts and waiter.gave_way)))
    return (
        free + coming + idle_bytes >= waiter.device_bytes and (soon or starts),
        free >= waiter.device_bytes and soon,
        free + coming >= waiter.device_bytes and soon,
        bool(board.warm[device.id]),
        free,
    )


def _gives_worker(runner: RunnerView, starts: bool) -> bool:
    """Whether a model for which there is room leaves for its worker's sake; `starts` if one could start."""
    return not starts or runner.state == "asleep" or runner.load_s < CHEAP_LOAD_S  # 7


def _make_room(board: Board, waiter: WaiterView, device: DeviceView, needs_worker: bool) -> Progress:
    """Plan what must give way so that the model can be loaded, or woken, on `device` before long."""
    lacking = waiter.device_bytes - board.free[device.id] - board.coming_bytes[device.id]
    needs_worker = needs_worker and not board.has_worker_soon(device.id)
    if needs_worker and not board.starting_workers[device.id]:
        board.start_worker(device)  # 7
    starts = board.can_start_worker(device)
    needs_worker = needs_worker and not (starts and waiter.gave_way)  # 7
    leaving: list[RunnerView] = []
    resting: list[RunnerView] = []
    for runner in board.sleepers(device.id, waiter) + board.evictable(device.id, waiter):
        makes_room = lacking > 0 and runner.device_bytes > 0
        if not makes_room and not (needs_worker and _gives_worker(runner, starts)):
            continue
        sleeps = device.can_sleep and runner.can_sleep and not needs_worker
        (resting if sleeps else leaving).append(runner)
        lacking -= runner.device_bytes
        needs_worker = False
    if lacking > 0 or (needs_worker and not starts):  # 8
        return _wait_for_busy(board, waiter, device, lacking)
    for runner in leaving:  # 6
        board.evict(runner, waiter.model)
    for runner in resting:  # 6
        board.put_to_sleep(runner, waiter.model)
    return _giving_way(board, waiter, device, leaving, resting)


def _giving_way(
    board: Board,
    waiter: WaiterView,
    device: DeviceView,
    leaving: list[RunnerView],
    resting: list[RunnerView],
) -> Progress:
    if not leaving and not resting:
        here = [runner for runner in board.view.runners if runner.device == device.id]
        leaving = [r for r in here if r.state == "unloading" or r.model in board.evictions]
        resting = [r for r in here if r.state == "sleeping" or r.model in board.sleeps]
    parts = [f"Evicting {_names(leaving)}"] * bool(leaving)
    parts += [f"Putting {_names(resting)} to sleep"] * bool(resting)
    if parts:
        return Progress("evicting", " and ".join(parts))
    return Progress("starting", f"Starting a worker for {waiter.model}")  # 7


def _wait_for_busy(board: Board, waiter: WaiterView, device: DeviceView, lacking: int) -> Progress:
    busy = [
        runner
        for runner in board.view.runners
        if runner.device == device.id
        and runner.state == "serving"
        and not runner.kept
        and runner.model not in board.evictions
        and runner.model not in board.sleeps
    ]
    if not busy:  # only loads are in the way, and they will serve first; or no worker can be started
        return Progress("queued", f"Waiting for {'room' if lacking > 0 else 'a worker'} for {waiter.model}")
    if board.aged(waiter):
        for runner in sorted(busy, key=lambda runner: runner.in_flight):
            board.close(runner, waiter.since + board.view.fairness_wait)
            lacking -= runner.device_bytes
            if lacking <= 0:
                break
    return Progress("queued", f"Waiting for {_names(busy)} to finish answering")


def _give_up_unwanted_loads(board: Board) -> None:
    """A load that nobody waits for any more is cancelled."""
    for runner in board.view.runners:
        if runner.state == "loading" and not runner.kept and runner.model not in board.asked_for:
            board.evictions[runner.model] = ""


def _prepare_to_sleep(board: Board) -> None:
    """Claim and pin host memory for models that are idle now."""
    for runner in sorted(board.view.runners, key=lambda runner: -runner.last_used):
        device = board.devices[runner.device]
        if not (device.can_sleep and runner.can_sleep and board.may_give_way(runner)):
            continue
        if runner.state == "serving" and not board.claim_host_memory(runner):
            _take_over_claims(board, runner)  # 11
        elif runner.unpinned and (
            runner.state == "serving" or (runner.state == "asleep" and runner.host_bytes)
        ):  # 9
            board.pins.append(runner.model)


def _take_over_claims(board: Board, runner: RunnerView) -> None:
    """Unload models that slept since before `runner` last fell asleep, if their claims are enough for it."""
    outslept = [
        sleeper
        for sleeper in board.view.runners
        if sleeper.device == runner.device
        and sleeper.state == "asleep"
        and sleeper.host_bytes
        and sleeper.last_used < runner.slept_at
        and board.may_give_way(sleeper)
    ]
    lacking = runner.sleep_bytes - board.free_host[runner.device] - board.coming_host[runner.device]
    if sum(sleeper.host_bytes for sleeper in outslept) < lacking:
        return
    for sleeper in sorted(outslept, key=lambda sleeper: sleeper.last_used):
        if lacking > 0:
            board.evict(sleeper, "")
            lacking -= sleeper.host_bytes
    board.free_host[runner.device] -= runner.sleep_bytes


def _keep_spares(board: Board) -> None:
    """See to it that each device has its spare workers, warm or on their way."""
    for device in board.view.devices:
        lacking = device.spare_workers - board.spare_workers(device.id)
        while lacking > 0 and board.start_worker(device):
            lacking -= 1
        for sleeper in board.longest_asleep(device.id)[: max(0, lacking)]:  # 12
            board.evict(sleeper, "")


def _drain(board: Board) -> None:
    """Have workers that drain give their models back, and end."""
    for runner in board.view.runners:
        leaves = runner.state in ("unloading", "sleeping")  # the latter once it is asleep
        if runner.draining and not leaves and not runner.in_flight:  # 14
            board.evict(runner, "")
    for worker in board.view.workers:
        if worker.draining and worker.state in ("starting", "coming", "warm"):  # 14
            board.stops.append(worker.id)


def _wait_for_drain(runner: RunnerView) -> Progress:
    if runner.in_flight:
        return Progress("queued", f"{_waiting_for_answers(runner)}: its worker is being drained")
    return Progress("evicting", f"Waiting until the worker that is being drained gives {runner.model} back")


def _waiting_for_answers(runner: RunnerView) -> str:
    answers = f"{runner.in_flight} answer{'s'[: runner.in_flight != 1]}"
    return f"Waiting for {answers} of {runner.model} to end"


def _beside_kept(board: Board, waiter: WaiterView, devices: Iterable[DeviceView]) -> str:
    kept = [runner for device in devices for runner in board.kept_on(device.id)]
    left = max(board.left_beside_kept(device) for device in devices)
    enough = left >= waiter.device_bytes
    needs, leaves = ("a worker", "none") if enough else (_gib(waiter.device_bytes), _gib(max(0, left)))
    are, one = ("is", "it") if len(kept) == 1 else ("are", "one of them")
    return (
        f"{waiter.model} needs {needs}, but {_names(kept)} {are} pinned, which leaves {leaves}. "
        f"Unpin or unload {one} on the Pool page, then ask again."
    )


def _too_large(waiter: WaiterView, devices: Iterable[DeviceView]) -> str:
    largest = max((device.budget_bytes for device in devices), default=0)
    return (
        f"{waiter.model} needs {_gib(waiter.device_bytes)} for weights and KV cache, but the largest device "
        f"budget is {_gib(largest)}. Give it a smaller KV cache, choose a smaller model, or raise "
        "WORKBENCH_MEMORY_BUDGET."
    )


def _gib(count: int) -> str:
    return f"{count / (1 << 30):.2f} GiB"


def _names(runners: Iterable[RunnerView]) -> str:
    return " and ".join(sorted(runner.model for runner in runners))
