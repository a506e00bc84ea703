import math
import random
import statistics

import pytest

from benchmarks.best_order import best_waits
from benchmarks.traces import Arrival


def trace(*arrivals):
    return [Arrival(at, model) for at, model in arrivals]


def every_order(trace, places, switch_s, service_s):
    """Total wait of every order, one decision after the other, without merging any."""

    def go(now, arrived, slots, waits):
        while arrived < len(trace) and trace[arrived].at <= now:
            model, slots = trace[arrived].model, dict(slots)
            for number, (resident, ready_at, busy_until) in slots.items():
                if resident == model:
                    starts = max(ready_at, trace[arrived].at)
                    slots[number] = (model, ready_at, max(busy_until, starts + service_s))
                    waits = waits | {arrived: starts - trace[arrived].at}
            arrived += 1
        waiting = [number for number in range(arrived) if number not in waits]
        free = [number for number, (_, _, busy_until) in slots.items() if busy_until <= now]
        if waiting and free:
            for number in free:
                for model in {trace[request].model for request in waiting}:
                    ready_at = now + switch_s
                    served = {
                        request: ready_at - trace[request].at
                        for request in waiting
                        if trace[request].model == model
                    }
                    loaded = {number: (model, ready_at, ready_at + service_s)}
                    yield from go(now, arrived, slots | loaded, waits | served)
            return
        coming = [trace[arrived].at] if arrived < len(trace) else []
        coming += [busy_until for _, _, busy_until in slots.values() if busy_until > now]
        if len(waits) == len(trace):
            yield sum(waits.values())
        else:
            yield from go(min(coming), arrived, slots, waits)

    empty = dict.fromkeys(range(places), ("", -math.inf, -math.inf))
    return go(trace[0].at, 0, empty, {})


@pytest.mark.parametrize("seed", range(40))
def test_no_order_is_better(seed):
    chance = random.Random(seed)
    times = sorted(chance.uniform(0, 2.5) for _ in range(7))
    requests = trace(*((at, chance.choice("abcd")) for at in times))
    models = dict.fromkeys("abcd", 0.3)
    best = min(every_order(requests, 2, 1.0, 0.3))
    assert sum(best_waits(requests, 2, 1.0, models)) == pytest.approx(best)


def test_requests_are_grouped_by_model():
    requests = trace((0.0, "a"), (0.0, "b"), (0.0, "a"), (0.0, "b"))
    assert best_waits(requests, 1, 1.0, {"a": 0.0, "b": 0.0}) == pytest.approx([1, 2, 1, 2])


def test_the_model_most_asked_for_goes_first():
    requests = trace((0.0, "a"), (0.1, "b"), (0.1, "c"), (0.1, "c"))
    assert best_waits(requests, 1, 1.0, dict.fromkeys("abc", 0.0)) == pytest.approx([1.0, 2.9, 1.9, 1.9])


def test_a_model_that_serves_costs_no_wait():
    requests = trace((0.0, "a"), (5.0, "a"), (5.5, "a"))
    assert best_waits(requests, 1, 1.0, {"a": 2.0}) == pytest.approx([1, 0, 0])


def test_a_model_is_not_replaced_before_its_answers_are_complete():
    requests = trace((0.0, "a"), (0.5, "b"))
    assert best_waits(requests, 1, 1.0, {"a": 3.0, "b": 3.0}) == pytest.approx([1, 4.5])


def test_the_future_is_known():
    """b gives way to c although it was used last, because a comes again."""
    requests = trace((0.0, "a"), (2.0, "b"), (4.0, "c"), (6.0, "a"), (6.1, "a"))
    waits = best_waits(requests, 2, 1.0, dict.fromkeys("abc", 0.1))
    assert statistics.mean(waits) == pytest.approx(3 / 5)
