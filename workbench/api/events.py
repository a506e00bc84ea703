"""`GET /events`: the state of the pool and the catalog as server-sent events.

Frames are named `frame` and carry one JSON object; the first comes at once, the others on change, at most
two a second. `beat` events come in between: a page can't see comments, and without a sign of life it could
not tell a quiet server from a dead one. All clients share one producer; a slow client skips frames.
"""

import asyncio
import contextlib
import json
import uuid
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from dataclasses import asdict
from typing import Any

import structlog
from fastapi import APIRouter
from fastapi.responses import StreamingResponse

from workbench.errors import ShuttingDownError
from workbench.service import ModelView, PoolSnapshot, Workbench

log = structlog.get_logger("workbench.events")

FRAME_INTERVAL = 0.5
BEAT_INTERVAL = 1.0

FrameView = Callable[[PoolSnapshot, Sequence[ModelView]], Mapping[str, Any]]


def snapshot_view(pool: PoolSnapshot, models: Sequence[ModelView]) -> dict[str, Any]:
    """The plain data: `{"pool": {…}, "models": […]}` with the fields of the snapshots."""
    return {"pool": {**asdict(pool), "warm": pool.warm}, "models": [asdict(model) for model in models]}


def events_router(workbench: Workbench, view: FrameView = snapshot_view) -> APIRouter:
    """The route `/events`; `view` makes what a frame holds, besides "server", which names this process."""
    router = APIRouter()
    frames = Frames(workbench, view)

    @router.get("/events", include_in_schema=False)
    async def events() -> StreamingResponse:
        headers = {"Cache-Control": "no-store", "X-Accel-Buffering": "no"}
        return StreamingResponse(frames.stream(), media_type="text/event-stream", headers=headers)

    return router


class Frames:
    """The newest frame, made by one task that runs while somebody listens."""

    def __init__(self, workbench: Workbench, view: FrameView) -> None:
        self._workbench = workbench
        self._view = view
        self._server = uuid.uuid4().hex
        self._newest = ""
        self._changed = asyncio.Event()
        """Replaced with each frame; whoever waits for the next frame holds the present one."""
        self._producer: asyncio.Task[None] | None = None
        self._listeners = 0

    async def stream(self) -> AsyncIterator[str]:
        """Server-sent events for one client, until it leaves or the workbench closes."""
        self._listeners += 1
        if self._producer is None or self._producer.done():
            self._newest = ""
            self._producer = asyncio.create_task(self._produce(), name="event frames")
        producer, sent = self._producer, ""
        try:
            while not producer.done():
                changed = self._changed
                if self._newest != sent:
                    sent = self._newest
                    yield f"event: frame\ndata: {sent}\n\n"
                    continue
                with contextlib.suppress(TimeoutError):
                    await asyncio.wait_for(changed.wait(), BEAT_INTERVAL)
                    continue
                yield "event: beat\ndata: 1\n\n"
        finally:
            self._listeners -= 1
            if self._listeners == 0:
                producer.cancel()
                self._producer = None  # a client that comes now gets a producer that lives

    async def _produce(self) -> None:
        """Make a frame when the pool or the catalog has changed.

        The pool says when it has changed; downloads change the catalog alone, so that is compared.
        """
        pools = aiter(self._workbench.pool_changes())
        pending = asyncio.ensure_future(anext(pools))
        pool: PoolSnapshot | None = None
        shown: list[ModelView] | None = None
        try:
            while True:
                await asyncio.wait({pending}, timeout=FRAME_INTERVAL)
                models = self._workbench.models
                if pending.done():
                    pool = pending.result()
                    pending = asyncio.ensure_future(anext(pools))
                elif models == shown:
                    continue
                if pool is not None:
                    shown = models
                    self._publish(pool, models)
                    await asyncio.sleep(FRAME_INTERVAL)
        except (StopAsyncIteration, ShuttingDownError):
            pass  # the workbench closes
        except Exception:
            log.exception("the event stream ended; its clients will connect again")
        finally:
            pending.cancel()
            await asyncio.gather(pending, return_exceptions=True)
            self._wake()

    def _publish(self, pool: PoolSnapshot, models: Sequence[ModelView]) -> None:
        frame = {"server": self._server, **self._view(pool, models)}
        self._newest = json.dumps(frame, separators=(",", ":"))
        self._wake()

    def _wake(self) -> None:
        changed, self._changed = self._changed, asyncio.Event()
        changed.set()
