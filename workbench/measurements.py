"""What is measured of requests and switches: recorded in the catalog, and looked at from memory."""

import asyncio
import dataclasses
from collections.abc import Iterable, Mapping

import structlog

from workbench.catalog.store import Catalog
from workbench.catalog.tables import Swap
from workbench.errors import WorkbenchError
from workbench.pool.snapshot import SwapRecord
from workbench.telemetry.estimates import SwitchEstimates
from workbench.views import ModelView, Residency

log = structlog.get_logger("workbench.measurements")

KNOWN_SWAPS = 500
"""Switches of the past that are read at the start."""
ASLEEP: frozenset[Residency] = frozenset({"asleep", "sleeping"})
ON_DISK: frozenset[Residency] = frozenset({"disk", "unloading"})


class Measurements:
    """Takes what is measured, and says what it comes to. Belongs to the event loop.

    Args:
        catalog: open; it outlives the measurements.
    """

    def __init__(self, catalog: Catalog) -> None:
        self._catalog = catalog
        self._estimates = SwitchEstimates()
        self._storing: set[asyncio.Task[None]] = set()

    async def start(self) -> None:
        """Read what earlier runs have recorded of switches."""
        first_loads, swaps = await asyncio.to_thread(
            lambda: (self._catalog.first_loads(), self._catalog.recent_swaps(KNOWN_SWAPS))
        )
        for swap in first_loads:
            self._estimates.add_first(swap.model, swap.total_s, swap.wait_s)
        for swap in reversed(swaps):
            self._learn(swap)

    async def close(self) -> None:
        """Wait until what was measured is stored."""
        while self._storing:
            await asyncio.wait(self._storing)

    # Switches.

    def record_swap(self, record: SwapRecord) -> None:
        """Take a load or a wake, however it ended; it is stored in the background."""
        swap = Swap(**dataclasses.asdict(record) | {"evicted": list(record.evicted)})
        self._learn(swap)
        storing = asyncio.ensure_future(self._store_swap(swap))
        self._storing.add(storing)
        storing.add_done_callback(self._storing.discard)

    def _learn(self, swap: Swap) -> None:
        if swap.outcome == "ok":
            self._estimates.add(swap.model, swap.woken, swap.total_s, swap.wait_s)

    async def _store_swap(self, swap: Swap) -> None:
        try:
            await asyncio.to_thread(self._catalog.record_swap, swap)
        except WorkbenchError as error:
            log.error("switch not stored", model=swap.model, error=str(error))

    def switch_estimates(self, models: Iterable[ModelView]) -> Mapping[str, float]:
        """Seconds that a switch to each model would take now, by name; see `SwitchEstimates`.

        Models that serve or are on their way, that are not here, or of which nothing is known are left out.
        """
        models = list(models)
        weight_bytes = {model.name: model.weight_bytes for model in models}
        estimates = {
            model.name: self._estimates.seconds(model.name, model.residency in ASLEEP, weight_bytes)
            for model in models
            if model.residency in ASLEEP | ON_DISK
        }
        return {name: seconds for name, seconds in estimates.items() if seconds is not None}
