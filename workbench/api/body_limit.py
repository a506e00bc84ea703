"""Bodies that are too long are refused before they take memory."""

from starlette.datastructures import Headers
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from workbench.api.errors import error_response
from workbench.errors import TooLargeError


class BodyLimit:
    """ASGI middleware: answers 413 to a body of more than `limit` bytes, announced or not.

    A body that comes in chunks, without `Content-Length`, is counted as it is read. When it grows too long
    the client is answered at once, and the application sees it leave.
    """

    def __init__(self, app: ASGIApp, limit: int) -> None:
        self._app = app
        self._limit = limit

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        refusal = error_response(
            TooLargeError(
                f"The body is longer than the {self._limit:,} bytes that Workbench takes. "
                "Send less, or have WORKBENCH_MAX_BODY_BYTES raised."
            )
        )
        announced = Headers(scope=scope).get("content-length", "")
        if announced.isdecimal() and int(announced) > self._limit:
            await refusal(scope, receive, send)
            return
        read, began, refused = 0, False, False

        async def receive_counting() -> Message:
            nonlocal read, refused
            if refused:
                return {"type": "http.disconnect"}
            message = await receive()
            read += len(message.get("body", b""))
            if read > self._limit:
                refused = True
                if not began:
                    await refusal(scope, receive, send)
                return {"type": "http.disconnect"}
            return message

        async def send_unless_refused(message: Message) -> None:
            nonlocal began
            if not refused:
                began = True
                await send(message)

        try:
            await self._app(scope, receive_counting, send_unless_refused)
        except Exception:
            if not refused:  # else it is about the client that has left
                raise
