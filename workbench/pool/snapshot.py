"""Frozen pictures of the pool, for everybody above it. Bytes are bytes, durations are seconds.

Moments are of the clock `time.monotonic`: with ages in their place, no two pictures would be equal.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

RunnerState = Literal["loading", "serving", "sleeping", "asleep", "waking", "unloading"]
Stage = Literal["queued", "starting", "evicting", "loading", "waking", "serving"]


@dataclass(frozen=True, slots=True)
class Progress:
    """What a waiting request waits for."""

    stage: Stage
    detail: str
    """A sentence for people: "Queued behind 2 requests", "Evicting adder", "Loading weights"."""
    done_bytes: int = 0
    total_bytes: int = 0
    """0 while the stage has no measure."""


@dataclass(frozen=True, slots=True)
class WorkerSnapshot:
    """One worker process."""

    id: str
    device: str
    state: str
    state_since: float
    model: str | None
    pid: int | None
    private_bytes: int
    """Host memory without mapped files."""
    device_bytes: int
    """Device memory the process holds, as its driver says; 0 on the CPU."""
    started_at: float
    swaps: int
    in_flight: int
    draining: bool = False
    """Whether it ends as soon as what is in flight on it is over."""


@dataclass(frozen=True, slots=True)
class RunnerSnapshot:
    """One model that a worker holds: on a device, asleep, or on its way."""

    model: str
    state: RunnerState
    device: str
    device_bytes: int
    """What it takes of its device's budget now; nothing while asleep."""
    in_flight: int
    idle_since: float
    """When the last request left; 0 while one is in flight."""
    progress: Progress | None
    host_bytes: int = 0
    """Host memory that is set aside for its weights while it sleeps."""
    weight_bytes: int = 0
    kv_cache_bytes: int = 0
    """What it takes awake is the sum of the two."""
    context_length: int = 0
    """Longest sequence, prompt and answer, in tokens; 0 while it is not known yet."""
    pinned: bool = False
    """Whether people want it to stay: it gives way to no other model."""
    workers: tuple[str, ...] = ()
    """Those that hold it."""


@dataclass(frozen=True, slots=True)
class WaiterSnapshot:
    """Requests that wait for one model."""

    model: str
    count: int
    since: float
    """When the longest-waiting one came."""
    progress: Progress


@dataclass(frozen=True, slots=True)
class QueuedRequest:
    """One request that waits for its model."""

    model: str
    owner: str
    """The key or user that asks."""
    priority: int
    expected_tokens: int
    """Of prompt and answer."""
    waiting_s: float
    progress: Progress


@dataclass(frozen=True, slots=True)
class DeviceSnapshot:
    """One device, its budget for weights and KV cache, and one of host memory for models asleep."""

    id: str
    name: str
    budget_bytes: int
    used_bytes: int
    can_sleep: bool = False
    host_budget_bytes: int = 0
    host_used_bytes: int = 0


@dataclass(frozen=True, slots=True)
class PoolSnapshot:
    """The whole pool at one moment; equal to that of another one if nothing has changed."""

    workers: tuple[WorkerSnapshot, ...] = ()
    runners: tuple[RunnerSnapshot, ...] = ()
    waiters: tuple[WaiterSnapshot, ...] = ()
    devices: tuple[DeviceSnapshot, ...] = ()
    at: float = field(default=0.0, compare=False)

    @property
    def warm(self) -> bool:
        """Whether at least one worker can take a model, or holds one."""
        return any(worker.state not in ("starting", "dead") for worker in self.workers)


@dataclass(frozen=True, slots=True)
class SwapRecord:
    """One load or wake of a model, every phase timed in seconds."""

    model: str
    worker: str
    device: str
    started_at: float
    """Unix time when the load was first wanted."""
    from_residency: str
    """Where the weights came from: "disk" or "host"."""
    evicted: tuple[str, ...]
    """Models that had to leave, or fall asleep, for it."""
    outcome: Literal["ok", "failed", "cancelled"]
    error: str = ""
    woken: bool = False
    """Whether its worker held the model asleep."""
    worker_start_s: float = 0.0
    """What its worker's own start took, from its process to warm."""
    wait_s: float = 0.0
    """Waited for room and for a worker, evictions included."""
    configure_s: float = 0.0
    """Engine configuration; nothing when it was prepared."""
    create_s: float = 0.0
    weights_s: float = 0.0
    """For a wake, all it took."""
    kv_cache_s: float = 0.0
    attach_s: float = 0.0
    """What the client took longer than the worker."""
    total_s: float = 0.0
    device_bytes: int = 0

    @property
    def phases(self) -> Mapping[str, float]:
        """Seconds of each phase, in their order."""
        if self.woken:
            return {"wait": self.wait_s, "wake": self.weights_s}
        return {
            "wait": self.wait_s,
            "configure": self.configure_s,
            "create": self.create_s,
            "weights": self.weights_s,
            "kv_cache": self.kv_cache_s,
            "attach": self.attach_s,
        }
