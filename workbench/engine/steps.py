"""What the engine's steps of the last minute did, noted as they end.

A step costs a few microseconds here, whatever the size of its batch: only requests that join, leave or are
still in their prompt are looked at one by one.
"""

import re
from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from workbench.engine.kv_cache import Span, StepBin

WINDOW_S = 60.0
BIN_S = 0.25
MAX_SPANS = 1024
SAMPLE = re.compile(r"(\d{1,4})_(.+)", re.DOTALL)
"""How vLLM names the requests behind `n` samples: index and parent (v1/engine/parallel_sampling.py)."""


@dataclass(slots=True)
class Stay:
    """A request from when it joined the batch until it is done."""

    number: int
    sample: int
    prompt_tokens: int
    reused_tokens: int
    """Tokens it found in the prefix cache when it first joined."""
    left_tokens: int = 0
    """Tokens of its prompt, or of what a preemption has lost, that are still to be computed."""
    began: float = 0.0
    decoding_since: float = 0.0
    in_batch: bool = True

    def span(self, ended: float, preempted: bool) -> Span:
        """The stay in the batch, as told."""
        return Span(self.number, self.sample, self.began, self.decoding_since, ended, preempted)


@dataclass(slots=True)
class _Bin:
    key: int
    steps: int = 0
    prefill_steps: int = 0
    decode_steps: int = 0
    prefill_tokens: int = 0
    decode_tokens: int = 0
    batch: int = 0


class StepRecorder:
    """Bounded memory of an engine's steps. Belongs to the thread that runs them."""

    def __init__(self) -> None:
        self.preemptions = 0
        self.prefix_queries = 0
        """Tokens looked up in the prefix cache, and those found: vLLM's own counts, added up."""
        self.prefix_hits = 0
        self.stays: dict[str, Stay] = {}
        """By the engine's request id."""
        self._prefilling: set[str] = set()
        self._families: dict[str, list[int]] = {}
        """Of requests with samples, by the parent's id: their number, and how many are not done."""
        self._count = 0
        self._bins: deque[_Bin] = deque(maxlen=int(WINDOW_S / BIN_S) + 1)
        self._spans: deque[Span] = deque(maxlen=MAX_SPANS)

    def record(self, output: Any, began: float, ended: float) -> None:
        """Note a step; `output` is its vLLM SchedulerOutput."""
        if output.finished_req_ids or output.preempted_req_ids:
            self._note_leavers(output, began)
        scheduled: Mapping[str, int] = output.num_scheduled_tokens
        if not scheduled:
            return
        if output.scheduled_new_reqs or output.scheduled_cached_reqs.resumed_req_ids:
            self._note_joiners(output, began)
        prefilling, prefill_tokens = self._note_prefills(scheduled, ended) if self._prefilling else (0, 0)
        bin = self._bin_at(ended)
        bin.steps += 1
        bin.batch = max(bin.batch, len(scheduled))
        if prefilling:
            bin.prefill_steps += 1
            bin.prefill_tokens += prefill_tokens
        if len(scheduled) > prefilling:
            bin.decode_steps += 1
            bin.decode_tokens += output.total_num_scheduled_tokens - prefill_tokens

    def count_prefix(self, queries: int, hits: int) -> None:
        """Add what one step looked up in the prefix cache, in tokens."""
        self.prefix_queries += queries
        self.prefix_hits += hits

    def bins(self, now: float) -> tuple[StepBin, ...]:
        """The last minute."""
        return tuple(
            StepBin(
                bin.key * BIN_S,
                bin.steps,
                bin.prefill_steps,
                bin.decode_steps,
                bin.prefill_tokens,
                bin.decode_tokens,
                bin.batch,
            )
            for bin in self._bins
            if bin.key * BIN_S > now - WINDOW_S
        )

    def spans(self, now: float) -> tuple[Span, ...]:
        """Stays that touch the last minute, in the order in which they began."""
        ended = [span for span in self._spans if span.ended > now - WINDOW_S]
        going_on = [stay.span(0.0, False) for stay in self.stays.values() if stay.in_batch]
        return tuple(sorted(ended + going_on, key=lambda span: span.began))

    def _note_leavers(self, output: Any, now: float) -> None:
        for request_id in output.preempted_req_ids or ():
            self.preemptions += 1
            self._end(request_id, now, preempted=True)
        for request_id in output.finished_req_ids:
            self._end(request_id, now)
            if self.stays.pop(request_id, None) is not None:
                self._leave_family(request_id)

    def _end(self, request_id: str, now: float, preempted: bool = False) -> None:
        stay = self.stays.get(request_id)
        self._prefilling.discard(request_id)
        if stay is not None and stay.in_batch:
            self._spans.append(stay.span(now, preempted))
            stay.in_batch = False

    def _note_joiners(self, output: Any, now: float) -> None:
        for new in output.scheduled_new_reqs:
            known = new.prefill_token_ids  # with its answer so far, if it was preempted before
            self._join(new.req_id, new.prompt_len, len(known) if known else 0, new.num_computed_tokens, now)
        cached = output.scheduled_cached_reqs
        for index, request_id in enumerate(cached.req_ids if cached.resumed_req_ids else ()):
            stay = self.stays.get(request_id)
            if request_id in cached.resumed_req_ids and stay is not None:
                known = stay.prompt_tokens + cached.num_output_tokens[index]
                self._join(request_id, stay.prompt_tokens, known, cached.num_computed_tokens[index], now)

    def _join(self, request_id: str, prompt: int, known: int, computed: int, now: float) -> None:
        stay = self.stays.get(request_id)
        if stay is None:
            stay = self.stays[request_id] = Stay(*self._number(request_id), prompt, computed)
        stay.left_tokens = max(prompt, known) - computed
        stay.began, stay.decoding_since, stay.in_batch = now, 0.0, True
        self._prefilling.add(request_id)

    def _note_prefills(self, scheduled: Mapping[str, int], now: float) -> tuple[int, int]:
        """Requests of a step that are in their prompts, and the tokens that it computed for them."""
        requests = tokens = 0
        for request_id in list(self._prefilling):
            if computed := scheduled.get(request_id, 0):
                requests += 1
                tokens += computed
                stay = self.stays[request_id]
                stay.left_tokens -= computed
                if stay.left_tokens <= 0:
                    stay.decoding_since = now
                    self._prefilling.discard(request_id)
        return requests, tokens

    def _number(self, request_id: str) -> tuple[int, int]:
        """Number and sample of a request that comes for the first time."""
        sample = SAMPLE.fullmatch(request_id)
        if sample is None:
            self._count += 1
            return self._count, 0
        family = self._families.get(sample[2])
        if family is None:
            self._count += 1
            family = self._families[sample[2]] = [self._count, 0]
        family[1] += 1
        return family[0], int(sample[1]) + 1

    def _leave_family(self, request_id: str) -> None:
        sample = SAMPLE.fullmatch(request_id)
        if sample is not None and (family := self._families.get(sample[2])) is not None:
            family[1] -= 1
            if family[1] == 0:
                del self._families[sample[2]]

    def _bin_at(self, now: float) -> _Bin:
        key = int(now / BIN_S)
        if not self._bins or self._bins[-1].key != key:
            self._bins.append(_Bin(key))
        return self._bins[-1]
