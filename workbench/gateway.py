"""Requests of the API on their way to models: names resolved, a lease got, figures kept."""

import asyncio
import contextlib
import dataclasses
import time
from collections.abc import AsyncGenerator, Awaitable, Callable, Iterator, Mapping
from contextlib import AsyncExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol, Self

import structlog
from starlette.requests import ClientDisconnect
from starlette.types import Receive, Scope, Send

from workbench.catalog.store import Catalog
from workbench.catalog.tables import Variant
from workbench.engine.spec import ModelSpec, SamplingOptions
from workbench.engine.watch import WATCH, Watch
from workbench.errors import BadRequestError, NotFoundError, WorkbenchError
from workbench.library import ModelLibrary
from workbench.measurements import Measurements
from workbench.pool.controller import Controller
from workbench.pool.scheduling import Claim
from workbench.pool.snapshot import Progress
from workbench.requests import Arrival, RequestFigures
from workbench.telemetry.recorder import LiveRequest
from workbench.views import VariantView

log = structlog.get_logger("workbench.api")

LINGER_S = 15.0
SAMPLING = frozenset(option.name for option in dataclasses.fields(SamplingOptions))


class Application(Protocol):
    """vLLM's web application over one model, as plain ASGI: `engine.front_end.FrontEnd`."""

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None: ...

    def answers(self, path: str) -> bool:
        """Whether this kind of model has that route."""


@dataclass(frozen=True, slots=True)
class Wish:
    """What a request says for itself where several wait."""

    priority: int = 0
    """Lower goes first, where the scheduling looks at it."""
    owner: str = ""
    """The key or user whose share it uses."""
    prompt_characters: int = 0
    max_tokens: int | None = None
    answers: int = 1
    """How many it wants."""
    cache_salt: str = ""
    """It reuses the prefix cache of requests with the same salt alone."""


class ApiRequest:
    """One request, from its ticket to its last token; made by `Gateway.request`.

    Entered, it asks for its model; left, it gives the model back, and its figures are stored.
    """

    def __init__(
        self,
        gateway: "Gateway",
        target: VariantView,
        request_id: str,
        wish: Wish,
        arrival: Arrival,
        measured: bool,
    ) -> None:
        self.watch = Watch(context_length=target.context_length, cache_salt=wish.cache_salt)
        self._gateway = gateway
        self._request_id = request_id
        self._wish = wish
        self._figures = RequestFigures(target.model, arrival)
        self._measured = measured
        self._live: LiveRequest | None = None
        self._stack = AsyncExitStack()

    async def __aenter__(self) -> Self:
        """Raises: WorkbenchError: the model can't be asked for."""
        measurements = self._gateway.measurements
        self._trace = measurements.traces.request(self._request_id, self._figures)
        if self._measured:
            self._live = measurements.request(self._figures.model)
        async with AsyncExitStack() as stack:
            stack.push_async_exit(self._record)
            self._spec = await self._gateway.library.servable(self._figures.model)
            self._figures.asked_at = time.perf_counter()
            claim = self._gateway.claim(self._spec.name, self._wish)
            self._ticket = await stack.enter_async_context(self._gateway.controller.ask(self._spec, claim))
            self._stack = stack.pop_all()
        return self

    async def __aexit__(self, *exc: Any) -> None:
        await self._stack.__aexit__(*exc)

    async def stages(self) -> AsyncGenerator[Progress]:
        """What the request waits for, at each change; ends when its model is there.

        Raises:
            WorkbenchError: the request was refused, or its load failed.
        """
        async for progress in self._ticket.stages():
            yield progress

    async def front_end(self) -> Application:
        """Wait for the model; returns vLLM's application over it.

        Raises:
            WorkbenchError: the request was refused, or its load failed.
        """
        lease = await self._ticket.lease()
        self._figures.lease = lease
        self._trace.leased(lease)
        self.watch.priority, self.watch.trace_headers = lease.priority, self._trace.headers
        if self._live is not None:
            self._live.leased()
        return await lease.client.front_end()

    @contextmanager
    def watched(self) -> Iterator[None]:
        """Within, what the present task has an engine do is this request's."""
        self.watch.on_growth = self._on_growth
        before = WATCH.set(self.watch)
        try:
            yield
        finally:
            self.watch.ended()
            WATCH.reset(before)

    def refused(self, status: int) -> None:
        """The model's front end answered with an error."""
        self._figures.error = self.watch.error or f"It was refused with status {status}."

    def _on_growth(self, watch: Watch) -> None:
        figures = self._figures
        if figures.first_at is None and watch.first_at is not None:
            figures.first_at = figures.last_at = watch.first_at
        figures.grown(
            watch.completion_tokens, watch.prompt_tokens, watch.cached_prompt_tokens, watch.finish_reason
        )
        if self._live is not None:
            self._live.grown(watch.completion_tokens)

    async def _record(self, _kind: Any, error: BaseException | None, _trace: Any) -> None:
        figures = self._figures
        if isinstance(error, WorkbenchError):
            figures.error = str(error)
        elif isinstance(error, Exception) and not isinstance(error, ClientDisconnect):
            figures.error = f"Something went wrong inside Workbench: {type(error).__name__}."
        figures.error = figures.error or self.watch.error
        self._trace.ended()
        if self._live is None:
            return
        self._live.end()
        await self._gateway.measurements.record_request(figures.record(self._request_id))


class Gateway:
    """Lets requests of the API at the models. Belongs to the event loop.

    Args:
        catalog: open; keeps the variants.
        library: knows the models.
        controller: running.
        measurements: takes the figures.
        import_engine: has vLLM imported in this process.
        generates: whether a model generates text; else it embeds, classifies or scores.
    """

    def __init__(
        self,
        catalog: Catalog,
        library: ModelLibrary,
        controller: Controller,
        measurements: Measurements,
        import_engine: Callable[[], Awaitable[None]],
        generates: Callable[[ModelSpec], Awaitable[bool]],
    ) -> None:
        self._catalog = catalog
        self.library = library
        self.controller = controller
        self.measurements = measurements
        self._import_engine = import_engine
        self._generates = generates
        self._variants: dict[str, Variant] = {}
        self._lingering: dict[str, asyncio.Task[None]] = {}
        """By model."""

    async def start(self) -> None:
        """Read the variants."""
        rows = await asyncio.to_thread(self._catalog.variants)
        self._variants = {row.name: row for row in rows}

    # Names.

    def variants(self) -> list[VariantView]:
        """All variants of models that are listed, by name."""
        known = {model.name for model in self.library.views()}
        return [_view(row) for row in self._variants.values() if row.model in known]

    async def add_variant(self, variant: VariantView) -> None:
        """Give a model another name, perhaps with other defaults.

        Raises:
            NotFoundError: there is no such model.
            ConflictError: the name is taken.
            BadRequestError: the name, an option or the context length can't be used.
        """
        unknown = set(variant.options) - SAMPLING
        if unknown:
            raise BadRequestError(
                f"{', '.join(sorted(unknown))} can't be a default: choose from {', '.join(sorted(SAMPLING))}."
            )
        _check_options(variant.options)
        row = Variant(
            name=variant.name,
            model=variant.model,
            system=variant.system,
            options=dict(variant.options),
            context_length=variant.context_length,
        )
        await asyncio.to_thread(self._catalog.add_variant, row)
        await self.start()

    async def remove_variant(self, name: str) -> None:
        """Take a variant away; its model stays. Raises: NotFoundError."""
        await asyncio.to_thread(self._catalog.remove_variant, name)
        await self.start()

    def resolve(self, name: str) -> VariantView:
        """What a request that names `name` is for; a model is its own variant without defaults.

        Raises:
            NotFoundError: neither a model nor a variant is called so.
        """
        row = self._variants.get(name)
        return _view(row) if row is not None else VariantView(name, self._known(name))

    def _known(self, name: str) -> str:
        try:
            return self.library.view(name).name
        except NotFoundError:
            raise NotFoundError(
                f"There is no model '{name[:100]}'. GET /v1/models lists what there is."
            ) from None

    def serves(self, model: str) -> bool:
        """Whether a model is on a device, so that a request for it needs no switch."""
        return self.library.view(model).residency == "device"

    # Requests.

    async def refusal(
        self, target: VariantView, path: str, scope: Mapping[str, Any], body: bytes
    ) -> tuple[int, bytes] | None:
        """What vLLM says to a request that its model could never take; None if it may be asked for.

        Raises:
            WorkbenchError: the model can't be asked for, is of another kind than the path is for, or takes no
                such sampling parameters.
        """
        await self._import_engine()
        from workbench.engine.front_end import is_for, refusal

        spec = await self.library.servable(target.model)
        if not is_for(path, generates=await self._generates(spec)):
            raise wrong_kind(target.model, path)
        return await refusal(dict(scope), body)

    async def description(self) -> dict[str, Any]:
        """The OpenAPI description of the routes that models answer."""
        await self._import_engine()
        from workbench.engine.front_end import describe

        return await asyncio.to_thread(describe)

    async def docs_folder(self) -> Path:
        """Where the files of Swagger UI are."""
        await self._import_engine()
        from workbench.engine.front_end import DOCS

        return DOCS

    def request(
        self, target: VariantView, request_id: str, wish: Wish, arrival: Arrival, *, measured: bool = True
    ) -> ApiRequest:
        """A request for a model; nothing is asked for until it is entered.

        Args:
            target: what is asked for.
            request_id: as the client knows it.
            wish: for the order among those that wait.
            arrival: when the request came.
            measured: whether it generates, so that it counts among the requests of its model.
        """
        return ApiRequest(self, target, request_id, wish, arrival, measured)

    def claim(self, model: str, wish: Wish) -> Claim:
        """What a request says for itself at the pool."""
        tokens = self.measurements.expected_tokens(model, wish.prompt_characters, wish.max_tokens)
        return Claim(wish.priority, wish.owner, tokens * wish.answers)

    def linger(self, model: str) -> None:
        """Ask for a model, once at a time, so that its load goes on for `LINGER_S` without anybody else."""

        async def wait() -> None:
            with contextlib.suppress(TimeoutError, WorkbenchError):
                spec = await self.library.servable(model)
                async with asyncio.timeout(LINGER_S), self.controller.ask(spec) as ticket:
                    await ticket.lease()

        if model not in self._lingering:
            self._lingering[model] = asyncio.ensure_future(wait())
            self._lingering[model].add_done_callback(lambda _: self._lingering.pop(model))


def wrong_kind(model: str, path: str) -> BadRequestError:
    """What to say to a request for text to a model that embeds, and the other way round."""
    return BadRequestError(f"{model} does not answer {path}: it is another kind of model.")


def _view(row: Variant) -> VariantView:
    return VariantView(row.name, row.model, row.system, dict(row.options), row.context_length)


def _check_options(options: Mapping[str, Any]) -> None:
    stop = options.get("stop", ())
    try:
        SamplingOptions(**{**options, "stop": tuple(stop)}).check()
    except TypeError as error:
        raise BadRequestError(f"An option has a value of the wrong type: {error}.") from error
