"""Routes of the JSON API: errors in OpenAI's format everywhere, and in the description."""

import asyncio
import re
from collections.abc import Callable, Coroutine
from typing import Any, TypeVar

from fastapi import APIRouter, Request, Response
from fastapi.exceptions import RequestValidationError
from fastapi.routing import APIRoute
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect

from workbench.api.admin_schemas import ErrorAnswer
from workbench.api.errors import error_response, method_refusal
from workbench.errors import BadRequestError, NotFoundError, WorkbenchError

T = TypeVar("T")

METHODS = ["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "TRACE"]
MEANINGS = {
    400: "The request can't be used; the message says why.",
    404: "There is none of that name.",
    409: "It contradicts the present state; the message says how.",
    500: "The engine failed; the message says why.",
    502: "A worker died; another takes its place.",
    503: "Not now: Workbench closes, or something needed does not answer.",
    507: "No device has room for it.",
    "4XX": "Refused: no key or not its right, too large, or too many requests.",
}


def failures(*statuses: int) -> dict[int | str, dict[str, Any]]:
    """The ways in which a route may fail, for its description; besides those that every route has."""
    known: list[int | str] = [*sorted({400, 503, *statuses}), "4XX"]
    return {status: {"model": ErrorAnswer, "description": MEANINGS[status]} for status in known}


class JsonRoute(APIRoute):
    """Answers with errors in OpenAI's format, also where a request does not fit the description."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        # A name with a line break is refused like any other that can't be, and not passed on to later routes.
        self.path_regex = re.compile(self.path_regex.pattern, re.DOTALL)

    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        handle = super().get_route_handler()

        async def answer(request: Request) -> Response:
            try:
                return await handle(request)
            except WorkbenchError as error:
                return error_response(error)
            except RequestValidationError as error:
                return error_response(BadRequestError(_what_is_wrong(error)), param=_where(error))
            except HTTPException as error:  # a body that is no text at all
                if error.status_code != 400:
                    raise
                return error_response(BadRequestError(f"The request can't be read: {error.detail}."))

        return answer


def _where(error: RequestValidationError) -> str | None:
    return ".".join(str(part) for part in error.errors()[0]["loc"][1:]) or None


def _what_is_wrong(error: RequestValidationError) -> str:
    first = error.errors()[0]
    place = _where(error) or first["loc"][0]
    return f"The request can't be used: {place}: {first['msg'].rstrip('.')}."


def refuse_the_rest(router: APIRouter) -> None:
    """Answer what no route of the router takes, below its prefix: no such path, or not that method.

    Call it after all others are on the router. Without it, routes that come later would be tried.
    """
    known = [route for route in router.routes if isinstance(route, APIRoute)]

    @router.api_route("/{rest:path}", methods=METHODS, include_in_schema=False)
    async def refuse(request: Request) -> Response:
        path = request.scope["path"].removeprefix(request.scope.get("root_path", ""))
        meant = next((route.path for route in known if route.path_regex.match(path)), None)
        if meant is None:
            return error_response(NotFoundError(f"There is no {path}."))
        return method_refusal(
            path, {method for route in known if route.path == meant for method in route.methods}
        )


async def while_connected(leaving: Coroutine[Any, Any, None], work: Coroutine[Any, Any, T]) -> T:
    """Do the work, and give it up when the client leaves.

    Args:
        leaving: ends when the client has left.
        work: cancelled then.

    Raises:
        ClientDisconnect: the client has left; there is nobody to tell.
    """
    left, working = asyncio.ensure_future(leaving), asyncio.ensure_future(work)
    try:
        await asyncio.wait({working, left}, return_when=asyncio.FIRST_COMPLETED)
        if working.done():
            return working.result()
        raise ClientDisconnect
    finally:
        for task in (working, left):
            task.cancel()
        await asyncio.gather(working, left, return_exceptions=True)


async def left(request: Request) -> None:
    """Wait until the client of a request, whose body was read, has left."""
    while (await request.receive())["type"] != "http.disconnect":
        pass
