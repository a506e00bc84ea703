import time
from types import SimpleNamespace

from workbench.pool.health import Limits, sickness
from workbench.pool.states import WorkerState
from workbench.pool.worker import Worker

LIMITS = Limits(ping_timeout=20, step_timeout=300, load_timeout=900, unload_timeout=30, sleep_timeout=120)


def worker(state=WorkerState.SERVING, heard_ago=0.0, asked_ago=0.0, state_for=0.0, step_s=0.0):
    now = time.monotonic()
    return SimpleNamespace(
        state=state,
        heard_at=now - heard_ago,
        asked_at=now - asked_ago,
        state_since=now - state_for,
        step_s=step_s,
        excused_state_s=0.0,
        excused_step_s=0.0,
    )


def test_a_quiet_worker_that_was_not_asked_is_well():
    assert sickness(worker(heard_ago=99, asked_ago=100), LIMITS) == ""


def test_a_worker_has_its_time_to_answer_however_long_it_was_not_asked():
    assert sickness(worker(heard_ago=9999, asked_ago=1), LIMITS) == ""


def test_a_worker_that_answers_no_ping_is_hung():
    assert "no sign of life for 20 s" in sickness(worker(heard_ago=22, asked_ago=21), LIMITS)


def test_a_long_step_is_well_until_its_limit():
    assert sickness(worker(step_s=299), LIMITS) == ""
    assert "one engine step" in sickness(worker(step_s=301), LIMITS)


def test_each_state_has_its_limit():
    assert sickness(worker(WorkerState.LOADING, state_for=899), LIMITS) == ""
    assert "was loading for more than 900 s" in sickness(worker(WorkerState.LOADING, state_for=901), LIMITS)
    assert sickness(worker(WorkerState.SLEEPING, state_for=119), LIMITS) == ""
    assert "was sleeping" in sickness(worker(WorkerState.SLEEPING, state_for=121), LIMITS)
    assert sickness(worker(WorkerState.WAKING, state_for=899), LIMITS) == ""
    assert "was waking" in sickness(worker(WorkerState.WAKING, state_for=901), LIMITS)
    assert sickness(worker(WorkerState.ASLEEP, state_for=1e6), LIMITS) == ""
    assert "was unloading" in sickness(worker(WorkerState.UNLOADING, state_for=31), LIMITS)
    assert sickness(worker(WorkerState.WARM, state_for=1e6), LIMITS) == ""


def test_time_in_which_the_app_stood_still_is_held_against_no_worker():
    loading = worker(WorkerState.LOADING, state_for=1000)
    serving, answering = worker(heard_ago=1002, asked_ago=1001), worker(step_s=1000)
    for one in (loading, serving, answering):
        assert sickness(one, LIMITS)
        Worker.excuse(one, 995)
        assert sickness(one, LIMITS) == ""
    Worker.excuse(serving, 995)
    assert serving.heard_at <= time.monotonic()


def test_only_the_step_that_was_under_way_is_excused():
    answering = worker()
    Worker.note_step(answering, 10)
    Worker.excuse(answering, 1000)
    Worker.note_step(answering, 1015)
    assert sickness(answering, LIMITS) == ""
    for over in (0, 5):
        Worker.note_step(answering, over)
        Worker.note_step(answering, 301)
        assert "one engine step" in sickness(answering, LIMITS)
        Worker.excuse(answering, 1000)


def test_a_pause_while_nothing_was_asked_excuses_no_later_step():
    idle = worker()
    Worker.excuse(idle, 1000)
    Worker.note_step(idle, 0)
    Worker.note_step(idle, 301)
    assert "one engine step" in sickness(idle, LIMITS)
