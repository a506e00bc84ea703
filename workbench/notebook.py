"""Workbench in a notebook: the same service, with the page shown in the cell."""

import asyncio
from typing import Any

from workbench import service
from workbench.errors import UnavailableError
from workbench.server import PageServer, bind, build_app
from workbench.settings import Settings

NOTEBOOKS = ("http://localhost:*", "http://127.0.0.1:*", "vscode-webview:")
"""Where notebooks are that may show the page in a cell; `frame_ancestors` names others."""


class Workbench(service.Workbench):
    """A running pool with its catalog, and a page to show.

    `async with Workbench() as wb:` or `await wb.start()`; nothing of it outlives the kernel.
    """

    def __init__(self, settings: Settings | None = None, **overrides: Any) -> None:
        super().__init__(settings, **overrides)
        if not self.settings.frame_ancestors:
            self.settings = self.settings.model_copy(update={"frame_ancestors": NOTEBOOKS})

    _server: PageServer | None = None
    _serving: "asyncio.Task[None] | None" = None

    def show(self, height: int = 720) -> Any:
        """Put the page into the cell; a second call shows the same page again.

        Returns:
            An IPython IFrame, or the page's URL where there is no IPython.
        """
        if self._server is None:
            try:
                listener = bind(self.settings.host, self.settings.port)
            except UnavailableError:  # a notebook beside a running Workbench is no mistake
                listener = bind(self.settings.host, 0)
            self._server = PageServer(build_app(self), listener, ws_max_bytes=self.settings.max_body_bytes)
            self._serving = asyncio.ensure_future(self._server.run_until_stopped())
        try:
            from IPython.display import IFrame
        except ImportError:
            return self._server.url
        return IFrame(self._server.url, width="100%", height=height)

    async def close(self) -> None:
        """Take the page down, then end every worker. Idempotent."""
        if self._server is not None and self._serving is not None:
            self._server.stop()
            await self._serving
            self._server = self._serving = None
        await super().close()
