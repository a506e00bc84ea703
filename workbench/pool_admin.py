"""What administrators see of the pool beyond its snapshot, and do with it: pins, drains, logs, history."""

import asyncio
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass, field

from workbench.errors import NotFoundError
from workbench.library import ModelLibrary
from workbench.pool.controller import Controller
from workbench.pool.giving_way import GivingWay
from workbench.pool.history import Departure, TimelineRow
from workbench.settings import Settings
from workbench.telemetry.follow import follow
from workbench.telemetry.machine import MachineLoad, MachineSampler


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

    async def pin(self, model: str, pinned: bool = True) -> None:
        """Have a model stay on its device once it is loaded, or no longer; also after a restart of the app.

        Raises:
            NotFoundError: there is no such model.
        """
        await self._library.pin(model, pinned)
        self._controller.reconsider()

    async def drain(self, worker_id: str, force: bool = False) -> None:
        """Have a worker finish what is in flight on it, give its model back, and end.

        Raises:
            NotFoundError: there is no such worker.
            ConflictError: it holds a model and `force` is False; the message says what will happen.
        """
        await self._controller.drain(worker_id, force)

    async def details(self) -> PoolDetails:
        """A look at the machine and the history; samples processors, so ask only while somebody looks."""
        pool = self._controller.snapshot()
        pids = {worker.id: worker.pid for worker in pool.workers if worker.pid}
        async with self._sampling:
            machine = await asyncio.to_thread(
                self._sampler.sample, pids, [device.id for device in pool.devices]
            )
        timeline = tuple(self._controller.timeline())
        for model in [span.model for row in timeline for span in row.spans]:
            self._numbers.setdefault(model, len(self._numbers))
        return PoolDetails(
            machine,
            self._controller.giving_way(),
            timeline,
            tuple(self._controller.departures()),
            dict(self._numbers),
        )

    def follow_log(self, worker_id: str) -> AsyncIterator[list[str]]:
        """The lines of a worker's log, from its last ones on; ends after the worker.

        An empty list comes where nothing was written for a while. Reading goes wrong with an OSError.

        Raises:
            NotFoundError: no such worker is here, or was lately.
        """
        known = {row.worker for row in self._controller.timeline()}
        known |= {departure.worker for departure in self._controller.departures()}
        if worker_id not in known:  # so that no name can lead to another file
            raise NotFoundError(f"There is no worker {worker_id}, and none that ended lately.")
        return follow(self._settings.worker_log(worker_id), lambda: self._lives(worker_id))

    def _lives(self, worker_id: str) -> bool:
        return any(worker.id == worker_id for worker in self._controller.snapshot().workers)
