"""Made-up views for the policy: sizes are plain numbers, times are seconds."""

from workbench.pool.policy import DeviceView, PoolView, RunnerView, WaiterView, WorkerView

NOW = 1000.0
FAIRNESS = 10.0


def device(budget=100, max_workers=3, spares=0, name="cpu", host_budget=None, may_start=True):
    """With a host budget, one that can sleep."""
    can_sleep = host_budget is not None
    return DeviceView(name, budget, max_workers, spares, can_sleep, host_budget or 0, may_start)


def worker(name, state="warm", on="cpu", had=()):
    return WorkerView(name, on, state, {model: float(at) for at, model in enumerate(had, start=1)})


def serving(model, size=40, in_flight=0, last_used=0.0, on="cpu", **more):
    more.setdefault("sleep_bytes", size - 10)
    return RunnerView(model, on, "serving", size, in_flight, last_used, **more)


def asleep(model, weights=30, level=1, last_used=0.0, on="cpu"):
    host_bytes = weights if level == 1 else 0
    return RunnerView(model, on, "asleep", 0, last_used=last_used, sleep_bytes=weights, host_bytes=host_bytes)


def waiter(number, model, size=40, waited=0.0, gave_way=False):
    return WaiterView(number, model, size, NOW - waited, gave_way)


def view(devices=None, workers=(), runners=(), waiters=()):
    return PoolView(
        NOW, FAIRNESS, tuple(devices or [device()]), tuple(workers), tuple(runners), tuple(waiters)
    )
