"""The engine core's own loop, over a scheduler and an executor that only pretend."""

import queue
import threading
import time
from types import SimpleNamespace

import pytest
import torch
from torch import nn
from vllm.v1.core.sched.interface import PauseState
from vllm.v1.engine import EngineCoreRequestType
from vllm.v1.engine.core import EngineCoreProc, EngineShutdownState

from workbench.engine.core import WarmEngineCore
from workbench.engine.packing import PackingQueue


class Scheduler:
    """With the end of a request still to be told to the workers, or not."""

    def __init__(self):
        self.pause_state = PauseState.UNPAUSED
        self.ended = False

    def has_requests(self):
        return self.ended

    def finish_requests(self, requests, status):
        return []

    def set_pause_state(self, state):
        self.pause_state = state


class Executor:
    """Ends the core's loop, which would wait for requests for ever, as soon as it sleeps."""

    def __init__(self, core):
        self.core, self.is_sleeping = core, False

    def collective_rpc(self, method):
        pass

    def sleep(self, level):
        self.is_sleeping = True
        self.core.shutdown_state = EngineShutdownState.REQUESTED
        self.core.process_input_queue_block = False


def pack(layer, remove_weight):
    pass


@pytest.fixture
def core(monkeypatch):
    """With three layers, packed but mapped too."""
    core = WarmEngineCore.__new__(WarmEngineCore)
    core.scheduler, core.model_executor = Scheduler(), Executor(core)
    core.input_queue, core.aborts_queue = queue.Queue(), queue.Queue()
    core.batch_queue, core.engines_running, core.process_input_queue_block = None, False, True
    core.shutdown_state = EngineShutdownState.RUNNING
    core._idle_state_callbacks = []
    core._packing, core._preparation = PackingQueue(pack, reversible=True), None
    core._loaded_at, core._steps, core._idle_since = 0.0, 1, None
    for method in ("_reset_caches", "_send_abort_outputs"):
        monkeypatch.setattr(core, method, lambda *args: None)
    for _ in range(3):
        core._packing.add(nn.Linear(2, 2, dtype=torch.float32), False)
    core._packing.pack_for(60)
    return core


@pytest.mark.parametrize("ended", [False, True], ids=["at once", "once the last answer's end is told"])
def test_a_model_falls_asleep_unpacked(core, ended):
    core.scheduler.ended = ended
    outcome = core.sleep()
    assert (outcome is None) is not ended
    core.scheduler.ended = False  # the next step tells it
    core._process_input_queue()
    assert core.model_executor.is_sleeping
    assert core.packing_state() == (3, 3)
    assert not core._may_pack()


@pytest.mark.parametrize(
    ("unwritten_bytes", "answered_s", "packs"),
    [(0, 0, True), (10**7, 29, False), (10**7, 31, True), (14 * 10**9, 400, False), (14 * 10**9, 421, True)],
)
def test_packing_waits_for_weights_to_be_written_until_answers_have_been_slow_for_long(
    core, unwritten_bytes, answered_s, packs
):
    given_up = []
    core._preparation = SimpleNamespace(
        unwritten_bytes=unwritten_bytes, give_up=lambda: given_up.append(True)
    )
    core._packing.unpack()
    core._answered_s = answered_s
    assert core._may_pack() is packs
    assert bool(given_up) is (packs and unwritten_bytes > 0)


def test_what_was_prepared_is_taken_between_two_steps(core):
    taken = []
    core._preparation = SimpleNamespace(take=lambda: taken.append(core._idle_since is not None))
    core._packing.clear()
    core._on_prepared()
    core.input_queue.put_nowait((EngineCoreRequestType.EXECUTOR_FAILED, b""))
    with pytest.raises(RuntimeError):
        core._process_input_queue()
    assert taken == [True]


def test_the_time_of_a_load_does_not_count_as_idle(monkeypatch):
    loaded_at = []
    monkeypatch.setattr(
        EngineCoreProc, "__init__", lambda *args, **kwargs: loaded_at.append(time.monotonic())
    )
    core = WarmEngineCore(None, None, PackingQueue(pack), None, threading.Event())
    assert core._loaded_at >= loaded_at[0]


def test_a_wake_goes_on_with_what_the_sleep_has_interrupted(core, monkeypatch):
    monkeypatch.setattr(EngineCoreProc, "wake_up", lambda self, tags: True)
    begun, touched = [], []
    core._preparation = SimpleNamespace(
        due=False, start=lambda *args: begun.append(args), touch=lambda: touched.append(True)
    )
    assert core.wake_up()
    assert touched
    assert not begun
    core._preparation.due = True
    assert core.wake_up()
    assert len(begun) == 1
