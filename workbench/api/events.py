"""`GET /events?page=…&choice=…`: what a page shows, live, as server-sent events.

Frames are named `frame` and carry one JSON object; the first comes at once, the others on change, at most
two a second. `beat` events come in between: a page can't see comments, and without a sign of life it could
not tell a quiet server from a dead one. A choice is what a person picked on the page, a model for example;
most pages know none. All clients of a page with the same choice share one producer, which runs while there
are any; a slow client skips frames.
"""

import asyncio
import contextlib
import json
import uuid
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import structlog
from fastapi import APIRouter, Request
from fastapi.responses import Response, StreamingResponse

from workbench.api.errors import error_response
from workbench.errors import ForbiddenError, ShuttingDownError
from workbench.service import Workbench
from workbench.values import Caller, ModelView, PoolSnapshot

log = structlog.get_logger("workbench.events")

FRAME_INTERVAL = 0.5
BEAT_INTERVAL = 1.0

FrameView = Callable[[PoolSnapshot, Sequence[ModelView]], Awaitable[Mapping[str, Any]]]


@dataclass(frozen=True, slots=True)
class FrameSource:
    """What the frames of a page hold."""

    view: FrameView
    restless: bool = False
    """Whether it may change while neither the pool nor the catalog does; else it is asked only then."""
    scope: str = "chat"
    """What a key must have to see them."""
    choose: "Callable[[str], tuple[str, FrameView]] | None" = None
    """What a choice is taken for, one of few whatever is sent, and the view of that; where it has choices."""


def events_router(workbench: Workbench, pages: Mapping[str, FrameSource]) -> APIRouter:
    """The route `/events`; a page that is not known gets the frames of the first."""
    router = APIRouter()
    server = uuid.uuid4().hex
    first = next(iter(pages))
    frames: dict[tuple[str, str], Frames] = {}

    @router.get("/events", include_in_schema=False)
    async def events(request: Request, page: str = "", choice: str = "") -> Response:
        caller: Caller = request.state.caller
        access = workbench.access
        page = page if page in pages else first
        source = pages[page]
        if source.scope not in caller.scopes:
            return error_response(ForbiddenError(f"The key “{caller.name}” may not see that page."))
        if source.choose is not None:
            choice, view = source.choose(choice)
            source = replace(source, view=view)
        else:
            choice = ""
        if (page, choice) not in frames:
            frames[page, choice] = Frames(workbench, source, server)
        headers = {"Cache-Control": "no-store", "X-Accel-Buffering": "no"}
        stream = frames[page, choice].stream(lambda: access.holds(caller))
        return StreamingResponse(stream, media_type="text/event-stream", headers=headers)

    return router


class Frames:
    """The newest frame of a page, made by one task that runs while somebody listens.

    Args:
        workbench: what is looked at.
        source: what frames hold, besides "server".
        server: names this process, so that a page notices another one.
    """

    def __init__(self, workbench: Workbench, source: FrameSource, server: str) -> None:
        self._workbench = workbench
        self._source = source
        self._server = server
        self._newest = ""
        self._changed = asyncio.Event()
        """Replaced with each frame; whoever waits for the next frame holds the present one."""
        self._producer: asyncio.Task[None] | None = None
        self._listeners = 0

    async def stream(self, may: Callable[[], bool] = lambda: True) -> AsyncIterator[str]:
        """Server-sent events for one client, until it leaves, may no more, or the workbench closes."""
        self._listeners += 1
        if self._producer is None or self._producer.done():
            self._newest = ""
            self._producer = asyncio.create_task(self._produce(), name="event frames")
        producer, sent = self._producer, ""
        try:
            while not producer.done() and may():
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
        """Make a frame when the pool or the catalog has changed, and at each tick for a restless source.

        The pool says when it has changed; downloads change the catalog alone, so that is compared.
        """
        pools = aiter(self._workbench.pool_changes())
        pending = asyncio.ensure_future(anext(pools))
        pool: PoolSnapshot | None = None
        shown: list[ModelView] | None = None
        try:
            while True:
                at_once = self._source.restless and pool is not None  # it has slept since the last frame
                await asyncio.wait({pending}, timeout=0 if at_once else FRAME_INTERVAL)
                models = self._workbench.models
                if pending.done():
                    pool = pending.result()
                    pending = asyncio.ensure_future(anext(pools))
                elif models == shown and not self._source.restless:
                    continue
                if pool is not None:
                    shown = models
                    self._publish(await self._source.view(pool, models))
                    await asyncio.sleep(FRAME_INTERVAL)
        except (StopAsyncIteration, ShuttingDownError):
            pass  # the workbench closes
        except Exception:
            log.exception("the event stream ended; its clients will connect again")
        finally:
            pending.cancel()
            await asyncio.gather(pending, return_exceptions=True)
            self._wake()

    def _publish(self, view: Mapping[str, Any]) -> None:
        frame = json.dumps({"server": self._server, **view}, separators=(",", ":"))
        if frame != self._newest:
            self._newest = frame
            self._wake()

    def _wake(self) -> None:
        changed, self._changed = self._changed, asyncio.Event()
        changed.set()
