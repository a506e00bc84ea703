"""`GET /events?page=…&choice=…`: what a page shows, live, as server-sent events.

Frames are named `frame` and carry one JSON object: "server", which names this process, "now", the moment by
its clock, and sections of named parts, as the page's source makes them. A client's first frame has all parts
and comes at once; the others have those that have changed since, at most two a second. `beat` events come in
between: a page can't see comments, and without a sign of life it could not tell a quiet server from a dead
one. A choice is what a person picked on the page, a model for example; most pages know none. All clients of
a page with the same choice share one producer, which runs while there are any; a slow client skips frames.
"""

import asyncio
import json
import time
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

Sections = Mapping[str, Mapping[str, Any]]
"""Parts of a frame: section → name → what JSON can hold. A page has the same parts in all its frames."""
FrameView = Callable[[PoolSnapshot, Sequence[ModelView]], Awaitable[Sections]]


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
    looks = Looks(workbench)
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
            frames[page, choice] = Frames(looks, source, server)
        headers = {"Cache-Control": "no-store", "X-Accel-Buffering": "no"}
        stream = frames[page, choice].stream(lambda: access.holds(caller))
        return StreamingResponse(stream, media_type="text/event-stream", headers=headers)

    return router


@dataclass(frozen=True, slots=True)
class Look:
    """The pool and the models of the catalog at one moment."""

    pool: PoolSnapshot
    models: Sequence[ModelView]


class Looks:
    """Looks at the workbench once for all pages."""

    def __init__(self, workbench: Workbench) -> None:
        self._workbench = workbench
        self._changes = -1
        self._newest: Look | None = None

    def newest(self) -> Look:
        """How things are; the same object as before while they are the same.

        Raises:
            ShuttingDownError: the workbench closes.
        """
        changes = self._workbench.changes
        if self._newest is None or changes != self._changes:
            look = Look(self._workbench.pool(), self._workbench.models)
            if look != self._newest:
                self._newest = look
            self._changes = changes
        return self._newest


@dataclass(frozen=True, slots=True)
class _Part:
    value: Any
    json: str
    version: int
    """Number of the frame that brought it."""


class Frames:
    """The newest frame of a page, made by one task that runs while somebody listens.

    Args:
        looks: shared by all pages.
        source: what frames hold.
        server: names this process, so that a page notices another one.
    """

    def __init__(self, looks: Looks, source: FrameSource, server: str) -> None:
        self._looks = looks
        self._source = source
        self._server = server
        self._parts: dict[tuple[str, str], _Part] = {}
        self._version = 0
        self._message = (0, 0, "")
        """The event that was made last, and the versions from which to which it brings a client."""
        self._woken_at = 0.0
        self._woken = asyncio.Event()
        """Replaced with each frame and each beat."""
        self._producer: asyncio.Task[None] | None = None
        self._listeners = 0

    async def stream(self, may: Callable[[], bool] = lambda: True) -> AsyncIterator[str]:
        """Server-sent events for one client, until it leaves, may no more, or the workbench closes."""
        self._listeners += 1
        if self._producer is None or self._producer.done():
            self._parts = {}
            self._producer = asyncio.create_task(self._produce(), name="event frames")
        producer, seen = self._producer, 0
        try:
            while not producer.done() and may():
                woken = self._woken
                if not self._parts:
                    pass  # the first frame is being made
                elif seen < self._version:
                    event, seen = self._event(seen), self._version
                    yield event
                else:
                    yield "event: beat\ndata: 1\n\n"
                await woken.wait()
        finally:
            self._listeners -= 1
            if self._listeners == 0:
                producer.cancel()
                self._producer = None  # a client that comes now gets a producer that lives

    async def _produce(self) -> None:
        """Make a frame at each tick at which there may be something new, and give a sign of life at others.

        Ticks are the same for all pages, so that one look does for all and the process is woken once.
        """
        made_of: Look | None = None
        try:
            while True:
                look = self._looks.newest()
                if look is not made_of or self._source.restless:
                    self._publish(await self._source.view(look.pool, look.models))
                    made_of = look
                if time.monotonic() - self._woken_at > BEAT_INTERVAL - FRAME_INTERVAL / 2:
                    self._wake()
                await asyncio.sleep(FRAME_INTERVAL - time.monotonic() % FRAME_INTERVAL)
        except ShuttingDownError:
            pass
        except Exception:
            log.exception("the event stream ended; its clients will connect again")
        finally:
            self._wake()

    def _publish(self, sections: Sections) -> None:
        version = self._version + 1
        for section, parts in sections.items():
            for name, value in parts.items():
                before = self._parts.get((section, name))
                if before is None or before.value != value:
                    encoded = json.dumps(value, separators=(",", ":"))
                    self._parts[section, name] = _Part(value, encoded, version)
                    self._version = version
        if self._version == version:
            self._wake()

    def _event(self, seen: int) -> str:
        """The parts newer than a version, as an event; made once for all clients that lack the same."""
        if self._message[:2] != (seen, self._version):
            sections: dict[str, list[str]] = {}
            for (section, name), part in self._parts.items():
                if part.version > seen:
                    sections.setdefault(section, []).append(f"{json.dumps(name)}:{part.json}")
            told = "".join(f',"{section}":{{{",".join(parts)}}}' for section, parts in sections.items())
            now = time.monotonic()
            data = f'{{"server":"{self._server}","now":{now:.2f}{told}}}'
            self._message = seen, self._version, f"event: frame\ndata: {data}\n\n"
        return self._message[2]

    def _wake(self) -> None:
        self._woken_at = time.monotonic()
        woken, self._woken = self._woken, asyncio.Event()
        woken.set()
