"""One HTTP request and its response, as plain ASGI: a body that is read once, a response that may be kept
alive with comments before anybody knows how it will go, and a client that may leave at any time."""

import asyncio
import json
from collections.abc import Mapping
from typing import Any

from starlette.datastructures import Headers
from starlette.requests import ClientDisconnect
from starlette.types import Message, Receive, Scope, Send

from workbench.api.errors import error_body, error_response
from workbench.errors import BadRequestError, WorkbenchError

SEND_TIMEOUT_S = 30.0
"""A client that takes less than the connection's buffer (64 KiB) in this time counts as gone: while it is
served, its model stays."""
EVENT_STREAM = [
    (b"content-type", b"text/event-stream; charset=utf-8"),
    (b"cache-control", b"no-store"),
    (b"x-accel-buffering", b"no"),
]


class Exchange:
    """Belongs to the task that serves the request.

    Args:
        scope: of an HTTP request.
        receive: gives its body, and then the client's leaving.
        send: takes the response.
    """

    def __init__(self, scope: Scope, receive: Receive, send: Send) -> None:
        self.scope = scope
        self.headers = Headers(scope=scope)
        self.path = scope["path"].removeprefix(scope.get("root_path", ""))
        self.body = b""
        self.status = 0
        """Of the response; 0 before it began."""
        self.complete = False
        """Whether all of the response was sent."""
        self._receive = receive
        self._send_on = send
        self._streams = False
        """Whether the response began as an event stream before the application behind it was asked."""
        self._refused: bytes | None = None
        """What came so far of an error that the application answers, when the stream has begun."""
        self._read = False

    async def read(self) -> Mapping[str, Any]:
        """The request's body, which must be a JSON object.

        Raises:
            BadRequestError: it is none.
            ClientDisconnect: the client left before it was complete.
        """
        chunks = []
        while True:
            message = await self._receive()
            if message["type"] == "http.disconnect":
                raise ClientDisconnect
            chunks.append(message.get("body", b""))
            if not message.get("more_body", False):
                break
        self.body = b"".join(chunks)
        return _json_object(self.body)

    async def left(self) -> None:
        """Wait until the client leaves."""
        while (await self._receive())["type"] != "http.disconnect":
            pass

    async def replay(self) -> Message:
        """The body again, for the application behind, and then the client's leaving."""
        if self._read:
            return await self._receive()
        self._read = True
        return {"type": "http.request", "body": self.body, "more_body": False}

    # The response.

    async def _send(self, message: Message) -> None:
        try:
            async with asyncio.timeout(SEND_TIMEOUT_S):
                await self._send_on(message)
        except TimeoutError:
            raise ClientDisconnect from None
        self.complete = message["type"] == "http.response.body" and not message.get("more_body", False)

    async def comment(self, text: str) -> None:
        """Keep the response alive: clients of server-sent events ignore comments."""
        await self._write(f": {' '.join(text.split())}\n\n")

    async def event(self, name: str, data: Mapping[str, Any]) -> None:
        """Tell a client that asked for it what its request waits for."""
        await self._write(f"event: {name}\ndata: {json.dumps(data)}\n\n")

    async def _write(self, text: str) -> None:
        if not self.status:
            self.status, self._streams = 200, True
            await self._send({"type": "http.response.start", "status": 200, "headers": list(EVENT_STREAM)})
        await self._send({"type": "http.response.body", "body": text.encode(), "more_body": True})

    async def forward(self, message: Message) -> None:
        """Pass on what the application behind answers."""
        if message["type"] == "http.response.start":
            self.status = int(message["status"])  # vLLM gives an HTTPStatus at times
            if self._streams:
                self._refused = b"" if self.status != 200 else None
                return
        elif self._refused is not None:
            self._refused += message.get("body", b"")
            if message.get("more_body", False):
                return
            message = {"type": "http.response.body", "body": _as_events(self._refused)}
        await self._send(message)

    async def respond(self, status: int, body: bytes) -> None:
        """Answer JSON that is complete."""
        headers = [(b"content-type", b"application/json"), (b"content-length", str(len(body)).encode())]
        self.status = status
        await self._send({"type": "http.response.start", "status": status, "headers": headers})
        await self._send({"type": "http.response.body", "body": body})

    async def fail(self, error: WorkbenchError, *, param: str | None = None, code: str | None = None) -> None:
        """Answer an error, inside the stream if it has begun; an answer that is complete stays as it is."""
        if self.complete:
            return
        if self._streams:
            body = _as_events(json.dumps(error_body(error, param=param, code=code)).encode())
            await self._send({"type": "http.response.body", "body": body})
        elif not self.status:
            self.status = error.status
            response = error_response(error, param=param, code=code)
            await response(self.scope, self._receive, self._send)


def _json_object(body: bytes) -> Mapping[str, Any]:
    try:
        value = json.loads(body)
    except (ValueError, RecursionError) as error:
        raise BadRequestError(f"The body is no JSON: {error}.") from error
    if not isinstance(value, dict):
        raise BadRequestError("The body must be a JSON object.")
    return value


def _as_events(body: bytes) -> bytes:
    """The end of an event stream that brings an error."""
    return b"data: " + body.replace(b"\n", b" ") + b"\n\ndata: [DONE]\n\n"
