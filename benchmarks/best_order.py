"""The best order in which a trace's models could have been loaded, found with the whole trace known.

The pool is simplified in the optimum's favour: a load always takes `switch_s`, also beside another one; the
requests for a model on a device are answered at once and side by side, each in `service_s`; and a model may
be replaced as soon as its answers are complete. A load begins only for a request that waits, and a place
that is free while one waits is used at once: what is searched is the best order, not foresight. (To leave a
place empty for a request known to come could shorten the mean wait further.)

The search is exact: it goes through all orders, request by request, and merges those that come to the same
state. Its effort grows with the requests that arrive within a few switches of one another.
"""

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from benchmarks.traces import Arrival


@dataclass(frozen=True, slots=True)
class Place:
    """Room for one model on the device."""

    model: str = ""
    free_at: float = -math.inf
    """When the model may be replaced: after its load and the answers under way."""


@dataclass(frozen=True, slots=True)
class State:
    """What the future depends on, after some requests have arrived."""

    places: tuple[Place, ...]
    """In order of model name."""
    waiting: tuple[tuple[str, int], ...] = ()
    """Models that wait to be loaded, with the requests for each, in order of name."""


@dataclass(frozen=True, slots=True)
class Load:
    """One load of an order."""

    at: float
    model: str
    replaced: str
    before: "Load | None"
    """The load that the order has before this one."""


Course = tuple[float, Load | None]
"""How a state was reached: the seconds waited in all requests together, and the last load."""


def best_waits(
    trace: Sequence[Arrival], places: int, switch_s: float, service_s: Mapping[str, float]
) -> list[float]:
    """Seconds each request waits until its model serves, in the order whose mean wait is least.

    Args:
        trace: in order of arrival, in seconds.
        places: models that fit at a time; all are empty in the beginning.
        switch_s: from the beginning of a load to serving, eviction included.
        service_s: by model, what answering one request takes.
    """
    reached: dict[State, Course] = {State((Place(),) * places): (0.0, None)}
    for number, arrival in enumerate(trace):
        until = trace[number + 1].at if number + 1 < len(trace) else math.inf
        arrived: dict[State, Course] = {}
        for state, course in reached.items():
            _keep_better(arrived, *_arrive(state, course, arrival, service_s[arrival.model]))
        reached = {}
        for state, course in arrived.items():
            for later in _go_on(state, course, arrival.at, until, switch_s, service_s):
                _keep_better(reached, *later)
    _, last = min(reached.values(), key=lambda course: course[0])
    return _waits(trace, last, switch_s)


def _keep_better(reached: dict[State, Course], state: State, course: Course) -> None:
    known = reached.get(state)
    if known is None or course[0] < known[0]:
        reached[state] = course


def _arrive(state: State, course: Course, arrival: Arrival, service_s: float) -> tuple[State, Course]:
    """Take a request in: its model serves, or will once loaded, or the request waits for a load."""
    waited, last = course
    for number, place in enumerate(state.places):
        if place.model == arrival.model:
            ready_at = place.free_at - service_s  # or, once it serves, when it was last asked for
            served = Place(place.model, max(ready_at, arrival.at) + service_s)
            places = (*state.places[:number], served, *state.places[number + 1 :])
            return State(places, state.waiting), (waited + max(0.0, ready_at - arrival.at), last)
    counts = dict(state.waiting)
    counts[arrival.model] = counts.get(arrival.model, 0) + 1
    return State(state.places, tuple(sorted(counts.items()))), course


def _go_on(
    state: State,
    course: Course,
    now: float,
    until: float,
    switch_s: float,
    service_s: Mapping[str, float],
) -> Iterator[tuple[State, Course]]:
    """Every state that can be reached at `until`, the next arrival, from the state at `now`."""
    free = [place for place in state.places if place.free_at <= now]
    if state.waiting and free:
        for place in free:
            for model, count in state.waiting:
                loaded = Place(model, now + switch_s + service_s[model])
                others = list(state.places)
                others.remove(place)
                after = State(
                    tuple(sorted((*others, loaded), key=lambda place: place.model)),
                    tuple(entry for entry in state.waiting if entry[0] != model),
                )
                waited, last = course
                begun = (waited + count * switch_s, Load(now, model, place.model, last))
                yield from _go_on(after, begun, now, until, switch_s, service_s)
        return
    if not state.waiting:
        yield _forget_past(state, until), course
        return
    then = min(until, *(place.free_at for place in state.places))
    waited, last = course
    course = (waited + (then - now) * sum(count for _, count in state.waiting), last)
    if then == until:
        yield _forget_past(state, until), course
    else:
        yield from _go_on(state, course, then, until, switch_s, service_s)


def _forget_past(state: State, now: float) -> State:
    """The state without what no longer matters, so that more states are equal."""
    return State(
        tuple(place if place.free_at > now else Place(place.model) for place in state.places), state.waiting
    )


def _waits(trace: Sequence[Arrival], last: Load | None, switch_s: float) -> list[float]:
    """What each request of the trace waits, given the loads."""
    loads: list[Load] = []
    while last is not None:
        loads.append(last)
        last = last.before
    loads.reverse()
    spans: dict[str, list[tuple[float, float]]] = {}
    """By model: from when it serves, until it is replaced."""
    for load in loads:
        if load.replaced:
            ready_at, _ = spans[load.replaced].pop()
            spans[load.replaced].append((ready_at, load.at))
        spans.setdefault(load.model, []).append((load.at + switch_s, math.inf))
    return [
        next(
            max(0.0, ready_at - arrival.at)
            for ready_at, replaced_at in spans[arrival.model]
            if replaced_at > arrival.at
        )
        for arrival in trace
    ]
