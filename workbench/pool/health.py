"""When a worker counts as hung, and other limits of the pool."""

import time
from dataclasses import dataclass

from workbench.pool.scheduling import Scheduling
from workbench.pool.states import WorkerState
from workbench.pool.worker import Worker
from workbench.settings import Settings


@dataclass(frozen=True, slots=True)
class Limits:
    """Bounds the controller keeps; seconds and bytes."""

    spare_workers: int = 1
    worker_max_swaps: int = 1000
    leak_tolerance: int = 512 << 20
    max_queued: int = 256
    fairness_wait: float = 10
    scheduling: Scheduling = "fcfs"
    starvation_wait: float = 60
    ping_interval: float = 2
    ping_timeout: float = 20
    step_timeout: float = 300
    worker_start_timeout: float = 180
    load_timeout: float = 900
    unload_timeout: float = 30
    sleep_timeout: float = 120

    @classmethod
    def from_settings(cls, settings: Settings) -> "Limits":
        return cls(**{name: getattr(settings, name) for name in cls.__dataclass_fields__})


def sickness(worker: Worker, limits: Limits) -> str:
    """Why the worker should be killed, as the end of a sentence; "" while it is well.

    A worker in a long step or load still answers pings, from another thread; one that is hung does not.
    """
    now = time.monotonic()
    time_limits = {
        WorkerState.STARTING: limits.worker_start_timeout,
        WorkerState.LOADING: limits.load_timeout,
        WorkerState.SLEEPING: limits.sleep_timeout,
        WorkerState.WAKING: limits.load_timeout,  # it may have to read the weights from the disk
        WorkerState.UNLOADING: limits.unload_timeout,
        WorkerState.CLEANING: limits.unload_timeout,
        WorkerState.STOPPING: limits.unload_timeout,
    }
    time_limit = time_limits.get(worker.state)
    if time_limit is not None and now - worker.state_since - worker.excused_state_s > time_limit:
        return f"was {worker.state} for more than {time_limit:.0f} s"
    if worker.state is WorkerState.STARTING:
        return ""  # importing holds the interpreter for long; its own limit is above
    if worker.asked_at > worker.heard_at and now - worker.asked_at > limits.ping_timeout:
        return f"gave no sign of life for {limits.ping_timeout:.0f} s"
    if worker.step_s - worker.excused_step_s > limits.step_timeout:
        return f"was in one engine step for more than {limits.step_timeout:.0f} s"
    return ""
