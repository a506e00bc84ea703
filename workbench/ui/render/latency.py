"""The Latency page: its frame for the script that draws charts, and what of it is HTML."""

from collections.abc import Iterable, Mapping, Sequence
from html import escape
from statistics import median
from typing import Any

from workbench.ui import figures
from workbench.values import SPANS, TIMES, ModelView, Now, Picture, RequestView, SwapRecord, SwitchView

DEFAULT_SPAN = "1h"
TORN_AT = 4.0
"""A switch that took this many times the median is not drawn to its end: the others would be specks."""

PHASES: Mapping[str, str] = {
    "wait": "Wait",
    "configure": "Configure",
    "create": "Create engine",
    "weights": "Weights",
    "kv": "KV cache",
    "attach": "Attach",
}
"""Phases of a switch, in their order. A wake has only two: wait, and the rest as weights."""

CHARTS: Mapping[str, tuple[str, str]] = {
    "ttft": ("Time to first token", "from arrival, waits included"),
    "tpot": ("Time per output token", "mean of each answer, after its first token"),
    "pause": ("Inter-token latency", "the longest pause of each answer"),
    "total": ("End to end", "from arrival to the end"),
    "queue": ("Queue", "waited for a turn, for room or for a worker"),
    "switch": ("Switch", "from wanted to serving, loads and wakes"),
    "tokens": ("Throughput", "generated tokens"),
    "requests": ("Requests", "by how they ended"),
    "load": ("Queue depth and batch", "the most at once"),
}
"""Titles of the charts, and what they show."""


def choose(choice: str, models: Iterable[ModelView]) -> tuple[str, str]:
    """The window and the model ("" for all) that a choice, "window:model", is taken for."""
    span, _, model = choice.partition(":")
    return (
        span if span in {known.name for known in SPANS} else DEFAULT_SPAN,
        model if model in {known.name for known in models} else "",
    )


def names(models: Iterable[ModelView]) -> list[str]:
    """The models to choose from."""
    return sorted((view.name for view in models), key=str.lower)


def present(now: Now) -> dict[str, float]:
    """The figures of this moment."""
    return {
        "inFlight": now.in_flight,
        "waiting": now.waiting,
        "prefilling": now.prefilling,
        "batch": now.batch,
        "tokensPerS": now.tokens_per_s,
    }


def window(picture: Picture) -> dict[str, Any]:
    """What the charts draw. Times are seconds, rounded to 10 µs."""
    return {
        "span": picture.span.name,
        "endsAt": picture.ends_at,
        "slotS": picture.span.slot_s,
        "spreads": _spreads(picture),
        "curves": _curves(picture),
        "counts": _counts(picture),
    }


def requests(views: Iterable[RequestView]) -> list[dict[str, Any]]:
    """The last requests, phase by phase."""
    return [_request(request) for request in views]


def _spreads(picture: Picture) -> dict[str, dict[str, Any]]:
    return {
        time: {
            "count": spread.count,
            "p50": _rounded(spread.p50),
            "p95": _rounded(spread.p95),
            "p99": _rounded(spread.p99),
            "longest": _rounded(spread.longest),
        }
        for time, spread in picture.spreads.items()
    }


def _curves(picture: Picture) -> dict[str, list[Any]]:
    """By slot, the oldest first; for times median and 95th percentile."""
    steps = picture.steps
    curves: dict[str, list[Any]] = {
        time: [None if point is None else [round(point[0], 5), round(point[1], 5)] for point in curve]
        for time, curve in picture.curves.items()
    }
    return curves | {
        "tokens": [step.tokens for step in steps],
        "ok": [step.ok for step in steps],
        "cancelled": [step.cancelled for step in steps],
        "failed": [step.failed for step in steps],
        "waiting": [step.waiting for step in steps],
        "batch": [step.batch for step in steps],
    }


def _counts(picture: Picture) -> dict[str, int]:
    counts = picture.counts
    return {
        "tokens": counts.tokens,
        "ok": counts.ok,
        "cancelled": counts.cancelled,
        "failed": counts.failed,
        "waiting": counts.waiting,
        "batch": counts.batch,
    }


def _request(request: RequestView) -> dict[str, Any]:
    phases = ("accept", "queue", "switch", "prefill", "decode", "end")
    return {
        "id": request.id,
        "model": request.model,
        "at": round(request.received_at, 3),
        "outcome": request.outcome,
        "error": request.error,
        "phases": [_rounded(getattr(request, f"{phase}_s")) for phase in phases],
        "total": _rounded(request.duration_s),
        "ttft": _rounded(request.ttft_s),
        "tpot": _rounded(request.tpot_s),
        "pause": _rounded(request.longest_gap_s),
        "switchReason": request.switch_reason,
        "promptTokens": request.prompt_tokens,
        "cachedTokens": request.cached_prompt_tokens,
        "tokens": request.completion_tokens,
    }


def _rounded(seconds: float | None) -> float | None:
    return None if seconds is None else round(seconds, 5)


# What does not change: the frame of the charts, which the script fills.


def controls() -> str:
    """Where a person picks window and model."""
    spans = "".join(
        f'<label><input type="radio" name="span" value="{span.name}"'
        f"{' checked' if span.name == DEFAULT_SPAN else ''}><span>{span.title}</span></label>"
        for span in SPANS
    )
    return (
        '<form class="latency-choice"><label class="unseen" for="latency-model">Model to show</label>'
        '<select id="latency-model" name="model"><option value="">All models</option></select>'
        f'<fieldset class="segments"><legend class="unseen">Window</legend>{spans}</fieldset></form>'
    )


def charts() -> str:
    """The figures of this moment, and a card for each chart."""
    now = {
        "inFlight": "in flight",
        "waiting": "waiting",
        "prefilling": "in prefill",
        "batch": "in the batch",
        "tokensPerS": "tokens/s",
    }
    present = "".join(
        f'<div><dd class="figure" data-now="{name}">–</dd><dt>{label}</dt></div>'
        for name, label in now.items()
    )
    cards = "".join(_card(name, title, what) for name, (title, what) in CHARTS.items())
    return (
        f'<dl class="card latency-now" aria-label="At this moment">{present}</dl>'
        f'<div class="latency-charts">{cards}</div>'
        '<p class="quiet latency-method">Percentiles are of complete answers, by nearest rank, to 0.5%. '
        "Of fewer than 20 answers there is no p95, of fewer than 100 no p99. The line is the median of each "
        "step, the shade reaches to its p95. Answers that failed or were stopped are counted apart. "
        "<span data-past></span></p>"
    )


def _card(name: str, title: str, what: str) -> str:
    if name in TIMES:
        labels = {"p50": "p50", "p95": "p95", "p99": "p99", "longest": "longest"}
    else:
        labels = {
            "tokens": {"mean": "tokens/s", "peak": "peak tokens/s", "sum": "tokens"},
            "requests": {"rate": "a minute", "ok": "complete", "cancelled": "stopped", "failed": "failed"},
            "load": {"waiting": "most waiting", "batch": "largest batch"},
        }[name]
    values = "".join(
        f'<div><dt>{label}</dt><dd class="figure" data-value="{value}">–</dd></div>'
        for value, label in labels.items()
    )
    return (
        f'<section class="card latency-card" data-chart="{name}" aria-label="{title}">'
        f'<header><h3>{title}</h3><p class="quiet">{what}</p></header><dl>{values}</dl>'
        f'<div class="plot" tabindex="0" role="img" aria-label="{title}"></div>'
        '<p class="quiet figure readout"></p></section>'
    )


def life() -> str:
    """The frame of the last requests, of which one is told in full."""
    return (
        '<div class="latency-life"><ul class="card" aria-label="Last requests"></ul>'
        '<section class="card" aria-live="off" aria-label="One request"></section></div>'
    )


# Switches.


def switches(views: Sequence[SwitchView]) -> str:
    """The last switches by phase, the latest first, with cold starts beside them."""
    if not views:
        return (
            '<p class="empty">No switch yet. Ask a model that is not on the device, and its way there '
            "shows here, phase by phase.</p>"
        )
    full_s = _full_s([view.record for view in views])
    rows = "".join(_switch(view, full_s) for view in views)
    legend = "".join(f'<li><i class="phase-{name}"></i>{label}</li>' for name, label in PHASES.items())
    return (
        f'{_cold_start(views)}<ul class="latency-legend quiet" aria-hidden="true">{legend}</ul>'
        f'<ol class="card waterfall">{rows}</ol>'
    )


def _full_s(records: Iterable[SwapRecord]) -> float:
    """Seconds that the whole width stands for."""
    totals = [record.total_s for record in records]
    return max(min(max(totals), TORN_AT * median(totals)), 0.001)


def phases(record: SwapRecord) -> dict[str, float]:
    """Seconds by phase; what a switch that did not succeed spent after its wait is of no known phase."""
    if record.outcome != "ok":
        return {"wait": record.wait_s, "unknown": max(0.0, record.total_s - record.wait_s)}
    return {
        "wait": record.wait_s,
        "configure": record.configure_s,
        "create": record.create_s,
        "weights": record.weights_s,
        "kv": record.kv_cache_s,
        "attach": record.attach_s,
    }


def _switch(view: SwitchView, full_s: float) -> str:
    record = view.record
    name = escape(record.model)
    spent = {phase: seconds for phase, seconds in phases(record).items() if seconds >= 0.0005}
    told = " · ".join(f"{_phase(record, phase)} {figures.seconds(spent[phase])}" for phase in spent)
    torn = " torn" if record.total_s > full_s * 1.001 else ""
    bars, left_s = "", full_s
    for phase, seconds in spent.items():
        if left_s > 0:
            bars += _segment(phase, min(left_s, seconds), full_s)
        left_s -= seconds
    return (
        f'<li data-testid="switch" data-name="{name}-{record.started_at:.3f}">'
        f'<div class="who"><strong>{name}</strong><span class="quiet">{_origin(record)}</span></div>'
        f'<div class="course"><div class="bars{torn}" aria-hidden="true">{bars}</div>'
        f'<p class="quiet figure">{told}</p>{_trouble(record)}</div>'
        f'<div class="cost"><strong class="figure">{figures.seconds(record.total_s)}</strong>'
        f'<span class="quiet figure">{_cold(view)}</span>'
        f'<time class="quiet figure" data-at="{record.started_at:.0f}"></time></div></li>'
    )


def _phase(record: SwapRecord, phase: str) -> str:
    if phase == "unknown":
        return "then"
    if record.woken and phase == "weights":
        return "wake"
    return PHASES[phase].lower() if phase != "kv" else PHASES[phase]


def _origin(record: SwapRecord) -> str:
    """Where the model came from, and who made room."""
    if record.woken:
        origin = "asleep" if record.from_residency == "host" else "asleep, weights from disk"
    else:
        origin = f"from {escape(record.from_residency)}"
    if record.evicted:
        origin += f", evicting {escape(' and '.join(record.evicted))}"
    return origin


def _trouble(record: SwapRecord) -> str:
    if record.outcome == "ok":
        return ""
    if record.outcome == "cancelled":
        return '<p class="cancelled">Cancelled before it served.</p>'
    return f'<p class="bad">Failed. {escape(record.error)}</p>'


def _cold(view: SwitchView) -> str:
    if view.cold_start_s is None or view.cold_load_s is None:
        return "cold start not known" if view.record.outcome == "ok" else ""
    return f"cold start {figures.seconds(view.cold_start_s + view.cold_load_s)}"


def _cold_start(views: Sequence[SwitchView]) -> str:
    """Switches beside what they would have been with a process started for each."""
    known = [view for view in views if view.cold_start_s is not None and view.cold_load_s is not None]
    if not known:
        return ""
    switch_s = median(view.record.total_s for view in known)
    start_s = median(view.cold_start_s or 0.0 for view in known)
    load_s = median(view.cold_load_s or 0.0 for view in known)
    cold_s = start_s + load_s
    most = max(cold_s, switch_s, 0.001)
    times = cold_s / switch_s if switch_s > 0 else 0.0
    ratio = f", {times:,.0f} times as long" if times >= 2 else ""
    return (
        '<section class="card cold" aria-label="Beside cold starts" data-testid="cold-start"><dl>'
        f'<div><dt>A switch <span class="quiet">median of {len(known)} below</span></dt>'
        f'<dd class="figure">{figures.seconds(switch_s)}</dd>'
        f'<dd class="bars" aria-hidden="true">{_segment("weights", switch_s, most)}</dd></div>'
        '<div><dt>A cold start <span class="quiet">measured here</span></dt>'
        f'<dd class="figure">{figures.seconds(cold_s)}</dd><dd class="bars" aria-hidden="true">'
        f"{_segment('start', start_s, most)}{_segment('weights', load_s, most)}</dd></div></dl>"
        f'<p class="quiet">What starting a process for each switch would have cost on this machine{ratio}: '
        f"its worker’s own start, {figures.seconds(start_s)} from process to warm, then the load, "
        f"{figures.seconds(load_s)}. Medians; workers that start side by side slow each other down."
        "</p></section>"
    )


def _segment(phase: str, seconds: float, full_s: float) -> str:
    return f'<i class="phase-{phase}" style="width:{100 * seconds / full_s:.2f}%"></i>'
