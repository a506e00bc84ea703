"""The models of the catalog as a running Workbench offers them: listed, downloaded, ready to be loaded."""

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from pathlib import Path

from workbench.catalog.downloads import DownloadProgress, Downloads
from workbench.catalog.inspection import inspect_folder, sampling_defaults
from workbench.catalog.store import Catalog
from workbench.catalog.tables import Model
from workbench.engine.spec import ModelSpec
from workbench.errors import BadRequestError, ConflictError, NotFoundError, WorkbenchError
from workbench.pool.snapshot import PoolSnapshot, RunnerState
from workbench.settings import Settings
from workbench.views import ModelView, Residency

DEFAULT_KV_BYTES = 1 << 30
KV_SHARE = 8
"""A model whose catalog entry says nothing gets at most this fraction of the budget as KV cache."""
UNCHANGED: frozenset[RunnerState] = frozenset({"loading", "waking", "serving"})
"""States of a runner in which the files of its model need no second look."""
RESIDENCIES: Mapping[RunnerState, Residency] = {
    "loading": "loading",
    "serving": "device",
    "sleeping": "sleeping",
    "asleep": "asleep",
    "waking": "waking",
    "unloading": "unloading",
}


class ModelLibrary:
    """Keeps the catalog's models at hand, and their files in order.

    Args:
        settings: where files may come from and go to.
        catalog: open; it outlives the library.
        budget_bytes: the largest budget of a device.
        supported_architectures: asks the engine for the architecture names it can run.
        pool: the pool at this moment.
        on_change: called when a model, or a download, has changed.
    """

    def __init__(
        self,
        settings: Settings,
        catalog: Catalog,
        budget_bytes: int,
        supported_architectures: Callable[[], Awaitable[frozenset[str]]],
        pool: Callable[[], PoolSnapshot],
        on_change: Callable[[], None],
    ) -> None:
        self._settings = settings
        self._catalog = catalog
        self._budget_bytes = budget_bytes
        self._supported_architectures = supported_architectures
        self._pool = pool
        self._on_change = on_change
        self._rows: dict[str, Model] = {}
        self._defaults: dict[str, dict[str, float]] = {}
        """Model → its own sampling parameters."""
        self._broken: dict[str, str] = {}
        """Model → why its files can't be served, found when it was last asked for."""
        self._refreshing = asyncio.Lock()
        self._tasks: set[asyncio.Task[None]] = set()
        self._downloads = Downloads(
            catalog, settings.models_dir, settings.hub_endpoint, on_change=self._on_download
        )

    async def start(self) -> None:
        """Read the catalog, and take up what an earlier run left of its downloads."""
        await self._downloads.start()
        await self._refresh()

    async def close(self) -> None:
        """End all downloads; what has come stays."""
        await self._downloads.close()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    def on_disk(self) -> list[ModelSpec]:
        """Specs of the models whose files are here."""
        return [self._spec(row) for row in self._rows.values() if row.folder]

    def views(self) -> list[ModelView]:
        """Every model, with where it is now."""
        pool = self._pool()
        runners = {runner.model: runner for runner in pool.runners}
        views = []
        for row in self._rows.values():
            runner = runners.get(row.name)
            residency = _residency(row, runner.state if runner else None, row.name in self._broken)
            progress = self._downloads.progress(row.name)
            served_length = row.serve_context_length or row.context_length
            views.append(
                ModelView(
                    name=row.name,
                    source=row.hub_id or row.folder,
                    residency=residency,
                    architecture=row.architecture,
                    parameters=row.parameters,
                    weight_bytes=row.weight_bytes,
                    context_length=row.context_length,
                    licence=row.licence,
                    description=row.description,
                    download_done_bytes=progress.done_bytes if progress else 0,
                    download_total_bytes=progress.total_bytes if progress else row.download_bytes,
                    error=self._broken.get(row.name) or row.download_error,
                    in_flight=runner.in_flight if runner else 0,
                    pinned=row.pinned,
                    served_length=(runner.context_length if runner else 0) or served_length,
                    defaults=self._defaults[row.name],
                )
            )
        return views

    def is_pinned(self, name: str) -> bool:
        """Whether a model stays on its device once it is loaded."""
        row = self._rows.get(name)
        return row is not None and row.pinned

    async def pin(self, name: str, pinned: bool) -> None:
        """Have a model stay on its device once it is loaded, or no longer.

        Raises:
            NotFoundError: there is no such model.
        """
        await asyncio.to_thread(self._catalog.update_model, name, pinned=pinned)
        await self._refresh()

    def view(self, name: str) -> ModelView:
        """One model of the catalog.

        Raises:
            NotFoundError: there is no model of that name.
        """
        for view in self.views():
            if view.name == name:
                return view
        raise NotFoundError(f"There is no model '{name}'. The Models page lists what there is.")

    async def add_hub(self, repo_id: str, revision: str = "", name: str = "") -> ModelView:
        """List a model of the hub and start its download in the background.

        Raises:
            BadRequestError: the id has not the form organisation/name.
            ConflictError: it is listed already.
        """
        repo_id = repo_id.strip()
        row = Model(
            name=name.strip() or repo_id.rpartition("/")[2],
            source_kind="hub",
            hub_id=repo_id,
            revision=revision.strip(),
        )
        await asyncio.to_thread(self._catalog.add_model, row)
        await self._refresh()
        await self.download(row.name)
        return self.view(row.name)

    async def add_local(self, folder: str | Path, name: str = "") -> ModelView:
        """Check a folder and list it.

        Raises:
            BadRequestError: something in it can't be served, or it is outside the allowed folders.
            ConflictError: the name is taken.
        """
        try:
            path = await asyncio.to_thread(lambda: Path(folder).expanduser().resolve())
        except (OSError, RuntimeError, ValueError) as error:  # too long, of an unknown user, no path at all
            raise BadRequestError(f"{str(folder)[:200]!r} is no folder of this machine: {error}.") from error
        facts = await asyncio.to_thread(inspect_folder, path, self._settings.allowed_roots)
        await self._check_architecture(facts.architecture)
        row = Model(name=name.strip() or path.name, source_kind="local", **facts.columns())
        await asyncio.to_thread(self._catalog.add_model, row)
        await self._refresh()
        return self.view(row.name)

    async def _check_architecture(self, architecture: str) -> None:
        if architecture not in await self._supported_architectures():
            raise BadRequestError(
                f"The architecture {architecture} is not supported by the installed vLLM. "
                "Choose a model of an architecture that it lists."
            )

    async def download(self, name: str) -> None:
        """Start, or resume, a model's download in the background."""
        await self._downloads.download(name)
        await self._refresh()

    async def cancel_download(self, name: str) -> None:
        """Stop a download; what has come stays, and `download` goes on from there."""
        await self._downloads.cancel(name)
        await self._refresh()

    async def remove(self, name: str, delete_files: bool = False) -> None:
        """Take a model off the list, and its downloaded files off the disk if `delete_files`.

        Raises:
            NotFoundError: there is no such model.
            ConflictError: it is on a device.
        """
        if self.view(name).residency in RESIDENCIES.values():
            raise ConflictError(f"{name} is on a device. Unload it first.")
        await self._downloads.cancel(name)
        row = await asyncio.to_thread(self._catalog.remove_model, name)
        if delete_files and row.source_kind == "hub":
            await self._downloads.delete_files(row)
        self._broken.pop(name, None)
        await self._refresh()

    async def _refresh(self) -> None:
        """Read the catalog's models anew; one reader at a time, so that the last to read is the latest."""
        async with self._refreshing:
            rows = await asyncio.to_thread(self._catalog.models)
            self._defaults = await asyncio.to_thread(
                lambda: {row.name: sampling_defaults(Path(row.folder)) if row.folder else {} for row in rows}
            )
            self._rows = {row.name: row for row in rows}
        self._on_change()

    def _on_download(self, progress: DownloadProgress) -> None:
        if progress.state == "downloading" and self._rows[progress.model].download_state == "downloading":
            self._on_change()  # only bytes have changed, and those are not in the catalog
        else:
            task = asyncio.ensure_future(self._refresh())
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)

    def _spec(self, row: Model) -> ModelSpec:
        devices = self._pool().devices
        on_gpu = any(device.id != "cpu" for device in devices)
        graph_sizes = self._settings.cuda_graph_sizes if on_gpu else ()
        fitting_kv_bytes = min(DEFAULT_KV_BYTES, self._budget_bytes // KV_SHARE)
        return ModelSpec(
            name=row.name,
            path=row.folder,
            weight_bytes=_loaded_bytes(row),
            kv_cache_bytes=row.kv_cache_bytes or int(self._settings.kv_cache_bytes or fitting_kv_bytes),
            context_length=row.serve_context_length or 0,
            revision=row.commit,
            dtype=row.dtype,
            quantization=row.quantization,
            eager=not graph_sizes if on_gpu else row.eager,
            cuda_graph_sizes=graph_sizes,
            sleeps=any(device.can_sleep for device in devices),
            engine_args=tuple(sorted(row.engine_args.items())),
        )

    async def servable(self, name: str) -> ModelSpec:
        """The spec of a model that can be loaded now; its files are looked at again if it must be.

        Raises:
            NotFoundError: there is no such model.
            ConflictError: it is not downloaded.
            BadRequestError: its files can't be served.
        """
        self.view(name)
        row = self._rows[name]
        if any(runner.model == name and runner.state in UNCHANGED for runner in self._pool().runners):
            return self._spec(row)
        if not row.folder:
            raise ConflictError(f"{name} is not downloaded yet. Start its download on the Models page.")
        try:
            facts = await asyncio.to_thread(inspect_folder, Path(row.folder), self._settings.allowed_roots)
        except WorkbenchError as error:
            self._broken[name] = str(error)
            self._on_change()
            raise
        self._broken.pop(name, None)
        if row.source_kind == "local" and facts.fingerprint != row.commit:  # changed under the same path
            row = await asyncio.to_thread(self._catalog.update_model, name, **facts.columns())
            await self._refresh()
        return self._spec(row)


def _loaded_bytes(row: Model) -> int:
    """Bytes of the weights once loaded: vLLM turns float32 files into 16 bits, unless told otherwise."""
    if row.dtype == "float32":
        return 4 * row.parameters
    return min(row.weight_bytes, 2 * row.parameters) if row.parameters else row.weight_bytes


def _residency(row: Model, runner_state: RunnerState | None, broken: bool) -> Residency:
    if runner_state is not None:
        return RESIDENCIES[runner_state]
    if row.download_state in ("queued", "downloading"):
        return "downloading"
    if broken:
        return "broken"
    return "disk" if row.folder else "hub"
