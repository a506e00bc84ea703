"""What is told of each request of the API: a line in the log, a count, and a trace where those are on.

The page's own polling and files are left out.
"""

import time
from collections.abc import Callable
from dataclasses import dataclass

import structlog
from starlette.datastructures import Headers
from starlette.types import ASGIApp, Message, Receive, Scope, Send
from structlog.contextvars import bound_contextvars

from workbench.telemetry.traces import Traces
from workbench.values import Caller

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
METHODS = ("GET", "POST", "PUT", "PATCH", "DELETE", "HEAD", "OPTIONS")
OTHER_METHOD = "OTHER"
"""What is told of any other, so that nobody can make up as many counters as they like."""
WEBSOCKET = "WEBSOCKET"
CUT_OFF = 499
"""Status of a request whose client left before an answer began, as nginx has it."""


@dataclass(frozen=True, slots=True)
class ApiRequest:
    """A request that has ended."""

    method: str
    path: str
    route: str
    """Path with its parameters' names; "unmatched" for a path that the API has not."""
    status: int
    seconds: float


class AccessLog:
    """ASGI middleware inside of `RequestIds`: logs requests of the API when they end, and tells `on_end`.

    Handlers may put "model" and "tokens" (of the answer) into `scope["state"]`, which are logged where they
    are there, and "route" where the path of their route doesn't say what was called. The "caller" that the
    access guard puts there is logged by the name of its key.
    """

    def __init__(self, app: ASGIApp, on_end: Callable[[ApiRequest], None], traces: Traces) -> None:
        self._app = app
        self._on_end = on_end
        self._traces = traces

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] not in ("http", "websocket") or not is_api(scope):
            await self._app(scope, receive, send)
            return
        began = time.perf_counter()
        status = CUT_OFF

        async def send_noting_status(message: Message) -> None:
            nonlocal status
            if message["type"] in ("http.response.start", "websocket.http.response.start"):
                status = int(message["status"])
            elif message["type"] == "websocket.accept":
                status = 101
            await send(message)

        method = scope.get("method", WEBSOCKET)
        method = method if method in (*METHODS, WEBSOCKET) else OTHER_METHOD
        headers = Headers(scope=scope)
        request_id = scope["state"]["request_id"]
        with (
            self._traces.http(method, scope["path"], request_id, headers) as trace,
            bound_contextvars(**trace.log_fields),
        ):
            try:
                await self._app(scope, receive, send_noting_status)
            except Exception:
                status = 500
                raise
            finally:
                route, seconds = _route_of(scope), time.perf_counter() - began
                trace.ended(route, status)
                self._end(scope, ApiRequest(method, scope["path"], route, status, seconds))

    def _end(self, scope: Scope, request: ApiRequest) -> None:
        state = scope["state"]
        told = {name: state[name] for name in ("model", "tokens") if state.get(name) is not None}
        caller: Caller | None = state.get("caller")
        if caller is not None and caller.key_id is not None:
            told["key"] = caller.name
        log.info(
            "request",
            method=request.method,
            path=request.path,
            status=request.status,
            seconds=round(request.seconds, 4),
            **told,
        )
        self._on_end(request)


def _route_of(scope: Scope) -> str:
    return scope["state"].get("route") or getattr(scope.get("route"), "path", "") or "unmatched"


def is_api(scope: Scope) -> bool:
    """Whether a request is one of the API, and not of the page's own."""
    path = scope["path"].removeprefix(scope.get("root_path", ""))
    return any(path == prefix or path.startswith(f"{prefix}/") for prefix in API_PATHS)
