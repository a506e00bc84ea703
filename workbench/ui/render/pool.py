"""The Pool page's live panels, and the pool in the top bar."""

from collections.abc import Iterable, Sequence
from html import escape

from workbench.service import (
    DeviceSnapshot,
    ModelView,
    PoolSnapshot,
    Residency,
    RunnerSnapshot,
    WaiterSnapshot,
    WorkerSnapshot,
)
from workbench.ui import figures
from workbench.ui.render.parts import Row, age, badge, bar, button, measured, table


def status(pool: PoolSnapshot) -> str:
    """The pool in a few words, for the top bar."""
    serving = [runner.model for runner in pool.runners if runner.state == "serving"]
    starting = [worker for worker in pool.workers if worker.state == "starting"]
    if starting or not pool.warm:
        return f'<span class="badge badge-loading">{_warm_count(pool)}</span>'
    if serving:
        return f'<span class="badge badge-device">Serving {escape(", ".join(serving))}</span>'
    return '<span class="badge badge-disk">Ready</span>'


def warming(pool: PoolSnapshot) -> str:
    """On the chat page, until a first worker is warm."""
    if pool.warm:
        return ""
    wait = "You can write already; the answer waits for the first one."
    return f'<div class="notice">{_warm_count(pool)}. {wait}</div>'


def _warm_count(pool: PoolSnapshot) -> str:
    alive = [worker for worker in pool.workers if worker.state != "dead"]
    if not alive:
        return "Starting the pool"
    ready = sum(worker.state != "starting" for worker in alive)
    return f"Warming up: {ready} of {figures.count(len(alive), 'worker')} ready"


def devices(pool: PoolSnapshot) -> str:
    """Devices with their budgets, and the models on each."""
    if not pool.devices:
        return '<p class="empty">No device yet. The first worker to start reports it.</p>'
    return "".join(_device(device, pool.runners) for device in pool.devices)


def _device(device: DeviceSnapshot, runners: Iterable[RunnerSnapshot]) -> str:
    here = [runner for runner in runners if runner.device == device.id]
    rows = "".join(_runner(runner) for runner in here)
    body = f"<ul>{rows}</ul>" if rows else '<p class="empty">Nothing is loaded here.</p>'
    used = f"{figures.size(device.used_bytes)} of {figures.size(device.budget_bytes)}"
    share = figures.percent(device.used_bytes, device.budget_bytes)
    return (
        f'<section class="card" data-testid="device" data-name="{escape(device.id)}">'
        f'<header><h3>{escape(device.name)} <span class="quiet">{escape(device.id)}</span></h3>'
        f'<span class="figure">{used}</span></header>{bar(share, "Memory budget in use")}{body}</section>'
    )


def _runner(runner: RunnerSnapshot) -> str:
    residency: Residency = "device" if runner.state == "serving" else runner.state
    if runner.progress:
        doing = measured(runner.progress)
    elif runner.state == "asleep":
        doing = f"last used {age(runner.idle_s)} ago, woken when it is asked for"
    elif runner.in_flight:
        doing = figures.count(runner.in_flight, "request") + " in flight"
    else:
        doing = f"idle for {age(runner.idle_s)}"
    return (
        f'<li data-testid="runner" data-name="{escape(runner.model)}"><strong>{escape(runner.model)}</strong>'
        f'{badge(residency, runner.state)}<span class="figure">{figures.size(runner.device_bytes)}</span>'
        f'<span class="quiet grow">{doing}</span>'
        f"{button('unload', 'Unload', runner.model, model=runner.model)}</li>"
    )


def workers(snapshots: Sequence[WorkerSnapshot]) -> str:
    """The worker processes, one row each."""
    if not snapshots:
        return '<p class="empty">No workers yet. They start right after the page.</p>'
    return table("Workers", "worker", [_worker(worker) for worker in snapshots])


def _worker(worker: WorkerSnapshot) -> Row:
    kinds = {"warm": "disk", "serving": "device", "asleep": "asleep", "dead": "broken"}
    kind = kinds.get(worker.state, "loading")
    return (
        worker.id,
        {
            "Worker": f"<strong>{escape(worker.id)}</strong> "
            f'<span class="quiet">pid {worker.pid or "–"}</span>',
            "State": f'{badge(kind, worker.state)} <span class="quiet">{age(worker.state_s)}</span>',
            "Model": escape(worker.model or "–"),
            "Device": escape(worker.device),
            "Memory": figures.size(worker.private_bytes),
            "On device": figures.size(worker.device_bytes) if worker.device_bytes else "–",
            "Age": age(worker.age_s),
            "Swaps": f"{worker.swaps:,}",
            "In flight": f"{worker.in_flight:,}",
            "": button("restart", "Restart", worker.id, worker=worker.id),
        },
    )


def waiters(snapshots: Sequence[WaiterSnapshot]) -> str:
    """The queue: which models are waited for, by how many, why and how long."""
    if not snapshots:
        return '<p class="empty">Nobody is waiting.</p>'
    items = []
    for waiter in snapshots:
        name = escape(waiter.model)
        items.append(
            f'<li data-testid="waiter" data-name="{name}"><strong>{name}</strong>'
            f"<span>{figures.count(waiter.count, 'request')}</span>"
            f'<span class="quiet grow">{measured(waiter.progress)}</span>{age(waiter.waiting_s)}</li>'
        )
    return f'<ul class="card">{"".join(items)}</ul>'


def loader(models: Sequence[ModelView]) -> str:
    """The form that loads a model before anybody asks for it."""
    loadable = sorted(model.name for model in models if model.residency in ("disk", "asleep"))
    options = "".join(f"<option>{escape(name)}</option>" for name in loadable)
    disabled = "" if loadable else " disabled"
    return (
        f'<form data-do="load"><label>Load a model<select name="model"{disabled}>'
        f"{options or '<option>Every model here is loaded</option>'}</select></label>"
        f'<button class="primary"{disabled}>Load</button></form>'
    )
