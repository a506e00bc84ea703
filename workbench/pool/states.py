"""States of a worker, as one table; `docs/architecture.md` shows the diagram made from it."""

from enum import StrEnum


class WorkerState(StrEnum):
    """Where a worker process is in its life."""

    STARTING = "starting"
    """Imports under way, device context not open yet."""
    WARM = "warm"
    """Ready for any model."""
    LOADING = "loading"
    SERVING = "serving"
    SLEEPING = "sleeping"
    """Falling asleep: its model gives its device memory up and keeps the rest."""
    ASLEEP = "asleep"
    WAKING = "waking"
    UNLOADING = "unloading"
    """Still holds the memory of its model."""
    CLEANING = "cleaning"
    """The memory is given back; what was left behind is being collected and measured."""
    STOPPING = "stopping"
    """Told to end."""
    DEAD = "dead"


class WorkerEvent(StrEnum):
    """What moves a worker from one state to another."""

    WARMED = "warmed"
    LOAD = "load"
    LOADED = "loaded"
    LOAD_FAILED = "load failed"
    SLEEP = "sleep"
    SLEPT = "slept"
    WAKE = "wake"
    WOKEN = "woken"
    UNLOAD = "unload"
    RELEASED = "released"
    CLEANED = "cleaned"
    STOP = "stop"
    DIED = "died"


_S, _E = WorkerState, WorkerEvent

TRANSITIONS: dict[WorkerState, dict[WorkerEvent, WorkerState]] = {
    _S.STARTING: {_E.WARMED: _S.WARM, _E.STOP: _S.STOPPING, _E.DIED: _S.DEAD},
    _S.WARM: {_E.LOAD: _S.LOADING, _E.STOP: _S.STOPPING, _E.DIED: _S.DEAD},
    _S.LOADING: {
        _E.LOADED: _S.SERVING,
        _E.LOAD_FAILED: _S.CLEANING,
        _E.UNLOAD: _S.UNLOADING,
        _E.STOP: _S.STOPPING,
        _E.DIED: _S.DEAD,
    },
    _S.SERVING: {
        _E.SLEEP: _S.SLEEPING,
        _E.UNLOAD: _S.UNLOADING,
        _E.STOP: _S.STOPPING,
        _E.DIED: _S.DEAD,
    },
    _S.SLEEPING: {
        _E.SLEPT: _S.ASLEEP,
        _E.UNLOAD: _S.UNLOADING,
        _E.STOP: _S.STOPPING,
        _E.DIED: _S.DEAD,
    },
    _S.ASLEEP: {
        _E.WAKE: _S.WAKING,
        _E.UNLOAD: _S.UNLOADING,
        _E.STOP: _S.STOPPING,
        _E.DIED: _S.DEAD,
    },
    _S.WAKING: {
        _E.WOKEN: _S.SERVING,
        _E.UNLOAD: _S.UNLOADING,
        _E.STOP: _S.STOPPING,
        _E.DIED: _S.DEAD,
    },
    _S.UNLOADING: {
        _E.LOADED: _S.UNLOADING,  # the load was complete when its cancel arrived
        _E.LOAD_FAILED: _S.CLEANING,
        _E.RELEASED: _S.CLEANING,
        _E.STOP: _S.STOPPING,
        _E.DIED: _S.DEAD,
    },
    _S.CLEANING: {_E.CLEANED: _S.WARM, _E.STOP: _S.STOPPING, _E.DIED: _S.DEAD},
    _S.STOPPING: {_E.DIED: _S.DEAD},
    _S.DEAD: {},
}


class IllegalTransitionError(Exception):
    """An event arrived that the worker's state does not allow: a defect of the controller."""


def next_state(state: WorkerState, event: WorkerEvent) -> WorkerState:
    """The state after `event`.

    Raises:
        IllegalTransitionError: the table has no such transition.
    """
    try:
        return TRANSITIONS[state][event]
    except KeyError:
        raise IllegalTransitionError(f"a {state} worker can't take the event '{event}'") from None


def diagram() -> str:
    """The table as a Mermaid state diagram."""
    lines = ["stateDiagram-v2", "    [*] --> starting"]
    lines += [
        f"    {state} --> {target}: {event}"
        for state, events in TRANSITIONS.items()
        for event, target in events.items()
    ]
    return "\n".join([*lines, "    dead --> [*]"])
