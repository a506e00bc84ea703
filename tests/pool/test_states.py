from pathlib import Path

import pytest

from workbench.pool.states import (
    TRANSITIONS,
    IllegalTransitionError,
    WorkerEvent,
    WorkerState,
    diagram,
    next_state,
)


def test_one_model_after_another():
    state = WorkerState.STARTING
    for event in ("warmed", "load", "loaded", "unload", "released", "cleaned", "load"):
        state = next_state(state, WorkerEvent(event))
    assert state is WorkerState.LOADING


def test_sleep_and_wake_and_unload_from_each():
    for events in ("sleep slept wake woken", "sleep slept unload", "sleep unload", "sleep slept wake unload"):
        state = WorkerState.SERVING
        for event in events.split():
            state = next_state(state, WorkerEvent(event))
        assert state is (WorkerState.UNLOADING if event == "unload" else WorkerState.SERVING)


def test_a_cancelled_load_that_fails_is_cleaned_too():
    assert next_state(WorkerState.UNLOADING, WorkerEvent.LOAD_FAILED) is WorkerState.CLEANING


def test_illegal_events_raise():
    with pytest.raises(IllegalTransitionError, match="a serving worker can't take the event 'load'"):
        next_state(WorkerState.SERVING, WorkerEvent.LOAD)
    with pytest.raises(IllegalTransitionError):
        next_state(WorkerState.DEAD, WorkerEvent.WARMED)


@pytest.mark.parametrize("state", [s for s in WorkerState if s is not WorkerState.DEAD])
def test_every_living_worker_may_die(state):
    assert TRANSITIONS[state][WorkerEvent.DIED] is WorkerState.DEAD


def test_the_architecture_shows_the_diagram_of_the_table():
    text = Path("docs/architecture.md").read_text()
    assert diagram() in text, "run: python -c 'from workbench.pool.states import diagram; print(diagram())'"
