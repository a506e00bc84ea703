"""A request on its way through the pool: its times and tokens, and the record that stays of it."""

import time
import uuid
from dataclasses import dataclass, field
from typing import Literal

import structlog

from workbench.catalog.tables import Request
from workbench.pool.lease import Lease
from workbench.pool.snapshot import SwapRecord

LONG_WAIT_S = 1.0
"""A wait for a worker, or for room, that a switch's reason must tell."""


def new_request_id() -> str:
    """A unique id, which begins with that of the HTTP request where the request came with one."""
    outer = structlog.contextvars.get_contextvars().get("request_id")
    unique = uuid.uuid4().hex
    return f"{outer}-{unique[:8]}" if outer else unique


@dataclass(frozen=True, slots=True)
class Arrival:
    """The moment when a request arrived, from which its times count."""

    clock: float = field(default_factory=time.perf_counter)
    at: float = field(default_factory=time.time)
    """Unix seconds."""


@dataclass
class RequestFigures:
    """What is known of a request as it runs; moments are those of `time.perf_counter`."""

    model: str
    arrival: Arrival = field(default_factory=Arrival)
    error: str = ""
    asked_at: float | None = None
    first_at: float | None = None
    last_at: float | None = None
    first_count: int = 0
    """Tokens that came with the first."""
    longest_gap_s: float = 0.0
    prompt_tokens: int = 0
    cached_prompt_tokens: int = 0
    token_count: int = 0
    finish_reason: str | None = None
    lease: Lease | None = None

    def grown(
        self, token_count: int, prompt_tokens: int, cached_prompt_tokens: int, finish_reason: str | None
    ) -> None:
        """Take what an engine step added; the counts are those of the whole request so far."""
        now = time.perf_counter()
        if self.first_at is None or self.last_at is None:
            self.first_at, self.first_count = now, token_count
        else:
            self.longest_gap_s = max(self.longest_gap_s, now - self.last_at)
        self.last_at = now
        self.token_count, self.finish_reason = token_count, finish_reason
        self.prompt_tokens, self.cached_prompt_tokens = prompt_tokens, cached_prompt_tokens

    @property
    def ttft_s(self) -> float:
        """From arrival to the first token, or until now."""
        return (self.first_at or time.perf_counter()) - self.arrival.clock

    @property
    def accept_s(self) -> float:
        """From arrival until the model was asked for."""
        return (self.asked_at or time.perf_counter()) - self.arrival.clock

    @property
    def duration_s(self) -> float:
        """From arrival until now."""
        return time.perf_counter() - self.arrival.clock

    @property
    def decode_s(self) -> float | None:
        """From the first token to the last; None without one."""
        return self.last_at - self.first_at if self.last_at and self.first_at else None

    @property
    def bring_up_s(self) -> float:
        """What of the wait for the lease the model was loaded or woken; the rest was a queue."""
        if self.lease is None or self.lease.swap is None:
            return 0.0
        return min(self.lease.waited_s, self.lease.swap.total_s - self.lease.swap.wait_s)

    @property
    def switch_reason(self) -> str:
        """Why a switch took what it took; "" without one."""
        return describe_switch(self.lease.swap) if self.lease and self.lease.swap else ""

    @property
    def tokens_per_s(self) -> float:
        """Decoding speed after the first token; with prefill if all tokens came at once; 0 without any."""
        if self.first_at is None or self.last_at is None or self.lease is None:
            return 0.0
        if self.last_at > self.first_at:
            return (self.token_count - self.first_count) / (self.last_at - self.first_at)
        return self.token_count / (self.last_at - self.arrival.clock - self.lease.waited_s)

    @property
    def phase(self) -> Literal["queue", "prefill", "decode"]:
        """Where it is, or was when it ended; the queue includes a switch."""
        if self.lease is None:
            return "queue"
        return "prefill" if self.first_at is None else "decode"

    @property
    def outcome(self) -> str:
        """Why it ended: the engine's reason, "error", or "abort" if whoever asked has left."""
        return "error" if self.error else self.finish_reason or "abort"

    def record(self, request_id: str, conversation_id: int | None = None) -> Request:
        """The row that stays of a request that has ended."""
        waited_s = self.lease.waited_s if self.lease else self.duration_s - self.accept_s
        return Request(
            request_id=request_id,
            model=self.model,
            conversation_id=conversation_id,
            received_at=self.arrival.at,
            accept_s=self.accept_s,
            queue_s=waited_s - self.bring_up_s,
            switch_s=self.bring_up_s,
            switch_reason=self.switch_reason,
            ttft_s=self.ttft_s if self.first_at is not None else None,
            decode_s=self.decode_s,
            first_tokens=self.first_count,
            longest_gap_s=self.longest_gap_s or None,
            prompt_tokens=self.prompt_tokens,
            cached_prompt_tokens=self.cached_prompt_tokens,
            completion_tokens=self.token_count,
            duration_s=self.duration_s,
            finish_reason=self.outcome,
            error=self.error,
        )


def describe_switch(swap: SwapRecord) -> str:
    """Why a switch took what it took, for people."""
    text = "woken" if swap.woken else "loaded"
    if swap.from_residency == "disk":
        text += " from disk"
    if swap.evicted:
        text += f", evicting {' and '.join(swap.evicted)}"
    if swap.wait_s >= LONG_WAIT_S:
        text += f", after waiting {swap.wait_s:.0f} s for a worker or for room"
    return text
