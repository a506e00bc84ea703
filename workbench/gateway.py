"""Requests of the API on their way to models: names resolved, a lease got, figures kept."""

import asyncio
import dataclasses
import time
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import structlog

from workbench.catalog.store import Catalog
from workbench.catalog.tables import Variant
from workbench.engine.spec import SamplingOptions
from workbench.engine.watch import WATCH, Watch
from workbench.errors import BadRequestError, NotFoundError, WorkbenchError
from workbench.library import ModelLibrary
from workbench.measurements import Measurements
from workbench.pool.controller import Controller
from workbench.pool.lease import Ticket
from workbench.pool.scheduling import Claim
from workbench.pool.snapshot import Progress
from workbench.requests import Arrival, RequestFigures
from workbench.telemetry.recorder import LiveRequest
from workbench.telemetry.traces import RequestTrace
from workbench.views import VariantView

if TYPE_CHECKING:
    from workbench.engine.front_end import FrontEnd

log = structlog.get_logger("workbench.api")

SAMPLING = frozenset(option.name for option in dataclasses.fields(SamplingOptions))


@dataclass(frozen=True, slots=True)
class Target:
    """What a name in a request stands for."""

    name: str
    """As asked for."""
    model: str
    system: str = ""
    options: Mapping[str, Any] = field(default_factory=dict)
    context_length: int | None = None


@dataclass(frozen=True, slots=True)
class Wish:
    """What a request says for itself where several wait."""

    priority: int = 0
    """Lower goes first, where the scheduling looks at it."""
    owner: str = ""
    """The key or user whose share it uses."""
    prompt_characters: int = 0
    max_tokens: int | None = None


class ApiRequest:
    """One request, from its ticket to its last token."""

    def __init__(
        self,
        ticket: Ticket,
        figures: RequestFigures,
        live: LiveRequest | None,
        watch: Watch,
        trace: RequestTrace,
    ) -> None:
        self.figures = figures
        self.watch = watch
        self._ticket = ticket
        self._live = live
        self._trace = trace
        watch.on_growth = self._on_growth

    async def stages(self) -> AsyncGenerator[Progress]:
        """What the request waits for, at each change; ends when its model is there.

        Raises:
            WorkbenchError: the request was refused, or its load failed.
        """
        async for progress in self._ticket.stages():
            yield progress

    async def front_end(self) -> "FrontEnd":
        """Wait for the model; returns vLLM's application over it.

        Raises:
            WorkbenchError: the request was refused, or its load failed.
        """
        lease = await self._ticket.lease()
        self.figures.lease = lease
        self._trace.leased(lease)
        self.watch.priority, self.watch.trace_headers = lease.priority, self._trace.headers
        if self._live is not None:
            self._live.leased()
        WATCH.set(self.watch)
        return await lease.client.front_end()

    def _on_growth(self, watch: Watch) -> None:
        if self.figures.first_at is None and watch.first_at is not None:
            self.figures.first_at = self.figures.last_at = watch.first_at
        self.figures.grown(
            watch.completion_tokens, watch.prompt_tokens, watch.cached_prompt_tokens, watch.finish_reason
        )
        if self._live is not None:
            self._live.grown(watch.completion_tokens)


class Gateway:
    """Lets requests of the API at the models. Belongs to the event loop.

    Args:
        catalog: open; keeps the variants.
        library: knows the models.
        controller: running.
        measurements: takes the figures.
        import_engine: has vLLM imported in this process.
    """

    def __init__(
        self,
        catalog: Catalog,
        library: ModelLibrary,
        controller: Controller,
        measurements: Measurements,
        import_engine: Callable[[], Awaitable[None]],
    ) -> None:
        self._catalog = catalog
        self._library = library
        self._controller = controller
        self._measurements = measurements
        self._import_engine = import_engine
        self._variants: dict[str, Variant] = {}

    async def start(self) -> None:
        """Read the variants."""
        rows = await asyncio.to_thread(self._catalog.variants)
        self._variants = {row.name: row for row in rows}

    # Names.

    def variants(self) -> list[VariantView]:
        """All variants of models that are listed, by name."""
        known = {model.name for model in self._library.views()}
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

    def resolve(self, name: str) -> Target:
        """What a request that names `name` is for.

        Raises:
            NotFoundError: neither a model nor a variant is called so.
        """
        variant = self._variants.get(name)
        if variant is None:
            return Target(name, self._known(name))
        return Target(name, variant.model, variant.system, variant.options, variant.context_length)

    def _known(self, name: str) -> str:
        try:
            return self._library.view(name).name
        except NotFoundError:
            raise NotFoundError(
                f"There is no model '{name[:100]}'. GET /v1/models lists what there is."
            ) from None

    def serves(self, model: str) -> bool:
        """Whether a model is on a device, so that a request for it needs no switch."""
        return self._library.view(model).residency == "device"

    # Requests.

    async def refusal(self, scope: Mapping[str, Any], body: bytes) -> tuple[int, bytes] | None:
        """What vLLM says to a request that no model could take; None if it may be asked for."""
        await self._import_engine()
        from workbench.engine.front_end import refusal

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

    @asynccontextmanager
    async def request(
        self,
        target: Target,
        request_id: str,
        wish: Wish,
        arrival: Arrival,
        *,
        measured: bool = True,
    ) -> AsyncIterator[ApiRequest]:
        """Ask for a model; leaving the context gives it back, and stores the request's figures.

        Args:
            target: what is asked for.
            request_id: as the client knows it.
            wish: for the order among those that wait.
            arrival: when the request came.
            measured: whether it generates, so that it counts among the requests of its model.

        Raises:
            WorkbenchError: the model can't be had.
        """
        figures = RequestFigures(target.model, arrival)
        live = self._measurements.request(target.model) if measured else None
        watch = Watch(context_length=target.context_length)
        try:
            spec = await self._library.servable(target.model)
            figures.asked_at = time.perf_counter()
            with self._measurements.traces.request(request_id, figures) as trace:
                async with self._controller.ask(spec, self._claim(target.model, wish)) as ticket:
                    yield ApiRequest(ticket, figures, live, watch, trace)
        except WorkbenchError as error:
            figures.error = str(error)
            raise
        finally:
            if live is not None:
                live.end()
                figures.error = figures.error or watch.error
                await self._measurements.record_request(figures.record(request_id))

    def _claim(self, model: str, wish: Wish) -> Claim:
        tokens = self._measurements.expected_tokens(model, wish.prompt_characters, wish.max_tokens)
        return Claim(wish.priority, wish.owner, tokens)


def _view(row: Variant) -> VariantView:
    return VariantView(row.name, row.model, row.system, dict(row.options), row.context_length)


def _check_options(options: Mapping[str, Any]) -> None:
    stop = options.get("stop", ())
    try:
        SamplingOptions(**{**options, "stop": tuple(stop)}).check()
    except TypeError as error:
        raise BadRequestError(f"An option has a value of the wrong type: {error}.") from error
