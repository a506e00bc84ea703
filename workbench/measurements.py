"""What is measured of requests and switches: recorded in the catalog, and looked at from memory."""

import asyncio
import dataclasses
import time
from collections import deque
from collections.abc import Coroutine, Iterable, Mapping
from typing import Any, Protocol

import structlog

from workbench.catalog.store import Catalog
from workbench.catalog.tables import Request, Swap
from workbench.errors import WorkbenchError
from workbench.pool.snapshot import SwapRecord
from workbench.telemetry.estimates import AnswerLengths, SwitchEstimates
from workbench.telemetry.metrics import Engines, Metrics, no_engines
from workbench.telemetry.recorder import ALL_MODELS, LiveRequest, Now, Recorder, Windows
from workbench.telemetry.traces import Traces, open_traces
from workbench.telemetry.windows import SPANS, Counts, Outcome, Picture, Time
from workbench.views import ModelView, RequestView, Residency, SwitchView

log = structlog.get_logger("workbench.measurements")

KNOWN = 500
"""Switches, and requests, that are kept one by one."""
MOST_PAST = 100_000
"""Requests, and switches, of earlier runs that windows are filled with; reading takes a second or two."""
ASLEEP: frozenset[Residency] = frozenset({"asleep", "sleeping"})
ON_DISK: frozenset[Residency] = frozenset({"disk", "unloading"})
OUTCOMES: Mapping[str, Outcome] = {"abort": "cancelled", "error": "failed"}
"""By finish reason; every other is that of a complete answer."""


class Figures(Protocol):
    """A row of the `requests` table, as an object of its own or as a light row."""

    request_id: str
    model: str
    received_at: float
    accept_s: float
    queue_s: float
    switch_s: float
    switch_reason: str
    ttft_s: float | None
    decode_s: float | None
    first_tokens: int
    longest_gap_s: float | None
    prompt_tokens: int
    cached_prompt_tokens: int
    completion_tokens: int
    duration_s: float
    finish_reason: str
    error: str


class Measurements:
    """Takes what is measured, and says what it comes to. Belongs to the event loop.

    Args:
        catalog: open; it outlives the measurements.
        engines: what engines count themselves; see `Metrics`.
        traces_endpoint: where traces of requests go; nowhere by default.
    """

    def __init__(
        self, catalog: Catalog, engines: Engines = no_engines, traces_endpoint: str | None = None
    ) -> None:
        self._catalog = catalog
        self._estimates = SwitchEstimates()
        self._lengths = AnswerLengths()
        self._recorder = Recorder()
        self.metrics = Metrics(engines)
        """The same for Prometheus, of this run alone."""
        self.traces = Traces()
        """None are made before `start`."""
        self._traces_endpoint = traces_endpoint
        self._swaps: deque[SwapRecord] = deque(maxlen=KNOWN)
        self._requests: deque[RequestView] = deque(maxlen=KNOWN)
        self._began_at = time.time()
        self.past_read = False
        """Whether the windows have what earlier runs recorded."""
        self.past_since = 0.0
        """Unix time of the oldest of it where not all could be read, else 0."""
        self._tasks: set[asyncio.Task[None]] = set()

    async def start(self) -> None:
        """Read what earlier runs have recorded; the windows are filled in the background."""
        self.traces = await asyncio.to_thread(open_traces, self._traces_endpoint)
        first_loads, swaps, requests = await asyncio.to_thread(
            lambda: (
                self._catalog.first_loads(),
                self._catalog.recent_swaps(KNOWN),
                self._catalog.recent_requests(KNOWN),
            )
        )
        for swap in first_loads:
            self._estimates.add_first(swap.model, swap.total_s, swap.wait_s)
        for swap in reversed(swaps):
            self._keep_swap(swap)
        for request in reversed(requests):
            self._keep_request(life_of(request))
        self._spawn(self._read_past())

    async def close(self) -> None:
        """Wait until what was measured is stored, and traces are sent."""
        while self._tasks:
            await asyncio.wait(self._tasks)
        await asyncio.to_thread(self.traces.close)

    # What is measured.

    def request(self, model: str) -> LiveRequest:
        """A request asks for a model; it must be ended."""
        self.metrics.begin_request(model)
        return self._recorder.request(model)

    async def record_request(self, request: Request) -> None:
        """Take a request that has ended, however it ended, and store it."""
        life = life_of(request)
        self._keep_request(life)
        times = _times(life)
        self._recorder.add_end(life.model, life.outcome, times)
        self.metrics.end_request(
            life.model,
            request.finish_reason,
            times,
            switched=bool(life.switch_reason),
            prompt_tokens=life.prompt_tokens,
            cached_prompt_tokens=life.cached_prompt_tokens,
            completion_tokens=life.completion_tokens,
        )
        try:
            await asyncio.to_thread(self._catalog.record_request, request)
        except WorkbenchError as error:
            log.error("request not stored", model=life.model, error=str(error))

    def _keep_request(self, life: RequestView) -> None:
        self._requests.append(life)
        if life.outcome == "ok":
            self._lengths.add(life.model, life.completion_tokens)

    def record_swap(self, record: SwapRecord) -> None:
        """Take a load or a wake, however it ended; it is stored in the background."""
        swap = Swap(**dataclasses.asdict(record) | {"evicted": list(record.evicted)})
        self._keep_swap(swap)
        self.metrics.end_switch(
            record.model, record.from_residency, record.outcome, record.total_s, record.phases
        )
        if record.outcome == "ok":
            self._recorder.add_switch(record.model, record.total_s)
        self._spawn(self._store_swap(swap))

    def _keep_swap(self, swap: Swap) -> None:
        columns = swap.model_dump(exclude={"id"}) | {"evicted": tuple(swap.evicted)}
        self._swaps.append(SwapRecord(**columns))
        if swap.outcome == "ok":
            self._estimates.add(swap.model, swap.woken, swap.total_s, swap.wait_s)

    async def _store_swap(self, swap: Swap) -> None:
        try:
            await asyncio.to_thread(self._catalog.record_swap, swap)
        except WorkbenchError as error:
            log.error("switch not stored", model=swap.model, error=str(error))

    async def _read_past(self) -> None:
        try:
            past, since = await asyncio.to_thread(read_past, self._catalog, self._began_at)
        except WorkbenchError as error:
            log.error("earlier requests can't be read", error=str(error))
            return
        self._recorder.add_past(past)
        self.past_read, self.past_since = True, since

    def _spawn(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.ensure_future(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    # What it comes to.

    def now(self, model: str) -> Now:
        """What goes on with a model, or with `ALL_MODELS`."""
        return self._recorder.now(model)

    def picture(self, model: str, span: str) -> Picture:
        """A window of a model, or of `ALL_MODELS`, as it is now; `span` is the name of one of `SPANS`."""
        return self._recorder.picture(model, span)

    def switches(self, model: str, last: int) -> list[SwitchView]:
        """The last switches to a model, or to `ALL_MODELS`, the latest first."""
        return [self._switch(swap) for swap in _last(self._swaps, model, last)]

    def requests(self, model: str, last: int) -> list[RequestView]:
        """The last requests to a model, or to `ALL_MODELS`, the latest first."""
        return _last(self._requests, model, last)

    async def swaps_before(self, before: int | None, limit: int) -> tuple[list[Swap], bool]:
        """Switches recorded before the one with that id, the latest first, and whether there are more."""
        rows = await asyncio.to_thread(self._catalog.swaps_before, before, limit + 1)
        return rows[:limit], len(rows) > limit

    async def requests_before(self, before: int | None, limit: int) -> tuple[list[Request], bool]:
        """Requests recorded before the one with that id, the latest first, and whether there are more."""
        rows = await asyncio.to_thread(self._catalog.requests_before, before, limit + 1)
        return rows[:limit], len(rows) > limit

    def _switch(self, swap: SwapRecord) -> SwitchView:
        if not swap.worker_start_s or swap.outcome != "ok":
            return SwitchView(swap, None, None)
        load_s = self._estimates.own(swap.model, woken=False) if swap.woken else swap.total_s - swap.wait_s
        return SwitchView(swap, swap.worker_start_s, load_s)

    def expected_tokens(self, model: str, prompt_characters: int, max_tokens: int | None) -> int:
        """Tokens that a request is expected to have, prompt and answer, by the model's last answers."""
        return self._lengths.expected_tokens(model, prompt_characters, max_tokens)

    def switch_estimates(self, models: Iterable[ModelView]) -> Mapping[str, float]:
        """Seconds that a switch to each model would take now, by name; see `SwitchEstimates`.

        Models that serve or are on their way, that are not here, or of which nothing is known are left out.
        """
        models = list(models)
        weight_bytes = {model.name: model.weight_bytes for model in models}
        estimates = {
            model.name: self._estimates.seconds(model.name, model.residency in ASLEEP, weight_bytes)
            for model in models
            if model.residency in ASLEEP | ON_DISK
        }
        return {name: seconds for name, seconds in estimates.items() if seconds is not None}


def life_of(row: Figures) -> RequestView:
    """A recorded request, its time divided among the phases that it came to."""
    left_s = max(0.0, row.duration_s - row.accept_s - row.queue_s - row.switch_s)
    prefill_s = left_s if row.ttft_s is None else max(0.0, left_s - (row.duration_s - row.ttft_s))
    left_s -= prefill_s
    decode_s = left_s if row.decode_s is None else min(row.decode_s, left_s)
    later_tokens = row.completion_tokens - row.first_tokens
    return RequestView(
        id=row.request_id,
        model=row.model,
        received_at=row.received_at,
        outcome=OUTCOMES.get(row.finish_reason, "ok"),
        error=row.error,
        accept_s=row.accept_s,
        queue_s=row.queue_s,
        switch_s=row.switch_s,
        prefill_s=prefill_s,
        decode_s=decode_s,
        end_s=left_s - decode_s,
        ttft_s=row.ttft_s,
        tpot_s=row.decode_s / later_tokens if row.decode_s and later_tokens > 0 else None,
        longest_gap_s=row.longest_gap_s,
        duration_s=row.duration_s,
        switch_reason=row.switch_reason,
        prompt_tokens=row.prompt_tokens,
        cached_prompt_tokens=row.cached_prompt_tokens,
        completion_tokens=row.completion_tokens,
    )


def read_past(catalog: Catalog, until: float) -> tuple[Windows, float]:
    """Windows of what was recorded before a time. Blocks.

    Returns:
        The windows, and the time of the oldest request in them if there were more than could be read, else 0.
    """
    longest = max(span.slot_s * span.slots for span in SPANS)
    past = Windows()
    requests = catalog.requests_between(until - longest, until, MOST_PAST)
    for row in requests:
        life = life_of(row)
        counts = Counts(tokens=life.completion_tokens, **{life.outcome: 1})
        past.add_past(until, life.received_at + life.duration_s, life.model, counts, _times(life))
    for row in catalog.swaps_between(until - longest, until, MOST_PAST):
        if row.outcome == "ok":
            past.add_past(until, row.started_at + row.total_s, row.model, Counts(), {"switch": row.total_s})
    past.add_up()
    return past, requests[-1].received_at if len(requests) == MOST_PAST else 0.0


def _times(life: RequestView) -> Mapping[Time, float]:
    """What counts in the percentiles: of complete answers only."""
    if life.outcome != "ok":
        return {}
    times: dict[Time, float | None] = {
        "ttft": life.ttft_s,
        "tpot": life.tpot_s,
        "pause": life.longest_gap_s,
        "total": life.duration_s,
        "queue": life.queue_s,
    }
    return {kind: seconds for kind, seconds in times.items() if seconds is not None}


def _last(records: Iterable[Any], model: str, count: int) -> list[Any]:
    found = [record for record in records if model in (ALL_MODELS, record.model)]
    return found[-count:][::-1]
