"""What a request holds of the pool: a ticket while it waits, a lease while it runs."""

import asyncio
import time
from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

from workbench.engine.spec import ModelSpec
from workbench.errors import WorkbenchError
from workbench.pool.scheduling import NO_CLAIM, Claim, Place
from workbench.pool.snapshot import Progress, SwapRecord

if TYPE_CHECKING:
    from workbench.engine.client import EngineClient


@dataclass(frozen=True, slots=True)
class Lease:
    """The right to use a model; the model stays while any lease on it is held."""

    client: "EngineClient"
    waited_s: float
    """From asking to getting the lease."""
    swap: SwapRecord | None
    """The load that was waited for; None when the model already served."""
    priority: int
    """The request's place in the engine's own queue, for `generate`: lower goes first."""


class Ticket:
    """A request's place in the controller's queue. The controller writes it, the request reads it."""

    def __init__(self, number: int, spec: ModelSpec, claim: Claim = NO_CLAIM) -> None:
        self.number = number
        self.spec = spec
        self.claim = claim
        self.since = time.monotonic()
        self.place = Place(self.since)
        self.joined = False
        """Whether it was let into the queue."""
        self.progress = Progress("queued", f"Waiting for {spec.name}")
        self._granted: asyncio.Future[Lease] = asyncio.get_running_loop().create_future()
        self._changed = asyncio.Event()

    async def stages(self) -> AsyncIterator[Progress]:
        """What the request waits for, at each change; ends when the lease is there.

        Raises:
            WorkbenchError: the request was refused, or its load failed.
        """
        shown: Progress | None = None
        while not self._granted.done():
            self._changed.clear()  # before looking: what changes while the reader is busy is not missed
            if self.progress != shown:
                shown = self.progress
                yield shown
            else:
                await self._changed.wait()
        self._granted.result()

    @property
    def granted(self) -> bool:
        """Whether it has had its lease."""
        return self._granted.done() and self._granted.exception() is None

    async def lease(self) -> Lease:
        """Wait for the lease.

        Raises:
            WorkbenchError: the request was refused, or its load failed.
        """
        return await asyncio.shield(self._granted)

    def show(self, progress: Progress) -> None:
        """Tell the request what it waits for."""
        if progress != self.progress:
            self.progress = progress
            self._changed.set()

    def grant(self, lease: Lease) -> None:
        """Let the request go ahead."""
        if not self._granted.done():
            self._granted.set_result(lease)
        self._changed.set()

    def refuse(self, error: WorkbenchError) -> None:
        """Fail the request."""
        if not self._granted.done():
            self._granted.set_exception(error)
            self._granted.exception()  # a request that already left reads it no more
        self._changed.set()
