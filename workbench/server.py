"""Serves the page: FastAPI, with Gradio mounted in it, under uvicorn."""

import asyncio
import contextlib
import errno
import importlib
import socket
from collections.abc import Iterator

import uvicorn
from fastapi import FastAPI
from starlette.types import ASGIApp

from workbench.api.access_log import AccessLog
from workbench.api.metrics import MetricsPage
from workbench.api.mount import for_other_origins, mount_api
from workbench.api.request_id import RequestIds
from workbench.errors import UnavailableError
from workbench.service import Workbench

KEEP_ALIVE_S = 75
"""An idle connection stays open for longer than clients keep one: one that is closed just as its client sends
the next request fails it. OpenAI's client keeps them for 5 s, which is uvicorn's time; aiohttp for 15 s."""
GRACE_S = 2
"""A connected browser keeps its event stream open; this long after a stop it is cut off."""


def bind(host: str, port: int) -> socket.socket:
    """Take the page's port; 0 takes a free one.

    Raises:
        UnavailableError: the port is taken, or the address is not this machine's.
    """
    try:
        family = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)[0][0]
        # Only with its protocol named does asyncio send without waiting for acknowledgements (TCP_NODELAY).
        listener = socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    except OSError as error:
        raise UnavailableError(
            f"The address {host} can't be used ({error.strerror}). Set WORKBENCH_HOST to one of this machine."
        ) from error
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listener.bind((host, port))
    except OSError as error:
        listener.close()
        if error.errno == errno.EADDRINUSE:
            raise UnavailableError(
                f"Port {port} on {host} is taken, perhaps by another Workbench. "
                "Stop that program, or choose another port with --port."
            ) from error
        raise UnavailableError(
            f"Workbench can't listen on {host}:{port} ({error.strerror}). "
            "Choose another with --host and --port."
        ) from error
    listener.listen()  # a browser that is quicker than the server waits, and is not refused
    return listener


def import_page() -> None:
    """Import Gradio and the page, which takes 3 s of `build_app`'s time; may be called in a thread."""
    importlib.import_module("workbench.ui.app")


def build_app(workbench: Workbench) -> ASGIApp:
    """The whole web application. Imports Gradio unless `import_page` has."""
    from workbench.ui.app import mount

    metrics = MetricsPage(workbench)

    def logged(part: ASGIApp) -> ASGIApp:
        return AccessLog(part, metrics.on_api_request, workbench.measurements.traces)

    app = FastAPI(title="Workbench", docs_url=None, redoc_url=None, openapi_url=None)
    app.include_router(metrics.router())
    mount_api(app, workbench, logged)
    served = for_other_origins(mount(app, workbench), workbench.settings.allowed_origins)
    # Around all else: what is refused has an id and a line too.
    return RequestIds(logged(served))


class PageServer(uvicorn.Server):
    """Serves an app on a socket that is bound already.

    Args:
        app: the web application.
        listener: the bound socket.
        root_path: path prefix behind a reverse proxy.
        ws_max_bytes: of a message that a WebSocket's client sends.
    """

    def __init__(
        self, app: ASGIApp, listener: socket.socket, root_path: str = "", ws_max_bytes: int = 1 << 23
    ) -> None:
        super().__init__(
            uvicorn.Config(
                app,
                log_config=None,
                access_log=False,
                timeout_keep_alive=KEEP_ALIVE_S,
                timeout_graceful_shutdown=GRACE_S,
                root_path=root_path,
                ws_max_size=ws_max_bytes,
                lifespan="on",
            )
        )
        self._listener = listener

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Leave signals to the command line, or to the notebook's kernel.

        uvicorn would raise them anew when the page is down, and the pool would not be closed in order.
        """
        yield

    @property
    def url(self) -> str:
        """Where a browser on this machine finds the page."""
        host, port = self._listener.getsockname()[:2]
        if host in ("0.0.0.0", "::"):
            host = "127.0.0.1"
        return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"

    async def run_until_stopped(self) -> None:
        """Serve until a signal, or until `stop`."""
        await self.serve(sockets=[self._listener])

    async def wait_started(self) -> None:
        """Wait until requests are answered."""
        while not self.started:  # noqa: ASYNC110 - uvicorn has no event for it
            await asyncio.sleep(0.02)

    def stop(self) -> None:
        """End `run_until_stopped` soon."""
        self.should_exit = True
