"""Brings the weights of the models likely to be asked for next into host memory."""

import asyncio
import contextlib
import os
import threading
import time
from collections import deque
from collections.abc import Awaitable, Callable, Collection
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import psutil
import structlog

from workbench.engine.chunks import StoppedError
from workbench.engine.page_cache import prefetch
from workbench.engine.spec import ModelSpec
from workbench.errors import WorkbenchError
from workbench.pool.prefetch import likely_next

log = structlog.get_logger("workbench.prefetcher")

SETTLE_S = 1.0
"""After a use: whoever waits for an answer goes first."""
MEMORY_SHARE = 0.5
"""Of the host memory that is free."""
REMEMBERED_USES = 256
LOWEST_PRIORITY = 19


class Prefetcher:
    """Reads files into the page cache, in a thread of lowest priority, after each use of a model."""

    def __init__(
        self,
        specs: Callable[[], Collection[ModelSpec]],
        on_device: Callable[[], Collection[str]],
        weight_files: Callable[[ModelSpec], Awaitable[Collection[Path]]],
    ) -> None:
        """Args:
        specs: gives the models whose files are on the disk.
        on_device: gives the names of those that a device holds.
        weight_files: gives the files that a load of a model would read.
        """
        self._specs = specs
        self._on_device = on_device
        self._weight_files = weight_files
        self._history: deque[tuple[str, float]] = deque(maxlen=REMEMBERED_USES)
        self._used = asyncio.Event()
        self._stopped = threading.Event()
        self._thread = ThreadPoolExecutor(1, "prefetch", initializer=_lower_priority)

    def on_use(self, model: str) -> None:
        """A model was switched to."""
        self._history.append((model, time.monotonic()))
        self._used.set()

    async def run(self) -> None:
        """Prefetch after each use, until cancelled."""
        try:
            while True:
                await self._used.wait()
                await asyncio.sleep(SETTLE_S)
                self._used.clear()
                try:
                    await self._prefetch()
                except Exception:  # a defect; the next use is another chance
                    log.exception("prefetching failed")
        finally:
            self._stopped.set()
            self._thread.shutdown(wait=False)

    async def _prefetch(self) -> None:
        on_device = self._on_device()
        candidates = {spec.name: spec for spec in self._specs() if spec.name not in on_device}
        budget_bytes = int(psutil.virtual_memory().available * MEMORY_SHARE)
        sizes = {name: spec.weight_bytes for name, spec in candidates.items()}
        for name in likely_next(self._history, sizes, budget_bytes):
            with contextlib.suppress(WorkbenchError, OSError):  # whoever asks for the model is told
                for path in await self._weight_files(candidates[name]):
                    await asyncio.get_running_loop().run_in_executor(self._thread, self._read, path)
                log.debug("prefetched", model=name)

    def _read(self, path: Path) -> None:
        with contextlib.suppress(StoppedError):
            prefetch(path, lambda: not self._stopped.is_set())


def _lower_priority() -> None:
    os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), LOWEST_PRIORITY)
