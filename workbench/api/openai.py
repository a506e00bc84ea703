"""The OpenAI-compatible API: vLLM's own front end of whichever model a request names.

A request goes to the model it names, and has it switched to if need be. While it waits, a streaming client
gets a comment now and then, so that no proxy gives up, and with `X-Workbench-Progress: 1` an event at
each stage; one that does not stream waits up to the setting `api_wait`, and is then told when to come again,
while its model goes on loading. A client that leaves, or takes nothing for long, has its request aborted,
and a load that nobody else waits for is given up.
"""

import json
from collections.abc import Mapping
from contextlib import AsyncExitStack
from typing import Any

import structlog
from starlette.requests import ClientDisconnect
from starlette.types import Receive, Scope, Send

from workbench.api.errors import method_refusal
from workbench.api.exchange import Exchange
from workbench.api.patience import NotYetError, Patience
from workbench.api.request_defaults import (
    GENERATING,
    check_size,
    wish_of,
    with_defaults,
)
from workbench.api.routes import while_connected
from workbench.errors import BadRequestError, NotFoundError, WorkbenchError
from workbench.service import Workbench
from workbench.values import ApiRequest, Application, Arrival, VariantView, wrong_kind

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
ENGINE_HEADERS = frozenset(
    {b"x-data-parallel-rank", b"x-vllm-priority", b"x-request-id", b"authorization", b"x-api-key"}
)
"""Kept from vLLM's front end: what steers its engine, and what is none of its business."""


class OpenAIGateway:
    """The routes of `PATHS`, as plain ASGI.

    Args:
        workbench: running.
    """

    def __init__(self, workbench: Workbench) -> None:
        self._workbench = workbench

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        exchange = Exchange(scope, receive, send)
        scope["state"]["route"] = exchange.path  # for the access log
        if scope["method"] != "POST":
            await method_refusal(exchange.path, ["POST"])(scope, receive, send)
            return
        arrival = Arrival()
        try:
            await self._answer(exchange, await exchange.read(), arrival)
        except NotFoundError as error:
            await exchange.fail(error, param="model", code="model_not_found")
        except WorkbenchError as error:
            await exchange.fail(error)
        except ClientDisconnect:
            log.info("client left", path=exchange.path)
        except Exception as error:
            log.exception("an API request failed", path=exchange.path)
            why = f"Something went wrong inside Workbench: {type(error).__name__}. The log has the details."
            await exchange.fail(WorkbenchError(why))

    async def _answer(self, exchange: Exchange, body: Mapping[str, Any], arrival: Arrival) -> None:
        name = body.get("model")
        if not isinstance(name, str) or not name:
            raise BadRequestError('The body names no model. Set "model" to one that GET /v1/models lists.')
        settings, state = self._workbench.settings, exchange.scope["state"]
        choices = check_size(body, settings.max_messages, settings.max_choices)
        target = self._workbench.gateway.resolve(name)
        state["model"] = target.model
        asked = with_defaults(exchange.path, body, target)
        if asked is not body:
            exchange.body = json.dumps(asked, ensure_ascii=False).encode()
        wish = wish_of(state["caller"], asked, choices)
        async with AsyncExitStack() as stack:
            admission = stack.enter_context(self._workbench.access.admit(state["caller"]))
            request = self._workbench.gateway.request(
                target, state["request_id"], wish, arrival, measured=exchange.path in GENERATING
            )
            try:
                front_end = await while_connected(
                    exchange.left(), self._reach(exchange, asked, target, request, stack)
                )
            except NotYetError:
                self._workbench.gateway.linger(target.model)
                raise
            if front_end is None:
                return
            try:
                with request.watched():
                    await front_end(self._inner_scope(exchange), exchange.replay, exchange.forward)
            finally:
                state["tokens"] = request.watch.completion_tokens
                admission.charge(request.watch.prompt_tokens + request.watch.completion_tokens)
            if exchange.status >= 400:
                request.refused(exchange.status)

    async def _reach(
        self,
        exchange: Exchange,
        body: Mapping[str, Any],
        target: VariantView,
        request: ApiRequest,
        stack: AsyncExitStack,
    ) -> Application | None:
        """Wait for the request's model; None if the request was refused before one was asked for.

        Raises:
            WorkbenchError: it can't be had, does not answer such requests, or takes too long.
        """
        gateway = self._workbench.gateway
        streams = exchange.path in GENERATING and body.get("stream") is True
        patience = Patience(exchange, streams, self._workbench.settings.api_wait)
        if not gateway.serves(target.model):
            # Before a model is switched to for a request that it could not take.
            check = gateway.refusal(target, exchange.path, self._inner_scope(exchange), exchange.body)
            if (refusal := await patience.wait(check)) is not None:
                await exchange.respond(*refusal)
                return None
        await stack.enter_async_context(request)

        async def bring() -> Application:
            await patience.follow(request.stages())
            return await request.front_end()

        front_end = await patience.wait(bring())
        if not front_end.answers(exchange.path):
            raise wrong_kind(target.model, exchange.path)
        return front_end

    def _inner_scope(self, exchange: Exchange) -> Scope:
        """The request as vLLM's front end is to see it."""
        headers = [item for item in exchange.scope["headers"] if item[0] not in ENGINE_HEADERS]
        request_id = exchange.scope["state"]["request_id"].encode("latin-1")
        return {
            **exchange.scope,
            # Of this version, a stream listens for the client's leaving; of later ones, it waits to fail.
            "asgi": {"version": "3.0", "spec_version": "2.3"},
            "path": exchange.path,
            "root_path": "",
            "headers": [*headers, (b"x-request-id", request_id)],
            "state": {},
        }
