"""`GET /logs/{worker}`: a worker's log as server-sent events, from its last lines on.

`lines` events carry a JSON list of lines; `beat` events say that nothing was written; `end` says why there
will be no more. Lines are what processes wrote, and nothing to trust.
"""

import json
from collections.abc import AsyncIterator

from fastapi import APIRouter, HTTPException, Request
from fastapi.responses import StreamingResponse

from workbench.errors import WorkbenchError
from workbench.service import Workbench
from workbench.values import Caller

MAX_FOLLOWERS = 8
"""Logs that are followed at a time; each costs a look at a file twice a second."""
HEADERS = {"Cache-Control": "no-store", "X-Accel-Buffering": "no", "X-Content-Type-Options": "nosniff"}


def logs_router(workbench: Workbench) -> APIRouter:
    """The route `/logs/{worker}`."""
    router = APIRouter()
    followers: set[object] = set()

    @router.get("/logs/{worker}", include_in_schema=False)
    async def logs(worker: str, request: Request) -> StreamingResponse:
        try:
            lines = workbench.pool_admin.follow_log(worker)
        except WorkbenchError as error:
            raise HTTPException(error.status, str(error)) from error
        if len(followers) >= MAX_FOLLOWERS:
            raise HTTPException(503, f"{MAX_FOLLOWERS} logs are followed already. Close one of them.")
        caller: Caller = request.state.caller
        return StreamingResponse(
            stream(worker, lines, caller), media_type="text/event-stream", headers=HEADERS
        )

    async def stream(worker: str, log: AsyncIterator[list[str]], caller: Caller) -> AsyncIterator[str]:
        access = workbench.access
        followers.add(log)
        try:
            async for lines in log:
                if not access.holds(caller):
                    return
                yield _event("lines", lines) if lines else _event("beat", 1)
            yield _event("end", f"{worker} has ended; this is all it wrote.")
        except OSError as error:
            yield _event("end", f"The log can't be read ({error.strerror}).")
        finally:
            followers.discard(log)

    return router


def _event(name: str, data: object) -> str:
    return f"event: {name}\ndata: {json.dumps(data, separators=(',', ':'))}\n\n"
