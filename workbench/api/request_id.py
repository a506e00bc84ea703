"""Every request has an id: the client's own `X-Request-Id`, or a new one; responses carry it, and logs."""

import re
import uuid

from starlette.datastructures import Headers, MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send
from structlog.contextvars import bound_contextvars

HEADER = "X-Request-Id"
ACCEPTED = re.compile(r"[\x21-\x7e]{1,128}")
"""Visible ASCII: an id is printed on terminals."""
RESPONSES = ("http.response.start", "websocket.accept", "websocket.http.response.start")


class RequestIds:
    """ASGI middleware around the whole application, so that responses to its own errors carry an id too.

    The id is in `scope["state"]["request_id"]` and, for whatever is logged for the request, in structlog's
    context as `request_id`.
    """

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] not in ("http", "websocket"):
            await self._app(scope, receive, send)
            return
        request_id = Headers(scope=scope).get(HEADER, "")
        if not ACCEPTED.fullmatch(request_id):
            request_id = uuid.uuid4().hex
        scope.setdefault("state", {})["request_id"] = request_id

        async def send_with_id(message: Message) -> None:
            if message["type"] in RESPONSES:
                message.setdefault("headers", [])
                MutableHeaders(scope=message)[HEADER] = request_id
            await send(message)

        with bound_contextvars(request_id=request_id):
            await self._app(scope, receive, send_with_id)
