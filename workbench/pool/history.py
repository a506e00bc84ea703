"""What the pool did lately: which worker held which model, and which workers are gone and why."""

import time
from collections import deque
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
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


@dataclass(frozen=True, slots=True)
class TimelineSpan:
    """A time in which a worker held a model. Moments here are of the clock `time.monotonic`."""

    model: str
    holding: Holding
    began_at: float
    ended_at: float
    """0 while it lasts."""


@dataclass(frozen=True, slots=True)
class TimelineRow:
    """One worker's time, the oldest span first."""

    worker: str
    device: str
    began_at: float
    ended_at: float
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
    gone_at: float


@dataclass(slots=True)
class _Life:
    device: str
    began_at: float
    ended_at: float = 0.0
    held: tuple[str, Holding] | None = None
    spans: deque[TimelineSpan] = field(default_factory=lambda: deque(maxlen=MAX_SPANS))

    def hold(self, held: tuple[str, Holding] | None, now: float) -> None:
        if held == self.held:
            return
        if self.held is not None:
            self.spans.append(replace(self.spans.pop(), ended_at=now))
        if held is not None:
            self.spans.append(TimelineSpan(*held, now, 0.0))
        self.held = held


class History:
    """Owned by the controller's task; bounded, and gone with the app."""

    def __init__(self) -> None:
        self._lives: dict[str, _Life] = {}
        self._departures: deque[Departure] = deque(maxlen=MAX_DEPARTURES)

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
        now = time.monotonic()
        self._departures.append(
            Departure(worker.id, worker.device, model, in_flight, how, worker.dismissed, now)
        )

    def rows(self, most: int = MAX_SHOWN) -> list[TimelineRow]:
        """Each worker of the last ten minutes, those that live first, in order of their start.

        Of a worker with more than `most` spans, only the longest of those that begin together is there.
        """
        now = time.monotonic()
        rows = [
            TimelineRow(
                worker_id,
                life.device,
                life.began_at,
                life.ended_at,
                tuple(_spans(life, now, most)),
            )
            for worker_id, life in self._lives.items()
        ]
        return sorted(rows, key=lambda row: (row.ended_at > 0, row.began_at))

    def departures(self) -> list[Departure]:
        """Workers that are gone, the latest first."""
        return list(reversed(self._departures))


def _spans(life: _Life, now: float, most: int) -> list[TimelineSpan]:
    known = [span for span in life.spans if now - (span.ended_at or now) <= WINDOW_S]
    if len(known) <= most:
        return known
    longest: dict[int, TimelineSpan] = {}
    for span in known:
        slot = int(span.began_at * most / WINDOW_S)
        if slot not in longest or _seconds(span, now) > _seconds(longest[slot], now):
            longest[slot] = span
    return list(longest.values())


def _seconds(span: TimelineSpan, now: float) -> float:
    return (span.ended_at or now) - span.began_at
