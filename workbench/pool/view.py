"""What the policy looks at, and what it answers: frozen values. Bytes are bytes, times monotonic seconds."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

from workbench.pool.snapshot import Progress, RunnerState

SleepLevel = Literal[1, 2]
"""As vLLM counts: asleep at level 1 a model's weights are in host memory, at level 2 they are dropped."""


@dataclass(frozen=True, slots=True)
class DeviceView:
    """A device and what it may hold."""

    id: str
    budget_bytes: int
    max_workers: int
    spare_workers: int
    can_sleep: bool = False
    """Whether idle models can give their memory up without leaving their workers."""
    host_budget_bytes: int = 0
    """Host memory for weights of models that sleep at level 1."""
    may_start: bool = True
    """Whether workers can be started; not for a while after several have failed to start."""


@dataclass(frozen=True, slots=True)
class WorkerView:
    """A worker process."""

    id: str
    device: str
    state: Literal["starting", "coming", "warm", "taken", "leaving"]
    """starting: warm in seconds; coming: warm in a moment; leaving: gone, but its place is not free yet."""
    last_held: Mapping[str, float] = field(default_factory=dict)
    """When it was last given each model that it has ever had."""
    draining: bool = False
    """Whether it ends as soon as what is in flight on it is over."""


@dataclass(frozen=True, slots=True)
class RunnerView:
    """A model that a worker holds."""

    model: str
    device: str
    state: RunnerState
    device_bytes: int
    """What it takes of the device's budget now; nothing while asleep."""
    in_flight: int = 0
    last_used: float = 0.0
    load_s: float = 0.0
    """What its load took its worker."""
    progress: Progress | None = None
    can_sleep: bool = True
    """Whether it would give its memory back asleep, on a device that can sleep."""
    sleep_bytes: int = 0
    """Host memory that its weights take at level 1."""
    host_bytes: int = 0
    """Host memory that it has claimed, asleep or not."""
    unpinned: bool = False
    """Whether a further piece of its host memory can be pinned now."""
    slept_at: float = 0.0
    """When it last fell asleep; 0 if it never did."""
    kept: bool = False
    """Whether people have pinned it. ("Pin" in this package is what is done to host memory.)"""
    draining: bool = False
    """Whether its worker drains."""
    outdated: bool = False
    """Whether those that wait for it want another spec of it."""


@dataclass(frozen=True, slots=True)
class WaiterView:
    """One waiting request."""

    id: int
    model: str
    device_bytes: int
    since: float
    gave_way: bool = False
    """Whether a model has already left, or fallen asleep, for this one."""


@dataclass(frozen=True, slots=True)
class PoolView:
    """Everything a plan depends on."""

    now: float
    fairness_wait: float
    devices: tuple[DeviceView, ...]
    workers: tuple[WorkerView, ...]
    runners: tuple[RunnerView, ...]
    waiters: tuple[WaiterView, ...]
    """In the order in which they are to go ahead."""


@dataclass(frozen=True, slots=True)
class Load:
    """Load a model; its bytes count against the device from now on."""

    model: str
    device: str
    worker_ids: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Sleep:
    """Put a model to sleep; at level 1 its weights count against the host memory from now on."""

    model: str
    level: SleepLevel
    for_model: str
    """The model that needs its place."""


@dataclass(frozen=True, slots=True)
class Plan:
    """What to do now."""

    grants: tuple[int, ...] = ()
    """Waiters that may go ahead."""
    loads: tuple[Load, ...] = ()
    wakes: tuple[str, ...] = ()
    """Models to wake; their bytes count against their device from now on."""
    sleeps: tuple[Sleep, ...] = ()
    evictions: Mapping[str, str] = field(default_factory=dict)
    """Model to unload → the model that needs its place ("" when no waiting one does)."""
    pins: tuple[str, ...] = ()
    """Models to pin host memory for, a piece of it; they claim all of it from now on."""
    starts: tuple[str, ...] = ()
    """Devices to start a worker on, once for each time they are listed."""
    stops: tuple[str, ...] = ()
    """Workers to end: they drain, and hold no model any more."""
    refusals: Mapping[int, str] = field(default_factory=dict)
    """Waiter → why its model can't be loaded here until something is changed by hand."""
    progress: Mapping[int, Progress] = field(default_factory=dict)
    """Waiter → what it waits for."""
