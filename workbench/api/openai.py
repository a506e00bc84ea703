"""The OpenAI-compatible API: vLLM's own front end of whichever model a request names.

A request goes to the model it names, and has it switched to if need be. While it waits, a streaming client
gets a comment now and then, so that no proxy gives up, and with `X-Workbench-Progress: 1` an event at each
stage; one that does not stream waits up to the setting `api_wait`, and is then told when to come again, while
its model goes on loading. A client that leaves has its request aborted, and a load that nobody else waits for
is given up.
"""

import asyncio
import contextlib
import dataclasses
import json
from collections.abc import Mapping
from typing import Any

import structlog
from starlette.requests import ClientDisconnect
from starlette.types import Receive, Scope, Send

from workbench.api.exchange import Exchange
from workbench.api.request_defaults import GENERATING, wish_of, with_defaults
from workbench.api.routes import while_connected
from workbench.errors import BadRequestError, NotFoundError, UnavailableError, WorkbenchError
from workbench.service import Workbench
from workbench.values import ApiRequest, Arrival, Progress, Target

log = structlog.get_logger("workbench.api")

PATHS = (
    *GENERATING,
    "/v1/messages/count_tokens",
    "/v1/embeddings",
    "/v1/score",
    "/v1/rerank",
    "/score",
    "/rerank",
    "/pooling",
    "/classify",
    "/tokenize",
    "/detokenize",
)
"""What is answered by the model that the body names."""
KEEP_ALIVE_S = 1.0
"""Before the first comment; the response is then an event stream, whatever comes."""
COMMENTS_S = 5.0
"""Between later comments."""
PROGRESS_HEADER = "x-workbench-progress"
LINGER_S = 15.0
"""After a client was told to come again, its model goes on loading for so long without it."""
ENGINE_HEADERS = frozenset({b"x-data-parallel-rank", b"x-vllm-priority", b"x-request-id", b"authorization"})
"""Kept from vLLM's front end: what steers its engine, and what is none of its business."""


class OpenAIGateway:
    """The routes of `PATHS`, as plain ASGI.

    Args:
        workbench: running.
    """

    def __init__(self, workbench: Workbench) -> None:
        self._workbench = workbench
        self._lingering: set[asyncio.Task[None]] = set()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        exchange = Exchange(scope, receive, send)
        arrival = Arrival()
        try:
            body = await exchange.read()
            await while_connected(exchange.left(), self._answer(exchange, body, arrival))
        except NotFoundError as error:
            await exchange.fail(error, param="model", code="model_not_found")
        except WorkbenchError as error:
            await exchange.fail(error)
        except ClientDisconnect:
            log.info("client left", path=scope["path"])

    async def _answer(self, exchange: Exchange, body: Mapping[str, Any], arrival: Arrival) -> None:
        name = body.get("model")
        if not isinstance(name, str) or not name:
            raise BadRequestError('The body names no model. Set "model" to one that GET /v1/models lists.')
        self._check_size(body)
        gateway, state = self._workbench.gateway, exchange.scope["state"]
        target = gateway.resolve(name)
        state["model"] = target.model  # for the access log
        asked = with_defaults(exchange.path, body, target)
        if asked is not body:
            exchange.body = json.dumps(asked).encode()
        if not gateway.serves(target.model) and await self._refused_early(exchange):
            return
        with self._workbench.access.admit(state["caller"]) as admission:
            async with gateway.request(
                target,
                state["request_id"],
                wish_of(state["caller"], asked),
                arrival,
                measured=exchange.path in GENERATING,
            ) as request:
                try:
                    await self._wait(exchange, asked, target, request)
                    front_end = await request.front_end()
                    if not front_end.answers(exchange.path):
                        raise BadRequestError(
                            f"{target.model} does not answer {exchange.path}: it is another kind of model."
                        )
                    await front_end(self._inner_scope(exchange), exchange.replay, exchange.forward)
                finally:
                    state["tokens"] = request.watch.completion_tokens
                    admission.charge(request.watch.prompt_tokens + request.watch.completion_tokens)
                if exchange.status >= 400:
                    request.figures.error = f"It was refused with status {exchange.status}."

    def _check_size(self, body: Mapping[str, Any]) -> None:
        settings = self._workbench.settings
        for name, most in (("messages", settings.max_messages), ("input", settings.max_messages)):
            if isinstance(body.get(name), list) and len(body[name]) > most:
                raise BadRequestError(f"{name} has {len(body[name])} entries; {most} are the most allowed.")
        choices = body.get("n") or 1
        prompt = body.get("prompt")
        if isinstance(prompt, list) and prompt and not isinstance(prompt[0], int) and type(choices) is int:
            choices *= len(prompt)
        if type(choices) is int and choices > settings.max_choices:
            raise BadRequestError(
                f"The request asks for {choices} answers at once; {settings.max_choices} are allowed."
            )

    async def _refused_early(self, exchange: Exchange) -> bool:
        """Answer a request that no model could take, before one is switched to for it."""
        refusal = await self._workbench.gateway.refusal(self._inner_scope(exchange), exchange.body)
        if refusal is None:
            return False
        await exchange.respond(*refusal)
        return True

    def _inner_scope(self, exchange: Exchange) -> Scope:
        """The request as vLLM's front end is to see it."""
        headers = [item for item in exchange.scope["headers"] if item[0] not in ENGINE_HEADERS]
        request_id = exchange.scope["state"]["request_id"].encode("latin-1")
        return {
            **exchange.scope,
            "path": exchange.path,
            "root_path": "",
            "headers": [*headers, (b"x-request-id", request_id)],
        }

    # The wait for the model.

    async def _wait(
        self, exchange: Exchange, body: Mapping[str, Any], target: Target, request: ApiRequest
    ) -> None:
        """Wait until the request's model is there.

        Raises:
            UnavailableError: it takes longer than a client that does not stream should wait.
            WorkbenchError: it can't be had.
        """
        if body.get("stream") is True:
            await self._keep_alive(exchange, request)
            return
        wait_s = self._workbench.settings.api_wait
        stage = ""
        try:
            async with asyncio.timeout(wait_s), contextlib.aclosing(request.stages()) as stages:
                async for progress in stages:
                    stage = progress.detail
        except TimeoutError:
            self._linger(target.model)
            raise UnavailableError(
                f"{target.model} is not there after {wait_s:g} s ({stage}). It goes on loading: "
                "come again soon, or stream, which waits for as long as it takes."
            ) from None

    async def _keep_alive(self, exchange: Exchange, request: ApiRequest) -> None:
        """Tell a client that streams what it waits for, until its model is there."""
        wants_events = exchange.headers.get(PROGRESS_HEADER, "0") not in ("0", "")
        clock = asyncio.get_running_loop().time
        due, shown = clock() + KEEP_ALIVE_S, Progress("queued", "")
        async with contextlib.aclosing(request.stages()) as stages:
            coming = asyncio.ensure_future(anext(stages, None))
            try:
                while True:
                    done, _ = await asyncio.wait({coming}, timeout=max(0.0, due - clock()))
                    if not done:
                        await exchange.comment(shown.detail)
                        due = clock() + COMMENTS_S
                        continue
                    stage = coming.result()
                    if stage is None:
                        return
                    shown = stage
                    if wants_events:
                        await exchange.event("progress", dataclasses.asdict(stage))
                    coming = asyncio.ensure_future(anext(stages, None))
            finally:
                coming.cancel()
                await asyncio.gather(coming, return_exceptions=True)

    def _linger(self, model: str) -> None:
        """Have a model go on loading until whoever was sent away comes again."""

        async def wait() -> None:
            with contextlib.suppress(TimeoutError, WorkbenchError):
                async with asyncio.timeout(LINGER_S):
                    await self._workbench.load(model)

        task = asyncio.ensure_future(wait())
        self._lingering.add(task)
        task.add_done_callback(self._lingering.discard)
