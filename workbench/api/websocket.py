"""`/v1/ws`: the API over one WebSocket, for browser apps.

A client sends `{"id": …, "path": "/v1/chat/completions", "body": {…}}`, up to `MOST_AT_ONCE`
side by side, and `{"id": …, "cancel": true}`. It is sent, each with the request's `id`:

- `{"event": "progress", "data": {…}}` while the request waits for its model,
- `{"event": "chunk", "data": {…}}` for each object of a stream,
- `{"event": "response", "status": 200, "data": {…}}` for an answer that does not stream,
- `{"event": "error", "status": …, "data": {…}}` in OpenAI's format,
- `{"event": "done"}` at the end of each.

A request takes the way of one over HTTP, so both have the same checks, order and figures. What a slow client
has not taken yet waits in the engine's collector of its own request, and holds up nobody.
"""

import asyncio
import json
from typing import Any

import structlog
from starlette.types import ASGIApp, Message, Scope
from starlette.websockets import WebSocket, WebSocketDisconnect

from workbench.api.access_guard import SUBPROTOCOL
from workbench.api.openai import PATHS, PROGRESS_HEADER

log = structlog.get_logger("workbench.api")

MOST_AT_ONCE = 16
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


class _Connection:
    def __init__(self, websocket: WebSocket, gateway: ASGIApp) -> None:
        self._websocket = websocket
        self._gateway = gateway
        self._running: dict[Any, asyncio.Task[None]] = {}
        self._sending = asyncio.Lock()

    async def run(self) -> None:
        """Serve the connection until the client closes it; what still runs is then aborted."""
        try:
            while True:
                await self._take(await self._websocket.receive_text())
        except (WebSocketDisconnect, KeyError):  # KeyError: a message of bytes
            pass
        finally:
            for task in self._running.values():
                task.cancel()
            await asyncio.gather(*self._running.values(), return_exceptions=True)

    async def _take(self, text: str) -> None:
        try:
            message = json.loads(text)
        except (ValueError, RecursionError):
            message = None
        if not isinstance(message, dict) or not isinstance(message.get("id"), str | int):
            await self._refuse(None, 'Send a JSON object with an "id", a "path" and a "body".')
            return
        number = message["id"]
        if message.get("cancel"):
            if task := self._running.get(number):
                task.cancel()
        elif number in self._running:
            await self._refuse(number, f"The id {number!r} is in use. Give each request one of its own.")
        elif message.get("path") not in PATHS or not isinstance(message.get("body"), dict):
            await self._refuse(number, f'"path" must be one of {", ".join(PATHS)}, and "body" an object.')
        elif len(self._running) >= MOST_AT_ONCE:
            await self._refuse(number, f"{MOST_AT_ONCE} requests run on this connection already.", 429)
        else:
            task = asyncio.ensure_future(self._answer(number, message["path"], message["body"]))
            self._running[number] = task
            task.add_done_callback(lambda _: self._running.pop(number, None))

    async def _answer(self, number: str | int, path: str, body: dict[str, Any]) -> None:
        response = _Response(lambda message: self._send({"id": number, **message}))
        text = json.dumps(body).encode()
        asked = False

        async def receive() -> Message:
            nonlocal asked
            if asked:
                await asyncio.Event().wait()
            asked = True
            return {"type": "http.request", "body": text, "more_body": False}

        try:
            await self._gateway(self._scope(path, number), receive, response.take)
        finally:
            if self._websocket.client_state.name == "CONNECTED":
                await self._send({"id": number, "event": "done"})

    def _scope(self, path: str, number: str | int) -> Scope:
        scope = self._websocket.scope
        state = dict(scope.get("state", {}))
        state["request_id"] = f"{state.get('request_id', 'ws')}-{number}"[:128]
        headers = [item for item in scope["headers"] if not item[0].startswith(b"sec-websocket-")]
        headers = [item for item in headers if item[0] not in (b"content-type", b"content-length")]
        headers += [(b"content-type", b"application/json"), (PROGRESS_HEADER.encode(), b"1")]
        root = scope.get("root_path", "")
        return {
            **scope,
            "type": "http",
            "http_version": "1.1",
            "method": "POST",
            "path": root + path,
            "raw_path": (root + path).encode(),
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
        lines = [line.partition(": ") for line in text.splitlines()]
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
