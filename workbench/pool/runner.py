"""A model on a device, as the controller keeps it."""

import asyncio
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal

from workbench.engine.host import LoadTimes
from workbench.engine.spec import ModelSpec
from workbench.pool import policy
from workbench.pool.bring_up import BringUpTimes
from workbench.pool.snapshot import Progress, RunnerSnapshot, SwapRecord
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
    """Monotonic time when the first request asked for it."""
    from_residency: str
    evicted: tuple[str, ...]
    state: Literal["loading", "serving", "unloading"] = "loading"
    client: "EngineClient | None" = None
    holders: set[int] = field(default_factory=set)
    """Numbers of the tickets that hold a lease: the requests in flight."""
    last_used: float = field(default_factory=time.monotonic)
    done_bytes: int = 0
    loaded: "asyncio.Future[LoadTimes]" = field(
        default_factory=lambda: asyncio.get_running_loop().create_future()
    )
    """Resolved when the worker reports the load, or failed with what ended it."""
    began_at: float = field(default_factory=time.monotonic)
    ended_at: float = 0.0
    swap: SwapRecord | None = None
    task: "asyncio.Task[None] | None" = None
    swaps_before: int = 0
    """Loads its worker had been told of before this one."""

    @property
    def worker(self) -> Worker:
        return self.workers[0]

    @property
    def configuring(self) -> bool:
        """Whether the worker has not been told of this load yet."""
        return self.state == "loading" and self.worker.swaps == self.swaps_before

    def progress(self) -> Progress | None:
        """How far the load is; None unless it loads."""
        if self.state != "loading":
            return None
        total = self.spec.weight_bytes
        done = min(self.done_bytes, total)
        return Progress("loading", f"Loading {self.spec.name}", done, total)

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
        """The finished load as a record."""
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
            wait_s=self.began_at - self.wanted_at,
            configure_s=times.configure_s if times else 0.0,
            create_s=load.create_s,
            weights_s=load.weights_s,
            kv_cache_s=load.kv_cache_s,
            attach_s=times.attach_s if times else 0.0,
            total_s=now - self.wanted_at,
            device_bytes=self.spec.device_bytes,
        )

    def view(self) -> policy.RunnerView:
        """What the policy sees."""
        return policy.RunnerView(
            model=self.spec.name,
            device=self.device,
            state=self.state,
            device_bytes=self.spec.device_bytes,
            in_flight=len(self.holders),
            last_used=self.last_used,
            progress=self.progress(),
        )

    def snapshot(self) -> RunnerSnapshot:
        """What people see."""
        return RunnerSnapshot(
            model=self.spec.name,
            state=self.state,
            device=self.device,
            device_bytes=self.spec.device_bytes,
            in_flight=len(self.holders),
            idle_s=0.0 if self.holders else time.monotonic() - self.last_used,
            progress=self.progress(),
        )
