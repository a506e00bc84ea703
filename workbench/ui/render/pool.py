"""The Pool page's live panels, and the pool in the top bar."""

from collections.abc import Iterable, Sequence
from html import escape
from typing import Literal, NamedTuple

from workbench.ui import figures
from workbench.ui.render.hues import Hues
from workbench.ui.render.parts import age, bar, button, measured
from workbench.values import (
    DeviceSnapshot,
    GivingWay,
    GpuLoad,
    MachineLoad,
    ModelView,
    PoolDetails,
    PoolSnapshot,
    RunnerSnapshot,
    WaiterSnapshot,
)


def status(pool: PoolSnapshot) -> str:
    """The pool in a few words, for the top bar."""
    serving = [runner.model for runner in pool.runners if runner.state == "serving"]
    starting = any(worker.state == "starting" for worker in pool.workers)
    if not pool.warm or (starting and not serving):
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
    cards = [_device(device, pool, details) for device in pool.devices]
    machine, pinned = _machine(details.machine), _pinned_elsewhere(pool, models)
    return f'<div class="cards">{"".join(cards)}{machine}</div>{pinned}'


def _device(device: DeviceSnapshot, pool: PoolSnapshot, details: PoolDetails) -> str:
    here, hues = [runner for runner in pool.runners if runner.device == device.id], Hues(details)
    awake = [runner for runner in here if runner.device_bytes]
    segments = [
        segment
        for runner in awake
        for segment in (
            Segment("weights", runner.model, runner.weight_bytes),
            Segment("kv", runner.model, runner.device_bytes - runner.weight_bytes),
        )
    ]
    legend = "".join(
        f'<li>{hues.dot(runner.model)}{escape(runner.model)} <span class="figure quiet">'
        f"{figures.size(runner.device_bytes)}</span></li>"
        for runner in awake
    )
    free = figures.size(max(0, device.budget_bytes - device.used_bytes))
    return (
        f'<section class="card" data-testid="device" data-name="{escape(device.id)}"><header>'
        f'<h3>{escape(device.name)} <span class="quiet">{escape(device.id)} · weights and KV caches</span>'
        f'</h3><span class="figure">{figures.size(device.used_bytes)} of {figures.size(device.budget_bytes)} '
        f'<span class="quiet">· {free} free</span></span></header>'
        f'{_stack("Memory budget", segments, device.budget_bytes, hues)}<ul class="legend">{legend}</ul>'
        f"{_next_to_go(details.giving_way.get(device.id, GivingWay()), here, pool.at)}"
        f"{_host_memory(device, here, hues)}{_driver(details.machine.gpus.get(device.id))}</section>"
    )


def _host_memory(device: DeviceSnapshot, here: Iterable[RunnerSnapshot], hues: Hues) -> str:
    if not device.host_budget_bytes:
        return ""
    claims = [Segment("weights", runner.model, runner.host_bytes) for runner in here if runner.host_bytes]
    used = f"{figures.size(device.host_used_bytes)} of {figures.size(device.host_budget_bytes)}"
    return (
        f'<header class="second"><span>Host memory for models asleep</span><span class="figure">{used}</span>'
        f"</header>{_stack('Host memory', claims, device.host_budget_bytes, hues)}"
    )


def _driver(gpu: GpuLoad | None) -> str:
    if gpu is None:
        return ""
    free = f"{figures.size(gpu.free_bytes)} of {figures.size(gpu.total_bytes)} free"
    return f'<p class="next quiet">By its driver {free}; it computes {gpu.share:.0%} of the time.</p>'


class Segment(NamedTuple):
    """A piece of a bar, in bytes."""

    kind: Literal["weights", "kv"]
    model: str
    size: int

    def __str__(self) -> str:
        what = {"weights": "weights", "kv": "KV cache"}[self.kind]
        return f"{figures.size(self.size)} {what} of {self.model}"


def _stack(label: str, segments: Sequence[Segment], whole: int, hues: Hues) -> str:
    parts = "".join(
        f'<i class="{segment.kind} {hues.of(segment.model)}" title="{escape(str(segment))}" '
        f'style="width:{100 * segment.size / max(whole, 1):.2f}%"></i>'
        for segment in segments
    )
    said = f"{label}: {', '.join(map(str, segments)) or 'empty'}"
    return f'<div class="stack" role="img" aria-label="{escape(said)}">{parts}</div>'


def _next_to_go(giving: GivingWay, here: Sequence[RunnerSnapshot], now: float) -> str:
    """Who would be displaced next and why, or why nobody would."""
    idle_since = {runner.model: runner.idle_since for runner in here if not runner.in_flight}
    stays = "".join(f" {escape(model)} stays: it {escape(why)}." for model, why in giving.stays.items())
    if giving.memory:
        first = giving.memory[0]
        fate = "falls asleep" if first in giving.falls_asleep else "is unloaded"
        text = (
            f"Next to give way: <strong>{escape(first)}</strong>, unused for "
            f"{age(idle_since.get(first, now), now)}; it {fate} when another model needs the room."
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
            f'<span class="quiet grow">{measured(waiter.progress)}</span>{age(waiter.since, details.at)}</li>'
        )
    return f'<ul class="card lines">{"".join(items)}</ul>'


def loader(models: Sequence[ModelView]) -> str:
    """The form that loads a model before anybody asks for it."""
    loadable = sorted(model.name for model in models if model.residency in ("disk", "asleep"))
    options = "".join(f"<option>{escape(name)}</option>" for name in loadable)
    disabled = "" if loadable else " disabled"
    return (
        f'<form data-do="load"><label>Load a model<select name="model"{disabled}>'
        f"{options or '<option>Nothing more to load</option>'}</select></label>"
        f'<button class="primary"{disabled}>Load</button></form>'
    )
