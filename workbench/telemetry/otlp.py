"""Traces over OTLP; see `traces`. The environment's standard variables (OTEL_…) are honoured."""

import os
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager

from opentelemetry import trace
from opentelemetry.context import Context
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor, SpanExporter
from opentelemetry.trace import Span, SpanKind, Status, StatusCode, set_span_in_context
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator
from opentelemetry.util.types import AttributeValue

import workbench
from workbench.telemetry.traces import FiguresLike, HttpTrace, LeaseLike, RequestTrace, Traces

SCOPE = "workbench"
TRACES_PATH = "/v1/traces"
CLOSE_S = 3.0
PROPAGATOR = TraceContextTextMapPropagator()


class OtlpTraces(Traces):
    """Traces that go to a collector, in batches and from a thread of their own.

    vLLM makes its spans with the process's tracer provider, so this one is made that, unless the process has
    one already, which is then used.
    """

    on = True

    def __init__(self, endpoint: str) -> None:
        provider = trace.get_tracer_provider()
        if not isinstance(provider, TracerProvider):
            provider = TracerProvider(resource=_resource())
            trace.set_tracer_provider(provider)
        self._processor = _RequestSpans(_exporter(endpoint))
        provider.add_span_processor(self._processor)
        self._tracer = provider.get_tracer(SCOPE, workbench.__version__)

    @contextmanager
    def http(
        self, method: str, path: str, request_id: str, headers: Mapping[str, str]
    ) -> Iterator[HttpTrace]:
        """See `Traces`."""
        attributes = {"http.request.method": method, "url.path": path, "workbench.request_id": request_id}
        with self._tracer.start_as_current_span(
            f"{method} {path}", PROPAGATOR.extract(headers), SpanKind.SERVER, attributes
        ) as span:
            yield _OtlpHttpTrace(span, method)

    def request(self, request_id: str, figures: FiguresLike) -> RequestTrace:
        """See `Traces`."""
        return _OtlpRequestTrace(self._tracer, request_id, figures)

    def close(self) -> None:
        """See `Traces`."""
        # In a thread that nobody waits for: a collector that doesn't answer must not hold up a shutdown.
        closing = threading.Thread(target=self._processor.shutdown, name="close traces", daemon=True)
        closing.start()
        closing.join(CLOSE_S)


class _RequestSpans(BatchSpanProcessor):
    """Leaves out what vLLM times of its own start-up: it belongs to no request."""

    def on_end(self, span: ReadableSpan) -> None:
        scope = span.instrumentation_scope
        if span.parent is not None or scope is None or not scope.name.startswith("vllm"):
            super().on_end(span)


class _OtlpHttpTrace(HttpTrace):
    def __init__(self, span: Span, method: str) -> None:
        self._span = span
        self._method = method
        self.log_fields = {"trace_id": trace.format_trace_id(span.get_span_context().trace_id)}

    def ended(self, route: str, status: int) -> None:
        self._span.update_name(f"{self._method} {route}")
        self._span.set_attributes({"http.route": route, "http.response.status_code": status})
        if status >= 500:
            self._span.set_status(StatusCode.ERROR)


class _OtlpRequestTrace(RequestTrace):
    def __init__(self, tracer: trace.Tracer, request_id: str, figures: FiguresLike) -> None:
        self._tracer = tracer
        self._figures = figures
        self._began = time.time_ns()
        attributes = {"workbench.request_id": request_id, "gen_ai.request.model": figures.model}
        self._span = tracer.start_span("request", attributes=attributes, start_time=self._began)
        self._context = set_span_in_context(self._span)
        self._generate: Span | None = None

    def leased(self, lease: LeaseLike) -> None:
        """See `RequestTrace`; the wait is told backwards from now."""
        now = time.time_ns()
        switched = now
        if lease.swap is not None:
            phases = {name: seconds for name, seconds in lease.swap.phases.items() if name != "wait"}
            # A request that came while its model was on the way waited for a part of the switch alone.
            switched = max(self._began, now - _ns(sum(phases.values())))
            attributes: dict[str, AttributeValue] = {
                "workbench.worker": lease.swap.worker,
                "workbench.from_residency": lease.swap.from_residency,
                "workbench.evicted": lease.swap.evicted,
            }
            switch = self._add("switch", self._context, switched, now, attributes)
            end = now - _ns(sum(phases.values()))
            for phase, seconds in phases.items():
                start, end = end, end + _ns(seconds)
                if end > switched and seconds:
                    about = {"workbench.seconds": seconds}
                    self._add(phase, set_span_in_context(switch), max(start, switched), end, about)
        self._add("queue", self._context, self._began, switched)
        self._generate = self._tracer.start_span("generate", self._context, start_time=now)
        headers: dict[str, str] = {}
        PROPAGATOR.inject(headers, set_span_in_context(self._generate))
        self.headers = headers

    def _add(
        self,
        name: str,
        parent: Context,
        start: int,
        end: int,
        attributes: Mapping[str, AttributeValue] | None = None,
    ) -> Span:
        span = self._tracer.start_span(name, parent, attributes=attributes, start_time=start)
        span.end(end)
        return span

    def ended(self) -> None:
        """See `RequestTrace`."""
        figures, now = self._figures, time.time_ns()
        if self._generate is None:
            self._add("queue", self._context, self._began, now)
        else:
            if figures.first_at is not None:
                self._generate.add_event("first token", timestamp=_unix_ns(figures.first_at))
            self._generate.end(_unix_ns(figures.last_at) if figures.last_at is not None else now)
        self._span.set_attributes(
            {
                "gen_ai.usage.input_tokens": figures.prompt_tokens,
                "gen_ai.usage.output_tokens": figures.token_count,
                "workbench.cached_prompt_tokens": figures.cached_prompt_tokens,
                "gen_ai.response.finish_reasons": (figures.outcome,),
            }
        )
        if figures.error:
            self._span.set_status(Status(StatusCode.ERROR, figures.error))
        self._span.end()


def _ns(seconds: float) -> int:
    return round(seconds * 1e9)


def _unix_ns(moment: float) -> int:
    """Unix time of a moment of `time.perf_counter`."""
    return time.time_ns() - _ns(time.perf_counter() - moment)


def _resource() -> Resource:
    attributes = {"service.version": workbench.__version__}
    if "OTEL_SERVICE_NAME" not in os.environ:
        attributes["service.name"] = SCOPE
    return Resource.create(attributes)


def _exporter(endpoint: str) -> SpanExporter:
    protocol = os.environ.get("OTEL_EXPORTER_OTLP_TRACES_PROTOCOL") or os.environ.get(
        "OTEL_EXPORTER_OTLP_PROTOCOL", "http/protobuf"
    )
    if protocol == "grpc":
        from opentelemetry.exporter.otlp.proto.grpc.trace_exporter import OTLPSpanExporter as GrpcExporter

        return GrpcExporter(endpoint=endpoint, insecure=endpoint.startswith("http://"))
    from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter

    return OTLPSpanExporter(endpoint=endpoint.rstrip("/").removesuffix(TRACES_PATH) + TRACES_PATH)
