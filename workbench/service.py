"""Workbench: the one door for the page, the API and notebooks."""

import asyncio
import contextlib
from collections.abc import AsyncGenerator, Mapping, Sequence
from pathlib import Path
from typing import Any, Self, TypeVar

import structlog

from workbench.access.access import Access
from workbench.catalog.store import Catalog
from workbench.chat.answer import Answering
from workbench.chat.conversations import Conversations
from workbench.chat.turns import Turns
from workbench.engine.prepared.store import PreparedStore
from workbench.engine.spec import ModelSpec, SamplingOptions
from workbench.errors import ShuttingDownError, WorkbenchError
from workbench.gateway import Gateway
from workbench.kv_caches import KvCaches, KvCacheView
from workbench.library import ModelLibrary
from workbench.measurements import Measurements
from workbench.pool.bring_up import BringUp
from workbench.pool.controller import Controller
from workbench.pool.devices import Device, find_devices
from workbench.pool.health import Limits
from workbench.pool.snapshot import PoolSnapshot, SwapRecord
from workbench.pool.worker import Worker
from workbench.pool_admin import PoolAdmin
from workbench.prefetcher import Prefetcher
from workbench.settings import Settings
from workbench.views import ChatEvent, ModelView

__all__ = ["Conversations", "Workbench"]

T = TypeVar("T")

log = structlog.get_logger("workbench")


class Workbench:
    """A running pool with its catalog. Use it as an async context manager.

    Args:
        settings: read from the environment by default; `overrides` are single ones that win over both.
    """

    def __init__(self, settings: Settings | None = None, **overrides: Any) -> None:
        self.settings = settings.model_copy(update=overrides) if settings else Settings(**overrides)
        self._catalog: Catalog | None = None
        self._access: Access | None = None
        self._library: ModelLibrary | None = None
        self._measurements: Measurements | None = None
        self._controller: Controller | None = None
        self._pool_admin: PoolAdmin | None = None
        self._answering: Answering | None = None
        self._turns: Turns | None = None
        self._gateway: Gateway | None = None
        self._kv_caches: KvCaches | None = None
        self._prefetcher: Prefetcher | None = None
        self._prefetch_task: asyncio.Task[None] | None = None
        self._pool_task: asyncio.Task[None] | None = None
        self._devices: tuple[Device, ...] = ()
        self._bring_up = BringUp(self.settings.otlp_endpoint)
        self._changes = 0
        self._tasks: set[asyncio.Task[Any]] = set()
        self._closed = False

    # Life.

    async def start(self) -> None:
        """Open the catalog and start the pool, which warms up in the background.

        Raises:
            UnavailableError: the database is locked, read-only or newer than this Workbench, or the
                devices that were asked for aren't there.
        """
        settings = self.settings
        self._devices = await asyncio.to_thread(find_devices, settings)
        self._catalog = await asyncio.to_thread(Catalog.open, settings.database_path, settings.seed_file)
        self._access = Access(self._catalog.keys, settings)
        await self._access.start()
        self._library = ModelLibrary(
            settings,
            self._catalog,
            max(device.budget_bytes for device in self._devices),
            self._bring_up.supported_architectures,
            self.pool,
            self._notify,
        )
        await self._library.start()
        engines = self._bring_up.metrics.collect
        self._measurements = Measurements(self._catalog, engines, settings.otlp_endpoint)
        await self._measurements.start()
        self._controller = Controller(
            self._devices,
            Limits.from_settings(settings),
            self._start_worker,
            self._bring_up.bring_up,
            on_change=self._notify,
            on_swap=self._on_swap,
            pinned=self._library.is_pinned,
        )
        self._answering = Answering(self._catalog, self._controller, self._measurements)
        self._gateway = Gateway(
            self._catalog,
            self._library,
            self._controller,
            self._measurements,
            self._bring_up.import_engine,
            lambda spec: self._bring_up.generates(spec, self._devices[0].memory_bytes),
        )
        await self._gateway.start()
        self._turns = Turns(self._catalog, self._answering, self._library.servable)
        self._pool_admin = PoolAdmin(settings, self._library, self._controller)
        self._kv_caches = KvCaches(self._controller.serving_clients)
        self._prefetcher = Prefetcher(self._library.on_disk, self._on_device, self._files_of_load)
        self._pool_task = asyncio.create_task(self._controller.run(), name="controller")
        self._prefetch_task = asyncio.create_task(self._prefetcher.run(), name="prefetcher")

    async def warm_engine(self) -> None:
        """Import vLLM here and prepare the configuration of every model on disk.

        Not part of `start`, so that a page can be up first; a chat that comes earlier does it itself.
        """
        await self._bring_up.import_engine()
        for spec in self._running(self._library).on_disk():
            with contextlib.suppress(WorkbenchError):  # whoever asks for the model is told
                await self._bring_up.prepare(spec, self._devices[0].memory_bytes)

    async def close(self) -> None:
        """End every worker and download, and close the catalog. Idempotent."""
        if self._closed:
            return
        self._closed = True
        self._notify()
        for task in (self._prefetch_task, self._pool_task):
            if task is not None:
                task.cancel()
                await asyncio.gather(task, return_exceptions=True)
        if self._kv_caches is not None:
            self._kv_caches.close()
        if self._pool_admin is not None:
            await self._pool_admin.close()
        if self._library is not None:
            await self._library.close()
        if self._answering is not None:
            await self._answering.finish()
        if self._measurements is not None:
            await self._measurements.close()
        if self._tasks:
            await asyncio.wait(self._tasks, timeout=1)
        self._bring_up.close()
        if self._access is not None:
            await self._access.close()
        if self._catalog is not None:
            await asyncio.to_thread(self._catalog.close)

    async def __aenter__(self) -> Self:
        try:
            await self.start()
        except BaseException:
            await self.close()
            raise
        self._spawn(self.warm_engine())
        return self

    async def __aexit__(self, *exc: object) -> None:
        await self.close()

    @property
    def catalog(self) -> Catalog:
        """The catalog.

        Raises:
            ShuttingDownError: Workbench is not running.
        """
        return self._running(self._catalog)

    @property
    def access(self) -> Access:
        """Keys, who comes with them, and what they may use. Raises: ShuttingDownError: as `catalog`."""
        return self._running(self._access)

    def _running(self, part: T | None) -> T:
        """A part of a running Workbench; ShuttingDownError before it is started and once it closes."""
        if part is None or self._closed:
            raise ShuttingDownError("Workbench is not running. Start it with `async with Workbench() as wb`.")
        return part

    @property
    def pool_admin(self) -> PoolAdmin:
        """Loads, pins, drains, logs and history of the pool. Raises: ShuttingDownError: as `catalog`."""
        return self._running(self._pool_admin)

    @property
    def gateway(self) -> Gateway:
        """The way of the API's requests to models. Raises: ShuttingDownError: as `catalog`."""
        return self._running(self._gateway)

    # Models.

    @property
    def models(self) -> list[ModelView]:
        """Every model of the catalog, with where it is now."""
        return self._running(self._library).views()

    def model(self, name: str) -> ModelView:
        """One model of the catalog.

        Raises:
            NotFoundError: there is no model of that name.
        """
        return self._running(self._library).view(name)

    async def add_hub_model(self, repo_id: str, revision: str = "", name: str = "") -> ModelView:
        """List a model of the hub and start its download in the background.

        Raises:
            BadRequestError: the id has not the form organisation/name.
            ConflictError: it is listed already.
        """
        return await self._running(self._library).add_hub(repo_id, revision, name)

    async def add_local_model(self, folder: str | Path, name: str = "") -> ModelView:
        """Check a folder and list it.

        Raises:
            BadRequestError: something in it can't be served, or it is outside the allowed folders.
            ConflictError: the name is taken.
        """
        return await self._running(self._library).add_local(folder, name)

    async def download(self, name: str) -> None:
        """Start, or resume, a model's download in the background."""
        await self._running(self._library).download(name)

    async def cancel_download(self, name: str) -> None:
        """Stop a download; what has come stays, and `download` goes on from there."""
        await self._running(self._library).cancel_download(name)

    async def remove_model(self, name: str, delete_files: bool = False) -> None:
        """Take a model off the list, and its downloaded files off the disk if `delete_files`.

        Raises:
            NotFoundError: there is no such model.
            ConflictError: it is on a device.
        """
        await self._running(self._library).remove(name, delete_files)

    # Chat.

    @property
    def conversations(self) -> Conversations:
        """The kept conversations and presets."""
        return Conversations(self.catalog.chats, self._running(self._answering).check_free)

    def chat(
        self,
        model: str,
        text: str,
        *,
        conversation_id: int | None = None,
        system: str | None = None,
        options: SamplingOptions | None = None,
    ) -> AsyncGenerator[ChatEvent]:
        """Send a message and stream what happens: progress of a switch, tokens, the end.

        Closing the iterator aborts the request in the engine; the partial answer is kept.

        Args:
            model: name in the catalog.
            text: the user's turn.
            conversation_id: conversation to go on with; a new one by default, named in Finished.
            system: system prompt from now on; the conversation's own by default, "" for none.
            options: sampling parameters; the model's own defaults where None.

        Raises:
            WorkbenchError: what went wrong, as a sentence. Nothing is stored if the request itself is
                refused; an answer that breaks off is stored as far as it came.
        """
        return self._running(self._turns).chat(
            model, text, conversation_id, system, options or SamplingOptions()
        )

    def regenerate(
        self,
        conversation_id: int,
        *,
        model: str = "",
        system: str | None = None,
        options: SamplingOptions | None = None,
    ) -> AsyncGenerator[ChatEvent]:
        """Answer the last question once more, perhaps by another model; the earlier answer stays a version.

        Streams and raises as `chat`. ConflictError: the conversation has no question.
        """
        return self._running(self._turns).regenerate(
            conversation_id, model, system, options or SamplingOptions()
        )

    def continue_answer(
        self, conversation_id: int, *, options: SamplingOptions | None = None
    ) -> AsyncGenerator[ChatEvent]:
        """Let the model go on with its last answer; tokens are those that are new.

        Streams and raises as `chat`. ConflictError: the conversation doesn't end with an answer.
        """
        return self._running(self._turns).continue_answer(conversation_id, options or SamplingOptions())

    def compare(
        self,
        models: Sequence[str],
        text: str | None,
        *,
        conversation_id: int | None = None,
        system: str | None = None,
        options: SamplingOptions | None = None,
    ) -> AsyncGenerator[tuple[int, ChatEvent | WorkbenchError]]:
        """Send a message to several models, together where they fit, else one after the other.

        The answers are kept as versions of one; that of the first model counts until another is chosen.
        Without a text, the last question is sent to them, and earlier answers to it stay beside theirs.

        Yields:
            The number of a model in `models`, and what happens with its answer, as in `chat`. An error ends
            only that answer; it is raised where all refuse the message.
        """
        return self._running(self._turns).compare(
            models, text, conversation_id, system, options or SamplingOptions()
        )

    # Pool.

    def pool(self) -> PoolSnapshot:
        """The pool at this moment."""
        return self._controller.snapshot() if self._controller is not None else PoolSnapshot()

    @property
    def changes(self) -> int:
        """Changes of the pool and the catalog so far: while it stays, so does what they are."""
        return self._changes

    @property
    def measurements(self) -> Measurements:
        """What is measured of requests and switches. Raises: ShuttingDownError: as `catalog`."""
        return self._running(self._measurements)

    def switch_estimates(self) -> Mapping[str, float]:
        """Seconds that a switch to each model would take now, by name.

        Left out are models that serve or are on their way, are not here, or of which nothing is known.
        """
        return self.measurements.switch_estimates(self.models)

    async def kv_caches(self) -> list[KvCacheView]:
        """The KV cache of each serving model; an engine in a long step is shown as it was before it."""
        return await self._running(self._kv_caches).look()

    async def load(self, model: str) -> None:
        """Bring a model onto a device, evicting idle ones if need be; see `PoolAdmin.load`."""
        await self.pool_admin.load(model)

    async def unload(self, model: str, force: bool = False) -> None:
        """Take a model off its device; see `PoolAdmin.unload`."""
        await self.pool_admin.unload(model, force)

    # Inside.

    async def _start_worker(self, worker_id: str, device: str) -> Worker:
        settings = self.settings
        logs = (settings.worker_log(worker_id), settings.log_json)
        prepared = (settings.prepared_dir, settings.prepared_bytes)
        return await Worker.start(worker_id, device, *logs, *prepared)

    def _notify(self) -> None:
        self._changes += 1

    def _spawn(self, work: Any) -> None:
        task = asyncio.ensure_future(work)
        self._tasks.add(task)
        task.add_done_callback(self._on_task_done)

    def _on_task_done(self, task: "asyncio.Task[Any]") -> None:
        self._tasks.discard(task)
        if not task.cancelled() and (error := task.exception()) and not self._closed:
            log.error("background task failed", error=repr(error))

    def _on_device(self) -> set[str]:
        return {runner.model for runner in self.pool().runners}

    async def _files_of_load(self, spec: ModelSpec) -> list[Path]:
        prepared = PreparedStore(self.settings.prepared_dir, self.settings.prepared_bytes)
        return await self._bring_up.files_of_load(spec, self._devices[0].memory_bytes, prepared)

    def _on_swap(self, record: SwapRecord) -> None:
        if self._measurements is not None:
            self._measurements.record_swap(record)
        if record.outcome == "ok" and self._prefetcher is not None:
            self._prefetcher.on_use(record.model)
