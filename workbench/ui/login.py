"""Signing in with a key, and out: a page of plain HTML, which works before anything else may be loaded."""

from urllib.parse import parse_qs

from fastapi import APIRouter, Request
from fastapi.responses import HTMLResponse, JSONResponse, RedirectResponse, Response

from workbench.api.access_guard import LOGIN, client_of
from workbench.api.sign_in import SignInCookie
from workbench.errors import UnauthorizedError
from workbench.service import Workbench
from workbench.ui.render.login import login_page
from workbench.values import Caller

WHY = {
    "key": "That key is not known here: it is mistyped, or it was revoked.",
    "scope": "Your key may not see that page. Sign in with one that has the scope “admin”.",
}
HEADERS = {"Cache-Control": "no-store", "Referrer-Policy": "no-referrer"}


def login_router(workbench: Workbench) -> APIRouter:
    """`GET` and `POST /login`, `POST /logout`, and `GET /session`, which tells the page who it is for."""
    router = APIRouter(include_in_schema=False)
    cookie = SignInCookie(workbench.settings)

    @router.get(LOGIN)
    async def show(request: Request, why: str = "") -> Response:
        caller: Caller = request.state.caller
        wanted = request.query_params.get("next", "/")
        if caller.scopes and not why:
            return go(request, wanted)
        return page(request, wanted, WHY.get(why, ""))

    @router.post(LOGIN)
    async def sign_in(request: Request) -> Response:
        form = parse_qs((await request.body()).decode("utf-8", "replace"))
        wanted = form.get("next", ["/"])[0]
        try:
            token = await workbench.access.sign_in(form.get("key", [""])[0], client_of(request.scope))
        except UnauthorizedError as error:
            return page(request, wanted, str(error), 401)
        response = go(request, wanted)
        cookie.set(response, token, request.scope)
        return response

    @router.post("/logout")
    async def sign_out(request: Request) -> Response:
        if token := cookie.of(request.scope):
            await workbench.access.sign_out(token)
        response = go(request, LOGIN)
        cookie.clear(response, request.scope)
        return response

    @router.get("/session")
    async def session(request: Request) -> Response:
        caller: Caller = request.state.caller
        told = {
            "name": caller.name,
            "scopes": sorted(caller.scopes),
            "signed_in": caller.key_id is not None and bool(cookie.of(request.scope)),
        }
        return JSONResponse(told, headers={"Cache-Control": "no-store"})

    def page(request: Request, wanted: str, note: str, status: int = 200) -> Response:
        action = _root(request) + LOGIN
        return HTMLResponse(login_page(action, own_path(wanted), note), status, HEADERS)

    def go(request: Request, wanted: str) -> Response:
        return RedirectResponse(_root(request) + own_path(wanted), 303, HEADERS)

    return router


def own_path(wanted: str) -> str:
    """A path of this page, whatever was asked for: a link must not lead on to another site."""
    plain = wanted.startswith("/") and not wanted.startswith(("//", "/\\")) and wanted.isprintable()
    return wanted if plain and len(wanted) < 2000 else "/"


def _root(request: Request) -> str:
    return str(request.scope.get("root_path", ""))
