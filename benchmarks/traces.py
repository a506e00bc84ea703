"""Made-up request traces: bursts that arrive at random, over models of unequal popularity.

Bursts form a Poisson process; within a burst, requests do, at `BURST_INTENSITY` times the average rate. How
often a model is asked for follows Zipf's law over the order in which the models are given. Time has no unit
until a trace is paced: a mean gap between requests is 1.
"""

import random
from collections import OrderedDict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

MEAN_BURST = 16
"""Requests."""
BURST_INTENSITY = 8.0
ZIPF_EXPONENT = 1.0


@dataclass(frozen=True, slots=True)
class Arrival:
    """One request of a trace."""

    at: float
    """Since the beginning of the trace; in seconds once it is paced."""
    model: str


def bursty_trace(models: Sequence[str], count: int, seed: int) -> list[Arrival]:
    """`count` requests in order of arrival; the same for the same arguments."""
    chance = random.Random(seed)
    popularity = [1 / rank**ZIPF_EXPONENT for rank in range(1, len(models) + 1)]
    times = sorted(_burst_times(chance, count))[:count]
    return [Arrival(at - times[0], chance.choices(models, popularity)[0]) for at in times]


def _burst_times(chance: random.Random, count: int) -> Iterator[float]:
    """At least `count` times, of whole bursts."""
    burst_at, drawn = 0.0, 0
    while drawn < count:
        burst_at += chance.expovariate(1 / MEAN_BURST)
        at = burst_at
        size = 1 + round(chance.expovariate(1 / (MEAN_BURST - 1)))
        drawn += size
        for _ in range(size):
            yield at
            at += chance.expovariate(BURST_INTENSITY)


def misses_in_order(models: Sequence[str], slots: int) -> int:
    """Loads that serving requests strictly in order takes, if the least recently used model gives way."""
    resident: OrderedDict[str, None] = OrderedDict()
    misses = 0
    for model in models:
        if model not in resident:
            misses += 1
            if len(resident) == slots:
                resident.popitem(last=False)
        resident[model] = None
        resident.move_to_end(model)
    return misses


def in_order_s(
    trace: Sequence[Arrival], slots: int, switch_s: float, service_s: Mapping[str, float]
) -> float:
    """Seconds to serve the requests of a trace one after the other.

    Args:
        trace: when they arrive does not matter.
        slots: models that fit at a time.
        switch_s: what one switch takes.
        service_s: by model, what one answer takes.
    """
    models = [arrival.model for arrival in trace]
    return misses_in_order(models, slots) * switch_s + sum(service_s[model] for model in models)


def paced(trace: Sequence[Arrival], duration_s: float) -> list[Arrival]:
    """The trace in seconds, from 0 to `duration_s`. It begins at 0 and has two different times at least."""
    return [replace(arrival, at=arrival.at * duration_s / trace[-1].at) for arrival in trace]
