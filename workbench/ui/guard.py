"""The page's own HTTP rules, as plain ASGI middleware (Starlette's base class would buffer streams)."""

from collections.abc import Collection

from starlette.datastructures import Headers, MutableHeaders
from starlette.responses import PlainTextResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from workbench.api.errors import error_response
from workbench.errors import ForbiddenError

REFUSAL = "Requests from other sites are refused."

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


def _from_elsewhere(scope: Scope) -> bool:
    """Whether a browser says that another site, or another port of this host, sends the request.

    Over plain HTTP from another machine browsers don't say so in `Sec-Fetch-Site`; posts have an `Origin`.
    """
    headers = Headers(scope=scope)
    if "sec-fetch-site" in headers:
        return headers["sec-fetch-site"] not in ("same-origin", "none")
    origin = headers.get("origin", "")
    return bool(origin) and origin.partition("://")[2] != headers.get("host", "")


class PageGuard:
    """Serve every page from Gradio's one, keep it to its own host, refuse writes from other sites.

    Gradio's `/component_server` takes JSON of any content type, and orders to `/admin` need no body, so that
    without the last rule another site could send a form that removes a model. Browsers say in
    `Sec-Fetch-Site` where a request comes from.
    """

    def __init__(self, app: ASGIApp, pages: Collection[str]) -> None:
        self._app = app
        self._pages = frozenset(pages)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        root = scope.get("root_path", "")
        path = scope["path"].removeprefix(root)
        own = path.startswith(("/gradio_api/", "/chat/")) or path in ("/", *self._pages)
        if path in self._pages:
            scope = {**scope, "path": f"{root}/", "raw_path": f"{root}/".encode()}
        streams = path == "/events" or path.startswith("/logs/")
        if (streams or (own and scope["method"] == "POST")) and _from_elsewhere(scope):
            await PlainTextResponse(REFUSAL, 403)(scope, receive, send)
            return
        if path.startswith("/admin/") and scope["method"] not in ("GET", "HEAD") and _from_elsewhere(scope):
            refusal = error_response(ForbiddenError(REFUSAL), code="cross_site_request")
            await refusal(scope, receive, send)
            return

        async def send_with_policy(message: Message) -> None:
            if own and message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                headers["Content-Security-Policy"] = POLICY
                headers["Referrer-Policy"] = "same-origin"
                headers["X-Content-Type-Options"] = "nosniff"
            await send(message)

        await self._app(scope, receive, send_with_policy)
