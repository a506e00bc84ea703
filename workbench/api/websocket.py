"""`/v1/ws`: the API over one WebSocket, for browser apps.

A client sends `{"id": …, "path": "/v1/chat/completions", "body": {…}}`, up to `MOST_AT_ONCE`
side by side, and `{"id": …, "cancel": true}`. It is sent, each with the request's `id`:

- `{"event": "progress", "data": {…}}` while a request that streams waits for its model,
- `{"event": "chunk", "data": {…}}` for each object of a stream,
- `{"event": "response", "status": 200, "data": {…}}` for an answer that does not stream,
- `{"event": "error", "status": …, "data": {…}}` in OpenAI's format,
- `{"event": "done"}` at the end of each.

A request takes the way of one over HTTP, so both have the same checks, order and figures. What a slow client
has not taken yet waits in the engine's collector of its own request, and holds up nobody.
"""

import asyncio
import contextlib
import itertools
import json
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Any

import structlog
from starlette.types import ASGIApp, Message, Scope
from starlette.websockets import WebSocket, WebSocketDisconnect
from structlog.contextvars import bound_contextvars

from workbench.api.access_guard import SUBPROTOCOL
from workbench.api.openai import PATHS
from workbench.api.patience import PROGRESS_HEADER

log = structlog.get_logger("workbench.api")

MOST_AT_ONCE = 16
ABORT_S = 5.0
"""For so long requests of a closed connection may take to end in order."""
END = "[DONE]"


async def serve(websocket: WebSocket, gateway: ASGIApp) -> None:
    """Answer what comes over one connection.

    Args:
        websocket: not accepted yet; who may connect was checked before.
        gateway: answers requests, as over HTTP.
    """
    # A browser that offers subprotocols, in one of which its key may be, expects to have one taken.
    offered = [name for name in websocket.scope.get("subprotocols", ()) if not name.startswith(SUBPROTOCOL)]
    await websocket.accept(subprotocol=offered[0] if offered else None)
    await _Connection(websocket, gateway).run()


@dataclass(frozen=True)
class _Request:
    """One request, as the gateway receives it."""

    id: str | int
    path: str
    body: bytes
    left: asyncio.Event = field(default_factory=asyncio.Event)
    """Set when nobody waits for it any more."""

    def receive(self) -> Callable[[], Awaitable[Message]]:
        """The body, and then the client's leaving."""
        messages = [{"type": "http.request", "body": self.body, "more_body": False}]

        async def receive() -> Message:
            if messages:
                return messages.pop()
            await self.left.wait()
            return {"type": "http.disconnect"}

        return receive


class _Connection:
    def __init__(self, websocket: WebSocket, gateway: ASGIApp) -> None:
        self._websocket = websocket
        self._gateway = gateway
        self._running: dict[str | int, _Request] = {}
        self._tasks: set[asyncio.Task[None]] = set()
        self._numbers = itertools.count(1)
        self._sending = asyncio.Lock()

    async def run(self) -> None:
        """Serve the connection until the client closes it; what still runs is then aborted."""
        try:
            while True:
                await self._take(await self._websocket.receive_text())
        except (WebSocketDisconnect, KeyError):  # KeyError: a message of bytes
            pass
        finally:
            for request in self._running.values():
                request.left.set()
            if self._tasks:
                await asyncio.wait(self._tasks, timeout=ABORT_S)
            for task in self._tasks:
                task.cancel()

    async def _take(self, text: str) -> None:
        try:
            message = json.loads(text)
        except (ValueError, RecursionError):
            message = None
        if not isinstance(message, dict) or not isinstance(message.get("id"), str | int):
            await self._refuse(None, 'Send a JSON object with an "id", a "path" and a "body".')
            return
        number, path, body = message["id"], message.get("path"), message.get("body")
        if message.get("cancel"):
            if request := self._running.get(number):
                request.left.set()
        elif number in self._running:
            await self._refuse(number, f"The id {number!r} is in use. Give each request one of its own.")
        elif path not in PATHS or not isinstance(body, dict):
            await self._refuse(number, f'"path" must be one of {", ".join(PATHS)}, and "body" an object.')
        elif len(self._running) >= MOST_AT_ONCE:
            await self._refuse(number, f"{MOST_AT_ONCE} requests run on this connection already.", 429)
        else:
            request = _Request(number, path, json.dumps(body, ensure_ascii=False).encode(errors="replace"))
            self._running[number] = request
            task = asyncio.ensure_future(self._answer(request))
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)

    async def _answer(self, request: _Request) -> None:
        response = _Response(lambda message: self._send({"id": request.id, **message}))
        scope = self._scope(request)
        try:
            with bound_contextvars(request_id=scope["state"]["request_id"]):
                await self._gateway(scope, request.receive(), response.take)
        finally:
            del self._running[request.id]
            with contextlib.suppress(Exception):  # the connection is closed
                await self._send({"id": request.id, "event": "done"})

    def _scope(self, request: _Request) -> Scope:
        scope = self._websocket.scope
        state = dict(scope["state"])
        state["request_id"] = f"{state['request_id'][:100]}-{next(self._numbers)}"
        headers = [item for item in scope["headers"] if not item[0].startswith(b"sec-websocket-")]
        headers = [item for item in headers if item[0] not in (b"content-type", b"content-length")]
        headers += [(b"content-type", b"application/json"), (PROGRESS_HEADER.encode(), b"1")]
        path = scope.get("root_path", "") + request.path
        return {
            **scope,
            "type": "http",
            "http_version": "1.1",
            "method": "POST",
            "path": path,
            "raw_path": path.encode(),
            "query_string": b"",
            "headers": headers,
            "state": state,
        }

    async def _refuse(self, number: str | int | None, why: str, status: int = 400) -> None:
        error = {"error": {"message": why, "type": "invalid_request_error", "param": None, "code": None}}
        await self._send({"id": number, "event": "error", "status": status, "data": error})
        await self._send({"id": number, "event": "done"})

    async def _send(self, message: dict[str, Any]) -> None:
        async with self._sending:
            await self._websocket.send_text(json.dumps(message))


class _Response:
    """Turns an HTTP response into messages."""

    def __init__(self, send: Any) -> None:
        self._send = send
        self._status = 0
        self._streams = False
        self._rest = b""

    async def take(self, message: Message) -> None:
        """Take a message of the response."""
        if message["type"] == "http.response.start":
            headers = dict(message.get("headers", ()))
            self._status = message["status"]
            self._streams = headers.get(b"content-type", b"").startswith(b"text/event-stream")
            return
        self._rest += message.get("body", b"")
        if self._streams:
            *events, self._rest = self._rest.split(b"\n\n")
            for event in events:
                await self._event(event.decode())
        elif not message.get("more_body", False):
            kind = "response" if self._status < 400 else "error"
            await self._send({"event": kind, "status": self._status, "data": _parsed(self._rest.decode())})

    async def _event(self, text: str) -> None:
        lines = [line.partition(": ") for line in text.split("\n")]
        name = next((value for field, _, value in lines if field == "event"), "chunk")
        data = "\n".join(value for field, _, value in lines if field == "data")
        if not data or data == END:  # a comment, or what ends the stream over HTTP
            return
        parsed = _parsed(data)
        if isinstance(parsed, dict) and "error" in parsed and name == "chunk":
            name = "error"
        known = name in ("chunk", "progress", "error")
        await self._send({"event": name if known else "chunk", "data": parsed})


def _parsed(text: str) -> Any:
    try:
        return json.loads(text)
    except ValueError:
        return text
