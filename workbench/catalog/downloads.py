"""Downloads from the hub, in the background: each a process of its own, at most a few at once.

Their state is in the catalog, so they can be resumed after a cancel or a restart. Event loop side only;
`download_main` is the other side.
"""

import asyncio
import json
import logging
import shutil
import sys
from collections.abc import AsyncGenerator, Callable
from contextlib import aclosing, suppress
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from workbench.catalog.hub import (
    DownloadReport,
    DownloadRequest,
    check_endpoint,
    partial_folder,
    snapshot_folder,
)
from workbench.catalog.inspection import inspect_folder
from workbench.catalog.store import Catalog
from workbench.catalog.tables import DownloadState, Model
from workbench.errors import BadRequestError, NotFoundError, UnavailableError, WorkbenchError

_CODE_ROOT = Path(__file__).resolve().parents[2]
_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class DownloadProgress:
    """Where a model's download stands."""

    model: str
    state: DownloadState
    done_bytes: int = 0
    """Bytes on disk, those of earlier attempts included."""
    total_bytes: int = 0
    """0 while unknown."""
    error: str = ""
    """Why it failed, a sentence for people."""


@dataclass(frozen=True, slots=True)
class _Job:
    """A download under way. Cancelling ends `fetch`; `conclusion`, never cancelled, stores the outcome."""

    fetch: asyncio.Task[dict[str, Any]]
    conclusion: asyncio.Task[None]


class Downloads:
    """All downloads of one Workbench.

    Args:
        catalog: where their state is kept.
        models_dir: folder that receives `<organisation>--<name>/<commit>/`.
        endpoint: URL of the hub; None for the public one.
        at_once: downloads that run at a time; further ones queue.
        on_change: called on the event loop with every progress and every change of state.

    Raises:
        BadRequestError: the endpoint is no http or https URL.
    """

    def __init__(
        self,
        catalog: Catalog,
        models_dir: Path,
        endpoint: str | None = None,
        *,
        at_once: int = 2,
        on_change: Callable[[DownloadProgress], None] = lambda progress: None,
    ) -> None:
        check_endpoint(endpoint)
        self._catalog = catalog
        self._models_dir = models_dir.expanduser().resolve()
        self._endpoint = endpoint
        self._on_change = on_change
        self._slots = asyncio.Semaphore(at_once)
        self._jobs: dict[str, _Job] = {}
        self._progress: dict[str, DownloadProgress] = {}

    async def start(self) -> None:
        """Take over what an earlier process left: its downloads count as cancelled and can be resumed."""
        for model in await asyncio.to_thread(self._catalog.interrupt_downloads):
            done = await asyncio.to_thread(self._bytes_on_disk, model)
            self._show(
                DownloadProgress(
                    model.name, model.download_state, done, model.download_bytes, model.download_error
                )
            )

    async def close(self) -> None:
        """End all downloads at once; the next start finds them cancelled."""
        for name in list(self._jobs):
            await self.cancel(name)

    def progress(self, name: str) -> DownloadProgress | None:
        """The latest of a model's download, finished or not; None if there was none."""
        return self._progress.get(name)

    async def download(self, name: str) -> None:
        """Start, resume or join the download of a model; return while it runs.

        Raises:
            NotFoundError: there is no such model.
            BadRequestError: the model is a local folder.
        """
        model = await asyncio.to_thread(self._catalog.model, name)
        if model.source_kind == "local":
            raise BadRequestError(f"{name} is a local folder: there is nothing to download.")
        if name in self._jobs or model.download_state == "done":
            return
        done = self._progress[name].done_bytes if name in self._progress else 0
        self._show(DownloadProgress(name, "queued", done, model.download_bytes))
        fetch = asyncio.create_task(self._fetch(model), name=f"download {name}")
        conclusion = asyncio.create_task(self._conclude(name, fetch), name=f"conclude download {name}")
        self._jobs[name] = _Job(fetch, conclusion)

    async def cancel(self, name: str) -> None:
        """Stop a download, keeping its bytes for a later one; return once its process has ended."""
        job = self._jobs.get(name)
        if job is not None:
            job.fetch.cancel()
            await asyncio.wait({job.conclusion})

    async def delete_files(self, model: Model) -> None:
        """Delete what was downloaded for a model, complete or not; files of local folders stay.

        Call it once the model is off the catalog, its download is cancelled and no worker serves it.
        """
        if model.source_kind == "hub" and model.commit:
            await asyncio.to_thread(self._delete, model)
        self._progress.pop(model.name, None)

    async def _fetch(self, model: Model) -> dict[str, Any]:
        """Wait for a slot, run the download process to its end, return the columns of a complete model."""
        await self._store(model.name, download_state="queued", download_error="")
        async with self._slots:
            await self._store(model.name, download_state="downloading")
            commit = await self._follow(model)
        snapshot = snapshot_folder(self._models_dir, model.hub_id, commit)
        facts = await asyncio.to_thread(inspect_folder, snapshot, (self._models_dir,))
        # What the files do not say (0 or "") stays as the catalog had it.
        known = {column: value for column, value in facts.columns().items() if value}
        return known | {"commit": commit, "chat_template": facts.chat_template}

    async def _follow(self, model: Model) -> str:
        """Run a download process, pass its progress on, and return the commit it completed."""
        # A commit once resolved is kept, so that a download that goes on gets the rest of the same files.
        revision, commit = model.commit or model.revision, model.commit
        request = DownloadRequest(model.hub_id, revision, str(self._models_dir), self._endpoint)
        report = DownloadReport()
        async with aclosing(_reports(request)) as reports:
            async for report in reports:
                if report.error:
                    raise UnavailableError(report.error)
                if report.commit != commit:
                    commit = report.commit
                    await self._store(model.name, commit=commit, download_bytes=report.total_bytes)
                self._show(DownloadProgress(model.name, "downloading", report.done_bytes, report.total_bytes))
        if not report.finished:
            raise UnavailableError("The download process ended early: start the download again, it goes on.")
        return commit

    async def _conclude(self, name: str, fetch: asyncio.Task[dict[str, Any]]) -> None:
        """Store and show the outcome of a download, whatever it is."""
        try:
            columns = await fetch
            await self._end(name, "done", **columns)
        except asyncio.CancelledError:
            await self._end(name, "cancelled")
        except Exception as error:
            if not isinstance(error, WorkbenchError):
                _log.exception("Downloading %s failed unexpectedly.", name)
            await self._end(name, "failed", download_error=str(error))
        finally:
            del self._jobs[name]

    async def _end(self, name: str, state: DownloadState, **columns: Any) -> None:
        error = columns.get("download_error", "")
        try:
            await self._store(name, download_state=state, **columns)
        except UnavailableError as refusal:  # of the database; the next start finds the download cancelled
            state, error = "failed", str(refusal)
        self._show(replace(self._progress[name], state=state, error=error))

    async def _store(self, name: str, **columns: Any) -> None:
        with suppress(NotFoundError):  # taken off the catalog meanwhile
            await asyncio.to_thread(self._catalog.update_model, name, **columns)

    def _show(self, progress: DownloadProgress) -> None:
        self._progress[progress.model] = progress
        self._on_change(progress)

    def _bytes_on_disk(self, model: Model) -> int:
        partial = partial_folder(snapshot_folder(self._models_dir, model.hub_id, model.commit))
        if not model.commit or not partial.is_dir():
            return 0
        return sum(path.stat().st_size for path in partial.iterdir())

    def _delete(self, model: Model) -> None:
        snapshot = snapshot_folder(self._models_dir, model.hub_id, model.commit)
        shutil.rmtree(snapshot, ignore_errors=True)
        shutil.rmtree(partial_folder(snapshot), ignore_errors=True)
        with suppress(OSError):  # not there, or holds another commit
            snapshot.parent.rmdir()


async def _reports(request: DownloadRequest) -> AsyncGenerator[DownloadReport]:
    """Run a download process; it is gone when the iteration ends, however it ends."""
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        "-m",
        "workbench.catalog.download_main",
        cwd=_CODE_ROOT,
        start_new_session=True,  # an interrupt from the terminal is for the app, which then ends us
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
    )
    assert process.stdin is not None
    assert process.stdout is not None
    try:
        process.stdin.write(json.dumps(asdict(request)).encode() + b"\n")
        async for line in process.stdout:
            yield DownloadReport(**json.loads(line))
    finally:
        with suppress(ProcessLookupError):
            process.kill()
        await process.wait()
