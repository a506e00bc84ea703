"""Puts the API on the application."""

from collections.abc import Callable

from fastapi import APIRouter, FastAPI
from starlette.middleware.cors import CORSMiddleware
from starlette.routing import Route, WebSocketRoute
from starlette.types import ASGIApp
from starlette.websockets import WebSocket

from workbench.api.admin import admin_router, health_router
from workbench.api.description import mount_description
from workbench.api.models import models_router
from workbench.api.openai import PATHS, OpenAIGateway
from workbench.api.routes import JsonRoute, refuse_the_rest
from workbench.api.variants import variants_router
from workbench.api.websocket import serve as serve_websocket
from workbench.service import Workbench


def mount_api(app: FastAPI, workbench: Workbench, logged: Callable[[ASGIApp], ASGIApp]) -> None:
    """Serve `/v1` and what else clients call; call it before the page is mounted.

    Args:
        app: where to.
        workbench: what they use.
        logged: puts the access log around what serves requests that `app` doesn't see: a WebSocket's.
    """
    gateway = OpenAIGateway(workbench)
    gateway_of_sockets = logged(gateway)

    async def over_websocket(websocket: WebSocket) -> None:
        await serve_websocket(websocket, gateway_of_sockets)

    app.include_router(health_router(workbench))
    for path in PATHS:
        app.router.routes.append(Route(path, gateway))  # any method: it says itself which
    app.router.routes.append(WebSocketRoute("/v1/ws", over_websocket))
    app.include_router(models_router(workbench))
    app.include_router(variants_router(workbench))
    app.include_router(admin_router(workbench))  # after all else below /admin: it refuses the rest
    rest = APIRouter(prefix="/v1", route_class=JsonRoute)
    refuse_the_rest(rest)
    app.include_router(rest)
    mount_description(app, workbench)


def for_other_origins(app: ASGIApp, origins: tuple[str, ...]) -> ASGIApp:
    """Let pages of other web sites call the API from a browser; nobody else's may read its answers."""
    if not origins:
        return app
    return CORSMiddleware(
        app,
        allow_origins=list(origins),
        allow_methods=["GET", "POST", "DELETE"],
        allow_headers=["*"],
        expose_headers=["X-Request-Id", "Retry-After"],
    )
