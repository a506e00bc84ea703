"""Traces of requests: nothing at all unless an OTLP endpoint is set.

What a trace shows, from the HTTP request to the last token:

    POST /v1/chat/completions        the HTTP request; child of the client's `traceparent`, if it sent one
      └ request                      from the ask for the model until it is over
          ├ queue                    for a turn, for room, for a worker
          ├ switch                   if the model was loaded or woken for it, with a child for each phase
          └ generate                 from the lease to the last token; event "first token"
              └ llm_request          vLLM's own

`api.access_log` opens the first. Whoever asks the pool for a model does the rest:

    trace = traces.request(request_id, figures)
    try:
        lease = await ticket.lease()
        trace.leased(lease)
        llm.generate(..., trace_headers=trace.headers)
    finally:
        trace.ended()

`figures` are read once, at the end. Without an endpoint `Traces` itself is used, which does nothing, and
opentelemetry is not imported by Workbench.
"""

from collections.abc import Mapping
from contextlib import AbstractContextManager, nullcontext
from types import MappingProxyType
from typing import Protocol


class SwapLike(Protocol):
    """What is told of a load or a wake: `pool.snapshot.SwapRecord`."""

    @property
    def worker(self) -> str: ...
    @property
    def from_residency(self) -> str: ...
    @property
    def evicted(self) -> tuple[str, ...]: ...
    @property
    def phases(self) -> Mapping[str, float]:
        """Seconds, in their order; "wait" comes before the switch."""


class LeaseLike(Protocol):
    """What is told of a wait that is over: `pool.lease.Lease`."""

    @property
    def waited_s(self) -> float: ...
    @property
    def swap(self) -> SwapLike | None: ...


class FiguresLike(Protocol):
    """What is told of a request that is over: `requests.RequestFigures`."""

    @property
    def model(self) -> str: ...
    @property
    def error(self) -> str: ...
    @property
    def outcome(self) -> str: ...
    @property
    def first_at(self) -> float | None:
        """Of `time.perf_counter`, as `last_at`."""

    @property
    def last_at(self) -> float | None: ...
    @property
    def prompt_tokens(self) -> int: ...
    @property
    def cached_prompt_tokens(self) -> int: ...
    @property
    def token_count(self) -> int: ...


class RequestTrace:
    """The spans of one request; this one has none."""

    headers: Mapping[str, str] | None = None
    """To be handed to vLLM, so that its span is a child of "generate"; there from `leased` on."""

    def leased(self, lease: LeaseLike) -> None:
        """The request has its model."""

    def ended(self) -> None:
        """The request is over, and its figures are complete."""


class HttpTrace:
    """The span of an HTTP request; this one is none."""

    log_fields: Mapping[str, str] = MappingProxyType({})
    """What is to be logged with all that happens inside."""

    def ended(self, route: str, status: int) -> None:
        """What it came to."""


class Traces:
    """Where traces go; nowhere."""

    on = False

    def http(
        self, method: str, path: str, request_id: str, headers: Mapping[str, str]
    ) -> AbstractContextManager[HttpTrace]:
        """An HTTP request; whatever is traced inside belongs to it."""
        return nullcontext(HttpTrace())

    def request(self, request_id: str, figures: FiguresLike) -> RequestTrace:
        """A request for a model, from now on."""
        return RequestTrace()

    def close(self) -> None:
        """Send what is not sent yet. Blocks, for some seconds if nobody listens."""


def open_traces(endpoint: str | None) -> Traces:
    """Traces that go to an OTLP endpoint, or nowhere without one.

    Args:
        endpoint: URL of a collector, such as "http://localhost:4318".
    """
    if not endpoint:
        return Traces()
    from workbench.telemetry.otlp import OtlpTraces  # imports opentelemetry

    return OtlpTraces(endpoint)
