"""Nothing is done for whom it may not be done: hosts, keys, scopes and other sites' requests, at one door.

Plain ASGI middleware (Starlette's base class would buffer streams), around every route there is. A path that
isn't named below needs the scope `chat`: what is forgotten here is closed, not open.
"""

from collections.abc import Collection
from html import escape
from urllib.parse import parse_qsl, urlencode

from fastapi.responses import HTMLResponse, RedirectResponse, Response
from starlette.datastructures import Headers
from starlette.types import ASGIApp, Receive, Scope, Send

from workbench.api.errors import error_response
from workbench.api.sign_in import SignInCookie
from workbench.errors import (
    BadRequestError,
    ForbiddenError,
    UnauthorizedError,
    WorkbenchError,
)
from workbench.service import Workbench
from workbench.settings import Settings, is_loopback
from workbench.values import NOBODY, Caller

LOGIN = "/login"
SIGN_IN_KEY = "key"
"""Parameter of a page's URL that signs in: /?key=wb-…"""
OPEN = (
    *("/health", LOGIN, "/logout"),
    *("/static", "/assets", "/theme.css", "/favicon.ico", "/robots.txt", "/manifest.json", "/pwa_icon"),
)
"""Paths, with all below them, that need no key: Gradio's files are the same for everybody."""
ADMIN = ("/admin", "/metrics", "/logs", "/keys")
FOR_PROGRAMS = ("/v1", "/admin", "/metrics")
"""Where a refusal is never a page to sign in on."""
STREAMS = ("/events", "/logs")
"""What other sites could listen to, although they can't write."""
SUBPROTOCOL = "openai-insecure-api-key."
"""A browser can't add headers to a WebSocket: the key comes as a subprotocol, as OpenAI's own takes it."""


def needed_scope(path: str) -> str | None:
    """The scope that a path needs, None where it needs no key."""
    if _below(path, OPEN):
        return None
    return "admin" if _below(path, ADMIN) else "chat"


def route_path(scope: Scope) -> str:
    """The path without the prefix of a reverse proxy, exactly as routes are matched."""
    path, root = scope["path"], scope.get("root_path", "")
    if root and (path == root or path.startswith(f"{root}/")):
        return str(path[len(root) :])
    return str(path)


def from_elsewhere(scope: Scope) -> bool:
    """Whether a browser says that another site, or another port of this host, sends the request.

    Over plain HTTP from another machine browsers don't say so in `Sec-Fetch-Site`; posts have an `Origin`.
    """
    headers = Headers(scope=scope)
    if "sec-fetch-site" in headers:
        return headers["sec-fetch-site"] not in ("same-origin", "none")
    origin = headers.get("origin", "")
    return bool(origin) and origin.partition("://")[2] != headers.get("host", "")


def host_is_allowed(host: str, settings: Settings) -> bool:
    """Whether Workbench answers to a `Host` header.

    A site can have its own name resolve to 127.0.0.1 (DNS rebinding) and would then count as the page's own.
    """
    name = host.rsplit(":", 1)[0] if not host.endswith("]") else host
    name = name.strip("[]").lower()
    restricted = settings.bound_to_loopback or settings.allowed_hosts
    return not restricted or is_loopback(name) or name in {known.lower() for known in settings.allowed_hosts}


class AccessGuard:
    """Puts the caller into `scope["state"]["caller"]` of every request that it lets through.

    Args:
        app: what is guarded.
        workbench: whose keys count; its `access` may change (tests).
        pages: paths of the page, on which `?key=` signs in.
    """

    def __init__(self, app: ASGIApp, workbench: Workbench, pages: Collection[str]) -> None:
        self._app = app
        self._workbench = workbench
        self._pages = frozenset(pages)
        self._cookie = SignInCookie(workbench.settings)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] not in ("http", "websocket"):
            await self._app(scope, receive, send)
            return
        path = route_path(scope)
        try:
            refusal = await self._check(scope, path)
        except WorkbenchError as error:
            refusal = self._refusal(scope, path, error)
        await (refusal or self._app)(scope, receive, send)

    async def _check(self, scope: Scope, path: str) -> Response | None:
        """Let a request pass (None), or answer it here."""
        settings, headers = self._workbench.settings, Headers(scope=scope)
        if not path.isprintable():  # a route matches a path that ends in a line break, too
            raise BadRequestError("The path has a character that no path has.")
        if not host_is_allowed(headers.get("host", ""), settings):
            raise BadRequestError(
                f"Workbench doesn't answer to the name “{headers.get('host', '')[:100]}”. Open it by its "
                "address, or list the name in WORKBENCH_ALLOWED_HOSTS."
            )
        if path in self._pages and scope.get("method") == "GET" and b"key=" in scope.get("query_string", b""):
            query = dict(parse_qsl(scope["query_string"].decode("latin-1")))
            if secret := query.pop(SIGN_IN_KEY, ""):
                return await self._sign_in(scope, path, secret, query)
        needed = needed_scope(path)
        authorization = _authorization(scope, headers)
        caller = self._caller(scope, authorization, needed)
        if needed is not None:
            caller.demand(needed)
        if self._is_forged(scope, path, authorization, caller):
            refusal = "Requests from other sites are refused, unless they send a key in “Authorization”."
            return error_response(ForbiddenError(refusal), code="cross_site_request")
        scope.setdefault("state", {})["caller"] = caller
        return None

    def _caller(self, scope: Scope, authorization: str, needed: str | None) -> Caller:
        access = self._workbench.access
        try:
            return access.caller(authorization, self._cookie.of(scope))
        except UnauthorizedError:
            if needed is None:
                return NOBODY
            if authorization:
                access.note_refusal(client_of(scope))
            raise

    def _is_forged(self, scope: Scope, path: str, authorization: str, caller: Caller) -> bool:
        """Whether another site has a browser send this, along with a cookie or to an open loopback.

        A browser sends a header `Authorization` to another site only where that allows it, as this one does
        for `allowed_origins`; a WebSocket's subprotocols it sends anywhere: there the key has to be valid.
        Allowed origins need no key where nobody does, but have no use of a sign-in on the page.
        """
        harmless = scope.get("method") in ("GET", "HEAD", "OPTIONS") and not _below(path, STREAMS)
        shown = bool(authorization) and (scope["type"] == "http" or caller.key_id is not None)
        known = Headers(scope=scope).get("origin") in self._workbench.settings.allowed_origins
        welcome = known and not self._cookie.of(scope)
        return not harmless and not shown and not welcome and from_elsewhere(scope)

    # Browsers.

    async def _sign_in(self, scope: Scope, path: str, secret: str, query: dict[str, str]) -> Response:
        try:
            token = await self._workbench.access.sign_in(secret, client_of(scope))
        except UnauthorizedError:
            return self._go(scope, LOGIN, {"next": path, "why": "key"})
        response = self._go(scope, path, query)
        self._cookie.set(response, token, scope)
        return response

    def _refusal(self, scope: Scope, path: str, error: WorkbenchError) -> Response:
        headers = Headers(scope=scope)
        by_person = (
            scope.get("method") in ("GET", "HEAD")
            and "text/html" in headers.get("accept", "")
            and not _below(path, FOR_PROGRAMS)
        )
        if by_person and isinstance(error, UnauthorizedError):
            query = scope["query_string"].decode("latin-1")
            return self._go(scope, LOGIN, {"next": f"{path}?{query}" if query else path})
        if (
            by_person
            and isinstance(error, ForbiddenError)
            and scope["method"] == "GET"
            and _below(path, ADMIN)
        ):
            return self._go(scope, LOGIN, {"next": path, "why": "scope"})
        return error_response(error)

    def _go(self, scope: Scope, path: str, query: dict[str, str]) -> Response:
        """Send a browser elsewhere on this page.

        One that comes by another site's link has left out its cookie, and would do so on a redirect as well:
        it gets a page that goes on by itself, from here.
        """
        url = scope.get("root_path", "") + path + (f"?{urlencode(query)}" if query else "")
        headers = {"Cache-Control": "no-store", "Referrer-Policy": "no-referrer"}
        if Headers(scope=scope).get("sec-fetch-site") != "cross-site":
            return RedirectResponse(url, 303, headers)
        target = escape(url)
        return HTMLResponse(
            f'<!doctype html><title>Workbench</title><meta http-equiv="refresh" content="0;url={target}">'
            f'<a href="{target}">Go on to Workbench</a>',
            headers=headers,
        )


def client_of(scope: Scope) -> str:
    """Address of who asks, for the log."""
    client = scope.get("client")
    return str(client[0]) if client else ""


def _authorization(scope: Scope, headers: Headers) -> str:
    authorization = headers.get("authorization", "")
    if not authorization and (key := headers.get("x-api-key", "")):  # as Anthropic's clients send it
        return f"Bearer {key}"
    if scope["type"] == "websocket" and not authorization:
        for protocol in scope.get("subprotocols", ()):
            if protocol.startswith(SUBPROTOCOL):
                return f"Bearer {protocol.removeprefix(SUBPROTOCOL)}"
    return authorization


def _below(path: str, tops: Collection[str]) -> bool:
    return any(path == top or path.startswith(f"{top}/") for top in tops)
