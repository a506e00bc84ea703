"""The Pool page's workers: a card for each, their last ten minutes, and those that are gone."""

from collections.abc import Mapping
from html import escape

from workbench.ui import figures
from workbench.ui.render.hues import Hues
from workbench.ui.render.parts import age, badge, bar, button, measured
from workbench.values import (
    Departure,
    MachineLoad,
    PoolDetails,
    PoolSnapshot,
    RunnerSnapshot,
    TimelineRow,
    WorkerSnapshot,
)

WINDOW_S = 600.0
"""What the timeline shows."""


def workers(pool: PoolSnapshot, details: PoolDetails) -> str:
    """The worker processes, a card each with the model that it holds."""
    if not pool.workers:
        return '<p class="empty">No workers yet. They start right after the page.</p>'
    runners = {worker: runner for runner in pool.runners for worker in runner.workers}
    free = {device.id: max(0, device.budget_bytes - device.used_bytes) for device in pool.devices}
    hues = Hues(details)
    cards = [
        _worker(worker, runners.get(worker.id), free.get(worker.device, 0), details.machine, hues, pool.at)
        for worker in pool.workers
    ]
    return f'<div class="cards">{"".join(cards)}</div>'


STATE_WORDS: Mapping[str, tuple[str, str]] = {
    "warm": ("disk", "ready"),
    "serving": ("device", "serving"),
    "asleep": ("asleep", "asleep"),
    "sleeping": ("sleeping", "falling asleep"),
    "cleaning": ("loading", "tidying up"),
    "stopping": ("unloading", "ending"),
    "dead": ("broken", "dead"),
}
"""State of a worker → kind of badge, and word; other states are their own word."""


def _worker(
    worker: WorkerSnapshot,
    runner: RunnerSnapshot | None,
    free_bytes: int,
    machine: MachineLoad,
    hues: Hues,
    now: float,
) -> str:
    kind, word = STATE_WORDS.get(worker.state, ("loading", worker.state))
    if worker.draining and worker.state not in ("stopping", "dead"):
        kind, word = "unloading", f"draining, {word}"
    if runner is not None:
        held = _held(runner, free_bytes, worker.draining, hues, now)
    elif worker.state == "warm":
        held = '<p class="held quiet">Ready for any model.</p>'
    elif worker.state == "starting":
        held = '<p class="held quiet">Imports the engine, before it knows its first model.</p>'
    else:
        held = '<p class="held quiet">Holds no model.</p>'
    cores = machine.cores_in_use.get(worker.id)
    gpu = machine.gpus.get(worker.device)
    facts = {
        "CPU": f"{cores:.1f} of {figures.count(machine.cores, 'core')}" if cores is not None else "–",
        "GPU": f"{gpu.share:.0%}" if gpu else "",
        "Memory": figures.size(worker.private_bytes) if worker.private_bytes else "–",
        "On device": figures.size(worker.device_bytes) if worker.device_bytes else "",
        "Swaps": f"{worker.swaps:,}",
        "Age": age(worker.started_at, now),
    }
    actions = [_log_button(worker.id)]
    if runner is not None and runner.state == "serving":
        actions.append(button("profile", "Profile", worker.id, worker=worker.id))
    if not worker.draining:
        actions.append(button("drain", "Drain", worker.id, worker=worker.id))
    actions.append(button("restart", "Restart", worker.id, worker=worker.id))
    name = escape(worker.id)
    return (
        f'<article class="card" data-testid="worker" data-name="{name}"><header>'
        f'<h3>{name} <span class="quiet">{escape(worker.device)} · pid {worker.pid or "–"}</span></h3>'
        f'<span class="state">{badge(kind, word)}<span class="quiet">{age(worker.state_since, now)}</span>'
        f'</span></header>{held}{_facts(facts)}<div class="actions">{"".join(actions)}</div></article>'
    )


def _held(runner: RunnerSnapshot, free_bytes: int, draining: bool, hues: Hues, now: float) -> str:
    """The model on a worker's card; `free_bytes` are left of the device's budget."""
    model = runner.model
    facts = {
        "Weights": figures.size(runner.weight_bytes),
        "KV cache": figures.size(runner.kv_cache_bytes),
        "Context": f"{runner.context_length:,} tokens" if runner.context_length else "–",
        "Host memory": figures.size(runner.host_bytes) if runner.host_bytes else "",
        "Free": figures.size(free_bytes),
    }
    pin, pinned = ("Unpin", "no") if runner.pinned else ("Pin", "yes")
    mark = '<span class="tag" title="Gives way to no other model">pinned</span>' if runner.pinned else ""
    progress = ""
    if runner.progress and runner.progress.total_bytes:
        done = figures.percent(runner.progress.done_bytes, runner.progress.total_bytes)
        progress = bar(done, f"{runner.progress.detail}")
    return (
        f'<div class="held" data-testid="runner" data-name="{escape(model)}"><p class="name">'
        f"{hues.dot(model)}<strong>{escape(model)}</strong>{mark}"
        f'<span class="quiet grow">{_doing(runner, draining, now)}</span></p>'
        f'{progress}{_facts(facts)}<div class="actions">'
        f"{button('pin', pin, model, model=model, pinned=pinned)}"
        f"{button('unload', 'Unload', model, model=model)}</div></div>"
    )


def _doing(runner: RunnerSnapshot, draining: bool, now: float) -> str:
    if draining and runner.in_flight:
        return f"finishes {figures.count(runner.in_flight, 'request')}, then leaves"
    if runner.progress:
        return measured(runner.progress)
    if runner.in_flight:
        return f"answers {figures.count(runner.in_flight, 'request')}"
    if runner.state in ("sleeping", "unloading"):
        return {"sleeping": "gives its memory up", "unloading": "is given back"}[runner.state]
    return f"unused for {age(runner.idle_since, now)}"


def _facts(facts: Mapping[str, str]) -> str:
    """Figures under their names; those without a value are left out."""
    items = "".join(
        f'<div><dt>{name}</dt><dd class="figure">{value}</dd></div>' for name, value in facts.items() if value
    )
    return f'<dl class="facts">{items}</dl>'


def _log_button(worker: str) -> str:
    """Opens a worker's log; the page's own script does that."""
    name = escape(worker)
    return f'<button type="button" data-log="{name}" aria-label="Log of {name}">Log</button>'


HOLDING_WORDS = {"loading": "loading", "serving": "serving", "asleep": "asleep"}


def timeline(details: PoolDetails) -> str:
    """Which worker held which model in the last ten minutes, a row each."""
    if not details.timeline:
        return '<p class="empty">No worker yet.</p>'
    hues = Hues(details)
    models = sorted({span.model for row in details.timeline for span in row.spans})
    names = "".join(f"<li>{hues.dot(model)}{escape(model)}</li>" for model in models)
    ways = "".join(f'<li><i class="{way} hue"></i>{word}</li>' for way, word in HOLDING_WORDS.items())
    rows = "".join(_timeline_row(row, hues, details.at) for row in details.timeline)
    return (
        f'<div class="card timeline"><div>{rows}'
        '<p class="axis quiet"><span>10 min ago</span><span>5 min</span><span>now</span></p></div>'
        f'<ul class="legend">{names}{ways}</ul></div>'
    )


def _timeline_row(row: TimelineRow, hues: Hues, now: float) -> str:
    held: dict[tuple[str, str], float] = {}
    for span in row.spans:
        key = (span.model, span.holding)
        began_at = max(span.began_at, now - WINDOW_S)
        held[key] = held.get(key, 0.0) + (span.ended_at or now) - began_at
    said = ", ".join(
        f"{model} {HOLDING_WORDS[holding]} for {figures.duration(seconds)}"
        for (model, holding), seconds in held.items()
    )
    spans = "".join(
        f'<i class="{span.holding} {hues.of(span.model)}" '
        f'style="{_place(span.began_at, span.ended_at, now)}" '
        f'title="{escape(f"{span.model}, {HOLDING_WORDS[span.holding]}")}"></i>'
        for span in row.spans
    )
    name, over = escape(row.worker), "quiet" if row.ended_at else ""
    return (
        f'<div class="lane" data-testid="timeline" data-name="{name}"><span class="{over}">{name}</span>'
        f'<span class="track" role="img" aria-label="{name}: {escape(said or "no model")}">'
        f'<i class="life" style="{_place(row.began_at, row.ended_at, now)}"></i>{spans}</span></div>'
    )


def _place(began_at: float, ended_at: float, now: float) -> str:
    """Where a time is on the timeline, as a style; one that lasts has not ended (0)."""
    left = 100 * (1 - min(now - began_at, WINDOW_S) / WINDOW_S)
    right = 100 * (1 - min(now - (ended_at or now), WINDOW_S) / WINDOW_S)
    return f"left:{left:.1f}%;width:{right - left:.1f}%"


def departures(details: PoolDetails) -> str:
    """Workers that ended lately, and why."""
    if not details.departures:
        return '<p class="empty">None has ended since Workbench started.</p>'
    return (
        f'<ul class="card lines">{"".join(_departure(gone, details.at) for gone in details.departures)}</ul>'
    )


def _departure(gone: Departure, now: float) -> str:
    what = f"It held {escape(gone.model)}." if gone.model else "It held no model."
    if gone.in_flight:
        what = f"{figures.count(gone.in_flight, 'request')} of {escape(gone.model)} broke off."
    name, mark = escape(gone.worker), badge("disk", "ended") if gone.expected else badge("broken", "died")
    return (
        f'<li data-testid="departure" data-name="{name}"><strong>{name}</strong>'
        f'{mark}<span class="grow">{name} {escape(gone.how)}. '
        f'<span class="quiet">{what}</span></span>'
        f'<span class="quiet">{age(gone.gone_at, now)} ago</span>{_log_button(gone.worker)}</li>'
    )
