"""Profiles of workers: what an engine does in its steps, recorded while it works, as traces to download."""

import asyncio
import contextlib
import itertools
import shutil
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import structlog

from workbench.errors import ConflictError, NotFoundError, UnavailableError
from workbench.pool.snapshot import PoolSnapshot

if TYPE_CHECKING:
    from workbench.engine.client import EngineClient

KEPT = 5
"""Profiles; of more, the oldest go."""
START_S = 30.0
"""An engine whose present step takes longer than this is not profiled."""
WRITE_S = 60.0
"""A trace that takes longer to be written is given up."""
TRACE = "json.gz"

log = structlog.get_logger("workbench.profiles")


@dataclass(frozen=True, slots=True)
class Profile:
    """A recording of a worker's engine steps."""

    name: str
    worker: str
    model: str
    began_at: float
    """Unix seconds."""
    seconds: float
    """Longest that it records."""
    steps: int
    """Engine steps after which it ends."""
    state: Literal["recording", "ready", "failed"] = "recording"
    bytes: int = 0
    """Size of the trace, once it is ready."""
    error: str = ""


class Profiles:
    """Records one at a time. Belongs to the event loop; what it keeps is gone with the app.

    Args:
        folder: for traces, and for nothing else.
        pool: the pool at this moment.
        clients: the clients of the models that serve.
    """

    def __init__(
        self,
        folder: Path,
        pool: Callable[[], PoolSnapshot],
        clients: "Callable[[], Mapping[str, EngineClient]]",
    ) -> None:
        self._folder = folder
        self._pool = pool
        self._clients = clients
        self._profiles: dict[str, Profile] = {}
        self._numbers = itertools.count(1)
        self._task: asyncio.Task[None] | None = None
        self._stop = asyncio.Event()
        self._starting = asyncio.Lock()

    def all(self) -> list[Profile]:
        """The latest first."""
        return list(self._profiles.values())[::-1]

    def __getitem__(self, name: str) -> Profile:
        """Raises: NotFoundError."""
        try:
            return self._profiles[name]
        except KeyError:
            raise NotFoundError(f"There is no profile {name}; the latest {KEPT} are kept.") from None

    async def start(self, worker_id: str, seconds: float, steps: int) -> Profile:
        """Begin to record a worker's steps.

        Raises:
            NotFoundError: there is no such worker.
            ConflictError: it serves no model, or a profile is being recorded already.
            UnavailableError: the engine doesn't answer.
        """
        async with self._starting:
            if self._task is not None and not self._task.done():
                raise ConflictError("A profile is being recorded already. Stop it, or wait until it is over.")
            model, client = self._serving(worker_id)
            await asyncio.to_thread(self._make_room)
            began_at = time.time()
            stamp = time.strftime("%Y%m%d-%H%M%S", time.gmtime(began_at))
            name = f"{worker_id}-{stamp}-{next(self._numbers)}"
            profile = Profile(name, worker_id, model, began_at, seconds, steps)
            try:
                async with asyncio.timeout(START_S):
                    await client.start_profile(str(self._folder.resolve()), profile.name, steps)
            except Exception as error:
                self._task = asyncio.create_task(_give_up(client), name="profile")
                raise UnavailableError(
                    f"The engine of {model} could not be profiled ({error or type(error).__name__}). "
                    "Try again when its present step is over."
                ) from error
            self._profiles[profile.name] = profile
            self._stop.clear()
            self._task = asyncio.create_task(self._record(profile, client), name="profile")
            return profile

    async def stop(self, name: str) -> Profile:
        """End a recording before its time, and wait until its trace is written; one that is over stays so.

        Raises:
            NotFoundError: there is no such profile.
        """
        if self[name].state == "recording":
            self._stop.set()
        return await self.ended(name)

    async def ended(self, name: str) -> Profile:
        """Wait until a recording is over and its trace is written.

        Raises:
            NotFoundError: there is no such profile.
        """
        if self[name].state == "recording" and self._task is not None:
            await asyncio.shield(self._task)
        return self[name]

    def trace(self, name: str) -> Path:
        """The trace of a profile: JSON as Perfetto and Chrome read it, under gzip.

        Raises:
            NotFoundError: there is no such profile.
            ConflictError: it is still being recorded, or could not be.
        """
        profile = self[name]
        if profile.state == "recording":
            raise ConflictError(f"{name} is still being recorded. Stop it, or ask again later.")
        if profile.state == "failed":
            raise ConflictError(f"{name} has no trace: {profile.error}")
        return self._file(name)

    async def close(self) -> None:
        """Give up what is being recorded."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)

    def _serving(self, worker_id: str) -> "tuple[str, EngineClient]":
        worker = next((worker for worker in self._pool().workers if worker.id == worker_id), None)
        if worker is None:
            raise NotFoundError(f"There is no worker {worker_id}; it may have been replaced already.")
        client = self._clients().get(worker.model or "")
        if worker.model is None or client is None:
            raise ConflictError(f"{worker_id} serves no model now. Load one first, and ask it something.")
        return worker.model, client

    async def _record(self, profile: Profile, client: "EngineClient") -> None:
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(self._stop.wait(), profile.seconds)
        try:
            async with asyncio.timeout(WRITE_S):
                await client.stop_profile()
            size = await asyncio.to_thread(self._take, profile.name)
            self._profiles[profile.name] = replace(profile, state="ready", bytes=size)
        except Exception as error:
            reason = f"{error or type(error).__name__}"
            log.warning("profile failed", profile=profile.name, error=reason)
            why = f"the engine of {profile.model} left, or wrote none ({reason})."
            self._profiles[profile.name] = replace(profile, state="failed", error=why)
            await asyncio.to_thread(self._sweep, profile.name)

    def _file(self, name: str) -> Path:
        return self._folder / f"{name}.{TRACE}"

    def _make_room(self) -> None:
        """Remove the oldest profiles, and at first what an earlier run has left."""
        if not self._profiles:
            shutil.rmtree(self._folder, ignore_errors=True)
        self._folder.mkdir(parents=True, exist_ok=True)
        for name in list(self._profiles)[: max(0, len(self._profiles) + 1 - KEPT)]:
            del self._profiles[name]
            self._file(name).unlink(missing_ok=True)

    def _take(self, name: str) -> int:
        """Give a trace its own name, to which the profiler adds rank and time; returns its size."""
        (trace,) = self._folder.glob(f"{name}_*.{TRACE}")
        trace.rename(self._file(name))
        self._sweep(name)
        return self._file(name).stat().st_size

    def _sweep(self, name: str) -> None:
        """Remove what else the profiler has written, such as a table of times."""
        for other in self._folder.glob(f"{name}_*"):
            other.unlink(missing_ok=True)


async def _give_up(client: "EngineClient") -> None:
    """End a recording that may begin yet."""
    with contextlib.suppress(Exception):
        async with asyncio.timeout(WRITE_S):
            await client.stop_profile()
