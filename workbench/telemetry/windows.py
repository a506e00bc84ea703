"""Sliding windows over what happens: counts, token rates and percentiles, slot by slot.

A window is a row of slots of equal length; what leaves it leaves with its slot. Costs do not depend on how
much has happened, but for a histogram's few hundred buckets.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Final, Literal

from workbench.telemetry.histogram import Histogram

Outcome = Literal["ok", "failed", "cancelled"]
Time = Literal["ttft", "tpot", "pause", "total", "queue", "switch"]

TIMES: Final[tuple[Time, ...]] = ("ttft", "tpot", "pause", "total", "queue", "switch")
"""Time to first token, time per output token after it, longest pause between two, end to end, waits for
a turn, for room or for a worker, and switches."""
PERCENTILES: Final = (0.5, 0.95, 0.99, 1.0)
SAMPLES_NEEDED: Final[Mapping[float, int]] = {0.5: 1, 0.95: 20, 0.99: 100, 1.0: 1}
"""With fewer values a percentile is the longest of them all by another name, and is not told."""


@dataclass(frozen=True, slots=True)
class Span:
    """How long a window is, and in what steps it slides."""

    name: str
    title: str
    slot_s: int
    slots: int


SPANS: Final = (Span("5m", "5 min", 5, 60), Span("1h", "1 h", 60, 60), Span("24h", "24 h", 1800, 48))


@dataclass(frozen=True, slots=True)
class Spread:
    """A distribution of seconds; None for what so few values can't tell."""

    count: int = 0
    p50: float | None = None
    p95: float | None = None
    p99: float | None = None
    longest: float | None = None


@dataclass(frozen=True, slots=True)
class Counts:
    """What happened in some time."""

    tokens: int = 0
    ok: int = 0
    failed: int = 0
    cancelled: int = 0
    waiting: int = 0
    """The most requests that waited at once."""
    batch: int = 0
    """The most answers of one model that were decoded at once."""


NOTHING: Final = Counts()
NO_TIMES: Final[Mapping[Time, float]] = {}


@dataclass(frozen=True, slots=True)
class Picture:
    """A window at one moment. Curves have an entry for each slot, the oldest first."""

    span: Span
    ends_at: int
    """Unix time when the newest slot ends."""
    spreads: Mapping[Time, Spread]
    counts: Counts
    curves: Mapping[Time, tuple[tuple[float, float] | None, ...]]
    """Median and 95th percentile by nearest rank, which of fewer than 20 is the longest; None without any."""
    steps: tuple[Counts, ...]


class Slot:
    """What happened in one step of a window, or in all of it."""

    __slots__ = ("_curve", "batch", "cancelled", "failed", "ok", "times", "tokens", "waiting")

    def __init__(self) -> None:
        self.times: dict[Time, Histogram] = {}
        self.tokens = self.ok = self.failed = self.cancelled = self.waiting = self.batch = 0
        self._curve: dict[Time, tuple[float, float]] = {}
        """Median and 95th percentile, kept until something is added."""

    def add_time(self, time: Time, seconds: float) -> None:
        self.times.setdefault(time, Histogram()).add(seconds)
        self._curve.pop(time, None)

    def add_counts(self, counts: Counts) -> None:
        """Add what adds up, and keep the largest of what doesn't."""
        self.tokens += counts.tokens
        self.ok += counts.ok
        self.failed += counts.failed
        self.cancelled += counts.cancelled
        self.waiting = max(self.waiting, counts.waiting)
        self.batch = max(self.batch, counts.batch)

    def merge(self, other: "Slot") -> None:
        """Add all of another."""
        for time, histogram in other.times.items():
            self.times.setdefault(time, Histogram()).merge(histogram)
        self._curve.clear()
        self.add_counts(other.counts)

    def remove(self, other: "Slot") -> None:
        """Take another off, of which all was added here too; what doesn't add up stays as it is."""
        for time, histogram in other.times.items():
            self.times[time].remove(histogram)
        self.tokens -= other.tokens
        self.ok -= other.ok
        self.failed -= other.failed
        self.cancelled -= other.cancelled

    @property
    def counts(self) -> Counts:
        return Counts(self.tokens, self.ok, self.failed, self.cancelled, self.waiting, self.batch)

    def curve(self, time: Time) -> tuple[float, float] | None:
        """Median and 95th percentile."""
        if time not in self._curve:
            histogram = self.times.get(time)
            if histogram is None:
                return None
            median, high = histogram.percentiles((0.5, 0.95))
            self._curve[time] = median, high
        return self._curve[time]

    def spread(self, time: Time) -> Spread:
        """The distribution of a time."""
        histogram = self.times.get(time)
        if histogram is None or not histogram.count:
            return Spread()
        values = zip(PERCENTILES, histogram.percentiles(PERCENTILES), strict=True)
        return Spread(
            histogram.count,
            *(value if histogram.count >= SAMPLES_NEEDED[share] else None for share, value in values),
        )


class Window:
    """One window, of one model or of all. Times are Unix seconds; what is older than it is dropped."""

    def __init__(self, span: Span) -> None:
        self._span = span
        self._ring: list[Slot | None] = [None] * span.slots
        """Slot n since 1970 is at n modulo the length; where nothing happened there is none."""
        self._whole = Slot()
        self._newest = 0

    def add(self, at: float, counts: Counts = NOTHING, times: Mapping[Time, float] = NO_TIMES) -> None:
        """Take what happened at a time, and how long it took."""
        if slot := self._slot(at):
            for part in (slot, self._whole):
                part.add_counts(counts)
                for time, seconds in times.items():
                    part.add_time(time, seconds)

    def hold(self, since: float, until: float, waiting: int, batch: int) -> None:
        """Take how many requests have waited, and were decoded, for some time."""
        newest = self._slide(until)
        first = max(int(since // self._span.slot_s), newest - self._span.slots + 1)
        for number in range(first, newest + 1):
            if slot := self._slot(number * self._span.slot_s):
                slot.add_counts(Counts(waiting=waiting, batch=batch))

    def merge(self, other: "Window") -> None:
        """Take all of another window of the same span that is not too old."""
        self._slide(other._newest * self._span.slot_s)
        for number in range(self._newest - self._span.slots + 1, other._newest + 1):
            if theirs := other._ring[number % self._span.slots]:
                index = number % self._span.slots
                own = self._ring[index] = self._ring[index] or Slot()
                own.merge(theirs)
                self._whole.merge(theirs)

    def picture(self, now: float) -> Picture:
        """The window as it is now."""
        newest, length = self._slide(now), self._span.slots
        slots = [self._ring[number % length] for number in range(newest - length + 1, newest + 1)]
        steps = tuple(slot.counts if slot else NOTHING for slot in slots)
        return Picture(
            self._span,
            (newest + 1) * self._span.slot_s,
            {time: self._whole.spread(time) for time in TIMES},
            replace(
                self._whole.counts,
                waiting=max(step.waiting for step in steps),
                batch=max(step.batch for step in steps),
            ),
            {time: tuple(slot.curve(time) if slot else None for slot in slots) for time in TIMES},
            steps,
        )

    def _slot(self, at: float) -> Slot | None:
        """The slot of a time; None if it is older than the window."""
        newest, number = self._slide(at), int(at // self._span.slot_s)
        if number <= newest - self._span.slots:
            return None
        index = number % self._span.slots
        slot = self._ring[index]
        if slot is None:
            slot = self._ring[index] = Slot()
        return slot

    def _slide(self, now: float) -> int:
        """Make room for a time, unless there is; returns the number of the newest slot."""
        newest = int(now // self._span.slot_s)
        if newest > self._newest:
            first = max(self._newest + 1, newest - self._span.slots + 1)
            for number in range(first, newest + 1):
                index = number % self._span.slots
                if left := self._ring[index]:
                    self._whole.remove(left)
                    self._ring[index] = None
            self._newest = newest
        return self._newest
