"""A model that a worker holds, as the controller keeps it."""

import asyncio
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal

from workbench.engine.host import LoadTimes
from workbench.engine.spec import ModelSpec
from workbench.pool.bring_up import BringUpTimes
from workbench.pool.snapshot import Progress, RunnerSnapshot, RunnerState, SwapRecord
from workbench.pool.view import RunnerView, SleepLevel
from workbench.pool.worker import Worker

if TYPE_CHECKING:
    from workbench.engine.client import EngineClient


@dataclass(eq=False)
class Runner:
    """A model runner and the workers leased to it. Owned by the controller's task."""

    spec: ModelSpec
    device: str
    workers: tuple[Worker, ...]
    """One, until gangs; the first holds the engine core."""
    wanted_at: float
    """Monotonic time when the first request asked for it, before it was loaded or woken."""
    from_residency: str
    evicted: tuple[str, ...]
    state: RunnerState = "loading"
    woken: bool = False
    """Whether it last came to serve from sleep."""
    client: "EngineClient | None" = None
    holders: set[int] = field(default_factory=set)
    """Numbers of the tickets that hold a lease: the requests in flight."""
    last_used: float = field(default_factory=time.monotonic)
    done_bytes: int = 0
    load_s: float = 0.0
    """What its load took its worker."""
    loaded: "asyncio.Future[LoadTimes]" = field(
        default_factory=lambda: asyncio.get_running_loop().create_future()
    )
    """Resolved when the worker reports the load, or failed with what ended it."""
    began_at: float = field(default_factory=time.monotonic)
    ended_at: float = 0.0
    """When it last began to serve."""
    swap: SwapRecord | None = None
    task: "asyncio.Task[None] | None" = None
    """What loads it, puts it to sleep or wakes it."""
    swaps_before: int = 0
    """Loads its worker had been told of before this one."""
    can_sleep: bool = False
    """Whether it would give its memory back asleep."""
    level: SleepLevel = 1
    """How it sleeps, or last slept."""
    slept_at: float = 0.0
    off_device: bool = False
    """Whether it has given its device memory up: asleep, or unloaded from there."""
    host_bytes: int = 0
    """Host memory it has claimed for its weights."""
    pinned: bool = False
    """Whether there is nothing more to pin of that memory."""
    pinning: "asyncio.Task[None] | None" = None

    @property
    def worker(self) -> Worker:
        return self.workers[0]

    @property
    def device_bytes(self) -> int:
        """What it takes of its device's budget now."""
        return 0 if self.off_device else self.spec.device_bytes

    @property
    def sleep_bytes(self) -> int:
        """Host memory that its weights take asleep; on the CPU they are page cache, awake and asleep."""
        return 0 if self.device == "cpu" else self.spec.weight_bytes

    @property
    def configuring(self) -> bool:
        """Whether the worker has not been told of this load yet."""
        return self.state == "loading" and self.worker.swaps == self.swaps_before

    def progress(self) -> Progress | None:
        """How far the load is, or what a wake moves; None when neither is due or under way."""
        if self.state == "loading":
            total = self.spec.weight_bytes
            done = min(self.done_bytes, total)
            return Progress("loading", f"Loading {self.spec.name}", done, total)
        if self.state in ("asleep", "waking"):
            source = "host memory" if self.level == 1 else "disk"
            moves = f" from {source}, {self.spec.weight_bytes / 1e9:.1f} GB" if self.sleep_bytes else ""
            return Progress("waking", f"Waking {self.spec.name}{moves}")
        return None

    def fail_load(self, error: BaseException) -> None:
        """End the wait for the worker's load, if it is still waited for."""
        if not self.loaded.done():
            self.loaded.set_exception(error)
            self.loaded.exception()  # the bring-up may be past reading it

    def record(
        self,
        outcome: Literal["ok", "failed", "cancelled"],
        times: BringUpTimes | None = None,
        error: str = "",
    ) -> SwapRecord:
        """The finished load or wake as a record."""
        now = time.monotonic()
        load = times.load if times else LoadTimes(0.0, 0.0, 0.0)
        return SwapRecord(
            model=self.spec.name,
            worker=self.worker.id,
            device=self.device,
            started_at=time.time() - (now - self.wanted_at),
            from_residency=self.from_residency,
            evicted=self.evicted,
            outcome=outcome,
            error=error,
            woken=self.woken,
            worker_start_s=self.worker.start_s,
            wait_s=self.began_at - self.wanted_at,
            configure_s=times.configure_s if times else 0.0,
            create_s=load.create_s,
            weights_s=load.weights_s,
            kv_cache_s=load.kv_cache_s,
            attach_s=times.attach_s if times else 0.0,
            total_s=now - self.wanted_at,
            device_bytes=self.spec.device_bytes,
        )

    def view(self, kept: bool, outdated: bool) -> RunnerView:
        """What the policy sees: whether people have pinned the model, and whether they want another spec."""
        return RunnerView(
            model=self.spec.name,
            device=self.device,
            state=self.state,
            device_bytes=self.device_bytes,
            in_flight=len(self.holders),
            last_used=self.last_used,
            load_s=self.load_s,
            progress=self.progress(),
            can_sleep=self.can_sleep,
            sleep_bytes=self.sleep_bytes,
            host_bytes=self.host_bytes,
            unpinned=self.sleep_bytes > 0 and not self.pinned and self.pinning is None,
            slept_at=self.slept_at,
            kept=kept,
            draining=any(worker.draining for worker in self.workers),
            outdated=outdated,
        )

    def snapshot(self, pinned: bool) -> RunnerSnapshot:
        """What people see; `pinned` if they have pinned the model."""
        return RunnerSnapshot(
            model=self.spec.name,
            state=self.state,
            device=self.device,
            device_bytes=self.device_bytes,
            in_flight=len(self.holders),
            idle_since=0.0 if self.holders else self.last_used,
            progress=self.progress() if self.state != "asleep" else None,
            host_bytes=self.host_bytes,
            weight_bytes=self.spec.weight_bytes,
            kv_cache_bytes=self.spec.kv_cache_bytes,
            context_length=self.client.context_length if self.client else self.spec.context_length,
            pinned=pinned,
            workers=tuple(worker.id for worker in self.workers),
        )
