"""Bring a model up: configure it, load it in a worker, and attach the app's client to it."""

import asyncio
import atexit
import contextlib
import gc
import itertools
import pickle
import shutil
import tempfile
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from workbench.engine.environment import prepare_app
from workbench.engine.host import LoadTimes
from workbench.engine.metrics import EngineMetrics
from workbench.engine.prepared.store import PreparedStore
from workbench.engine.spec import ModelSpec
from workbench.pool.worker import Worker

if TYPE_CHECKING:
    from workbench.engine.client import EngineClient

T = TypeVar("T")

MAX_ATTACHING = 16
FULL_COLLECTION_AFTER = 2
"""Collections of the middle generation; Python's default is ten."""


@dataclass(frozen=True, slots=True)
class BringUpTimes:
    """Seconds of each phase as the app saw them; `load` as the worker did."""

    configure_s: float
    load: LoadTimes
    attach_s: float
    """What the client, and the way there and back, took on top of the worker."""


class BringUp:
    """Carries out loads. Keeps threads of its own: an attach blocks as long as its load takes.

    Args:
        traces_endpoint: where traces go, to which engines are to add; None for no traces.
    """

    def __init__(self, traces_endpoint: str | None = None) -> None:
        self._traces_endpoint = traces_endpoint
        self.metrics = EngineMetrics()
        """What vLLM counts, for each model."""
        self._attaching = ThreadPoolExecutor(MAX_ATTACHING, thread_name_prefix="attach")
        self._threads = ThreadPoolExecutor(2, thread_name_prefix="engine")
        self._sockets: Path | None = None
        """Folder of the zmq sockets, made for the first load."""
        self._numbers = itertools.count(1)
        self._import: asyncio.Future[None] | None = None

    async def import_engine(self) -> None:
        """Import vLLM in this process: seconds of work, done once, whoever needs it first."""
        if self._import is None or (self._import.done() and self._import.exception()):
            # In one thread: imports of one package from two can deadlock.
            self._import = asyncio.ensure_future(_in_thread(self._threads, _import_engine))
        await asyncio.shield(self._import)

    async def prepare(self, spec: ModelSpec, device_memory_bytes: int) -> bytes:
        """Build a model's engine configuration ahead of a load, which then finds it cached."""
        await self.import_engine()
        return await _in_thread(self._threads, _configure, spec, device_memory_bytes)

    async def files_of_load(
        self, spec: ModelSpec, device_memory_bytes: int, prepared: PreparedStore
    ) -> list[Path]:
        """The files that a load of `spec` would read: its prepared weights, or its own.

        Raises:
            WorkbenchError: the model can't be configured.
            OSError: its folder can't be read.
        """
        config = await self.prepare(spec, device_memory_bytes)
        return await _in_thread(self._threads, _files_of_load, prepared, config)

    async def generates(self, spec: ModelSpec, device_memory_bytes: int) -> bool:
        """Whether a model generates text; else it embeds, classifies or scores.

        Raises:
            WorkbenchError: the model can't be configured.
        """
        config = await self.prepare(spec, device_memory_bytes)
        return await _in_thread(self._threads, _generates, config)

    async def supported_architectures(self) -> frozenset[str]:
        """Architecture names that the installed vLLM can run."""
        await self.import_engine()
        return await _in_thread(self._threads, _supported_architectures)

    async def bring_up(
        self,
        spec: ModelSpec,
        worker: Worker,
        device_memory_bytes: int,
        loaded: asyncio.Future[LoadTimes],
    ) -> tuple["EngineClient", BringUpTimes]:
        """Load `spec` in `worker` and attach to it.

        Args:
            spec: the model.
            worker: a warm worker.
            device_memory_bytes: memory of the worker's device.
            loaded: resolved by the controller when the worker reports, or fails, the load.

        Raises:
            WorkbenchError: the model can't be configured, loaded or attached to. The worker may be left
                loading or serving; the controller unloads it.
        """
        began = time.perf_counter()
        config = await self.prepare(spec, device_memory_bytes)
        configured = time.perf_counter()
        # zmq deletes a socket's file when the client closes. Not earlier: the worker may still connect.
        self._sockets = self._sockets or Path(tempfile.mkdtemp(prefix="workbench-"))
        name = f"ipc://{self._sockets}/{next(self._numbers)}"
        input_address, output_address = f"{name}-in", f"{name}-out"
        worker.load(config, input_address, output_address)  # raises if the worker has died meanwhile
        attach = asyncio.ensure_future(
            _in_thread(self._attaching, self._attach, config, spec, input_address, output_address)
        )
        try:
            both: set[asyncio.Future[Any]] = {attach, loaded}
            await asyncio.wait(both, return_when=asyncio.FIRST_EXCEPTION)
            if attach.done():
                attach.result()  # raises if it failed while the worker still loads
            times = await loaded
            client = await asyncio.shield(attach)
        except BaseException:
            await asyncio.shield(self._give_up_attach(attach, input_address))
            raise
        attached = time.perf_counter()
        return client, BringUpTimes(configured - began, times, attached - configured - times.total_s)

    def _attach(
        self, config: bytes, spec: ModelSpec, input_address: str, output_address: str
    ) -> "EngineClient":
        from workbench.engine.client import EngineClient

        return EngineClient.attach(
            config, spec, input_address, output_address, self.metrics, self._traces_endpoint
        )

    async def _give_up_attach(self, attach: "asyncio.Future[EngineClient]", input_address: str) -> None:
        if not attach.done():
            await _in_thread(self._threads, _release, input_address)
        with contextlib.suppress(Exception):
            client = await attach
            await client.close()

    def close(self) -> None:
        """Let go of the threads and socket files."""
        for threads in (self._attaching, self._threads):
            threads.shutdown(wait=False, cancel_futures=True)
        if self._sockets is not None:
            shutil.rmtree(self._sockets, ignore_errors=True)


async def _in_thread(threads: ThreadPoolExecutor, function: Callable[..., T], *arguments: Any) -> T:
    return await asyncio.get_running_loop().run_in_executor(threads, function, *arguments)


# vLLM is imported where it is used: the page is up before it is.


def _import_engine() -> None:
    prepare_app()
    import workbench.engine.client
    import workbench.engine.core  # noqa: F401
    from workbench.engine.once import ask_once_in_app

    ask_once_in_app()
    # A collection over the libraries' million objects would stop every answer for 0.2 s.
    gc.collect()
    gc.freeze()
    gc.collect()  # or Python would wait for a quarter as many new objects before the next one
    # A model that is gone leaves few objects but megabytes, and a full collection now takes 10 ms.
    young, middle, _ = gc.get_threshold()
    gc.set_threshold(young, middle, FULL_COLLECTION_AFTER)
    atexit.register(gc.unfreeze)  # else extension modules complain of leaks at the end


def _configure(spec: ModelSpec, device_memory_bytes: int) -> bytes:
    from workbench.engine.config import pickled_config

    return pickled_config(spec, device_memory_bytes)


def _generates(config: bytes) -> bool:
    from workbench.engine.config import generates

    return generates(config)


def _files_of_load(prepared: PreparedStore, config: bytes) -> list[Path]:
    from workbench.engine.prepared.preparation import files_of_load

    return files_of_load(prepared, pickle.loads(config))


def _supported_architectures() -> frozenset[str]:
    from workbench.engine.config import supported_architectures

    return supported_architectures()


def _release(input_address: str) -> None:
    from workbench.engine.client import EngineClient

    EngineClient.release(input_address)
