"""What the pool did lately: which worker held which model, and which workers are gone and why."""

import time
from collections import deque
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Literal

from workbench.pool.runner import Runner
from workbench.pool.snapshot import RunnerState
from workbench.pool.worker import Worker

WINDOW_S = 600.0
MAX_SPANS = 1200
"""Of one worker: two a second over the whole window; of more, the oldest are forgotten first."""
MAX_SHOWN = 150
"""Spans of one worker that a page is given: one for each five pixels or so."""
MAX_DEPARTURES = 12

Holding = Literal["loading", "serving", "asleep"]

HOLDING: Mapping[RunnerState, Holding] = {
    "loading": "loading",
    "waking": "loading",
    "serving": "serving",
    "sleeping": "asleep",
    "asleep": "asleep",
}
"""How a worker holds its model; while it is unloaded it counts as gone."""

_Held = tuple[str, Holding, float, float]
"""Model, how, from when and until when."""


@dataclass(frozen=True, slots=True)
class TimelineSpan:
    """A time in which a worker held a model. Times here are seconds before now."""

    model: str
    holding: Holding
    began_s: float
    ended_s: float
    """0 while it lasts."""


@dataclass(frozen=True, slots=True)
class TimelineRow:
    """One worker's time, the oldest span first."""

    worker: str
    device: str
    began_s: float
    ended_s: float
    """When its process ended; 0 while it lives."""
    spans: tuple[TimelineSpan, ...]


@dataclass(frozen=True, slots=True)
class Departure:
    """A worker whose process is gone."""

    worker: str
    device: str
    model: str
    """What it held then; "" for nothing."""
    in_flight: int
    """Requests that it took along."""
    how: str
    """The end of a sentence: "was killed (SIGKILL)"."""
    expected: bool
    """Whether the app had told it to end."""
    gone_s: float
    """Seconds ago."""


@dataclass(slots=True)
class _Life:
    device: str
    began_at: float
    ended_at: float = 0.0
    held: tuple[str, Holding] | None = None
    held_since: float = 0.0
    spans: deque[_Held] = field(default_factory=lambda: deque(maxlen=MAX_SPANS))

    def hold(self, held: tuple[str, Holding] | None, now: float) -> None:
        if held == self.held:
            return
        if self.held is not None:
            self.spans.append((*self.held, self.held_since, now))
        self.held, self.held_since = held, now


class History:
    """Owned by the controller's task; bounded, and gone with the app."""

    def __init__(self) -> None:
        self._lives: dict[str, _Life] = {}
        self._departures: deque[tuple[float, Departure]] = deque(maxlen=MAX_DEPARTURES)

    def note(self, workers: Iterable[Worker], runners: Iterable[Runner]) -> None:
        """Keep what has changed since the last call."""
        now = time.monotonic()
        held = {
            worker.id: (runner.spec.name, holding)
            for runner in runners
            if (holding := HOLDING.get(runner.state))
            for worker in runner.workers
        }
        alive = {worker.id: worker for worker in workers}
        for worker_id, worker in alive.items():
            life = self._lives.setdefault(worker_id, _Life(worker.device, worker.started_at))
            life.hold(held.get(worker_id), now)
        for worker_id, life in list(self._lives.items()):
            if worker_id not in alive:
                life.hold(None, now)
                life.ended_at = life.ended_at or now
                if now - life.ended_at > WINDOW_S:
                    del self._lives[worker_id]

    def on_died(self, worker: Worker, how: str, runner: Runner | None) -> None:
        """Keep how a worker ended."""
        model, in_flight = (runner.spec.name, len(runner.holders)) if runner else ("", 0)
        how = worker.crash_reason or how
        departure = Departure(worker.id, worker.device, model, in_flight, how, worker.dismissed, 0.0)
        self._departures.append((time.monotonic(), departure))

    def rows(self, most: int = MAX_SHOWN) -> list[TimelineRow]:
        """Each worker of the last ten minutes, those that live first, in order of their start.

        Of a worker with more than `most` spans, only the longest of those that begin together is there.
        """
        now = time.monotonic()
        rows = [
            TimelineRow(
                worker_id,
                life.device,
                now - life.began_at,
                now - life.ended_at if life.ended_at else 0.0,
                tuple(_spans(life, now, most)),
            )
            for worker_id, life in self._lives.items()
        ]
        return sorted(rows, key=lambda row: (row.ended_s > 0, -row.began_s))

    def departures(self) -> list[Departure]:
        """Workers that are gone, the latest first."""
        now = time.monotonic()
        return [
            Departure(d.worker, d.device, d.model, d.in_flight, d.how, d.expected, now - at)
            for at, d in reversed(self._departures)
        ]


def _spans(life: _Life, now: float, most: int) -> list[TimelineSpan]:
    known = [*life.spans, (*life.held, life.held_since, now)] if life.held else list(life.spans)
    known = [span for span in known if now - span[3] <= WINDOW_S]
    if len(known) > most:
        longest: dict[int, _Held] = {}
        for span in known:
            slot = int(span[2] * most / WINDOW_S)
            if slot not in longest or _seconds(span) > _seconds(longest[slot]):
                longest[slot] = span
        known = list(longest.values())
    return [TimelineSpan(model, holding, now - began, now - ended) for model, holding, began, ended in known]


def _seconds(span: _Held) -> float:
    return span[3] - span[2]
