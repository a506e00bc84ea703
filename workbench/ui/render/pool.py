"""The Pool page's live panels, and the pool in the top bar."""

from collections.abc import Iterable, Sequence
from html import escape

from workbench.service import (
    DeviceSnapshot,
    GivingWay,
    MachineLoad,
    ModelView,
    PoolDetails,
    PoolSnapshot,
    RunnerSnapshot,
    WaiterSnapshot,
)
from workbench.ui import figures
from workbench.ui.render.hues import Hues
from workbench.ui.render.parts import age, bar, button, measured


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


def devices(pool: PoolSnapshot, details: PoolDetails, models: Sequence[ModelView]) -> str:
    """Memory budgets with the models in them, who gives way next, and the machine itself."""
    if not pool.devices:
        return '<p class="empty">No device yet. The first worker to start reports it.</p>'
    cards = [_device(device, pool.runners, details) for device in pool.devices]
    machine, pinned = _machine(details.machine), _pinned_elsewhere(pool, models)
    return f'<div class="cards">{"".join(cards)}{machine}</div>{pinned}'


def _device(device: DeviceSnapshot, runners: Iterable[RunnerSnapshot], details: PoolDetails) -> str:
    here = [runner for runner in runners if runner.device == device.id]
    budget, hues = device.budget_bytes, Hues(details)
    awake = [runner for runner in here if runner.device_bytes]
    segments = [
        segment
        for runner in awake
        for segment in (
            ("weights", runner.model, f"weights of {runner.model}", runner.weight_bytes),
            ("kv", runner.model, f"KV cache of {runner.model}", runner.device_bytes - runner.weight_bytes),
        )
    ]
    title = f"{escape(device.name)} <span class=quiet>{escape(device.id)}</span>"
    used = f"{figures.size(device.used_bytes)} of {figures.size(budget)}"
    free = figures.size(max(0, budget - device.used_bytes))
    html = (
        f'<section class="card" data-testid="device" data-name="{escape(device.id)}">'
        f'<header><h3>{title}</h3><span class="figure">{used} <span class="quiet">· {free} free</span></span>'
        f"</header>{_stack('Memory budget', segments, budget, hues)}"
    )
    if device.host_budget_bytes:
        claims = [
            ("weights", runner.model, f"weights of {runner.model}", runner.host_bytes)
            for runner in here
            if runner.host_bytes
        ]
        used = f"{figures.size(device.host_used_bytes)} of {figures.size(device.host_budget_bytes)}"
        html += (
            f'<header class="second"><span>Host memory for models asleep</span><span class="figure">{used}'
            f"</span></header>{_stack('Host memory', claims, device.host_budget_bytes, hues)}"
        )
    gpu = details.machine.gpus.get(device.id)
    if gpu:
        free = f"{figures.size(gpu.free_bytes)} of {figures.size(gpu.total_bytes)} free"
        html += f'<p class="next quiet">By its driver {free}; it computes {gpu.share:.0%} of the time.</p>'
    legend = "".join(
        f'<li>{hues.dot(runner.model)}{escape(runner.model)} <span class="figure quiet">'
        f"{figures.size(runner.device_bytes)}</span></li>"
        for runner in awake
    )
    giving = details.giving_way.get(device.id, GivingWay())
    return f"{html}<ul class=legend>{legend}</ul>{_next_to_go(giving, here)}</section>"


def _stack(label: str, segments: Sequence[tuple[str, str, str, int]], whole: int, hues: "Hues") -> str:
    """A bar of segments: kind, model, what it is, and bytes."""
    said = ", ".join(f"{figures.size(size)} {what}" for _, _, what, size in segments) or "empty"
    parts = "".join(
        f'<i class="{kind} {hues.of(model)}" style="width:{100 * size / max(whole, 1):.2f}%" '
        f'title="{escape(f"{figures.size(size)} {what}")}"></i>'
        for kind, model, what, size in segments
    )
    return f'<div class="stack" role="img" aria-label="{escape(f"{label}: {said}")}">{parts}</div>'


def _next_to_go(giving: GivingWay, here: Sequence[RunnerSnapshot]) -> str:
    """Who would be displaced next and why, or why nobody would."""
    idle = {runner.model: runner.idle_s for runner in here}
    stays = "".join(f" {escape(model)} stays: it {escape(why)}." for model, why in giving.stays.items())
    if giving.memory:
        first = giving.memory[0]
        fate = "falls asleep" if first in giving.falls_asleep else "is unloaded"
        text = (
            f"Next to give way: <strong>{escape(first)}</strong>, unused for {age(idle.get(first, 0))}; "
            f"it {fate} when another model needs the room."
        )
    elif giving.stays:
        text = "Nothing would give way now."
    elif here:
        text = "What is loaded here sleeps, and takes no memory of the device."
    else:
        text = "Nothing is loaded here."
    if giving.worker and giving.worker not in giving.memory[:1]:
        text += f" No worker is warm: <strong>{escape(giving.worker)}</strong> would give its own first."
    return f'<p class="next" data-testid="next">{text}<span class="quiet">{stays}</span></p>'


def _machine(machine: MachineLoad) -> str:
    taken = machine.total_bytes - machine.free_bytes
    cores = sum(machine.cores_in_use.values())
    return (
        '<section class="card" data-testid="machine"><header><h3>This machine</h3><span class="figure">'
        f'{figures.size(machine.free_bytes)} <span class="quiet">of {figures.size(machine.total_bytes)} '
        f"of memory free</span></span></header>"
        f"{bar(figures.percent(taken, machine.total_bytes), 'Memory of the machine in use')}"
        '<header class="second"><span>Processors that workers keep busy</span><span class="figure">'
        f'{cores:.1f} <span class="quiet">of {machine.cores}</span></span></header>'
        f"{bar(figures.percent(cores, machine.cores), 'Processors in use by workers')}</section>"
    )


def _pinned_elsewhere(pool: PoolSnapshot, models: Sequence[ModelView]) -> str:
    """Pins that would be out of sight: of models that no worker holds."""
    held = {runner.model for runner in pool.runners}
    items = "".join(
        f'<li data-name="{escape(model.name)}"><strong>{escape(model.name)}</strong>'
        f'<span class="quiet grow">is pinned, and not loaded: once it is, it stays.</span>'
        f"{button('pin', 'Unpin', model.name, model=model.name, pinned='no')}</li>"
        for model in models
        if model.pinned and model.name not in held
    )
    return f'<ul class="card lines" data-testid="pinned">{items}</ul>' if items else ""


def waiters(snapshots: Sequence[WaiterSnapshot], details: PoolDetails) -> str:
    """The queue: which models are waited for, by how many, why and how long."""
    if not snapshots:
        return '<p class="empty">Nobody is waiting.</p>'
    hues = Hues(details)
    items = []
    for waiter in snapshots:
        name = escape(waiter.model)
        items.append(
            f'<li data-testid="waiter" data-name="{name}">{hues.dot(waiter.model)}<strong>{name}</strong>'
            f"<span>{figures.count(waiter.count, 'request')}</span>"
            f'<span class="quiet grow">{measured(waiter.progress)}</span>{age(waiter.waiting_s)}</li>'
        )
    return f'<ul class="card lines">{"".join(items)}</ul>'


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
