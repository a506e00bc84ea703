"""What a client is told while its request waits, and for how long it waits."""

import asyncio
import contextlib
import dataclasses
from collections.abc import AsyncGenerator, Awaitable
from typing import TypeVar

from workbench.api.exchange import Exchange
from workbench.errors import UnavailableError
from workbench.values import Progress

T = TypeVar("T")

KEEP_ALIVE_S = 1.0
"""Before the first comment; the response is then an event stream, whatever comes."""
COMMENTS_S = 5.0
"""Between later comments."""
PROGRESS_HEADER = "x-workbench-progress"


class NotYetError(UnavailableError):
    """The model is on its way, but the client should not wait for so long."""


class Patience:
    """A stream is kept alive with comments for as long as it takes; other requests wait up to a limit.

    Args:
        exchange: the request and its response.
        streams: whether the client asked for an event stream.
        limit_s: for how long it waits if it did not.
    """

    def __init__(self, exchange: Exchange, streams: bool, limit_s: float) -> None:
        self._exchange = exchange
        self._streams = streams
        self._wants_events = streams and exchange.headers.get(PROGRESS_HEADER, "0") not in ("0", "")
        self._limit_s = limit_s
        self._clock = asyncio.get_running_loop().time
        self._ends_at = self._clock() + limit_s
        self._comment_at = self._clock() + KEEP_ALIVE_S
        self._shown = Progress("queued", "Waiting")

    async def wait(self, work: Awaitable[T]) -> T:
        """The outcome of `work`.

        Raises:
            NotYetError: it takes longer than the client should wait; it is cancelled then.
        """
        working = asyncio.ensure_future(work)
        try:
            while not working.done():
                due = self._comment_at if self._streams else self._ends_at
                await asyncio.wait({working}, timeout=max(0.0, due - self._clock()))
                if working.done():
                    break
                if not self._streams and self._clock() >= self._ends_at:
                    raise NotYetError(
                        f"The model is not there after {self._limit_s:g} s ({self._shown.detail}). "
                        "It goes on loading: come again soon, or stream, which waits for as long as it takes."
                    )
                if self._streams and self._clock() >= self._comment_at:
                    await self._exchange.comment(self._shown.detail)
                    self._comment_at = self._clock() + COMMENTS_S
            return await working
        finally:
            working.cancel()
            await asyncio.gather(working, return_exceptions=True)

    async def follow(self, stages: AsyncGenerator[Progress]) -> None:
        """Tell what the request waits for, until there is no more to tell."""
        async with contextlib.aclosing(stages):
            async for progress in stages:
                self._shown = progress
                if self._wants_events:
                    await self._exchange.event("progress", dataclasses.asdict(progress))
