"""vLLM's own OpenAI-compatible front end, over one model's engine client.

The routes are those of `vllm serve`, so requests, answers and errors are vLLM's to the letter. They are
built once; each model has a twin of them with a state of its own (vllm/entrypoints/launchers/app.py and
api_server/app_state.py do the same for the one model of a server). Left out are routes that steer the
engine or the process: those are Workbench's own.
"""

import asyncio
import contextlib
import copy
import functools
import hashlib
import json
import time
from argparse import Namespace
from collections.abc import AsyncGenerator, Callable, Iterator
from http import HTTPStatus
from pathlib import Path
from typing import TYPE_CHECKING, Any

import vllm
from fastapi import FastAPI
from starlette.datastructures import State
from starlette.types import Receive, Scope, Send
from vllm.entrypoints.generate.api_router import register_generate_api_routers
from vllm.entrypoints.launchers.api_server.app_state import init_app_state
from vllm.entrypoints.launchers.cli_args import make_arg_parser
from vllm.entrypoints.pooling.classify import api_router as classify
from vllm.entrypoints.pooling.embed import api_router as embed
from vllm.entrypoints.pooling.factories import register_pooling_api_routers
from vllm.entrypoints.pooling.pooling import api_router as pooling
from vllm.entrypoints.pooling.scoring import api_router as scoring
from vllm.entrypoints.serve.exception_handling.register import init_exception_handler
from vllm.entrypoints.serve.tokenize.api_router import attach_router as attach_tokenize_router
from vllm.exceptions import GenerationError, VLLMClientError, VLLMValidationError
from vllm.outputs import PoolingRequestOutput, RequestOutput
from vllm.sampling_params import SamplingParams
from vllm.tasks import POOLING_TASKS
from vllm.utils.argparse_utils import FlexibleArgumentParser
from vllm.v1.engine.exceptions import EngineDeadError, EngineGenerateError

from workbench.engine.parsers import Parsers
from workbench.engine.spec import ModelSpec
from workbench.engine.watch import WATCH, Watch
from workbench.errors import BadRequestError, WorkbenchError

if TYPE_CHECKING:
    from vllm.v1.engine.async_llm import AsyncLLM

Tasks = tuple[Any, ...]
DOCS = Path(vllm.__file__).parent / "entrypoints" / "serve" / "instrumentator" / "static"
"""Files of Swagger UI, which vLLM brings along."""


BEAM = "-beam-"
"""In the id of an engine request for one step of one beam, whose prompt is mostly the answer so far."""
POOLING_PATHS = frozenset(
    {"/v1/embeddings", "/v1/score", "/v1/rerank", "/score", "/rerank", "/pooling", "/classify"}
)
BOTH_KINDS = frozenset({"/tokenize", "/detokenize"})
SAMPLED_PATHS = frozenset({"/v1/chat/completions", "/v1/completions", "/v1/responses"})
SAMPLING = ("temperature", "top_p")
"""Parameters of all of `SAMPLED_PATHS` that vLLM checks alone, without regard to a model or to each other."""
REFUSALS = (400, 413, 415, 422)
"""What vLLM answers to a body that it can't read."""


class LostEngineError(GenerationError):
    """The engine that ran a request is gone; vLLM's front end tells the client so."""

    def __init__(self, message: str) -> None:
        super().__init__(message)
        self.status_code = HTTPStatus.BAD_GATEWAY


class FrontEnd:
    """The web application of one model, as plain ASGI. Belongs to the event loop."""

    def __init__(self, app: FastAPI) -> None:
        self._app = app
        self._paths = {getattr(route, "path", "") for route in app.routes}

    def answers(self, path: str) -> bool:
        """Whether this kind of model has that route."""
        return path in self._paths

    @classmethod
    async def over(
        cls,
        llm: "AsyncLLM",
        spec: ModelSpec,
        parsers: Parsers,
        failure: Callable[[], WorkbenchError | None],
    ) -> "FrontEnd":
        """Build it. Takes some 15 ms of the event loop.

        Args:
            llm: attached to a running core.
            spec: the model; requests and answers bear its name.
            parsers: what finds tool calls and reasoning in the model's text.
            failure: why the engine is gone, once it is.
        """
        tasks, model = await llm.get_supported_tasks(), spec.name
        args = _arguments(spec.path, model, parsers)
        # vLLM would digest its whole configuration, six times over: 25 ms. The spec is what shapes it.
        digest = hashlib.sha256(repr(spec).encode()).hexdigest()[:8]
        args.fingerprint_mode, args.fingerprint_value = "custom", f"vllm-{vllm.__version__}-{digest}"
        args.structured_outputs_config = llm.vllm_config.structured_outputs_config
        state = State()
        await init_app_state(_Watched(llm, model, failure), state, args, tasks)
        routes = _pooling_routes(tasks, llm.model_config) if _pools(tasks) else _routes()
        return cls(_twin(routes, state))

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        await self._app(scope, receive, send)


class _Watched:
    """An engine client that notes what is asked of it with the HTTP request it is asked for."""

    def __init__(self, llm: "AsyncLLM", model: str, failure: Callable[[], WorkbenchError | None]) -> None:
        self._llm = llm
        self._model = model
        self._failure = failure

    def __getattr__(self, name: str) -> Any:
        return getattr(self._llm, name)

    @property
    def dead_error(self) -> Exception:
        return self._lost()

    def _lost(self) -> LostEngineError:
        known = self._failure()
        return LostEngineError(
            str(known)
            if known
            else f"The engine that ran {self._model} failed. Send the request again; the log of its worker "
            "says more."
        )

    async def generate(
        self, prompt: Any, sampling_params: Any, request_id: str, **further: Any
    ) -> AsyncGenerator[RequestOutput]:
        """As AsyncLLM's, in the order and within the context of the request it belongs to."""
        watch = WATCH.get() or Watch()
        with self._noting_errors(watch):
            _fit(prompt, sampling_params, watch.context_length)
            further |= {"priority": watch.priority}
            if watch.trace_headers is not None:
                further["trace_headers"] = watch.trace_headers
            began = time.perf_counter()
            outputs = self._llm.generate(_salted(prompt, watch), sampling_params, request_id, **further)
            async with contextlib.aclosing(outputs):
                async for output in outputs:
                    _note(watch, output, began)
                    yield output

    async def encode(
        self, prompt: Any, pooling_params: Any, request_id: str, **further: Any
    ) -> AsyncGenerator[PoolingRequestOutput]:
        """As AsyncLLM's, noted."""
        watch = WATCH.get() or Watch()
        with self._noting_errors(watch):
            further |= {"priority": watch.priority}
            outputs = self._llm.encode(_salted(prompt, watch), pooling_params, request_id, **further)
            async with contextlib.aclosing(outputs):
                async for output in outputs:
                    watch.prompt_tokens += len(output.prompt_token_ids)
                    watch.finish_reason = "stop"
                    watch.on_growth(watch)
                    yield output

    @contextlib.contextmanager
    def _noting_errors(self, watch: Watch) -> Iterator[None]:
        """Keep why the engine could not answer; vLLM tells the client, at times inside a stream."""
        try:
            yield
        except (EngineDeadError, EngineGenerateError) as error:
            lost = self._lost()
            watch.error = str(lost)
            raise lost from error
        except Exception as error:
            watch.error = str(error)
            raise


def _salted(prompt: Any, watch: Watch) -> Any:
    """The prompt with the salt of whoever asks, on top of one that the request brings."""
    if not watch.cache_salt or not isinstance(prompt, dict):
        return prompt
    return {**prompt, "cache_salt": f"{watch.cache_salt}/{prompt.get('cache_salt', '')}"}


def _fit(prompt: Any, params: Any, context_length: int | None) -> None:
    """Hold a request to a context shorter than the model's.

    Raises:
        VLLMValidationError: its prompt alone is as long.
    """
    if context_length is None or not isinstance(prompt, dict):
        return
    prompt_tokens = len(prompt.get("prompt_token_ids") or ())
    room = context_length - prompt_tokens
    if room < 1:
        raise VLLMValidationError(
            f"The prompt is {prompt_tokens} tokens long, but this variant of the model holds "
            f"{context_length} with the answer. Shorten it, or ask the model itself.",
            parameter="messages",
            value=prompt_tokens,
        )
    if params.max_tokens is None or params.max_tokens > room:
        params.max_tokens = room


def _note(watch: Watch, output: RequestOutput, began: float) -> None:
    if output.request_id not in watch.engine_requests and BEAM not in output.request_id:
        watch.engine_requests.add(output.request_id)
        watch.prompt_tokens += len(output.prompt_token_ids or ())
        watch.cached_prompt_tokens += output.num_cached_tokens or 0
    for completion in output.outputs:
        watch.completion_tokens += len(completion.token_ids)
        watch.finish_reason = completion.finish_reason or watch.finish_reason
    if watch.first_at is None and output.finished and output.metrics is not None:
        # All tokens came at once, as whoever asked wished; the first was there before.
        latency_s = getattr(output.metrics, "first_token_latency", 0.0)
        watch.first_at = began + latency_s if latency_s else None
    watch.on_growth(watch)


def is_for(path: str, *, generates: bool) -> bool:
    """Whether a route is for models that generate text, or for those that do not."""
    return path in BOTH_KINDS or (path in POOLING_PATHS) != generates


async def refusal(scope: Scope, body: bytes) -> tuple[int, bytes] | None:
    """What vLLM says to a request that no model could take: status and JSON; None if it may be sent on.

    The routes are asked without a model behind them: one that gets past the checks of its body finds none.

    Raises:
        BadRequestError: a sampling parameter is out of range, which the routes leave to the model.
    """
    status, answer = 0, b""
    read = False

    async def receive() -> dict[str, Any]:
        nonlocal read
        if not read:
            read = True
            return {"type": "http.request", "body": body, "more_body": False}
        await asyncio.Event().wait()  # the client stays for as long as this takes
        raise AssertionError

    async def send(message: Any) -> None:
        nonlocal status, answer
        if message["type"] == "http.response.start":
            status = message["status"]
        else:
            answer += message.get("body", b"")

    with contextlib.suppress(Exception):  # some routes fail where there is no model, others say so
        await _unserved()({**scope, "state": {}}, receive, send)
    if status in REFUSALS:
        return status, answer
    if scope["path"] in SAMPLED_PATHS:
        _check_sampling(json.loads(body))
    return None


def _check_sampling(body: dict[str, Any]) -> None:
    if body.get("use_beam_search"):
        return
    # Numbers as they are; what the routes would make one of is left to them.
    given = {name: body[name] for name in SAMPLING if type(body.get(name)) in (int, float)}
    try:
        SamplingParams(**given)
    except (VLLMClientError, ValueError, OverflowError) as error:
        raise BadRequestError(f"{error}") from error


def describe() -> dict[str, Any]:
    """The OpenAPI description of the routes of every kind of model."""
    return _all_routes().openapi()


@functools.cache
def _all_routes() -> FastAPI:
    """The routes of models of every kind."""
    app = _routes_of()
    register_generate_api_routers(app)
    for routes in (embed, classify, pooling, scoring):
        app.include_router(routes.router)
    return app


@functools.cache
def _routes() -> FastAPI:
    """The routes of models that generate."""
    app = _routes_of()
    register_generate_api_routers(app)
    return app


def _pooling_routes(tasks: Tasks, model_config: Any) -> FastAPI:
    """The routes of a model that embeds, classifies or scores."""
    app = _routes_of()
    register_pooling_api_routers(app, tasks, model_config)
    return app


def _routes_of() -> FastAPI:
    """What all models answer."""
    app = FastAPI(title="vLLM", docs_url=None, redoc_url=None)
    app.state.args = _arguments("", "", Parsers())
    attach_tokenize_router(app)
    init_exception_handler(app)
    return app


def _pools(tasks: Tasks) -> bool:
    return any(task in POOLING_TASKS for task in tasks) and "generate" not in tasks


def _twin(app: FastAPI, state: State) -> FastAPI:
    """The same routes over another model's state."""
    twin = copy.copy(app)
    twin.state = state
    twin.middleware_stack = None
    return twin


@functools.cache
def _unserved() -> FastAPI:
    """Routes without a model behind them: what they ask of one fails."""
    state = State({"args": _arguments("", "", Parsers())})
    return _twin(_all_routes(), state)


@functools.cache
def _parser() -> FlexibleArgumentParser:
    return make_arg_parser(FlexibleArgumentParser())


def _arguments(folder: str, model: str, parsers: Parsers) -> Namespace:
    """The arguments of `vllm serve` that its front end reads."""
    line = ["--model", folder, "--served-model-name", model, "--enable-prompt-tokens-details"]
    if parsers.tool_call:
        line += ["--enable-auto-tool-choice", "--tool-call-parser", parsers.tool_call]
    args: Namespace = _parser().parse_args(line)
    return args
