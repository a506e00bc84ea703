"""One line in the log for each request of the API; the page's own polling and files are left out."""

import time
from collections.abc import Callable
from dataclasses import dataclass

import structlog
from starlette.types import ASGIApp, Message, Receive, Scope, Send

log = structlog.get_logger("workbench.access")

API_PATHS = (
    "/v1",
    "/v2",
    "/admin",
    "/tokenize",
    "/detokenize",
    "/pooling",
    "/classify",
    "/score",
    "/rerank",
    "/chat/answer",
)
"""What clients call: these, and all below them. Of the page's own calls, only its chats are of interest."""
CUT_OFF = 499
"""Status of a request whose client left before an answer began, as nginx has it."""


@dataclass(frozen=True, slots=True)
class ApiRequest:
    """A request that has ended."""

    method: str
    """"WEBSOCKET" for one of those."""
    path: str
    route: str
    """Path with its parameters' names; "unmatched" for a path that the API has not."""
    status: int
    seconds: float


class AccessLog:
    """ASGI middleware: logs requests of the API when they end, and tells `on_end` of them.

    Handlers may put "model" and "tokens" (of the answer) into `scope["state"]`, which are logged where they
    are there, and "route" where the path of their route doesn't say what was called.
    """

    def __init__(self, app: ASGIApp, on_end: Callable[[ApiRequest], None] = lambda request: None) -> None:
        self._app = app
        self._on_end = on_end

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] not in ("http", "websocket") or not is_api(scope):
            await self._app(scope, receive, send)
            return
        began = time.perf_counter()
        status = CUT_OFF

        async def send_noting_status(message: Message) -> None:
            nonlocal status
            if message["type"] in ("http.response.start", "websocket.http.response.start"):
                status = message["status"]
            elif message["type"] == "websocket.accept":
                status = 101
            await send(message)

        try:
            await self._app(scope, receive, send_noting_status)
        except Exception:
            status = 500
            raise
        finally:
            self._end(scope, status, time.perf_counter() - began)

    def _end(self, scope: Scope, status: int, seconds: float) -> None:
        state = scope.get("state", {})
        route = state.get("route") or getattr(scope.get("route"), "path", "unmatched")
        method = scope.get("method", "WEBSOCKET")
        request = ApiRequest(method, scope["path"], route, status, seconds)
        told = {name: state[name] for name in ("model", "tokens") if state.get(name) is not None}
        took = round(seconds, 4)
        log.info("request", method=method, path=request.path, status=status, seconds=took, **told)
        self._on_end(request)


def is_api(scope: Scope) -> bool:
    """Whether a request is one of the API, and not of the page's own."""
    path = scope["path"].removeprefix(scope.get("root_path", ""))
    return any(path == prefix or path.startswith(f"{prefix}/") for prefix in API_PATHS)
