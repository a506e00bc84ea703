"""The page's own HTTP rules, as plain ASGI middleware (Starlette's base class would buffer streams)."""

from collections.abc import Collection

from starlette.datastructures import MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from workbench.api.access_guard import LOGIN, route_path

POLICY = "; ".join(
    (
        "default-src 'self'",
        "script-src 'self' 'unsafe-inline' 'unsafe-eval'",  # Gradio's inline scripts and HTML templates
        "style-src 'self' 'unsafe-inline'",
        "img-src 'self' data: blob:",
        "media-src 'self' data: blob:",
        "font-src 'self' data:",
        "worker-src 'self' blob:",
        "form-action 'self'",
        "base-uri 'self'",
        "object-src 'none'",
    )
)
"""The page talks to its own server alone: an image in a model's answer can't carry a chat elsewhere."""


class PageGuard:
    """Serve every page from Gradio's one, and keep it to its own host and to frames of its own.

    Args:
        app: what serves the page at "/".
        pages: paths of further pages.
        frame_ancestors: sites that may show a page in a frame, where their visitors could be led to click it.
    """

    def __init__(self, app: ASGIApp, pages: Collection[str], frame_ancestors: Collection[str] = ()) -> None:
        self._app = app
        self._pages = frozenset(pages)
        self._policy = "; ".join((POLICY, " ".join(("frame-ancestors", "'self'", *frame_ancestors))))

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        root, path = scope.get("root_path", ""), route_path(scope)
        own = path.startswith(("/gradio_api/", "/chat/")) or path in ("/", LOGIN, *self._pages)
        if path in self._pages:
            scope = {**scope, "path": f"{root}/", "raw_path": f"{root}/".encode()}

        async def send_with_policy(message: Message) -> None:
            if own and message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                headers["Content-Security-Policy"] = self._policy
                headers.setdefault("Referrer-Policy", "same-origin")
                headers["X-Content-Type-Options"] = "nosniff"
            await send(message)

        await self._app(scope, receive, send_with_policy)
